"""A vector file of ground truth → checked features with a class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np

from eearth.errors import LabelError
from eearth.events import Note, Report, silent
from eearth.geo.labels.geometries import clean_geometries
from eearth.geo.labels.layer import find_layer, read_features
from eearth.geo.labels.legend import MAX_CODE
from eearth.geo.labels.mapping import Legend, Subject, agreed
from eearth.geo.labels.naming import class_names, file_codes
from eearth.geo.labels.validity import Validity, in_force, warn_of_unused_dates

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from eearth.geo.labels.layer import Layer


# Why features are left out, in the order in which they are.
STEPS = ("not true at the imagery's time", "without a class", "not in the legend", "without a usable geometry")


def read_labels(
    path: Path,
    *,
    class_column: str = "class",
    skip_null: bool = False,
    where: str | None = None,
    legend: Legend | None = None,
    skip_unmapped: bool = False,
    validity: Validity | None = None,
    report: Report = silent,
) -> gpd.GeoDataFrame:
    """Read and check a vector file of ground truth.

    Args:
        path: Any vector file that GDAL reads. Of a file with several layers `labels` is taken, or the only one with
            geometries.
        class_column: The column that names the class: text, integers, or floats that are whole numbers (3.0 → "3").
        skip_null: Leave features without a class out instead of refusing the file.
        where: An OGR SQL condition that features must meet.
        legend: Which values of the column mean which class; None = each value is a class.
        skip_unmapped: Leave features out whose value the legend does not know, instead of refusing the file.
        validity: The imagery's dates, and the columns that say from when to when a label is true.
        report: Hears of everything that was left out or repaired.

    Returns:
        The features in file order, in the file's CRS, geometries 2-D and valid: polygons, multipolygons, points or
        multipoints. The index counts the file's features from 0; it repeats where a feature is both polygons and
        points. Columns: `class` (str, not empty); `code` (int, 1..255, one for each class) where the file has such a
        column, or a legend gives them; `geometry`. `attrs["source"]` is the path, `attrs["colours"]`
        the legend's colours by class name, `attrs["left_out"]` how many features were left out, by reason,
        `attrs["where"]` the condition.

    Raises:
        LabelError: The file cannot be used; the message says what to do.
    """
    layer = find_layer(path)
    frame = read_features(layer, _wanted(layer, class_column, legend, validity), where, report)
    left = [len(frame)]  # of the features, one number after each step
    if validity and validity.columns:
        frame = frame[in_force(frame, validity, path, report)]
    elif validity:
        warn_of_unused_dates(frame, validity, path, report)
    left.append(len(frame))
    names = _known(class_names(frame[class_column], path), len(frame), class_column, path, report, skip_null=skip_null)
    left.append(int(names.notna().sum()))
    if legend:
        counts = {str(value): int(number) for value, number in names.value_counts().items()}
        subject = Subject(str(path), "features", skip_unmapped=skip_unmapped)
        names = names.map({v: name for v, name in agreed(legend, counts, subject, report).items() if name})
    left.append(int(names.notna().sum()))
    labels = gpd.GeoDataFrame({"class": names}, geometry=frame.geometry)
    codes = _codes(frame, names, legend, path, report)
    if codes is not None:
        labels.insert(1, "code", codes)
    labels = clean_geometries(labels[names.notna()], path, report)
    left.append(labels.index.nunique())
    left_out = {why: int(count) for why, count in zip(STEPS, -np.diff(left), strict=True) if count}
    colours = dict(legend.colours) if legend else {}
    labels.attrs.update(source=str(path), colours=colours, left_out=left_out, where=where)
    return _countable(labels, class_column, path)


def _wanted(layer: Layer, class_column: str, legend: Legend | None, validity: Validity | None) -> list[str]:
    """The columns to read, all of them there."""
    wanted = [layer.require(class_column, "the classes", "--class-column")]
    if validity:
        for column, option in ((validity.start_column, "--start-column"), (validity.end_column, "--end-column")):
            wanted += [layer.require(column, "dates", option)] if column else []
        wanted += [] if validity.columns else validity.likely(layer.columns)
    wanted += ["code"] if legend is None and layer.columns.count("code") == 1 else []
    return list(dict.fromkeys(wanted))


def _known(
    names: pd.Series[Any], total: int, class_column: str, path: Path, report: Report, *, skip_null: bool
) -> pd.Series[Any]:
    """The same names, if those that are missing may be."""
    missing = total - int(names.notna().sum())
    if missing and not skip_null:
        msg = (
            f"expected a class for each feature of {path}, found {missing} of {total} features "
            f"without one in the column `{class_column}`: fill them in, or run again with --skip-null to leave them out"
        )
        raise LabelError(msg)
    if missing:
        report(Note(text=f"{missing} of {total} features of {path} have no class and are left out"))
    return names


def _codes(
    frame: gpd.GeoDataFrame, names: pd.Series[Any], legend: Legend | None, path: Path, report: Report
) -> pd.Series[Any] | None:
    """The legend's codes, or else the file's own; None where neither numbers the classes."""
    if legend:
        return names.map(dict(legend.codes))
    return file_codes(frame["code"], names, path, report) if "code" in frame.columns else None


def _countable(labels: gpd.GeoDataFrame, class_column: str, path: Path) -> gpd.GeoDataFrame:
    """The same labels, with codes as integers, or few enough classes to be numbered."""
    if "code" in labels:
        labels["code"] = labels["code"].astype(np.int64)
    elif labels["class"].nunique() > MAX_CODE:
        msg = (
            f"expected at most {MAX_CODE} classes, found {labels['class'].nunique()} in the column `{class_column}` of "
            f"{path}: choose a coarser column with --class-column, or merge classes with --legend"
        )
        raise LabelError(msg)
    return labels
