"""Processes that run tasks side by side: what a task gives does not depend on how many there are."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, Self, TypeVar

import torch
from threadpoolctl import threadpool_limits

from eearth.comparison.experiment import Experiment
from eearth.errors import EearthError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType

    from eearth.comparison.plan import Plan

Item = TypeVar("Item")
Result = TypeVar("Result")

# What a process that was started for it works on.
_PLANS: list[Plan] = []


class Crew:
    """A context manager over the processes; a single worker is this process itself.

    Each works with one thread. The networks and windows are so small that a second thread waits more than it works,
    and sums are then the same on every machine with the same kind of CPU.

    Args:
        plan: What they work on.
        workers: How many.
    """

    def __init__(self, plan: Plan, workers: int) -> None:
        """Start nothing yet: processes start with the first task."""
        self.plan = plan
        self.workers = workers
        self._pool: ProcessPoolExecutor | None = None
        self._alone: Experiment | None = None

    def __enter__(self) -> Self:
        """Make the pool."""
        if self.workers > 1:
            context = multiprocessing.get_context("spawn")  # a fork of a process with torch's threads may hang
            self._pool = ProcessPoolExecutor(self.workers, context, _begin, (self.plan,))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Drop what has not begun, and wait for what has."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def each(self, work: Callable[[Experiment, Item], Result], items: Sequence[Item]) -> Iterator[Result]:
        """What `work` gives for each item, as it is done; in any order.

        Raises:
            EearthError: What `work` raises, or a process died.
        """
        if self._pool is None:
            yield from self._each_here(work, items)
            return
        try:
            for done in as_completed([self._pool.submit(_call, work, item) for item in items]):
                yield done.result()
        except BrokenProcessPool as error:
            msg = (
                "expected every process to live, found one dead, perhaps for want of memory: run the same command with "
                "fewer --workers, it continues"
            )
            raise EearthError(msg) from error

    def _each_here(self, work: Callable[[Experiment, Item], Result], items: Sequence[Item]) -> Iterator[Result]:
        for item in items:
            with _one_thread():
                self._alone = self._alone or Experiment(self.plan)
                result = work(self._alone, item)
            yield result


def available_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(threads)


def _begin(plan: Plan) -> None:
    """Make a new process fit for tasks."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that reports
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    threadpool_limits(1)
    _PLANS.append(plan)


def _end_with_parent() -> None:
    """A parent that was killed takes its processes with it, even those that wait for a task."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@cache
def _experiment() -> Experiment:
    """That of this process; made with the first task, whose error then reaches the parent as any other."""
    return Experiment(_PLANS[0])


def _call(work: Callable[[Experiment, Any], Result], item: Any) -> Result:
    return work(_experiment(), item)
