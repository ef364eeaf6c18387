"""A static STAC collection of a benchmark's files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from shapely.geometry import mapping

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from shapely.geometry.base import BaseGeometry

COLLECTION = "memory"
MASK = "scl"


def kind_of(band: str) -> str:
    """Number type of a band's files."""
    return "uint8" if band == MASK else "uint16"


def write_collection(
    folder: Path, home: str, footprint: BaseGeometry, dates: Sequence[str], bands: Sequence[str]
) -> Path:
    """One item a date, all with the same footprint.

    Args:
        folder: Where to write.
        home: Where the files `DATE_BAND.tif` lie.
        footprint: In longitude and latitude.
        dates: Year, month and day.
        bands: The mask is added to them.

    Returns:
        The collection's file.
    """
    for date in dates:
        assets = {
            band: {"href": f"{home}/{date}_{band}.tif", "type": "image/tiff; application=geotiff",
                   "raster:bands": [{"nodata": 0, "data_type": kind_of(band), "scale": 1 if band == MASK else 1e-4}]}
            for band in (*bands, MASK)
        }  # fmt: skip
        item = {
            "type": "Feature", "stac_version": "1.0.0", "id": f"S2A_33TWM_{date}", "geometry": mapping(footprint),
            "bbox": list(footprint.bounds), "collection": COLLECTION, "properties": {"datetime": f"{date}T10:00:00Z"},
            "links": [], "assets": assets,
        }  # fmt: skip
        (folder / f"{date}.json").write_text(json.dumps(item))
    collection = {
        "type": "Collection", "stac_version": "1.0.0", "id": COLLECTION, "description": "memory", "license": "other",
        "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}},
        "links": [{"rel": "item", "href": f"./{date}.json", "type": "application/json"} for date in dates],
    }  # fmt: skip
    path = folder / "collection.json"
    path.write_text(json.dumps(collection))
    return path
