"""A dask.distributed cluster on loopback: a scheduler and workers, each a process of its own."""

from __future__ import annotations

import sys
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from loopback.memory import python_environment
from loopback.process import accepts, free_port, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

DASK = [sys.executable, "-m", "dask"]
# Besides dashboards there is an HTTP server for the machine's health: on any free port.
LOOPBACK = ["--host", "127.0.0.1", "--no-dashboard", "--dashboard-address", "127.0.0.1:0"]


@dataclass(frozen=True)
class Cluster:
    """A running cluster.

    Attributes:
        address: The scheduler's.
        scheduler: Its process id.
        workers: Those of the workers.
    """

    address: str
    scheduler: int
    workers: tuple[int, ...]


@contextmanager
def serve_cluster(workers: int, *, threads: int = 2) -> Iterator[Cluster]:
    """Run a scheduler and some workers of some threads each, without nannies (who would start a killed worker again).

    Nothing listens on any other address than loopback, and there are no dashboards.
    """
    with tempfile.TemporaryDirectory(prefix="loopback-cluster-") as name, ExitStack() as stack:
        folder, port = Path(name), free_port()
        address = f"tcp://127.0.0.1:{port}"
        scheduler = [*DASK, "scheduler", "--port", str(port), *LOOPBACK, "--pid-file", str(folder / "pid")]
        stack.enter_context(_running(scheduler, folder, lambda: accepts(port)))
        folders = tuple(folder / str(number) for number in range(workers))
        for own in folders:
            own.mkdir()
            worker = [
                *DASK, "worker", address, *LOOPBACK, "--nthreads", str(threads), "--no-nanny", "--memory-limit", "0",
                "--local-directory", str(own), "--pid-file", str(own / "pid"),
            ]  # fmt: skip
            stack.enter_context(_running(worker, own, partial(_is_registered, own)))
        scheduler_id, *worker_ids = (int((own / "pid").read_text()) for own in (folder, *folders))
        yield Cluster(address, scheduler_id, tuple(worker_ids))


def _running(command: list[str], folder: Path, ready: Callable[[], bool]) -> AbstractContextManager[None]:
    return serving(command, ready=ready, folder=folder, name="dask", env=python_environment())


def _is_registered(folder: Path) -> bool:
    return "Registered to" in (folder / "dask.log").read_text(encoding="utf-8", errors="replace")
