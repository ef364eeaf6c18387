"""The files of a split: the part of each pixel exactly, the folds, and outlines to look at."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import geopandas as gpd

from eearth.geo.aoi import LONLAT
from eearth.geo.raster import write_raster

if TYPE_CHECKING:
    from pathlib import Path

    from eearth.geo.grid import Grid
    from eearth.geo.splits.split import Split


def write_split(folder: Path, split: Split, grid: Grid) -> None:
    """Write `split.tif`, `split.geojson` and, where there are folds, `folds.tif`."""
    write_raster(folder / "split.tif", split.part, grid, nodata=0)
    if split.folds is not None:
        write_raster(folder / "folds.tif", split.folds, grid, nodata=0)
    _write_outlines(folder / "split.geojson", split, grid)


def told_of_split(labels: Path) -> dict[str, Any]:
    """What `quality.json` in a folder of labels tells of their split; empty where it tells nothing."""
    path = labels / "quality.json"
    told = json.loads(path.read_text(encoding="utf-8")).get("split") if path.is_file() else None
    return dict(told or {})


def _write_outlines(path: Path, split: Split, grid: Grid) -> None:
    """Outlines in longitude and latitude, as GeoJSON is by its specification (RFC 7946)."""
    columns: dict[str, list[Any]] = {"part": [block.part for block in split.blocks]}
    if split.folds is not None:
        columns["fold"] = [block.fold for block in split.blocks]
    frame = gpd.GeoDataFrame(columns, geometry=[block.outline for block in split.blocks], crs=grid.crs.to_wkt())
    path.write_text(frame.to_crs(LONLAT).to_json(drop_id=True), encoding="utf-8")
