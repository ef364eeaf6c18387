"""Small rasters and STAC items that tests make up."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pystac
import rasterio
import shapely
from pyproj import Transformer
from rasterio.crs import CRS
from rasterio.transform import Affine
from shapely.geometry import mapping

from eearth.geo.grid import Grid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

UTM33 = CRS.from_epsg(32633)


def utm_grid(
    height: int, width: int, *, left: float = 500_000, top: float = 5_000_000, side: float = 10, crs: CRS = UTM33
) -> Grid:
    return Grid(crs, Affine(side, 0, left, 0, -side, top), height, width)


def noise(grid: Grid, seed: int = 0, low: int = 1, high: int = 10_000) -> NDArray[np.uint16]:
    return np.random.default_rng(seed).integers(low, high, grid.shape).astype(np.uint16)


def write_tif(path: Path, values: NDArray[Any], grid: Grid, *, nodata: float | None = 0) -> Path:
    """A tiled GeoTIFF of one band, (y, x), or of several, (band, y, x)."""
    stack = values if values.ndim == 3 else values[None]
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=len(stack),
        height=grid.height,
        width=grid.width,
        dtype=stack.dtype,
        crs=grid.crs,
        transform=grid.transform,
        nodata=nodata,
        tiled=True,
        blockxsize=128,
        blockysize=128,
        compress="deflate",
    ) as file:
        file.write(stack)
    return path


def lonlat_outline(grid: Grid) -> dict[str, Any]:
    to_lonlat = Transformer.from_crs(grid.crs.to_wkt(), 4326, always_xy=True)
    outline = shapely.transform(grid.footprint, lambda xy: np.column_stack(to_lonlat.transform(xy[:, 0], xy[:, 1])))
    shown: dict[str, Any] = mapping(outline)
    return shown


def make_item(
    name: str,
    assets: Mapping[str, Path | str],
    grid: Grid,
    *,
    time: str = "2023-08-15T10:00:00+00:00",
    properties: Mapping[str, Any] | None = None,
    fields: Mapping[str, Mapping[str, Any]] | None = None,
    band_facts: Sequence[Mapping[str, Any]] | None = ({"nodata": 0, "data_type": "uint16", "scale": 1e-4},),
) -> pystac.Item:
    """An item whose assets all hold `band_facts` as `raster:bands`, and each its own extra `fields`."""
    item = pystac.Item(name, lonlat_outline(grid), None, datetime.fromisoformat(time), dict(properties or {}))
    for key, path in assets.items():
        own: dict[str, Any] = {} if band_facts is None else {"raster:bands": [dict(facts) for facts in band_facts]}
        own |= (fields or {}).get(key, {})
        item.add_asset(key, pystac.Asset(str(path), media_type=pystac.MediaType.COG, extra_fields=own))
    return item
