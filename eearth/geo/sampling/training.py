"""Which points of a sample lie where the model learnt."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import rasterio
from pyproj import CRS, Transformer

from eearth.geo.distance import ROUNDING, pixel_sides
from eearth.geo.grid import Grid
from eearth.geo.splits.blocks import TRAIN, VALIDATION

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

# As far as the split's default buffer: what is nearer shares its field, or its pixel's blur, with the training label.
NEAR_PIXELS = 3


def near_training(
    x: NDArray[np.float64], y: NDArray[np.float64], grid: Grid, split: Path, reach: float | None
) -> NDArray[np.bool_]:
    """Which points lie in pixels that the model learnt from or was chosen by, or within some metres of them.

    Args:
        x: (point,) places in the CRS of `grid`.
        y: As `x`.
        grid: Whose CRS the places are in.
        split: The `split.tif` of the labels, on any grid.
        reach: Metres from centre to centre; None = three pixels.
    """
    with rasterio.open(split) as file:
        own = Grid(file.crs, file.transform, file.height, file.width)
        parts: NDArray[np.uint8] = file.read(1)
    to_own = Transformer.from_crs(CRS.from_wkt(grid.crs.to_wkt()), CRS.from_wkt(own.crs.to_wkt()), always_xy=True)
    cols, rows = ~own.transform @ to_own.transform(x, y)
    height, width = pixel_sides(own)
    far = NEAR_PIXELS * max(height, width) if reach is None else reach
    learnt = (parts == TRAIN) | (parts == VALIDATION)
    down, right = int(far / height) + 1, int(far / width) + 1
    steps = np.mgrid[-down : down + 1, -right : right + 1]
    near = np.hypot(steps[0] * height, steps[1] * width) <= far * (1 + ROUNDING)
    padded = np.pad(learnt, ((2 * down, 2 * down), (2 * right, 2 * right)))
    found = np.zeros(len(x), dtype=bool)
    inside = (rows >= -down) & (rows < own.height + down) & (cols >= -right) & (cols < own.width + right)
    for point in np.flatnonzero(inside):
        row, col = int(np.floor(rows[point])) + down, int(np.floor(cols[point])) + right
        found[point] = (padded[row : row + 2 * down + 1, col : col + 2 * right + 1] & near).any()
    return found
