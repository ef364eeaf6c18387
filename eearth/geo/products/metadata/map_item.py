"""The STAC Item of a land cover map: its files, and where they come from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eearth.geo.products.landcover.writer import CONFIDENCE, LANDCOVER, PROBABILITIES
from eearth.geo.products.metadata.item import Asset, confidence_asset, landcover_asset, probabilities_asset

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from eearth.geo.grid import Grid
    from eearth.geo.products.landcover.prediction import MapClass

# Files beside the rasters, each where it is there: key → (name, title, media type, roles).
SIDE_FILES = {
    "preview": ("preview.png", "The map with its legend", "image/png", ("overview",)),
    "style": ("landcover.qml", "QGIS style", "application/xml", ("metadata", "style")),
    "sld": ("landcover.sld", "OGC style", "application/vnd.ogc.sld+xml", ("metadata", "style")),
    "areas": ("areas.csv", "Area of each class, from counted pixels", "text/csv", ("metadata",)),
    "vector": ("landcover.gpkg", "The map as polygons", "application/geopackage+sqlite3", ("data",)),
    "geoparquet": ("landcover.parquet", "The map as polygons", "application/vnd.apache.parquet", ("data",)),
}


def map_assets(folder: Path, grid: Grid, classes: Sequence[MapClass]) -> dict[str, Asset]:
    """All files of a map that its folder holds, described.

    Args:
        folder: With the rasters as `LandCoverWriter` leaves them.
        grid: Of the map.
        classes: The legend.
    """
    assets = {
        "landcover": landcover_asset(folder / LANDCOVER, grid, classes),
        "confidence": confidence_asset(folder / CONFIDENCE, grid),
    }
    if (folder / PROBABILITIES).is_file():
        assets["probabilities"] = probabilities_asset(folder / PROBABILITIES, grid)
    for key, (name, title, media_type, roles) in SIDE_FILES.items():
        if (folder / name).is_file():
            assets[key] = Asset(folder / name, title, media_type, roles)
    return assets
