"""Features as a Zarr store that xarray, rioxarray and GDAL open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import zarr

from eearth.geo.cf import COMPRESSOR, CONVENTIONS, WHOLE, ZARR_FORMAT, placed, write_axes, write_crs
from eearth.geo.products.features.quantisation import NODATA

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from eearth.geo.grid import Grid
    from eearth.geo.products.features.quantisation import Int8

# Side of a chunk in pixels; it holds one feature.
CHUNK = 512


def create_store(
    path: Path, grid: Grid, names: Sequence[str], code: Int8 | None, tags: Mapping[str, str]
) -> list[zarr.Array[Any]]:
    """Create a store without features yet.

    Each feature is a variable of its own: CF knows one scale for a variable, not one for each of its layers.

    Args:
        path: The store; replaced where there is one.
        grid: The grid of the features.
        names: Of the variables.
        code: How integers are read; None for float32.
        tags: Attributes of the store.

    Returns:
        The variables, (y, x), in the order of `names`.
    """
    root = zarr.create_group(path, zarr_format=ZARR_FORMAT, overwrite=True)
    root.attrs.update({"Conventions": CONVENTIONS, "title": "eearth features", **tags})
    write_axes(root, grid)
    write_crs(root, grid)
    arrays = [_create_variable(root, grid, name, index, code) for index, name in enumerate(names)]
    zarr.consolidate_metadata(root.store, zarr_format=ZARR_FORMAT)
    return arrays


def _create_variable(root: zarr.Group, grid: Grid, name: str, index: int, code: Int8 | None) -> zarr.Array[Any]:
    array: zarr.Array[Any] = root.create_array(
        name,
        shape=grid.shape,
        chunks=(min(CHUNK, grid.height), min(CHUNK, grid.width)),
        dtype="float32" if code is None else "int8",
        fill_value=float("nan") if code is None else NODATA,
        compressors=COMPRESSOR,
    )
    scaling = (
        {} if code is None else {"scale_factor": code.scale[index].item(), "add_offset": code.offset[index].item()}
    )
    array.attrs.update({
        "_ARRAY_DIMENSIONS": ["y", "x"],
        "long_name": f"feature {index} of the encoder",
        "units": "1",
        "coordinates": "spatial_ref",
        **scaling,
        **placed(grid),
    })  # fmt: skip
    return array.with_config(WHOLE)
