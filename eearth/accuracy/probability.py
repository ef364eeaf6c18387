"""From files to an accuracy of the map: a labelled sample, its design, and the map that it was drawn from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import rasterio
from scipy.stats import binom

from eearth.accuracy.map_sample import MapAccuracy, SampledClass, SampledPoints, assess_sample
from eearth.errors import LabelError
from eearth.geo.colours import class_colours
from eearth.geo.grid import Grid
from eearth.geo.raster import count_values
from eearth.geo.sampling.areas import SQUARE_KILOMETRE, PixelAreas
from eearth.geo.sampling.classmap import classes_at
from eearth.geo.sampling.design import DesignStratum
from eearth.geo.sampling.labelled import codes_of, in_order_of, pixels_of, read_labelled
from eearth.geo.sampling.training import near_training
from eearth.geo.splits.blocks import TRAIN, VALIDATION
from eearth.geo.splits.files import told_of_split

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from eearth.accuracy.stratified import Method
    from eearth.geo.sampling.classmap import ClassMap, Stratum
    from eearth.geo.sampling.design import Design

RANDOM = "simple random sample, stratified afterwards"

NOTE = (
    "Estimated from a stratified random sample of the map (Olofsson et al. 2014). The intervals are of the sampling; "
    "errors of the reference itself are not in them."
)
RANDOM_NOTE = (
    "Estimated from a simple random sample, as its maker says, stratified afterwards by the classes of the map. The "
    "intervals are of the sampling; errors of the reference itself are not in them."
)

# A number of points on training labels that a simple random sample has less often than this is no such sample's.
UNLUCKY = 1e-6


@dataclass(frozen=True)
class Training:
    """Where the model learnt: the `split.tif` of the labels, and the metres around it that count as well."""

    split: Path
    reach: float | None


def training_of(folder: Path) -> Training | None:
    """The training labels of a workspace's labels folder; None where there are none."""
    split = folder / "split.tif"
    return Training(split, told_of_split(folder).get("buffer_m")) if split.is_file() else None


def assess_drawn(
    path: Path,
    column: str,
    design: Design,
    *,
    extra: Sequence[str],
    training: Training | None,
    method: Method,
    flags: Sequence[str] = (),
) -> MapAccuracy:
    """Accuracy of a map from a labelled sample that `eearth sample` drew.

    Args:
        path: The labelled sample.
        column: Its column with the references.
        design: What it was drawn from.
        extra: Classes that the map's legend does not have.
        training: Where the model learnt; None = nothing is known.
        method: Of the intervals.
        flags: What is to be said already.

    Raises:
        LabelError: The file is not the sample, or its references are no classes.
    """
    references, found = in_order_of(design, read_labelled(path, column, design.grid))
    codes, legend = codes_of(references, {s.code: s.name for s in design.strata}, extra, path)
    near, told = _near(*design.centres(), design.grid, training)
    sizes = PixelAreas(design.grid).at(design.rows, design.cols)
    points = SampledPoints(design.codes, codes, sizes, design.rows * design.grid.width + design.cols, near)
    return assess_sample(_classes(design.strata, legend), points, method, [*flags, *found, *told])


def assess_random(
    path: Path, column: str, source: ClassMap, *, extra: Sequence[str], training: Training | None, method: Method
) -> MapAccuracy:
    """Accuracy of a map from a simple random sample of its pixels that the user drew.

    It is stratified afterwards by the classes of the map: the same formulas, with the numbers of points as they came
    (Cochran 1977, 5A.9). That its maker calls it a simple random sample is taken on trust, as far as that goes.

    Args:
        path: The labelled points.
        column: Their column with the references.
        source: The map.
        extra: See `assess_drawn`.
        training: See `assess_drawn`.
        method: Of the intervals.

    Raises:
        LabelError: The file has no points on the map, or far more on training labels than a random sample would.
    """
    given = read_labelled(path, column, source.grid)
    if given.xy is None:
        msg = f"expected points with geometries in {path}, found a table: where they lie is not known"
        raise LabelError(msg)
    rows, cols = (np.floor(place).astype(np.int64) for place in pixels_of(source.grid, given.xy))
    mapped = classes_at(source.path, rows, cols)
    on = mapped >= 0
    if not on.any():
        msg = f"expected points on the map {source.path}, found none of {len(on)} there: check the CRS of both files"
        raise LabelError(msg)
    codes, legend = codes_of(given.references[on], {s.code: s.name for s in source.strata}, extra, path)
    xy, grid, rows, cols = given.xy[on], source.grid, rows[on], cols[on]
    if training is not None:
        _refuse_training_labels(near_training(xy[:, 0], xy[:, 1], grid, training.split, 0.0), training, source, path)
    near, told = _near(xy[:, 0], xy[:, 1], grid, training)
    flags = ["a simple random sample by its maker's word, which nothing here can prove", *_beside(on), *told]
    places = rows * grid.width + cols
    twice = len(places) - len(np.unique(places))
    if twice:
        flags.append(f"{twice} points lie in a pixel that another point lies in, too")
    points = SampledPoints(mapped[on], codes, PixelAreas(grid).at(rows, cols), places, near)
    return assess_sample(_classes(source.strata, legend), points, method, flags)


def _near(
    x: NDArray[np.float64], y: NDArray[np.float64], grid: Grid, training: Training | None
) -> tuple[NDArray[np.bool_], list[str]]:
    if training is None:
        text = "no labels/ in the workspace: whether points lie in what the model learnt from could not be checked"
        return np.zeros(x.shape, dtype=bool), [text]
    return near_training(x, y, grid, training.split, training.reach), []


def _beside(on: NDArray[np.bool_]) -> list[str]:
    off = int((~on).sum())
    return [f"{off} of {on.size} points lie where the map has no data, and do not count"] if off else []


def _classes(strata: Sequence[DesignStratum | Stratum], legend: Mapping[int, str]) -> list[SampledClass]:
    """The classes of the map, then those that only the reference has."""
    known = [
        SampledClass(
            s.code,
            s.name,
            s.colour,
            s.pixels,
            s.area_km2 if isinstance(s, DesignStratum) else s.area / SQUARE_KILOMETRE,
        )
        for s in strata
    ]
    more = {code: name for code, name in legend.items() if code not in {entry.code for entry in known}}
    colours = class_colours([*legend.values()])[len(legend) - len(more) :]
    extra = [
        SampledClass(code, name, colour, 0, 0.0) for (code, name), colour in zip(more.items(), colours, strict=True)
    ]
    return known + extra


def _refuse_training_labels(on_labels: NDArray[np.bool_], training: Training, source: ClassMap, path: Path) -> None:
    """Refuse points that were put where the labels are: no random sample of the map is found there so often."""
    counts = count_values(training.split)
    with rasterio.open(training.split) as file:
        labels = Grid(file.crs, file.transform, file.height, file.width)
    area = float(counts[TRAIN] + counts[VALIDATION]) * labels.pixel_metres**2
    share = min(area / sum(stratum.area for stratum in source.strata), 1.0)
    count = int(on_labels.sum())
    if binom.sf(count - 1, on_labels.size, share) < UNLUCKY:
        msg = (
            f"expected a simple random sample of the map in {path}, found {count} of {on_labels.size} points on labels "
            f"that the model learnt from, which cover {share:.1%} of it: draw a sample with `eearth sample`"
        )
        raise LabelError(msg)
