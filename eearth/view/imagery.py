"""The imagery under a map, in natural colours: tiles made from the workspace's cube.

A cube has no overviews, and a chunk of it holds all dates of a small square. So a thinned-out picture of the whole is
made once, in the background, for the far zooms; the near ones read the few chunks under a tile when it is asked for.
"""

from __future__ import annotations

from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
from pyproj import Transformer

from eearth.errors import innermost
from eearth.events import Advanced, Finished, Report, Started, Warned, silent
from eearth.report.backdrop import coloured, ends_of, median_of
from eearth.report.images import webp
from eearth.view.mercator import MERCATOR, SIDE, turned

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from eearth.geo.cube import Cube
    from eearth.view.mercator import Tile

TASK = "imagery under the map"

# Most rows and columns of the picture of the whole: 16 MB.
LONGEST_SIDE = 2048

# Chunks down and across that decide what is black and what is white, and pixels of each.
SAMPLED_CHUNKS, SAMPLED_PIXELS = 8, 16

# Tiles that are kept: some 10 kB each.
KEPT = 512

# Points on each side of a tile whose place in the cube is looked up; between them it is interpolated. The error is a
# pixel of the tile times its side over some 50,000 km: two hundredths of one where a tile shows 1,000 km.
LATTICE = 17


class Imagery:
    """The median of each pixel's clear observations, as tiles.

    Args:
        cube: The imagery.

    Attributes:
        step: Every how many pixels the picture of the whole shows one.
    """

    def __init__(self, cube: Cube) -> None:
        """Find out what is black and what is white; read some chunks for it."""
        self._cube = cube
        self._from_mercator = Transformer.from_crs(MERCATOR.to_wkt(), cube.grid.crs.to_wkt(), always_xy=True)
        self._chunk = int(cube.reflectance.chunks[-1])
        self.step = max(1, -(-max(cube.grid.shape) // LONGEST_SIDE))
        rows, cols = (_spread(side, self._chunk) for side in cube.grid.shape)
        self._ends = ends_of(median_of(cube, rows, cols, silent))
        self._rows, self._cols = (np.arange(0, side, self.step) for side in cube.grid.shape)
        self._levels = [np.zeros((self._rows.size, self._cols.size, 4), dtype=np.uint8)]
        self._ready = False
        self._reading = Lock()
        self._made: Callable[[Tile], bytes] = lru_cache(KEPT)(self._make)

    def prepare(self, stopped: Callable[[], bool] = lambda: False, report: Report = silent) -> None:
        """Make the picture of the whole, a row of chunks at a time; one that cannot be read leaves a gap."""
        parts = [part for part in np.split(self._rows, self._first_of_chunks()) if part.size]
        report(Started(task=TASK, total=len(parts), unit="rows of chunks"))
        for part in parts:
            if stopped():
                return
            place = slice(part[0] // self.step, part[-1] // self.step + 1)
            try:
                self._levels[0][place] = coloured(median_of(self._cube, part, self._cols, silent), *self._ends)
            except (OSError, RuntimeError, ValueError) as error:
                report(Warned(text=f"rows {part[0]} to {part[-1]} of the imagery cannot be read: {innermost(error)}"))
            report(Advanced(task=TASK))
        while max(self._levels[-1].shape) > SIDE:
            self._levels.append(_halved(self._levels[-1]))
        self._ready = True
        report(Finished(task=TASK))

    def _first_of_chunks(self) -> NDArray[np.intp]:
        """Where in the shown rows another row of chunks begins."""
        return np.flatnonzero(np.diff(self._rows // self._chunk)) + 1

    def tile(self, tile: Tile) -> bytes | None:
        """A WebP; None where the picture of the whole is needed and not yet made."""
        if not self._ready and self._is_far(_ratio(*self._under(tile))):
            return None
        return self._made(tile)

    def _is_far(self, ratio: float) -> bool:
        """Whether the picture of the whole is sharp enough, or at least half as sharp."""
        return self.step == 1 or ratio * 2 > self.step

    def _make(self, tile: Tile) -> bytes:
        rows, cols = self._under(tile)
        height, width = self._cube.grid.shape
        inside = (rows >= 0) & (rows < height) & (cols >= 0) & (cols < width)
        shown = np.zeros((SIDE, SIDE, 4), dtype=np.uint8)
        if inside.any():
            shown[inside] = self._picked(rows[inside], cols[inside], _ratio(rows, cols))
        return webp(shown)

    def _picked(self, rows: NDArray[np.float64], cols: NDArray[np.float64], ratio: float) -> NDArray[np.uint8]:
        """(n, 4) colours of n places in the cube, of which one pixel of the tile covers `ratio` pixels on a side."""
        if self._is_far(ratio):
            level = min(max(0, int(np.log2(ratio / self.step))), len(self._levels) - 1)
            side = self.step * 2**level
            return np.asarray(self._levels[level][(rows // side).astype(int), (cols // side).astype(int)])
        step = max(1, int(ratio))
        row_numbers, col_numbers = (rows // step).astype(int), (cols // step).astype(int)
        shown_rows, shown_cols = (
            np.arange(numbers.min(), numbers.max() + 1) * step for numbers in (row_numbers, col_numbers)
        )
        with self._reading:  # one reads with several threads already
            picture = coloured(median_of(self._cube, shown_rows, shown_cols, silent), *self._ends)
        picked: NDArray[np.uint8] = picture[row_numbers - row_numbers.min(), col_numbers - col_numbers.min()]
        return picked

    def _under(self, tile: Tile) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(rows, columns) of the cube, each (y, x), under the middles of a tile's pixels; NaN where it has none."""
        left, bottom, right, top = tile.bounds
        share = np.linspace(0, 1, LATTICE)
        xs, ys = np.meshgrid(left + share * (right - left), top + share * (bottom - top))
        x, y = self._from_mercator.transform(xs, ys)
        place = ~turned(self._cube.grid, tile)
        with np.errstate(invalid="ignore"):  # where the CRS has no place, there is infinity
            return _between(place.e * y + place.f), _between(place.a * x + place.c)


def _between(lattice: NDArray[np.float64]) -> NDArray[np.float64]:
    """(LATTICE, LATTICE) values over a tile, its edges included → (SIDE, SIDE) at the middles of its pixels."""
    at = (np.arange(SIDE) + 0.5) / SIDE * (LATTICE - 1)
    low = at.astype(np.int64)
    share = at - low
    down = lattice[low] * (1 - share[:, None]) + lattice[low + 1] * share[:, None]
    between: NDArray[np.float64] = down[:, low] * (1 - share) + down[:, low + 1] * share
    return between


def _ratio(rows: NDArray[np.float64], cols: NDArray[np.float64]) -> float:
    """Pixels of the cube, on a side, under one of the tile; that with the widest step where they differ."""
    known = [places[np.isfinite(places)] for places in (rows, cols)]
    return float(max(np.ptp(places) if places.size else SIDE for places in known)) / SIDE


def _halved(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Each 2 x 2 pixels as one: the mean of those that show something."""
    height, width = (side + side % 2 for side in picture.shape[:2])
    even = np.zeros((height, width, 4), dtype=np.float32)  # what shows nothing is black: it adds nothing
    even[: picture.shape[0], : picture.shape[1]] = picture
    fours = even.reshape(height // 2, 2, width // 2, 2, 4)
    seen = (fours[..., 3:] > 0).sum(axis=(1, 3))
    mean: NDArray[np.float32] = fours.sum(axis=(1, 3)) / np.maximum(seen, 1)
    return mean.round().astype(np.uint8)


def _spread(side: int, chunk: int) -> NDArray[np.int64]:
    """Rows, or columns, of chunks spread over a side."""
    chunks = -(-side // chunk)
    chosen = np.unique(np.linspace(0, chunks - 1, min(chunks, SAMPLED_CHUNKS)).round().astype(np.int64))
    places = (chosen[:, None] * chunk + np.linspace(0, chunk - 1, SAMPLED_PIXELS).round().astype(np.int64)).ravel()
    return np.unique(places[places < side])
