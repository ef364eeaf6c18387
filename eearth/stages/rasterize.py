"""Ground-truth polygons → labels on the imagery's grid, and a leak-free split."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eearth.errors import UsageError
from eearth.events import Note, Report, Table, silent
from eearth.geo.cube import CUBE, Cube
from eearth.geo.labels.burn import Burnt, Rules
from eearth.geo.labels.coverage import least_share
from eearth.geo.labels.given import labels_on_grid, legend_file, names_digest
from eearth.geo.labels.legend import write_classes
from eearth.geo.labels.overlaps import write_conflicts
from eearth.geo.raster import write_raster
from eearth.geo.splits.blocks import NAMES
from eearth.geo.splits.files import write_split
from eearth.geo.splits.footprints import footprints_of
from eearth.geo.splits.guarantee import guarantee_of
from eearth.geo.splits.own import read_parts, split_as_given
from eearth.geo.splits.whole_features import Folds, split_features
from eearth.workspace import Input, file_input

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from eearth.geo.grid import Grid
    from eearth.geo.labels.legend import LandCoverClass
    from eearth.geo.splits.split import Split
    from eearth.manifest import Manifest
    from eearth.quality.summary import Quality
    from eearth.settings import RasterizeSettings
    from eearth.workspace import Workspace


def rasterize(workspace: Workspace, settings: RasterizeSettings, report: Report = silent) -> Manifest:
    """Burn ground truth onto the imagery's grid and split it into train, validation and test, into `labels/`.

    Writes `labels.tif` (uint8, 0 = no label), `features.tif` (uint32, the number of the feature that labels a pixel),
    `classes.json`, `conflicts.csv` (labels of different classes that meet), `split.tif` (the part of each labelled
    pixel, exactly), `split.geojson` (the blocks, to look at), `folds.tif` (where folds are asked for), and what there
    is to say of the labels as `quality.json`, `quality.png` and `suspects.geojson`.

    Args:
        workspace: Where the imagery is, and where to write.
        settings: What to burn, and how to split.
        report: Receives notes and warnings.

    Raises:
        EearthError: See `least_share`, `labels_on_grid` and `split_blocks`.
    """
    _refuse_unheeded(settings)
    rules = Rules(least=least_share(settings.coverage), inner_buffer=settings.inner_buffer, overlap=settings.overlap)
    inputs = {**_label_inputs(settings), **workspace.given("download")}
    with workspace.stage(settings, inputs) as run:
        if run.finished:
            report(Note(text=f"{workspace.folder('rasterize')} is up to date"))
            return run.finished
        cube = Cube.open(workspace.folder("download") / CUBE)
        grid = cube.grid
        burnt = labels_on_grid(settings, cube, rules, report)
        labels, classes = burnt.codes, burnt.classes
        split = _split(burnt, grid, settings, report)
        write_raster(run.folder / "labels.tif", labels, grid, nodata=0)
        write_raster(run.folder / "features.tif", burnt.features, grid, nodata=0)
        write_conflicts(run.folder / "conflicts.csv", burnt.conflicts)
        write_classes(run.folder / "classes.json", classes)
        write_split(run.folder, split, grid)
        quality = _judge(run.folder, burnt, split, cube, seed=settings.seed, report=report)
        for table in (_table(quality), *quality.tables()):
            report(table)
        return run.finish(
            seed=settings.seed,
            figures=_figures(labels, classes, split),
            records={
                "grid": grid.as_dict(),
                "conflicts": burnt.conflicts.counts(),
                "split": guarantee_of(split).as_dict(),
            },
        )


def _label_inputs(settings: RasterizeSettings) -> dict[str, Input]:
    """The user's files."""
    legend, names = legend_file(settings), names_digest(settings.labels)
    return {
        "labels": file_input(settings.labels),
        **({"legend": file_input(legend)} if legend else {}),
        **({"names": Input(names)} if names else {}),
    }


def _refuse_unheeded(settings: RasterizeSettings) -> None:
    """Settings that another one leaves without effect are refused, if somebody chose them."""
    by_blocks = ("polygons", "block_size", "folds", "fold", "test_fraction", "validation_fraction")
    unheeded = {
        "with --split-column": by_blocks if settings.split_column else (),
        "without --split-column": () if settings.split_column else ("drop_near",),
        "with --folds": ("test_fraction",) if settings.folds else (),
        "without --folds": () if settings.folds else ("fold",),
    }
    for when, names in unheeded.items():
        given = settings.chosen(names)
        if given:
            msg = f"expected no {', '.join(given)} {when}, where it has no effect: leave it out"
            raise UsageError(msg)


def _split(burnt: Burnt, grid: Grid, settings: RasterizeSettings, report: Report) -> Split:
    """Split by blocks, folds or the file's own column."""
    names = {entry.code: entry.name for entry in burnt.classes}
    if settings.split_column is not None:
        column = settings.split_column
        return split_as_given(
            burnt.codes,
            burnt.features,
            read_parts(settings.labels, column, settings.where, burnt.features),
            grid,
            buffer=settings.buffer,
            drop_near=settings.drop_near,
            source=f"the column `{column}` of {settings.labels}",
            names=names,
            report=report,
        )
    return split_features(
        burnt.codes,
        burnt.features,
        grid,
        polygons=settings.polygons,
        folds=None if settings.folds is None else Folds(settings.folds, settings.fold),
        block_size=settings.block_size,
        buffer=settings.buffer,
        test_fraction=settings.test_fraction,
        validation_fraction=settings.validation_fraction,
        seed=settings.seed,
        names=names,
        report=report,
    )


def _judge(folder: Path, burnt: Burnt, split: Split, cube: Cube, *, seed: int, report: Report) -> Quality:
    """What there is to say of the labels, also as `quality.json`, `quality.png` and `suspects.geojson`."""
    from eearth.data.regions import series_of
    from eearth.quality.judge import judge
    from eearth.quality.summary import Labelling, left_out

    footprints = footprints_of(burnt.codes, burnt.features)
    made = Labelling(burnt.codes, burnt.classes, footprints, split, cube.grid)
    claimed = sum(entry.polygons for entry in burnt.classes)
    return judge(
        folder,
        made,
        series_of(cube),
        dropped=left_out(burnt.left_out, len(burnt.vanished), claimed, footprints),
        conflicts=(burnt.conflicts.pixels, burnt.conflicts.features),
        seed=seed,
        report=report,
    )


def _table(quality: Quality) -> Table:
    def row(entry: Mapping[str, Any]) -> tuple[str, ...]:
        least, median = (entry["clear_observations"][name] for name in ("least", "median"))
        counts = (str(entry[name]) for name in ("features", "pixels", *NAMES.values()))
        return (str(entry["code"]), entry["name"], *counts, "" if median is None else f"{median} ({least})")

    columns = ("code", "class", "features", "pixels", *NAMES.values(), "clear (least)")
    return Table(title="classes", columns=columns, rows=tuple(row(entry) for entry in quality.classes))


def _figures(labels: NDArray[np.uint8], classes: tuple[LandCoverClass, ...], split: Split) -> dict[str, Any]:
    counts = {f"{name} pixels": int((split.part == part).sum()) for part, name in NAMES.items()}
    return {
        "classes": len(classes),
        "labelled pixels": int((labels > 0).sum()),
        **counts,
        **({} if split.block_size_m is None else {"block size": f"{split.block_size_m:.0f} m"}),
        "buffer": f"{split.buffer_m:.0f} m",
        "least distance test to training": f"{split.min_distance_m:.1f} m",
        **({"divided features": len(split.divided)} if split.divided else {}),
    }
