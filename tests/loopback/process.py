"""Programs run as child processes on loopback: found, started, waited for, and surely ended."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from http.server import ThreadingHTTPServer
    from pathlib import Path

START_SECONDS = 30.0
STOP_SECONDS = 10.0


def unavailable(reason: str) -> NoReturn:
    """Skip the test on somebody's laptop, fail it in CI, where a silent skip would hide a whole provider."""
    if os.environ.get("CI", "").lower() in {"1", "true"}:
        pytest.fail(f"{reason}; CI must have it (.ci/apt-packages)", pytrace=False)
    pytest.skip(reason)


def find_program(name: str, package: str, folders: Sequence[Path] = ()) -> str:
    """The path of a program; /usr/sbin is searched too, since it is not on an ordinary user's PATH in Debian."""
    path = os.pathsep.join([*map(str, folders), os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    found = shutil.which(name, path=path)
    if found is None:
        unavailable(f"no {name} here (Debian package {package})")
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def accepts(port: int) -> bool:
    """Whether somebody listens on a loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def answers(port: int, path: str) -> bool:
    """Whether `GET path` on a loopback port is answered with 200 (http.client, because it obeys no proxy variable)."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()


@contextmanager
def running(server: ThreadingHTTPServer) -> Iterator[str]:
    """Let a server of Python's own answer in a thread; yields its URL, without a slash at its end."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def guarded(command: Sequence[str], *, user: str | None = None, death: signal.Signals) -> list[str]:
    """The command, run as `user` and sent `death` by the kernel when the process that started it dies.

    That last thing is what ends the servers of a test run that was itself killed and could clean up nothing.
    """
    setpriv = shutil.which("setpriv")
    if setpriv is None and user is None:  # no util-linux (macOS): only an orderly end is an end there
        return list(command)
    as_user = [f"--reuid={user}", f"--regid={user}", "--init-groups"] if user else []
    return [setpriv or "setpriv", *as_user, f"--pdeathsig={death.name.removeprefix('SIG')}", *command]


def _wait_until_ready(process: subprocess.Popen[bytes], ready: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not ready() or process.poll() is not None:
        if process.poll() is not None or time.monotonic() > deadline:
            tail = log.read_text(errors="replace")[-2000:]
            message = f"{process.args!r} did not start (exit status {process.returncode}):\n{tail}"
            raise RuntimeError(message)
        time.sleep(0.01)


def _end(process: subprocess.Popen[bytes], stop: signal.Signals) -> None:
    """Ask the process to stop, then kill what is left of its group, and only then reap it.

    As long as it is not reaped, its id, which is the group's too, cannot have become somebody else's.
    """
    if process.returncode is None:
        os.kill(process.pid, stop)  # the process's own method would reap it if it is dead already
        deadline = time.monotonic() + STOP_SECONDS
        gone = os.WEXITED | os.WNOWAIT | os.WNOHANG
        while os.waitid(os.P_PID, process.pid, gone) is None and time.monotonic() < deadline:
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def serving(
    command: Sequence[str],
    *,
    ready: Callable[[], bool],
    folder: Path,
    name: str,
    env: Mapping[str, str] | None = None,
    user: str | None = None,
    stop: signal.Signals = signal.SIGTERM,
) -> Iterator[None]:
    """Run a server until the block ends, from `folder`, its output in `folder/<name>.log`.

    Raises:
        RuntimeError: It ended before it was ready or was not ready in time; the message holds the end of its output.
    """
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            guarded(command, user=user, death=stop),
            cwd=folder,
            env=dict(env) if env is not None else None,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C goes to the test run alone, which then ends its servers in order
        )
    try:
        _wait_until_ready(process, ready, log)
        yield
    finally:
        _end(process, stop)
