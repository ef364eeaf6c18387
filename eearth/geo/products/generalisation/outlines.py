"""The patches of a class map as polygons that fit each other: no gaps, no overlaps, and every corner shared."""

from __future__ import annotations

from array import array
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import shapely
from rasterio.features import shapes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from eearth.geo.products.generalisation.patches import Patches

# A window may be cut into smaller ones with edges at multiples of so many pixels.
SMALLEST = 128


def outlines(
    patches: Patches, framed: NDArray[np.uint8], tolerance: float
) -> tuple[NDArray[np.object_], NDArray[np.int64]]:
    """Draw the patches of a window.

    The window's edges stay as they are, with a corner wherever a border of either side ends there, or a smaller window
    might, so that polygons of neighbouring windows fit each other, too.

    Args:
        patches: Those of the window.
        framed: (y + 2, x + 2) class codes of the window and of one pixel around it.
        tolerance: How much borders are simplified, in pixels; 0 keeps every pixel's corner.

    Returns:
        (polygons, the patch of each): x and y are columns and rows from the window's corner.
    """
    points, rings, polygons, numbers = _traced(patches)
    points, rings = _with_meetings(points, rings, _meetings(framed))
    drawn = shapely.from_ragged_array(shapely.GeometryType.POLYGON, points.astype(np.float64), (rings, polygons))
    if tolerance:
        drawn = shapely.coverage_simplify(drawn, tolerance, simplify_boundary=False)
    return drawn, numbers


def _traced(patches: Patches) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """(corners (point, xy), first corner of each ring, first ring of each polygon, the patch of each), as GDAL goes."""
    points, rings, polygons, numbers = array("d"), array("q", [0]), array("q", [0]), array("q")
    for drawn, number in shapes(patches.numbers, connectivity=4):
        for ring in drawn["coordinates"]:
            points.extend(chain.from_iterable(ring))
            rings.append(len(points) // 2)
        polygons.append(len(rings) - 1)
        numbers.append(int(number))
    return np.array(points).astype(np.int64).reshape(-1, 2), np.array(rings), np.array(polygons), np.array(numbers)


def _meetings(framed: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(y + 1, x + 1) the corners of pixels at which more than two patches, or windows, meet."""
    across = framed[:, 1:] != framed[:, :-1]
    down = framed[1:] != framed[:-1]
    degree = across[1:].astype(np.uint8) + across[:-1] + down[:, 1:] + down[:, :-1]
    meet: NDArray[np.bool_] = degree > 2  # noqa: PLR2004 - a border that only passes has two ends
    for line in (0, -1):
        meet[line, ::SMALLEST] = meet[::SMALLEST, line] = True
        meet[line] |= across[line] | across[1 if line == 0 else -2]
        meet[:, line] |= down[:, line] | down[:, 1 if line == 0 else -2]
    return meet


def _with_meetings(
    points: NDArray[np.int64], rings: NDArray[np.int64], meet: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Closed rings of corners, with the corners added at which others meet them from the side."""
    step = np.zeros_like(points)
    step[:-1] = np.diff(points, axis=0)
    step[rings[1:] - 1] = 0  # from the end of one ring to the next
    length = np.maximum(np.abs(step).sum(axis=1), 1)
    start = np.cumsum(length) - length
    along = np.arange(length.sum()) - np.repeat(start, length)
    passed = np.repeat(points, length, axis=0) + np.repeat(np.sign(step), length, axis=0) * along[:, np.newaxis]
    kept = (along == 0) | meet[passed[:, 1], passed[:, 0]]
    before = np.concatenate([[0], np.cumsum(kept)])
    return passed[kept], before[np.append(start, length.sum())[rings]]
