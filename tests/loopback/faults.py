"""A file server as bad as the network between here and a provider, and every fault on record."""

from __future__ import annotations

import http.client
import json
import sys
import tempfile
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from loopback.fault_kinds import SHARES, Faults
from loopback.memory import python_environment
from loopback.process import answers, free_port, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["SHARES", "Faults", "Served", "Tally", "read_access_log", "serve_faulty", "tally_of"]


# A server that is down says nothing of itself, either.
PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Tally:
    """What a server did so far.

    Attributes:
        requests: Of files, whatever became of them.
        bytes: Of bodies handed to the network.
        signed: Signatures issued.
        impatient: Requests repeated before the time that a 429 had asked for.
        most: Requests under way at the same time, at most.
        faults: Kind → how many were injected.
    """

    requests: int
    bytes: int
    signed: int
    impatient: int
    most: int
    faults: Counter[str]

    @property
    def injected(self) -> int:
        """Faults of all kinds."""
        return self.faults.total()


class Served(NamedTuple):
    """One line of the access log; `span` is `first-last` or `-`, `fault` a kind or `-`."""

    status: int
    path: str
    span: str
    bytes: int
    fault: str


@contextmanager
def serve_faulty(root: Path, faults: Faults | None = None, *, access_log: Path | None = None) -> Iterator[str]:
    """Serve a folder over a bad network on a free loopback port; yields the base URL, without a slash at its end.

    `GET <base URL>/sign?href=URL` and `GET <base URL>/token/ACCOUNT/CONTAINER` issue signatures as Planetary Computer
    does, and suffer no faults.

    Args:
        root: The folder; `<base URL>/a/b.tif` is `root/a/b.tif`. Its files must not change meanwhile.
        faults: What goes wrong; by default nothing.
        access_log: A file that gets one line a request, see `Served`.
    """
    port = free_port()
    given = {
        "root": str(root.resolve(strict=True)),
        "port": port,
        "faults": asdict(faults or Faults()),
        "access_log": str(access_log.resolve()) if access_log else None,
    }
    with tempfile.TemporaryDirectory(prefix="loopback-faults-") as name:
        folder = Path(name)
        (folder / "given.json").write_text(json.dumps(given), encoding="utf-8")
        command = [sys.executable, "-m", "loopback.faults_app", str(folder / "given.json")]
        ready = lambda: answers(port, "/_faults")  # noqa: E731
        with serving(command, ready=ready, folder=folder, name="files", env=python_environment()):
            yield f"http://127.0.0.1:{port}"


def tally_of(url: str) -> Tally:
    """Ask a server of `serve_faulty` what it did; waits while it is down."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
        try:
            connection.request("GET", "/_faults")
            told = json.loads(connection.getresponse().read())
            return Tally(**{**told, "faults": Counter(told["faults"])})
        except ConnectionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        finally:
            connection.close()


def read_access_log(path: Path) -> list[Served]:
    """The requests, in the order in which their answers began."""
    lines = (line.split(" ") for line in path.read_text(encoding="utf-8").splitlines())
    return [Served(int(status), place, span, int(sent), fault) for status, place, span, sent, fault in lines]
