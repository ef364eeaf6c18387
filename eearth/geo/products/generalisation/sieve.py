"""A minimum mapping unit: patches of a map that are too small take the class of a neighbour.

What a pixel becomes depends on its surroundings only, and never on where a tile ends: each tile is generalised with a
halo, which grows until nothing beyond it can matter.
"""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import rasterio
from numpy.typing import NDArray

from eearth.events import Advanced, Finished, Report, Started, silent
from eearth.geo.ground import Ground
from eearth.geo.products.generalisation.patches import Borders, Patches
from eearth.geo.products.rasters.unfinished import overwrite, writing
from eearth.geo.sampling.areas import HECTARE, PixelAreas

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from eearth.geo.grid import Grid, Window

TASK = "minimum mapping unit"

# Small patches that only touch small patches wait until one of these has found its class. So many rounds are enough
# for all but the noisiest maps, and bound how far away something can matter.
ROUNDS = 8

# A patch with more rows or columns than this is not small, whatever its area: it bounds how far away something can
# matter, too. At 10 m a patch of less than 2.5 ha cannot be that long.
LONGEST = 256

# Side of the tiles, and of the first halo around them, in pixels: enough for most tiles of a usual map.
TILE = 1024
HALO = 64

# A patch lacks nothing of the unit if it does so but for the rounding of areas.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Unit:
    """The smallest patch that a map shows.

    Attributes:
        square_metres: Its area on the ground.
        areas: Areas of the map's pixels.
        most: A patch of that many pixels is not small, wherever it lies.
    """

    square_metres: float
    areas: PixelAreas
    most: int

    @classmethod
    def on(cls, grid: Grid, hectares: float) -> Unit:
        """The unit on a grid.

        Raises:
            EearthError: Part of the grid lies off the globe.
        """
        areas, square_metres = PixelAreas(grid), hectares * HECTARE
        rows, cols = (np.rint(places).astype(np.int64) for places in Ground(grid).probes())
        least = float(areas.at(rows, cols).min())
        return cls(square_metres, areas, max(1, math.ceil(square_metres / least * (1 - ROUNDING))))

    @property
    def reach(self) -> int:
        """Rows or columns that a small patch has at most."""
        return min(self.most - 1, LONGEST)

    @property
    def halo(self) -> int:
        """How far away, in pixels, anything can matter: a chain of small patches, one a round, and one at its end."""
        return (ROUNDS + 1) * self.reach


@dataclass(frozen=True)
class Tally:
    """What became of the small patches; each counts where its first pixel lies.

    Attributes:
        absorbed: Patches that took another class.
        pixels: How many pixels did.
        left: Small patches that border nothing larger, and stay.
    """

    absorbed: int = 0
    pixels: int = 0
    left: int = 0

    def __add__(self, other: Tally) -> Tally:
        """Both together."""
        return Tally(self.absorbed + other.absorbed, self.pixels + other.pixels, self.left + other.left)


@dataclass(frozen=True)
class Settled:
    """One raster's patches after all rounds; arrays are (patch,).

    Attributes:
        patches: As they were.
        codes: Class code of each, now.
        small: Whether it was small.
        placed: Whether it is not small, or has found its place: a larger neighbour of its own or another class.
        unsure: Whether something beyond the raster's edges might matter.
    """

    patches: Patches
    codes: NDArray[np.uint8]
    small: NDArray[np.bool_]
    placed: NDArray[np.bool_]
    unsure: NDArray[np.bool_]


def generalise(source: Path, target: Path, grid: Grid, unit: Unit, report: Report = silent) -> Tally:
    """Write a map without its small patches.

    A patch, pixels of one class that touch along an edge, is small if its area on the ground is less than the unit; the
    area of its first pixel stands for those of all. Round by round, the small patches that border one that is not
    small take the class with which they share the longest border, of two the lower code, and are small no longer. One
    whose neighbour has become of its own class belongs to it, and stays. Pixels without a class neither change nor
    take others in.

    A killed run is simply begun again: the source stays as it is.

    Args:
        source: The map, a raster of class codes, 0 = none.
        target: Where to write; what lies there is replaced.
        grid: The grid of both.
        unit: See `Unit`.
        report: Receives progress.

    Raises:
        DiskError: The map could not be written.
    """
    tally, windows = Tally(), list(grid.windows(TILE))
    report(Started(task=TASK, total=len(windows), unit="tiles"))
    with writing(target):
        shutil.copyfile(source, target)
        with rasterio.open(source) as before:

            def read(window: Window) -> NDArray[np.uint8]:
                return np.asarray(before.read(1, window=window.rasterio))

            for window in windows:
                codes, found = generalised(read, grid.shape, window, unit)
                if found.pixels:
                    overwrite(target, window, codes[np.newaxis])
                tally += found
                report(Advanced(task=TASK))
    report(Finished(task=TASK))
    return tally


