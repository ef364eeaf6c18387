"""A workspace with imagery and labels of a few fields, made without a download."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scenery import utm_grid
from test_training import region

from eearth.geo.cube import CUBE, Cube
from eearth.geo.grid import Window
from eearth.geo.labels.legend import LandCoverClass, write_classes
from eearth.geo.providers import COMMON_ENCODING
from eearth.geo.raster import write_raster
from eearth.settings import DownloadSettings, RasterizeSettings
from eearth.workspace import Workspace

if TYPE_CHECKING:
    from pathlib import Path

CLASSES = tuple(
    LandCoverClass(code=code, name=name, colour=colour, pixels=1, polygons=1)
    for code, name, colour in ((4, "late", "#cc8800"), (9, "early", "#00aa00"))
)


def field_workspace(root: Path, *, labels: bool = True) -> Workspace:
    """48 × 48 pixels, ten dates and two bands, as `region` of the training tests makes them."""
    workspace, one = Workspace(root), region()
    grid = utm_grid(48, 48)
    with workspace.stage(DownloadSettings(region=root / "r.geojson", datetime="2021", catalog="https://a"), {}) as run:
        cube = Cube.create(
            run.folder / CUBE,
            grid=grid,
            bands=one.series.bands,
            times=[np.datetime64(time, "s").item() for time in one.series.times],
            items=[f"item-{number}" for number in range(len(one.series.times))],
            encoding=COMMON_ENCODING,
        )
        cube.write(Window(0, 0, 48, 48), np.asarray(one.series.reflectance), np.asarray(one.series.valid))
        run.finish(figures={}, records={"collection": "fields"})
    if labels:
        with workspace.stage(RasterizeSettings(labels=root / "l.gpkg"), workspace.given("download")) as run:
            write_raster(run.folder / "labels.tif", one.labels, grid, nodata=0)
            write_raster(run.folder / "split.tif", one.split, grid, nodata=0)
            write_classes(run.folder / "classes.json", CLASSES)
            run.finish(figures={}, records={})
    return workspace
