"""The file in which an interpreter writes down what is on the ground at the points of a sample."""

from __future__ import annotations

from typing import TYPE_CHECKING

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import shapely

from eearth.geo.aoi import LONLAT

if TYPE_CHECKING:
    from pathlib import Path

    from eearth.geo.sampling.design import Design

SAMPLE = "sample.gpkg"
POINTS, SQUARES, CLASSES = "points", "squares", "classes"
ID, REFERENCE = "id", "reference"

# A GeoPackage stores when it was written; the same sample is to be the same file.
WRITTEN = "2000-01-01T00:00:00.000Z"


def write_sample(path: Path, design: Design) -> None:
    """Write the points of a sample, blind: nothing in the file tells what the map shows.

    Layers: `points` (centres of the sampled pixels, with the columns id, reference, comment, lon, lat; the second and
    third empty), `squares` (the pixels' outlines, with id), `classes` (a table of the names that `reference` may hold).
    """
    x, y = design.centres()
    crs = design.grid.crs.to_wkt()
    centres = gpd.GeoSeries(shapely.points(x, y), crs=crs)
    lonlat = centres.to_crs(LONLAT)
    empty = pd.Series([None] * len(x), dtype=object)
    columns = {ID: design.ids, REFERENCE: empty, "comment": empty, "lon": lonlat.x.round(7), "lat": lonlat.y.round(7)}
    width, height = (side / 2 for side in design.grid.resolution)
    outlines = shapely.box(x - width, y - height, x + width, y + height)
    path.unlink(missing_ok=True)
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": WRITTEN})
    try:
        pyogrio.write_dataframe(gpd.GeoDataFrame(columns, geometry=centres), path, layer=POINTS, driver="GPKG")
        squares = gpd.GeoDataFrame({ID: design.ids}, geometry=outlines, crs=crs)
        pyogrio.write_dataframe(squares, path, layer=SQUARES, driver="GPKG")
        legend = pd.DataFrame({"name": [s.name for s in design.strata], "code": [s.code for s in design.strata]})
        pyogrio.write_dataframe(legend, path, layer=CLASSES, driver="GPKG")
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": None})


def labelled_points(path: Path) -> int:
    """How many points of a sample have a reference already."""
    references = pyogrio.read_dataframe(path, layer=POINTS, columns=[REFERENCE], read_geometry=False)[REFERENCE]
    return int(np.count_nonzero(references.fillna("").astype(str).str.strip()))
