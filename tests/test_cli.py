from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest

from eearth.cli import STAGES, _disk_text
from eearth.config import describe, setting_names, setting_types
from eearth.settings import SETTINGS

if TYPE_CHECKING:
    from pathlib import Path

COMMANDS = (*SETTINGS, "status", "view", "demo")
HEAVY = ("torch", "rasterio", "geopandas", "pandas", "numpy", "scipy", "sklearn", "matplotlib", "zarr", "pystac_client")


def eearth(*words: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("EEARTH_")}
    return subprocess.run(
        [sys.executable, "-m", "eearth", *words],
        cwd=cwd,
        env={**inherited, "COLUMNS": "200", "PYTHONWARNINGS": "error::DeprecationWarning:eearth", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def plain(text: str) -> str:
    return " ".join(text.split())


def test_help_imports_nothing_heavy() -> None:
    """One process asks for the help of every command and then looks at what was imported."""
    code = (
        "import sys\nfrom eearth import cli\n"
        f"for command in {['', *COMMANDS]!r}:\n"
        "    sys.argv = ['eearth', *filter(None, [command]), '--help']\n"
        "    try:\n        cli.main()\n"
        "    except SystemExit as end:\n        assert end.code == 0, (command, end.code)\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    assert done.stderr == ""
    for stage, cls in SETTINGS.items():
        assert stage in done.stdout
        assert plain(cls.__doc__ or "")[:60] in plain(done.stdout)


@pytest.mark.parametrize("stage", SETTINGS)
def test_flags_are_the_fields(stage: str) -> None:
    done = eearth(stage, "--help")
    assert done.returncode == 0
    cls = SETTINGS[stage]
    fields = cls.__dataclass_fields__
    options = {f"--{name.replace('_', '-')}" for name in setting_names(cls) if not fields[name].metadata["argument"]}
    shown = set(re.findall(r"^\s+(?:-\w, )?(--[a-z-]+)", done.stdout, re.MULTILINE))
    assert shown == options | {"--workspace", "--help"}
    for name in setting_names(cls):
        assert plain(fields[name].metadata["text"])[:50] in plain(done.stdout), name
        default = fields[name].default
        if isinstance(default, int | float) and not isinstance(default, bool):
            assert f"[default: {default}]" in plain(done.stdout), name
    assert all(describe(kind) for kind in setting_types(cls).values())


def test_every_stage_has_its_module() -> None:
    assert list(STAGES) == list(SETTINGS)
    assert all(module == f"eearth.stages.{stage}" for stage, module in STAGES.items())


def test_version_and_help() -> None:
    assert eearth("--version").stdout == f"eearth {version('eearth')}\n"
    assert eearth("-h").stdout == eearth("--help").stdout
    bare = eearth()
    assert bare.returncode == 2
    assert bare.stdout == eearth("--help").stdout
    assert bare.stderr == ""


def test_the_installed_command_is_the_same() -> None:
    installed = shutil.which("eearth", path=os.path.dirname(sys.executable))  # noqa: PTH120 - a PATH is text
    if installed is None:
        pytest.skip("eearth is not installed here, only importable")
    done = subprocess.run([installed, "--version"], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == f"eearth {version('eearth')}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["download"], "Missing argument 'REGION'"),
        (["download", "r.geojson", "--bogus", "1"], "No such option: --bogus"),
        (["download", "r.geojson", "--max-clouds", "1"], "--max-cloud,"),
        (["download", "r.geojson", "more"], "unexpected extra argument"),
        (["fly"], "No such command 'fly'"),
        (["download", "r.geojson", "--max-cloud", "much"], "expected a number for --max-cloud, found 'much'"),
        (["download", "r.geojson", "--grid", "any"], "expected snap|native for --grid, found 'any'"),
        (["download", "r.geojson", "--workers", "0"], "expected --workers of at least 1, found 0"),
        (["demo", "--seeds", "0"], "--seeds"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exits_with_2(tmp_path: Path, words: list[str], message: str) -> None:
    done = eearth(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["download", "none.geojson"], "expected a region file, found nothing at none.geojson"),
        (["rasterize", "none.gpkg"], "none.gpkg, found nothing"),
        (["pretrain"], "expected imagery, which is missing: run `eearth download REGION` first"),
        (
            ["pretrain", "-w", "a b"],
            "expected a b/imagery, which is missing: run `eearth download REGION -w 'a b'` first",
        ),
        (["status", "-w", "nowhere"], "found no folder at nowhere: `eearth download REGION -w nowhere` makes one"),
    ],
)
def test_what_a_user_can_mend_is_one_line_and_exits_with_1(tmp_path: Path, words: list[str], message: str) -> None:
    done = eearth(*words, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_workspace_may_come_from_the_environment(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "eearth.toml").write_text("[download]\nbandz = 3\n")
    done = eearth("download", "r.geojson", cwd=tmp_path, EEARTH_WORKSPACE="project")
    assert done.returncode == 2
    assert "project/eearth.toml sets bandz, which download does not have; did you mean bands?" in done.stderr
    done = eearth("status", cwd=tmp_path, EEARTH_WORKSPACE="nowhere")
    assert "found no folder at nowhere" in done.stderr
    done = eearth("status", "-w", "project", cwd=tmp_path, EEARTH_WORKSPACE="nowhere")
    assert done.returncode == 0
    assert str(tmp_path / "project") in done.stdout.replace("\n", "")
    assert done.stdout.count("missing") == len(SETTINGS)


def test_settings_may_come_from_the_environment(tmp_path: Path) -> None:
    done = eearth("download", "r.geojson", cwd=tmp_path, EEARTH_DOWNLOAD_GRID="any")
    assert done.returncode == 2
    assert "expected snap|native for EEARTH_DOWNLOAD_GRID, found 'any'" in done.stderr


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full at /a/b: free some space and run the same command again, it continues"),
        (errno.EDQUOT, "the disk is full at /a/b"),
        (errno.EROFS, "not allowed to read or write at /a/b: check its permissions, or choose another --workspace"),
        (errno.EACCES, "not allowed to read or write at /a/b"),
        (errno.ENOTDIR, "Not a directory at /a/b"),
    ],
)
def test_what_the_system_refuses_is_said_in_words(number: int, words: str) -> None:
    assert _disk_text(OSError(number, os.strerror(number), "/a/b")).startswith(words)


def test_a_workspace_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "r.geojson").write_text(
        '{"type": "Polygon", "coordinates": [[[14, 45], [14.1, 45], [14.1, 45.1], [14, 45]]]}'
    )
    done = eearth("download", "r.geojson", "-w", "file", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "unexpected" not in done.stderr
