"""Ground-truth polygons → labels on the imagery's grid, and a leak-free split."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import geopandas as gpd

from eearth.events import Note, Report, Table, silent
from eearth.geo.aoi import LONLAT
from eearth.geo.blocks import NAMES
from eearth.geo.cube import CUBE, Cube
from eearth.geo.labels.burn import burn
from eearth.geo.labels.file import read_labels
from eearth.geo.labels.legend import write_classes
from eearth.geo.raster import write_raster
from eearth.geo.split import split_blocks
from eearth.workspace import file_input

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from eearth.geo.grid import Grid
    from eearth.geo.labels.legend import LandCoverClass
    from eearth.geo.split import Split
    from eearth.manifest import Manifest
    from eearth.settings import RasterizeSettings
    from eearth.workspace import Workspace


def rasterize(workspace: Workspace, settings: RasterizeSettings, report: Report = silent) -> Manifest:
    """Burn ground truth onto the imagery's grid and split it into train, validation and test, into `labels/`.

    Writes `labels.tif` (uint8, 0 = no label), `classes.json`, `split.tif` (the part of each labelled pixel, exactly)
    and `split.geojson` (the blocks, to look at).

    Args:
        workspace: Where the imagery is, and where to write.
        settings: What to burn, and how to split.
        report: Receives notes and warnings.

    Raises:
        EearthError: See `read_labels`, `burn` and `split_blocks`.
    """
    inputs = {"labels": file_input(settings.labels), **workspace.given("download")}
    with workspace.stage(settings, inputs) as run:
        if run.finished:
            report(Note(text=f"{workspace.folder('rasterize')} is up to date"))
            return run.finished
        grid = Cube.open(workspace.folder("download") / CUBE).grid
        features = read_labels(
            settings.labels, class_column=settings.class_column, skip_null=settings.skip_null, report=report
        )
        labels, classes = burn(features, grid, all_touched=settings.all_touched, report=report)
        split = _split(labels, grid, settings, report)
        write_raster(run.folder / "labels.tif", labels, grid, nodata=0)
        write_raster(run.folder / "split.tif", split.part, grid, nodata=0)
        write_classes(run.folder / "classes.json", classes)
        _write_blocks(run.folder / "split.geojson", split, grid)
        report(_table(labels, classes, split))
        return run.finish(
            seed=settings.seed, figures=_figures(labels, classes, split), records={"grid": grid.as_dict()}
        )


def _split(labels: NDArray[np.uint8], grid: Grid, settings: RasterizeSettings, report: Report) -> Split:
    return split_blocks(
        labels,
        grid,
        block_size=settings.block_size,
        buffer=settings.buffer,
        test_fraction=settings.test_fraction,
        validation_fraction=settings.validation_fraction,
        seed=settings.seed,
        report=report,
    )


def _write_blocks(path: Path, split: Split, grid: Grid) -> None:
    """Blocks in longitude and latitude, as GeoJSON is by its specification (RFC 7946)."""
    shapes, parts = zip(*split.blocks, strict=True)
    frame = gpd.GeoDataFrame({"part": list(parts)}, geometry=list(shapes), crs=grid.crs.to_wkt())
    path.write_text(frame.to_crs(LONLAT).to_json(drop_id=True), encoding="utf-8")


def _table(labels: NDArray[np.uint8], classes: tuple[LandCoverClass, ...], split: Split) -> Table:
    def row(entry: LandCoverClass) -> tuple[str, ...]:
        own = split.part[labels == entry.code]
        counts = (str(int((own == part).sum())) for part in NAMES)
        return (str(entry.code), entry.name, str(entry.polygons), str(entry.pixels), *counts)

    rows = tuple(row(entry) for entry in classes)
    columns = ("code", "class", "features", "pixels", *NAMES.values())
    return Table(title="classes", columns=columns, rows=rows)


def _figures(labels: NDArray[np.uint8], classes: tuple[LandCoverClass, ...], split: Split) -> dict[str, Any]:
    counts = {f"{name} pixels": int((split.part == part).sum()) for part, name in NAMES.items()}
    return {
        "classes": len(classes),
        "labelled pixels": int((labels > 0).sum()),
        **counts,
        "block size": f"{split.block_size_m:.0f} m",
        "buffer": f"{split.buffer_m:.0f} m",
        "least distance test to training": f"{split.min_distance_m:.1f} m",
    }
