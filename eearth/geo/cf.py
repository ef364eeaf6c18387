"""A grid in a Zarr store, by the CF conventions: coordinates and CRS where xarray, rioxarray and GDAL look for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numcodecs import Blosc
from pyproj import CRS

if TYPE_CHECKING:
    import zarr
    from numpy.typing import NDArray

    from eearth.geo.grid import Grid

CONVENTIONS = "CF-1.11"

# Zarr version 2 is the version that the GDAL of today's rasterio wheels reads.
ZARR_FORMAT: Literal[2] = 2

# The codec of the pixels, and of what is kept on the way to them: several GB/s a core.
COMPRESSOR = Blosc(cname="lz4", clevel=5, shuffle=Blosc.BITSHUFFLE)

# A chunk without data is written like any other: what is not there was lost.
WHOLE: Any = {"write_empty_chunks": True}


def write_axes(root: zarr.Group, grid: Grid) -> None:
    """The pixel centres, as `y` and `x`."""
    geographic = grid.crs.is_geographic
    unit = "degrees" if geographic else "metre"
    write_coordinate(root, "y", grid.y(), {
        "standard_name": "latitude" if geographic else "projection_y_coordinate",
        "units": f"{unit}_north" if geographic else unit, "axis": "Y",
    })  # fmt: skip
    write_coordinate(root, "x", grid.x(), {
        "standard_name": "longitude" if geographic else "projection_x_coordinate",
        "units": f"{unit}_east" if geographic else unit, "axis": "X",
    })  # fmt: skip


def write_coordinate(
    root: zarr.Group, name: str, values: NDArray[Any], attributes: dict[str, Any], dimension: str | None = None
) -> None:
    """A one-dimensional variable. No fill value: readers would take a coordinate that equals it for missing."""
    array = root.create_array(name, shape=values.shape, dtype=values.dtype, chunks=values.shape, fill_value=None)
    array[...] = values
    array.attrs.update({"_ARRAY_DIMENSIONS": [dimension or name], **attributes})


def write_crs(root: zarr.Group, grid: Grid) -> None:
    """The CRS as a CF grid mapping with GDAL's geotransform, which rioxarray reads."""
    crs = root.create_array("spatial_ref", shape=(), dtype=np.int64, fill_value=None)
    crs[...] = 0
    transform = " ".join(repr(number) for number in grid.transform.to_gdal())
    crs.attrs.update({"_ARRAY_DIMENSIONS": [], **CRS.from_wkt(grid.crs.to_wkt()).to_cf(), "GeoTransform": transform})


def placed(grid: Grid) -> dict[str, Any]:
    """Attributes of a variable on the grid: GDAL's Zarr driver reads `_CRS`, the others `grid_mapping`."""
    return {"grid_mapping": "spatial_ref", "_CRS": {"wkt": grid.crs.to_wkt()}}
