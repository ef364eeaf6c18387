"""The STAC API that real providers run: stac-fastapi over pgstac, on a private PostgreSQL + PostGIS cluster."""

from __future__ import annotations

import json
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopback.memory import python_environment
from loopback.process import answers, find_program, free_port, guarded, serving, unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

PACKAGE = "postgresql-15-postgis-3"
# The cluster lives for one test run: nothing it holds needs to outlive a crash, so nothing is flushed to disk.
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "jit": "off",
}


def _programs() -> tuple[str, str]:
    """The paths of initdb and postgres: the newest version under Debian's folder that has PostGIS, else from PATH."""
    versions = sorted(Path("/usr/lib/postgresql").glob("[0-9]*"), key=lambda folder: -int(folder.name))
    share = Path("/usr/share/postgresql")
    folders = [v / "bin" for v in versions if (share / v.name / "extension" / "postgis.control").exists()]
    if versions and not folders:
        unavailable(f"PostgreSQL without PostGIS (Debian package {PACKAGE})")
    for module in ("pypgstac", "stac_fastapi.pgstac"):
        if find_spec(module) is None:
            unavailable(f"no {module} here (pip install -e '.[test]')")
    return find_program("initdb", PACKAGE, folders), find_program("postgres", PACKAGE, folders)


def _owner() -> str | None:
    """The account to run the cluster as: initdb and postgres refuse root. None means the present one."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        unavailable("root may not run PostgreSQL, and there is no account postgres")


def _run(command: Sequence[str], folder: Path, env: Mapping[str, str] | None = None) -> None:
    outcome = subprocess.run(
        command, cwd=folder, env=env, check=False, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL
    )
    if outcome.returncode != 0:
        message = f"{' '.join(command)} failed ({outcome.returncode}):\n{outcome.stdout}{outcome.stderr}"
        raise RuntimeError(message)


@contextmanager
def _cluster_folder(owner: str | None) -> Iterator[Path]:
    """A private folder of the cluster's owner; not under pytest's, which only the account that runs it may enter."""
    with tempfile.TemporaryDirectory(prefix="loopback-pgstac-") as name:
        if owner:
            shutil.chown(name, user=owner)
        yield Path(name)


@contextmanager
def empty_database() -> Iterator[dict[str, str]]:
    """An empty cluster on a free loopback port; yields the PG* variables to reach it."""
    initdb, postgres = _programs()
    owner, port, password = _owner(), free_port(), secrets.token_hex(16)
    with _cluster_folder(owner) as folder:
        secret = folder / "password"
        secret.write_text(password)
        if owner:
            shutil.chown(secret, user=owner)
        data = str(folder / "data")
        initialise = [initdb, "-D", data, "-U", "postgres", "-A", "scram-sha-256", "--pwfile", str(secret)]
        initialise += ["-E", "UTF8", "--locale=C", "--no-sync"]
        _run(guarded(initialise, user=owner, death=signal.SIGKILL), folder)
        serve = [postgres, "-D", data, "-p", str(port), *(f"--{name}={value}" for name, value in SETTINGS.items())]
        pg_isready = [str(Path(postgres).with_name("pg_isready")), "-q", "-h", "127.0.0.1", "-p", str(port)]

        def ready() -> bool:
            return subprocess.run(pg_isready, check=False).returncode == 0

        # SIGQUIT is PostgreSQL's immediate shutdown: no last flush of data that is about to be deleted
        with serving(serve, ready=ready, folder=folder, name="postgres", user=owner, stop=signal.SIGQUIT):
            account = {"PGUSER": "postgres", "PGPASSWORD": password, "PGDATABASE": "postgres"}
            yield {"PGHOST": "127.0.0.1", "PGPORT": str(port), **account}


@contextmanager
def serve_pgstac(collections: list[dict[str, Any]], items: list[dict[str, Any]]) -> Iterator[str]:
    """Serve a STAC API on a free loopback port; yields the URL of its landing page.

    Skips the test where PostgreSQL, PostGIS or pgstac are missing, and fails it there if CI=true.

    Args:
        collections: STAC collections, with absolute hrefs.
        items: STAC items, with absolute hrefs.
    """
    port = free_port()
    with empty_database() as account, tempfile.TemporaryDirectory(prefix="loopback-api-") as name:
        folder = Path(name)
        foreign = {key for key in os.environ if key.startswith("PG")}  # PGSERVICE or PGOPTIONS of the user's own
        env = {key: value for key, value in python_environment().items() if key not in foreign} | account
        site = folder / "site.json"
        site.write_text(json.dumps({"collections": collections, "items": items}), encoding="utf-8")
        _run([sys.executable, "-m", "loopback.pgstac_load", str(site)], folder, env)
        application = ["--factory", "stac_fastapi.pgstac.app:create_app", "--log-level", "warning"]
        command = [sys.executable, "-m", "uvicorn", *application, "--host", "127.0.0.1", "--port", str(port)]
        ready = lambda: answers(port, "/_mgmt/health")  # noqa: E731
        with serving(command, ready=ready, folder=folder, name="api", env=env):
            yield f"http://127.0.0.1:{port}"
