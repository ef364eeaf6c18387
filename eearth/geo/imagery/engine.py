"""Where jobs are done: by threads of this process, or by the workers of a dask.distributed cluster."""

from __future__ import annotations

import ctypes
import logging
import time
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, TypeVar

from eearth.errors import SceneError, SourceError, UsageError
from eearth.geo.imagery.pieces import stop_readers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

J = TypeVar("J")
T = TypeVar("T")

# Jobs that a cluster is given at a time for each of its threads: one to work on, and the next one.
JOBS_A_THREAD = 2

CONNECT_SECONDS = 15

# A cluster without any worker for this long is given up: a nanny starts a worker that died within a few seconds.
WORKERLESS_SECONDS = 60.0
LOOK_SECONDS = 5.0

# Parameters of glibc's mallopt, from malloc.h. Blocks of this size, such as a piece, go back to the system when freed.
# Each heap keeps this much for the next tile: memory that comes anew from the system is filled with zeros first.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
MAPPED_BYTES, KEPT_BYTES = 4 * 2**20, 32 * 2**20


def share_heaps() -> None:
    """Let all threads use two heaps, and large blocks none; a no-op where the C library is not glibc.

    glibc keeps a heap for each few threads, and raises, as blocks are freed, the size from which one is mapped by
    itself. Dozens of threads that read megabytes then hold several hundred MB that nobody uses (mallopt(3)).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_ARENA_MAX, 2)
        mallopt(M_MMAP_THRESHOLD, MAPPED_BYTES)
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)


def run_jobs(
    jobs: Iterable[J], work: Callable[[J], T], *, at_once: int, scheduler: str | None
) -> Iterator[tuple[J, T | SceneError]]:
    """Do jobs; yields each with its result, or with the scene that cannot be read, in the order in which they finish.

    Args:
        jobs: Drawn one by one as there is room, so that what was learned meanwhile may decide which come next.
        work: What to do.
        at_once: Jobs that this process does at the same time; bounds its memory.
        scheduler: Address of a dask scheduler; None does them here.

    Raises:
        SourceError: The provider or the cluster cannot be reached.
    """
    return _on_cluster(jobs, work, scheduler) if scheduler else _here(jobs, work, at_once)


def _here(jobs: Iterable[J], work: Callable[[J], T], at_once: int) -> Iterator[tuple[J, T | SceneError]]:
    pool = ThreadPoolExecutor(at_once, thread_name_prefix="piece")
    running: dict[Future[Any], J] = {}
    try:
        for job in jobs:
            running[pool.submit(_attempt, work, job)] = job
            if len(running) >= at_once:
                yield from _finished(running)
        while running:
            yield from _finished(running)
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        stop_readers()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _finished(running: dict[Future[Any], J]) -> Iterator[tuple[J, Any]]:
    done, _ = wait(running, return_when=FIRST_COMPLETED)
    for future in done:
        yield running.pop(future), future.result()


def _attempt(work: Callable[[J], T], job: J) -> T | SceneError:
    try:
        return work(job)
    except SceneError as error:
        return error


def _on_cluster(jobs: Iterable[J], work: Callable[[J], T], scheduler: str) -> Iterator[tuple[J, T | SceneError]]:
    client = _connected(scheduler)
    try:
        sent: dict[Any, J] = {}
        threads = max(1, sum(client.nthreads().values()))
        for job in jobs:
            sent[client.submit(_attempt, work, job, pure=False)] = job
            if len(sent) >= JOBS_A_THREAD * threads:
                yield from _collected(client, sent, scheduler)
        while sent:
            yield from _collected(client, sent, scheduler)
    finally:
        client.close()


def _collected(client: Any, sent: dict[Any, J], scheduler: str) -> Iterator[tuple[J, Any]]:
    for future in _done(client, sent, scheduler):
        result = _result(future, scheduler)
        future.release()
        yield sent.pop(future), result


def _done(client: Any, sent: dict[Any, J], scheduler: str) -> list[Any]:
    """Wait for a job to end, for as long as the cluster has a worker."""
    from distributed import wait

    first_done: Any = wait  # it has no types

    seen = time.monotonic()
    while True:
        try:
            with client.as_current():
                ended = first_done(list(sent), timeout=LOOK_SECONDS, return_when=FIRST_COMPLETED)
        except TimeoutError:
            if client.nthreads():
                seen = time.monotonic()
            elif time.monotonic() - seen > WORKERLESS_SECONDS:
                msg = (
                    f"all workers at {scheduler} are gone: run the same command again when some are back, it continues"
                )
                raise SourceError(msg) from None
        except CancelledError as error:
            raise _gone(scheduler) from error
        else:
            return list(ended.done)


def _result(future: Any, scheduler: str) -> Any:
    from distributed import KilledWorker
    from distributed.comm.core import CommClosedError

    try:
        return future.result()
    except (CancelledError, CommClosedError) as error:
        raise _gone(scheduler) from error
    except KilledWorker as error:
        msg = (
            f"expected workers at {scheduler} that live, found several that died of the same piece: give each more "
            "memory or fewer threads, and run the same command again, it continues"
        )
        raise SourceError(msg) from error


def _gone(scheduler: str) -> SourceError:
    return SourceError(
        f"the dask scheduler at {scheduler} is gone: run the same command again when it is back, it continues"
    )


def _connected(scheduler: str) -> Any:
    try:
        from distributed import Client
    except ImportError as error:
        msg = "expected dask.distributed for --scheduler: pip install 'eearth[cluster]'"
        raise UsageError(msg) from error
    for name in ("distributed", "distributed.client"):  # they tell in many lines what is raised, too
        logging.getLogger(name).setLevel(logging.CRITICAL)
    client: Any = None
    try:
        client = Client(scheduler, timeout=CONNECT_SECONDS, set_as_default=False)  # type: ignore[no-untyped-call]
        client.wait_for_workers(1, timeout=CONNECT_SECONDS)
    except (OSError, TimeoutError) as error:
        if client is not None:
            client.close()
        msg = f"expected a dask scheduler with a worker at {scheduler}, found none: is it running?"
        raise SourceError(msg) from error
    return client
