"""A sample as it comes back from the interpreter: read, and checked against what was drawn."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import shapely
from numpy.typing import NDArray

from eearth.config import suggestion
from eearth.errors import LabelError
from eearth.geo.labels.layer import UNREADABLE, one_line
from eearth.geo.labels.legend import code_named
from eearth.geo.sampling.files import ID, POINTS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from eearth.geo.grid import Grid
    from eearth.geo.sampling.design import Design

# Points named in a message.
NAMED = 8
# A point this near to the edge of its pixel, in pixels, is still in it: files round coordinates.
ROUNDING = 1e-3


@dataclass(frozen=True)
class LabelledPoints:
    """Points with what an interpreter saw there; arrays are (point,).

    Attributes:
        path: Their file.
        ids: Numbers of the points; None where the file has none.
        references: Class names or codes as text, white space tidied; "" where nobody labelled the point.
        xy: Their places, (point, 2), in the CRS that was asked for; None where the file has no geometries.
    """

    path: Path
    ids: NDArray[np.int64] | None
    references: NDArray[np.str_]
    xy: NDArray[np.float64] | None


def read_labelled(path: Path, column: str, grid: Grid) -> LabelledPoints:
    """Read a labelled sample.

    Args:
        path: Any vector file, or a table such as CSV. Of several layers `points` is read, or the only one.
        column: The column with the references.
        grid: Points are brought into its CRS; of polygons the middle counts.

    Raises:
        LabelError: The file cannot be read, lacks a column, or holds ids that are no numbers or occur twice.
    """
    frame = _read(path)
    columns = [str(name) for name in frame.columns if name != "geometry"]
    if column not in columns:
        msg = (
            f"expected a column `{column}` with what is on the ground in {path}; {suggestion(column, columns)}: name "
            "it with --reference-column"
        )
        raise LabelError(msg)
    if frame.empty:
        msg = f"expected labelled points in {path}, found none"
        raise LabelError(msg)
    references = np.array([_text(value) for value in frame[column]], dtype=str)
    ids = _ids(frame[ID], path) if ID in columns else None
    return LabelledPoints(path, ids, references, _places(frame, grid, path))


def _read(path: Path) -> Any:
    try:
        layers = [str(name) for name, _ in pyogrio.list_layers(path)]
        layer = POINTS if POINTS in layers else layers[0]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other libraries about the file's dialect; what matters is checked here
            return pyogrio.read_dataframe(path, layer=layer)
    except UNREADABLE as error:
        msg = f"expected the labelled sample, a vector file such as GeoPackage, at {path}, found: {one_line(error)}"
        raise LabelError(msg) from error


def _text(value: Any) -> str:
    """A reference as text: whole numbers without a point, nothing for what is missing."""
    if value is None or (isinstance(value, float) and not np.isfinite(value)) or value is pd.NA:
        return ""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return " ".join(str(value).split())


def _ids(column: Any, path: Path) -> NDArray[np.int64]:
    numbers = pd.to_numeric(column, errors="coerce")
    if numbers.isna().any() or (numbers % 1 != 0).any():
        msg = f"expected whole numbers in the column `{ID}` of {path}, found {column[numbers.isna()].tolist()[:NAMED]}"
        raise LabelError(msg)
    ids: NDArray[np.int64] = numbers.to_numpy(dtype=np.int64)
    found, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        msg = f"expected each point once in {path}, found the ids {_listed(found[counts > 1])} more than once"
        raise LabelError(msg)
    return ids


def _places(frame: Any, grid: Grid, path: Path) -> NDArray[np.float64] | None:
    if not isinstance(frame, gpd.GeoDataFrame) or frame.geometry.isna().all():
        return None
    if frame.crs is None:
        msg = f"expected a coordinate reference system, found none in {path}: keep that of the sample"
        raise LabelError(msg)
    centres = shapely.centroid(frame.geometry.to_numpy())
    there = gpd.GeoSeries(centres, crs=frame.crs).to_crs(grid.crs.to_wkt())
    return np.stack([there.x.to_numpy(), there.y.to_numpy()], axis=1)


def _listed(ids: NDArray[Any]) -> str:
    shown = ", ".join(str(number) for number in ids[:NAMED])
    return shown + (f" and {len(ids) - NAMED} more" if len(ids) > NAMED else "")


def in_order_of(design: Design, points: LabelledPoints) -> tuple[NDArray[np.str_], list[str]]:
    """(reference of each point of the design, "" = none; what is to be said of them).

    Raises:
        LabelError: The file has points that were not drawn, or some were moved out of their pixels.
    """
    if points.ids is None:
        msg = (
            f"expected the column `{ID}` of the sample in {points.path}, found none: label a copy of the file that "
            "`eearth sample` wrote, or say --simple-random if the points are a simple random sample of your own"
        )
        raise LabelError(msg)
    unknown = points.ids[~np.isin(points.ids, design.ids)]
    if unknown.size:
        msg = f"expected the points of the sample in {points.path}, found the ids {_listed(unknown)}, never drawn"
        raise LabelError(msg)
    order = np.argsort(design.ids)
    place = order[np.searchsorted(design.ids, points.ids, sorter=order)]
    flags = []
    if points.xy is None:
        flags.append("the labelled file has no geometries: whether points were moved could not be checked")
    else:
        _refuse_moved(design, points, place)
    references = np.full(len(design.ids), "", dtype=points.references.dtype)
    references[place] = points.references
    return references, flags


def _refuse_moved(design: Design, points: LabelledPoints, place: NDArray[np.int64]) -> None:
    rows, cols = pixels_of(design.grid, points.xy)
    off = np.maximum(abs(rows - design.rows[place] - 0.5), abs(cols - design.cols[place] - 0.5))
    moved = ~(off <= 0.5 + ROUNDING)  # also where there is no place at all
    if moved.any():
        msg = (
            f"expected the points of {points.path} where they were drawn, found {int(moved.sum())} outside their "
            f"pixels (ids {_listed(points.ids[moved])}): move them back, or keep the geometries of the sample"  # type: ignore[index]
        )
        raise LabelError(msg)


def pixels_of(grid: Grid, xy: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(row, column) of places in a grid's CRS, with fractions: 0.5 is the middle of the first pixel."""
    cols, rows = ~grid.transform @ (xy[:, 0], xy[:, 1])
    return rows, cols


def codes_of(
    references: NDArray[np.str_], names: Mapping[int, str], extra: Sequence[str], path: Path
) -> tuple[NDArray[np.int64], dict[int, str]]:
    """The class code of each reference, and the legend with the extra classes in it.

    A reference is the name of a class or its code: see `code_named`.

    Args:
        references: Text; "" for an unlabelled point, whose code becomes −1.
        names: The map's legend.
        extra: Names of further classes, which get the next codes.
        path: The file, for messages.

    Raises:
        LabelError: A reference is no class, or could be two.
    """
    legend = dict(names)
    for name in extra:
        if name not in legend.values():
            legend[max(legend, default=0) + 1] = name
    codes = {text: code_named(text, legend, LabelError) for text in np.unique(references).tolist() if text}
    unknown = [text for text, code in codes.items() if code is None]
    if unknown:
        count = int((references == unknown[0]).sum())
        msg = (
            f"expected classes of the map's legend in {path}, found {unknown[0]!r} at {count} points; "
            f"{suggestion(unknown[0], list(legend.values()))}; leave the cell empty where the class cannot be told, "
            "or name a class that the map lacks with --extra-classes"
        )
        raise LabelError(msg)
    return np.array([codes.get(text, -1) for text in references.tolist()], dtype=np.int64), legend
