"""Overlapping windows over a tile of any size, and the weights with which they are blended.

A tile is looked at together with a margin as wide as the network's reach, so that its pixels see the same ground
whichever tile they lie in. Windows begin where the pixels' numbers on the ground are multiples of `STEP`: cut anywhere,
a region is seen alike. Neighbouring windows are blended inside their overlap only, away from the windows' edges, where
a convolution sees its own padding instead of the ground.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from eearth.errors import UsageError
from eearth.geo.grid import Window

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eearth.geo.grid import Grid

# The networks halve their input twice: only windows that start on a multiple of this see the ground on the same
# pooling lattice, and give the same features for the same place.
STEP = 4

# Lattices begin on a whole or a half pixel of the CRS, but for rounding: halfway between these nothing tips over.
QUARTER = 0.25

# The blend takes place in the middle of the overlap, over this share of it: a pixel of a window counts only where it is
# at least (1 − BLEND) · margin away from an edge that has a neighbour. A ramp over the whole overlap, as is common,
# gives weight to the very pixels that the overlap is there to avoid: with a network of 23 pixels' reach, windows of 128
# and a margin of 32 it changed 0.36 % of the classes against the map made in one piece; this one changes none.
BLEND = 1 / 8


def margin_for(reach: int) -> int:
    """The least margin with which a map made in windows equals the map made in one piece.

    Args:
        reach: The farthest pixel, in rows or columns, that a network's score depends on.
    """
    return math.ceil(reach / (1 - BLEND) / STEP) * STEP


@dataclass(frozen=True)
class Axis:
    """The lattice along one axis: overlapping intervals that cover [0, length), and how they are blended.

    Intervals are as few as `size` allows and then as short as can be, for what overlaps is worked on twice. They start
    at multiples of `STEP`; the last one is moved back so that it ends less than `STEP` pixels beyond the edge.

    Attributes:
        length: Pixels to cover, at least 1.
        size: Most pixels of an interval, a multiple of `STEP`.
        margin: Half of the least overlap of neighbouring intervals in pixels, a multiple of `STEP`, below `size / 2`.

    Raises:
        UsageError: Size or margin is none of these.
    """

    length: int
    size: int
    margin: int

    def __post_init__(self) -> None:
        """Refuse at birth what would leave gaps."""
        if self.size % STEP or self.margin % STEP or not 0 <= 2 * self.margin < self.size:
            msg = (
                f"expected a window size that is a multiple of {STEP} and more than twice the margin of "
                f"{self.margin} pixels (itself a multiple of {STEP}), found {self.size}"
            )
            raise UsageError(msg)

    @property
    def padded(self) -> int:
        """The length, rounded up to a multiple of `STEP`."""
        return math.ceil(self.length / STEP) * STEP

    @cached_property
    def count(self) -> int:
        """Number of intervals."""
        overlap = 2 * self.margin
        return max(1, math.ceil((self.padded - overlap) / (self.size - overlap)))

    @cached_property
    def span(self) -> int:
        """Pixels of every interval."""
        if self.count == 1:
            return self.padded
        overlap = 2 * self.margin
        return math.ceil((self.padded - overlap) / self.count / STEP) * STEP + overlap

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """First pixel of each interval, rising."""
        last = self.padded - self.span
        return tuple(min(index * (self.span - 2 * self.margin), last) for index in range(self.count))

    def weights(self, index: int) -> NDArray[np.float64]:
        """The share of interval `index` in each of its pixels, shape (span,), in [0, 1].

        A pixel's shares over all intervals sum to 1: with r_i the ramp at the seam before interval i, the share is
        r_i − r_(i+1), and the sum telescopes. At the outer edges of the axis there is no seam, so the share stays full.
        """
        pixels = np.arange(self.span, dtype=np.float64) + (self.starts[index] + 0.5)
        return self._ramp(index, pixels) - self._ramp(index + 1, pixels)

    def _ramp(self, index: int, pixels: NDArray[np.float64]) -> NDArray[np.float64]:
        """A raised cosine from 0 to 1 across the middle of the overlap of intervals `index − 1` and `index`."""
        if index == 0:
            return np.ones_like(pixels)
        if index == len(self.starts):
            return np.zeros_like(pixels)
        middle = (self.starts[index - 1] + self.span + self.starts[index]) / 2
        half = max(self.margin * BLEND, 0.5)
        phase: NDArray[np.float64] = np.clip((pixels - middle) / (2 * half) + 0.5, 0, 1)
        return (1 - np.cos(np.pi * phase)) / 2

    def reaching(self, start: int, stop: int) -> Iterator[tuple[int, NDArray[np.float64]]]:
        """(index, shares) of the intervals that count for any pixel of [start, stop)."""
        for index, first in enumerate(self.starts):
            if first < stop and first + self.span > start:
                shares = self.weights(index)
                if shares[max(0, start - first) : stop - first].any():
                    yield index, shares


@dataclass(frozen=True)
class Patch:
    """One lattice window and what it gives to a tile.

    Attributes:
        window: The pixels that the network sees; may reach beyond the imagery by less than `STEP`.
        inner: (rows, columns) of the window's pixels that lie in the tile.
        outer: (rows, columns) of the tile that those pixels fill.
        shares: (y, x) share of those pixels in the blend.
    """

    window: Window
    inner: tuple[slice, slice]
    outer: tuple[slice, slice]
    shares: NDArray[np.float32]


def _overlap(first: int, length: int, start: int, stop: int) -> tuple[slice, slice]:
    """The part of [first, first + length) that lies in [start, stop): seen from the former, seen from the latter."""
    low, high = max(first, start), min(first + length, stop)
    return slice(low - first, high - first), slice(low - start, high - start)


def extent_of(shape: tuple[int, int], tile: Window, margin: int, phase: tuple[int, int] = (0, 0)) -> Window:
    """The pixels that are looked at for a tile: those within the margin that exist, rounded outwards to `STEP`.

    Args:
        shape: (rows, columns) of the imagery.
        tile: The pixels asked for, inside the imagery.
        margin: See `Axis`.
        phase: (row, column) of the imagery's first pixel in the numbering whose multiples of `STEP` windows begin on.

    Returns:
        A window of the imagery; reaches beyond it by less than `STEP`.
    """
    row, height = _stretch(tile.row, tile.height, shape[0], margin, phase[0])
    col, width = _stretch(tile.col, tile.width, shape[1], margin, phase[1])
    return Window(row, col, height, width)


def phase_of(grid: Grid) -> tuple[int, int]:
    """(row, column) of a grid's first pixel, as the CRS numbers them from its origin, within `STEP`.

    Two grids on one pixel lattice get phases that differ as their first pixels do.
    """
    t = grid.transform
    row, col = (math.floor(place + QUARTER) for place in (t.f / t.e, t.c / t.a))
    return row % STEP, col % STEP


def _stretch(first: int, length: int, end: int, margin: int, phase: int) -> tuple[int, int]:
    """(first, number) of the pixels along one axis, see `extent_of`."""
    low = (max(0, first - margin) + phase) // STEP * STEP
    high = -(-(min(end, first + length + margin) + phase) // STEP) * STEP
    return low - phase, high - low


def patches(extent: Window, tile: Window, *, size: int, margin: int) -> Iterator[Patch]:
    """The windows that count for a pixel of `tile`, row by row.

    Args:
        extent: What the windows cover, see `extent_of`.
        tile: The pixels asked for, inside the extent.
        size: Side of a window in pixels, see `Axis`.
        margin: Half of the overlap in pixels, see `Axis`.
    """
    down, across = Axis(extent.height, size, margin), Axis(extent.width, size, margin)
    row, col = tile.row - extent.row, tile.col - extent.col
    for i, row_shares in down.reaching(row, row + tile.height):
        inner_rows, outer_rows = _overlap(down.starts[i], down.span, row, row + tile.height)
        for j, col_shares in across.reaching(col, col + tile.width):
            inner_cols, outer_cols = _overlap(across.starts[j], across.span, col, col + tile.width)
            shares = np.outer(row_shares[inner_rows], col_shares[inner_cols]).astype(np.float32)
            window = Window(extent.row + down.starts[i], extent.col + across.starts[j], down.span, across.span)
            yield Patch(window, (inner_rows, inner_cols), (outer_rows, outer_cols), shares)
