"""Windows of a raster of class codes → a grid: copied where the lattices agree, warped elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from affine import Affine
from rasterio.enums import MaskFlags
from rasterio.io import MemoryFile
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform_bounds

from eearth.errors import EearthError
from eearth.geo.grid import Grid, Window

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from rasterio.enums import Resampling

# Error, in pixels, that the warp may make to save time (GDAL's default of 0.125 would move labels).
TOLERANCE = 1e-6


def window_under(file: Any, grid: Grid, *, margin: int) -> Window | None:
    """The file's pixels around a grid; None where it lies beside."""
    bounds = grid.bounds
    if file.crs != grid.crs:
        bounds = transform_bounds(grid.crs, file.crs, *bounds, densify_pts=21)
    if not np.isfinite(bounds).all():
        return Window(0, 0, file.height, file.width)
    left, bottom, right, top = bounds
    corners = [~file.transform @ point for point in ((left, top), (right, top), (left, bottom), (right, bottom))]
    columns, rows = zip(*corners, strict=True)
    # A grid's edge on a pixel's edge, but for rounding, does not reach into the next pixel.
    first = [max(0, int(np.floor(min(places) + TOLERANCE)) - margin) for places in (rows, columns)]
    ends = [int(np.ceil(max(places) - TOLERANCE)) + margin for places in (rows, columns)]
    height, width = min(ends[0], file.height) - first[0], min(ends[1], file.width) - first[1]
    return Window(first[0], first[1], height, width) if height > 0 and width > 0 else None


def read_window(file: Any, window: Window) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """(values, where there is data) of a window, each (y, x)."""
    values: NDArray[Any] = file.read(1, window=window.rasterio)
    there = np.isfinite(values) if values.dtype.kind == "f" else np.ones(values.shape, dtype=bool)
    if file.mask_flag_enums[0] != [MaskFlags.all_valid]:
        there &= file.read_masks(1, window=window.rasterio) > 0
    if file.nodata is not None:  # beside a mask of its own, GDAL does not heed it
        there &= values != file.nodata
    return values, there


def own_grid(file: Any) -> Grid | None:
    """The file's grid; None where it is rotated."""
    try:
        return Grid(file.crs, file.transform, file.height, file.width)
    except EearthError:
        return None


def copied(source: NDArray[np.uint8], offset: tuple[int, int], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """What lies at an offset (row, column) of the source, which may lie partly beside it."""
    result = np.zeros(shape, dtype=np.uint8)
    (top, left), (height, width) = offset, shape
    rows, columns = slice(max(top, 0), max(top + height, 0)), slice(max(left, 0), max(left + width, 0))
    part = source[rows, columns]
    row, column = max(-top, 0), max(-left, 0)
    result[row : row + part.shape[0], column : column + part.shape[1]] = part
    return result


def warped(source: NDArray[np.uint8], file: Any, window: Window, grid: Grid, method: Resampling) -> NDArray[np.uint8]:
    """The codes of a window of the file on a grid."""
    place = {"crs": file.crs, "transform": file.transform @ Affine.translation(window.col, window.row)}
    shape = {"height": window.height, "width": window.width}
    with MemoryFile() as memory:  # rasterio's `reproject` heeds no tolerance, its virtual file does
        with memory.open(driver="GTiff", dtype="uint8", count=1, **place, **shape) as copy:
            copy.write(source, 1)
        with (
            memory.open() as copy,
            WarpedVRT(
                copy,
                crs=grid.crs,
                transform=grid.transform,
                height=grid.height,
                width=grid.width,
                resampling=method,
                tolerance=TOLERANCE,
            ) as file_on_grid,
        ):
            codes: NDArray[np.uint8] = file_on_grid.read(1)
    return codes
