"""Distances between pixels of two masks, centre to centre, in windows so that large rasters need little memory.

Few pixels lie within a usual buffer, so they are looked at one by one; a distance transform serves larger ones.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import distance_transform_edt

from eearth.geo.grid import Window
from eearth.geo.ground import Ground, differs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from eearth.geo.grid import Grid

WINDOW = 512  # pixels to a side of the windows in which distances are computed
# Rows of neighbours, above and below, up to which shifted masks are faster than a distance transform (measured: seven
# times at a reach of 3 pixels, twice at 40).
SHIFTED_ROWS = 40
# Nearest offsets that are tried before a distance transform: with a buffer the least distance is the next one beyond.
NEAREST_OFFSETS = 64
# A distance within this share of the reach counts as the reach itself, so that rounding cannot place a pixel outside
# that lies exactly on the limit.
ROUNDING = 1e-9


@lru_cache(maxsize=16)
def pixel_sides(grid: Grid) -> tuple[float, float]:
    """(height, width) of a pixel in metres.

    On a grid in degrees, and where the projection makes the nominal sides wrong by more than 0.5 % somewhere on the
    grid, as Web Mercator does, each is that on the ground where it is smallest: no distance is shorter than it seems.
    """
    ground = Ground(grid)
    if grid.crs.is_geographic:
        return ground.cell()
    width, height = (side * float(grid.crs.linear_units_factor[1]) for side in grid.resolution)
    true = ground.sides()
    if not differs(true, np.array([[height], [width]])):
        return height, width
    return float(true[0].min()), float(true[1].min())


def near(
    targets: NDArray[np.bool_], sources: NDArray[np.bool_], sides: tuple[float, float], reach: float
) -> NDArray[np.bool_]:
    """The targets, (y, x), that have a source at most `reach` metres away; `sides` are a pixel's (height, width)."""
    found = np.zeros(targets.shape, dtype=bool)
    limit = reach * (1 + ROUNDING)
    within = _within if limit / sides[0] < SHIFTED_ROWS + 1 else _within_by_transform
    for inner, outer, own in _windows(targets, sources, sides, reach):
        np.logical_and(targets[inner], within(sources[outer], sides, limit)[own], out=found[inner])
    return found


def _within_by_transform(sources: NDArray[np.bool_], sides: tuple[float, float], limit: float) -> NDArray[np.bool_]:
    """Where a source is at most `limit` metres away, (y, x)."""
    near: NDArray[np.bool_] = distance_transform_edt(~sources, sampling=sides) <= limit
    return near


def _within(sources: NDArray[np.bool_], sides: tuple[float, float], limit: float) -> NDArray[np.bool_]:
    """The same, as the sources' rows widened by what the circle spans there, one above the other."""
    height, rows = len(sources), min(math.floor(limit / sides[0]), len(sources) - 1)
    found = np.zeros_like(sources)
    right, left, span = sources, sources, 0
    for down in range(rows, -1, -1):  # the outermost row first: the circle only gets wider
        wanted = _span(down, sides, limit)
        right, left, span = _grown(right, span, wanted), _grown(left[:, ::-1], span, wanted)[:, ::-1], wanted
        wide = right | left
        found[down:] |= wide[: height - down]
        found[: height - down] |= wide[down:]
    return found


def _span(down: int, sides: tuple[float, float], limit: float) -> int:
    """Columns to each side that lie within `limit` metres, `down` rows away."""
    return math.floor(math.sqrt(max(0.0, limit**2 - (down * sides[0]) ** 2)) / sides[1])


def _grown(mask: NDArray[np.bool_], span: int, wanted: int) -> NDArray[np.bool_]:
    """A mask that has grown by `span` columns towards the end of its rows, grown by `wanted`."""
    while span < wanted:
        step = min(wanted - span, span + 1)  # a wider one would leave a gap between a pixel's copies
        grown = mask.copy()
        grown[:, step:] |= mask[:, :-step]
        mask, span = grown, span + step
    return mask


def nearest(targets: NDArray[np.bool_], sources: NDArray[np.bool_], sides: tuple[float, float], beyond: float) -> float:
    """Metres from a target to the nearest source, centre to centre, at its smallest.

    Args:
        targets: (y, x), with a pixel.
        sources: (y, x), with a pixel, though not one of the targets.
        sides: (height, width) of a pixel in metres.
        beyond: Metres that all distances are known to exceed: where to begin to look.
    """
    for distance, down, right in _offsets(sides, beyond):
        if _meet(targets, sources, down, right):
            return distance
    return _nearest_by_transform(targets, sources, sides, beyond)


def _offsets(sides: tuple[float, float], beyond: float) -> list[tuple[float, int, int]]:
    """(metres, rows down, columns right) of the nearest offsets farther than `beyond`, rising."""
    # All within the radius of the circle that holds enough of them: its area counts the offsets in it.
    radius = math.sqrt(beyond**2 + NEAREST_OFFSETS * sides[0] * sides[1]) + max(sides)
    rows, columns = (math.ceil(radius / side) for side in sides)
    down, right = np.mgrid[0 : rows + 1, -columns : columns + 1].reshape(2, -1)
    metres = np.hypot(down * sides[0], right * sides[1])
    beyond = beyond * (1 + ROUNDING)
    first = np.argsort(metres, kind="stable")
    first = first[(metres[first] > beyond) & (metres[first] <= radius)][:NEAREST_OFFSETS]
    return list(zip(metres[first].tolist(), down[first].tolist(), right[first].tolist(), strict=True))


def _meet(targets: NDArray[np.bool_], sources: NDArray[np.bool_], down: int, right: int) -> bool:
    """Whether a target and a source lie so many rows and columns apart, in one direction or the other."""
    height, width = targets.shape
    if down >= height or abs(right) >= width:
        return False
    above = slice(None, height - down), slice(max(0, -right), width - max(0, right))
    below = slice(down, None), slice(max(0, right), width - max(0, -right))
    return any(
        bool((one[above][strip] & other[below][strip]).any())
        for one, other in ((targets, sources), (sources, targets))
        for strip in (slice(row, row + WINDOW) for row in range(0, height - down, WINDOW))
    )


def _nearest_by_transform(
    targets: NDArray[np.bool_], sources: NDArray[np.bool_], sides: tuple[float, float], reach: float
) -> float:
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
