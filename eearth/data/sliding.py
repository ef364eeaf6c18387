"""A network slid over imagery in overlapping windows, and what it gives blended into one tile."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, NotRequired, TypedDict, TypeVar, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from eearth.data.series import Chips, Series, join
from eearth.geo.grid import Window
from eearth.geo.lattice import extent_of, patches

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import Tensor

    from eearth.geo.lattice import Patch


S = TypeVar("S")
T = TypeVar("T")


class Sliding(TypedDict):
    """How a network is slid over imagery.

    Attributes:
        size: Side of a window in pixels, see `Axis`.
        margin: Half of the windows' overlap in pixels, see `Axis`.
        device: Where the network runs.
        batch: Windows of a batch.
        workers: Batches in the network at a time; without it, as many as torch may use threads.
        bands: Bands by name, in the network's order; None for all.
        dates: Indices of the acquisitions to use; None for all.
        phase: Of the imagery's first pixel, see `extent_of`; without it, (0, 0).
        waited: Is told how many seconds reading the windows of a batch kept the network from working.
    """

    size: int
    margin: int
    device: torch.device | str
    batch: int
    workers: NotRequired[int]
    bands: NotRequired[Sequence[str] | None]
    dates: NotRequired[NDArray[np.intp] | None]
    phase: NotRequired[tuple[int, int]]
    waited: NotRequired[Callable[[float], None]]


@dataclass(frozen=True)
class _Reader:
    """Reads windows; what of them lies beyond the imagery is no observation."""

    source: Series
    bands: Sequence[str] | None
    dates: NDArray[np.intp] | None

    def window(self, window: Window) -> Chips:
        """One window as a batch of one."""
        cut, beyond = _within(window, self.source.shape)
        dates = None if self.dates is None else [self.dates]
        reflectance, valid, day = self.source.chips([cut], dates=dates, bands=self.bands)
        if not any(beyond):
            return Chips(reflectance, valid, day)
        return Chips(F.pad(reflectance, beyond), F.pad(valid, beyond, value=False), day)

    def batch(self, patches: Sequence[Patch]) -> Chips:
        """Several windows of one size, in one batch."""
        return join([self.window(patch.window) for patch in patches])

    def observations(self, tile: Window) -> NDArray[np.int32]:
        """(y, x) number of clear observations."""
        valid = np.asarray(self.source.valid[:, *tile.slices], dtype=bool)
        used = valid if self.dates is None else valid[self.dates]
        counts: NDArray[np.int32] = used.sum(axis=0, dtype=np.int32)
        return counts


def _within(window: Window, shape: tuple[int, int]) -> tuple[Window, tuple[int, int, int, int]]:
    """The part of a window that exists, and how many columns (left, right) and rows (top, bottom) do not."""
    top, left = max(0, -window.row), max(0, -window.col)
    bottom = max(0, window.row + window.height - shape[0])
    right = max(0, window.col + window.width - shape[1])
    height, width = window.height - top - bottom, window.width - left - right
    return Window(window.row + top, window.col + left, height, width), (left, right, top, bottom)


def _untold(_seconds: float) -> None:
    """Nobody asks."""


def blended(
    network: Callable[[Chips], Tensor],
    source: Series,
    tile: Window,
    inside: NDArray[np.bool_] | None = None,
    **sliding: Unpack[Sliding],
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """What a network gives for one tile, blended from the windows that reach into it.

    Args:
        network: Chips → (chip, channel, y, x); must stand on the device.
        source: The region's imagery.
        tile: The pixels asked for.
        inside: (y, x) of the tile, True where the result is wanted; windows that only reach other pixels are left out.
            None: everywhere.
        **sliding: See `Sliding`.

    Returns:
        (channel, y, x), and the number of clear observations (y, x). There is no channel at all where `inside` is
        nowhere True.
    """
    reader = _Reader(source, sliding.get("bands"), sliding.get("dates"))
    extent = extent_of(source.shape, tile, sliding["margin"], sliding.get("phase", (0, 0)))
    parts = [
        patch
        for patch in patches(extent, tile, size=sliding["size"], margin=sliding["margin"])
        if inside is None or inside[patch.outer][patch.shares > 0].any()
    ]
    device, waited = sliding["device"], sliding.get("waited", _untold)
    workers = sliding.get("workers") or torch.get_num_threads()

    def look(group: Sequence[Patch]) -> tuple[Sequence[Patch], float, Tensor]:
        begun = time.monotonic()
        chips = reader.batch(group)
        return group, time.monotonic() - begun, network(chips.to(device)).float()

    result = torch.zeros((0, tile.height, tile.width), device=device)
    groups = [parts[first : first + sliding["batch"]] for first in range(0, len(parts), sliding["batch"])]
    with torch.inference_mode():
        for group, read, given in at_once(look, groups, workers):
            waited(read / workers)
            if not len(result):
                result = result.new_zeros((given.shape[1], tile.height, tile.width))
            for patch, part in zip(group, given, strict=True):
                shares = torch.from_numpy(patch.shares).to(device)
                result[:, *patch.outer].addcmul_(part[:, *patch.inner], shares)  # without a product in between
    return result.cpu().numpy(), reader.observations(tile)


def at_once(work: Callable[[S], T], items: Iterable[S], count: int) -> Iterator[T]:
    """What comes of each item, in their order, without gradients; several are worked on at a time.

    Torch's threads are dealt out among them: two windows on one core each are done sooner than one after the other on
    two cores.

    Args:
        work: Item → what comes of it; runs in threads of its own.
        items: Taken as needed.
        count: Items that are worked on at a time.
    """
    threads = torch.get_num_threads()

    def alone(item: S) -> T:
        with torch.inference_mode():
            return work(item)

    pool = ThreadPoolExecutor(count, "window", torch.set_num_threads, (max(1, threads // count),))
    running: deque[Future[T]] = deque()
    try:
        for item in items:
            running.append(pool.submit(alone, item))
            if len(running) > count:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # what a thread sets holds for those that are started later, too