def generalised(
    read: Callable[[Window], NDArray[np.uint8]], shape: tuple[int, int], window: Window, unit: Unit
) -> tuple[NDArray[np.uint8], Tally]:
    """One tile of a map without its small patches; the same pixels wherever the tile's edges lie.

    Args:
        read: Window → (y, x) class codes.
        shape: Rows and columns of the whole map.
        window: The tile.
        unit: See `Unit`.

    Returns:
        (y, x) class codes, and what became of the patches whose first pixel lies in the tile.
    """
    halo = min(HALO, unit.halo)
    while True:
        around = window.grown(halo, shape)
        core = window.within(around)
        settled = settle(read(around), around, shape, unit)
        numbers = settled.patches.numbers[core.slices]
        if not settled.unsure[numbers].any():
            return settled.codes[numbers], _tally(settled, core)
        halo = min(2 * halo, unit.halo)


def settle(codes: NDArray[np.uint8], window: Window, shape: tuple[int, int], unit: Unit) -> Settled:
    """Find a class for each small patch of a part of a map.

    Args:
        codes: (y, x) class codes of the part.
        window: Where it lies in the map.
        shape: Rows and columns of the map.
        unit: See `Unit`.
    """
    patches = Patches.of(codes)
    maybe = (patches.codes > 0) & (patches.pixels < unit.most)
    maybe &= ~patches.longer_than(LONGEST, maybe)
    cut = patches.on_edges(
        top=window.row > 0,
        left=window.col > 0,
        bottom=window.row + window.height < shape[0],
        right=window.col + window.width < shape[1],
    )
    area = np.zeros(len(patches))
    area[maybe] = patches.pixels[maybe] * unit.areas.at(
        patches.first[0, maybe] + window.row, patches.first[1, maybe] + window.col
    )
    small = maybe & (area < unit.square_metres * (1 - ROUNDING))
    settled = Settled(patches, patches.codes, small, (patches.codes > 0) & ~small, maybe & cut)
    borders = Borders.of(patches, small)
    for _ in range(ROUNDS):
        settled = _next_round(settled, borders)
    return settled


def _next_round(settled: Settled, borders: Borders) -> Settled:
    """Small patches that border a placed one are placed, all at once."""
    waits = ~settled.placed[borders.patch]
    unsure = settled.unsure.copy()
    unsure[borders.patch[waits & settled.unsure[borders.other]]] = True
    asks = waits & settled.placed[borders.other]
    patch, code = _longest(borders.patch[asks], settled.codes[borders.other[asks]], borders.length[asks], settled.codes)
    codes, placed = settled.codes.copy(), settled.placed.copy()
    codes[patch], placed[patch] = code, True
    return replace(settled, codes=codes, placed=placed, unsure=unsure)


def _longest(
    patch: NDArray[np.int64], code: NDArray[np.uint8], length: NDArray[np.int64], own: NDArray[np.uint8]
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """(patches, the class with which each shares its longest border); its own class before any other."""
    keys, place = np.unique(patch * 256 + code, return_inverse=True)
    total = np.bincount(place, length, len(keys)).astype(np.float64)
    patches, codes = np.divmod(keys, 256)
    total[codes == own[patches]] = np.inf
    order = np.lexsort((codes, -total, patches))
    chosen, at = np.unique(patches[order], return_index=True)
    return chosen, codes[order][at].astype(np.uint8)


def _tally(settled: Settled, core: Window) -> Tally:
    row, col = settled.patches.first
    here = (row >= core.row) & (row < core.row + core.height) & (col >= core.col) & (col < core.col + core.width)
    changed = settled.codes != settled.patches.codes
    numbers = settled.patches.numbers[core.slices]
    return Tally(
        absorbed=int(np.count_nonzero(here & changed)),
        pixels=int(np.count_nonzero(changed[numbers])),
        left=int(np.count_nonzero(here & settled.small & ~settled.placed)),
    )
