"""What is known about the ground: the region of interest, a survey's polygons, and the whole truth."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import geopandas as gpd
import numpy as np
import pyogrio
from shapely.geometry import mapping

from eearth.synthetic.landscape import CLASSES, HEADLAND, Landscape, polygons_of
from eearth.synthetic.place import EPSG, Place, write_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from shapely.geometry import Polygon

SURVEYED = 0.6  # share of each class's objects that the survey visits
SMALLEST_SURVEYED = 900.0  # square metres


def write_region(path: Path, place: Place) -> None:
    """Write the region of interest as GeoJSON in longitude and latitude."""
    feature = {
        "type": "Feature",
        "properties": {"name": "simulation"},
        "geometry": mapping(place.lonlat(place.region)),
    }
    write_json(path, {"type": "FeatureCollection", "features": [feature]})


def write_labels(path: Path, polygons: Sequence[Polygon], classes: Sequence[str]) -> None:
    """Write the survey's polygons (UTM) with their class names as a GeoPackage that is the same on every run."""
    frame = gpd.GeoDataFrame({"class": list(classes)}, geometry=list(polygons), crs=EPSG)
    path.unlink(missing_ok=True)
    # A GeoPackage stores when it was written; GDAL takes the date from here.
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": "2022-12-31T00:00:00.000Z"})
    try:
        frame.to_file(path, layer="labels", driver="GPKG", engine="pyogrio")
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": None})


def survey(place: Place, landscape: Landscape, rng: np.random.Generator) -> tuple[list[Polygon], list[str]]:
    """Some objects of every class, drawn a little inside their edges, as a surveyor does."""
    inside = [polygon.buffer(-HEADLAND).intersection(place.region) for polygon in landscape.polygons]
    visible = np.array([shape.area >= SMALLEST_SURVEYED for shape in inside])
    chosen: list[int] = []
    for name in CLASSES:
        candidates = np.flatnonzero(visible & (np.array(landscape.classes) == name))
        chosen += rng.permutation(candidates)[: math.ceil(SURVEYED * candidates.size)].tolist()
    parts = [
        (part, landscape.classes[index])
        for index in sorted(chosen)
        for part in polygons_of(inside[index], SMALLEST_SURVEYED)
    ]
    return [part for part, _ in parts], [name for _, name in parts]
