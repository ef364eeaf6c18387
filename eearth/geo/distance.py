"""Distances between pixels of two masks, centre to centre, in windows so that large rasters need little memory."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import distance_transform_edt

from eearth.geo.grid import Window

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from eearth.geo.grid import Grid

WINDOW = 512  # pixels to a side of the windows in which distances are computed
# A distance within this share of the reach counts as the reach itself, so that rounding cannot place a pixel outside
# that lies exactly on the limit.
ROUNDING = 1e-9


def pixel_sides(grid: Grid) -> tuple[float, float]:
    """(height, width) of a pixel in metres; on a grid in degrees the width at the latitude where it is smallest."""
    width, height = grid.resolution
    if not grid.crs.is_geographic:
        factor = float(grid.crs.linear_units_factor[1])
        return height * factor, width * factor
    # One degree on the WGS84 mean sphere (R = 6,371,008.8 m, IUGG), as in `Grid.pixel_metres`. At a pole a degree of
    # longitude has no length; a millionth of a degree beside it stands for it.
    latitude = min(max(abs(grid.bounds[1]), abs(grid.bounds[3])), 90 - 1e-6)
    return height * 111_195.08, width * 111_195.08 * math.cos(math.radians(latitude))


def near(
    targets: NDArray[np.bool_], sources: NDArray[np.bool_], sides: tuple[float, float], reach: float
) -> NDArray[np.bool_]:
    """The targets, (y, x), that have a source at most `reach` metres away; `sides` are a pixel's (height, width)."""
    found = np.zeros(targets.shape, dtype=bool)
    for inner, outer, own in _windows(targets, sources, sides, reach):
        distance = distance_transform_edt(~sources[outer], sampling=sides)[own]
        found[inner] = targets[inner] & (distance <= reach * (1 + ROUNDING))
    return found


def nearest(targets: NDArray[np.bool_], sources: NDArray[np.bool_], sides: tuple[float, float], reach: float) -> float:
    """Metres from a target to the nearest source, centre to centre, at its smallest; both masks hold a pixel."""
    reach = max(2 * reach, *sides)
    while True:
        found = [
            float(distance_transform_edt(~sources[outer], sampling=sides)[own][targets[inner]].min())
            for inner, outer, own in _windows(targets, sources, sides, reach)
        ]
        # A distance beyond the margin may have a shorter rival outside it.
        if found and min(found) <= reach:
            return min(found)
        reach *= 4


def _windows(
    targets: NDArray[np.bool_], sources: NDArray[np.bool_], sides: tuple[float, float], reach: float
) -> Iterator[tuple[tuple[slice, slice], tuple[slice, slice], tuple[slice, slice]]]:
    """Windows with a target, and a source no farther than `reach` from the window.

    Yields:
        The window; the window with a margin that holds every source within `reach` metres; the window within that.
    """
    height, width = targets.shape
    down, right = math.ceil(reach / sides[0]) + 1, math.ceil(reach / sides[1]) + 1
    for row in range(0, height, WINDOW):
        for col in range(0, width, WINDOW):
            window = Window(row, col, min(WINDOW, height - row), min(WINDOW, width - col))
            top, left = max(0, row - down), max(0, col - right)
            outer = slice(top, row + window.height + down), slice(left, col + window.width + right)
            if targets[window.slices].any() and sources[outer].any():
                yield window.slices, outer, Window(row - top, col - left, window.height, window.width).slices
