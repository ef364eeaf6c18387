"""A vector file of ground truth → checked features with a class."""

from __future__ import annotations

import difflib
import re
import unicodedata
import warnings
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pyogrio.errors
import shapely

from eearth.errors import LabelError
from eearth.events import Note, Report, Warned, silent
from eearth.geo.labels.legend import MAX_CODE

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

AREA = 2  # the dimension of a polygon
LAYER = "labels"
# White space, and the characters that are invisible in a name but make two names differ.
BLANKS = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u200b\ufeff]+")


def read_labels(
    path: Path, *, class_column: str = "class", skip_null: bool = False, report: Report = silent
) -> gpd.GeoDataFrame:
    """Read and check a vector file of ground truth.

    Args:
        path: Any vector file that GDAL reads. Of a file with several layers `labels` is taken, or the only one with
            geometries.
        class_column: The column that names the class: text, integers, or floats that are whole numbers (3.0 → "3").
        skip_null: Leave features without a class out instead of refusing the file.
        report: Hears of everything that was left out or repaired.

    Returns:
        The features in file order, in the file's CRS, geometries 2-D and valid: polygons, multipolygons, points or
        multipoints. Columns: `class` (str, not empty); `code` (int, 1..255, one for each class) where the file has
        such a column; `geometry`. `attrs["source"]` is the path.

    Raises:
        LabelError: The file cannot be used; the message says what to do.
    """
    frame = _read_layer(path, report)
    if class_column not in frame.columns or class_column == frame.geometry.name:
        raise LabelError(_missing_column(frame, path, class_column))
    names = _class_names(frame[class_column], path)
    there = names.notna()
    if not there.all() and not skip_null:
        msg = (
            f"expected a class for each feature of {path}, found {int((~there).sum())} of {len(frame)} features "
            f"without one in the column `{class_column}`: fill them in, or run again with --skip-null to leave them out"
        )
        raise LabelError(msg)
    if not there.all():
        report(Note(text=f"{int((~there).sum())} of {len(frame)} features of {path} have no class and are left out"))
    labels = gpd.GeoDataFrame({"class": names}, geometry=frame.geometry)
    codes = _file_codes(frame, names, path, report)
    if codes is not None:
        labels.insert(1, "code", codes)
    labels = _clean_geometries(labels[there], path, report)
    if "code" in labels:
        labels["code"] = labels["code"].astype(np.int64)
    elif labels["class"].nunique() > MAX_CODE:
        msg = (
            f"expected at most {MAX_CODE} classes, found {labels['class'].nunique()} in the column `{class_column}` of "
            f"{path}: choose a coarser column with --class-column, or merge classes"
        )
        raise LabelError(msg)
    labels.attrs["source"] = str(path)
    return labels


def _choose_layer(path: Path) -> str:
    """The name of the layer with the labels."""
    layers = [str(name) for name, kind in pyogrio.list_layers(path) if kind is not None]
    if len(layers) == 1 or LAYER in layers:
        return LAYER if LAYER in layers else layers[0]
    if not layers:
        msg = f"expected polygons or points in {path}, found no layer with geometries: give another file"
        raise LabelError(msg)
    msg = (
        f"expected one layer, or one called `{LAYER}`, in {path}, found {', '.join(layers)}: "
        f"run `ogr2ogr -nln {LAYER} labels.gpkg {path} LAYER` with the right one, then use labels.gpkg"
    )
    raise LabelError(msg)


def _read_layer(path: Path, report: Report) -> gpd.GeoDataFrame:
    """All features of the chosen layer, with a CRS."""
    if not path.exists():
        msg = f"expected a vector file with the ground truth, found nothing at {path}: check the path"
        raise LabelError(msg)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            frame = gpd.read_file(path, layer=_choose_layer(path), engine="pyogrio")
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, RuntimeError, ValueError, OSError) as error:
        msg = (
            f"expected a vector file (GeoPackage, GeoJSON, Shapefile), found that {path} cannot be read "
            f"({_one_line(error)}): look at it with `ogrinfo -al -so {path}`"
        )
        raise LabelError(msg) from error
    for warning in caught:
        if issubclass(warning.category, UserWarning | RuntimeWarning):
            report(Warned(text=f"{path}: {_one_line(warning.message)}"))
    if not isinstance(frame, gpd.GeoDataFrame) or frame.empty:
        msg = f"expected labelled polygons or points in {path}, found no features: give another file"
        raise LabelError(msg)
    _check_crs(frame, path)
    return frame


def _one_line(cause: object) -> str:
    """The first line of another library's message, without its full stop."""
    return (str(cause).strip().splitlines() or ["unknown error"])[0].rstrip(".")


def _check_crs(frame: gpd.GeoDataFrame, path: Path) -> None:
    """Refuse labels that lie nowhere, and metres that pose as degrees."""
    if frame.crs is None:
        msg = (
            f"expected a coordinate reference system, found none in {path}: "
            f"run `ogr2ogr -a_srs EPSG:<code> labels.gpkg {path}` with the right code, then use labels.gpkg"
        )
        raise LabelError(msg)
    extent = np.nan_to_num(np.abs(frame.total_bounds))
    if frame.crs.is_geographic and (extent[[0, 2]].max() > 360 or extent[[1, 3]].max() > 90 + 1e-6):  # noqa: PLR2004
        msg = (
            f"expected longitudes and latitudes in {path} (its CRS is {frame.crs.name}), found coordinates up to "
            f"{extent.max():.7g}: run `ogr2ogr -a_srs EPSG:<code> labels.gpkg {path}` with the CRS they are in"
        )
        raise LabelError(msg)


def _missing_column(frame: gpd.GeoDataFrame, path: Path, wanted: str) -> str:
    """What to say where the class column is not in the file."""
    columns = [str(column) for column in frame.columns if column != frame.geometry.name]
    if not columns:
        return (
            f"expected a column `{wanted}` with the classes in {path}, found no columns beside the geometry: "
            "add the column, or give another file"
        )
    folded = {column.casefold(): column for column in columns}
    near = difflib.get_close_matches(wanted.casefold(), folded, n=1)
    hint = f"--class-column {folded[near[0]]}" if near else "--class-column NAME"
    return (
        f"expected a column `{wanted}` with the classes in {path}, found the columns "
        f"{', '.join(columns)}: run again with {hint}"
    )


def _class_names(column: pd.Series[Any], path: Path) -> pd.Series[Any]:
    """The classes as tidy text; missing where there is none."""
    if pd.api.types.is_float_dtype(column.dtype):
        broken = column.notna() & (column % 1 != 0)
        if broken.any():
            msg = (
                f"expected classes in the column `{column.name}` of {path}, found numbers that are not whole, such as "
                f"{float(column[broken].iloc[0]):g}: choose another column with --class-column"
            )
            raise LabelError(msg)
        column = column.astype("Int64")
    texts = column[column.notna()].map(str)
    return texts.map({text: _tidy(text) or None for text in texts.unique()}).reindex(column.index)


def _tidy(name: str) -> str:
    """One spelling (Unicode NFC) and one blank between words."""
    return BLANKS.sub(" ", unicodedata.normalize("NFC", name)).strip()


def _file_codes(frame: gpd.GeoDataFrame, names: pd.Series[Any], path: Path, report: Report) -> pd.Series[Any] | None:
    """The file's own codes, where it has a column `code` that numbers the classes; None elsewhere."""
    if "code" not in frame.columns:
        return None
    codes, there = frame["code"], names.notna()
    if not pd.api.types.is_numeric_dtype(codes.dtype) or pd.api.types.is_bool_dtype(codes.dtype):
        fault = "is not of integers"
    elif codes[there].isna().any() or (codes[there] % 1 != 0).any():
        fault = "has values that are missing or not whole"
    elif not codes[there].between(1, MAX_CODE).all():
        fault = f"has values outside 1..{MAX_CODE}"
    elif not _one_to_one(codes[there], names[there]):
        fault = "does not give each class one code of its own"
    else:
        return pd.Series(codes)
    report(Warned(text=f"the column `code` of {path} {fault}: classes are numbered in alphabetical order instead"))
    return None


def _one_to_one(codes: pd.Series[Any], names: pd.Series[Any]) -> bool:
    """Whether each class has one code and each code one class."""
    pairs = pd.DataFrame({"code": codes, "name": names}).drop_duplicates()
    return bool(pairs["code"].is_unique and pairs["name"].is_unique)


def _clean_geometries(labels: gpd.GeoDataFrame, path: Path, report: Report) -> gpd.GeoDataFrame:
    """Drop z and empty geometries, repair invalid polygons, refuse what has no pixels."""
    geometries = shapely.force_2d(labels.geometry.to_numpy())
    there = ~(shapely.is_missing(geometries) | shapely.is_empty(geometries))
    if not there.all():
        report(Warned(text=f"{int((~there).sum())} features of {path} have no geometry and are left out"))
    labels, geometries = labels[there], geometries[there]
    _refuse_lines(geometries, path)
    broken = ~shapely.is_valid(geometries)
    if broken.any():
        report(
            Warned(text=f"{int(broken.sum())} polygons of {path} are invalid (they cross themselves) and are repaired")
        )
    for index in np.flatnonzero(broken | (shapely.get_type_id(geometries) == shapely.GeometryType.GEOMETRYCOLLECTION)):
        geometries[index] = _plain(shapely.make_valid(geometries[index]), points=not broken[index])
    there = ~shapely.is_empty(geometries)
    if not there.all():
        report(Warned(text=f"{int((~there).sum())} polygons of {path} have no area and are left out"))
    if not there.any():
        msg = f"expected labelled polygons or points in {path}, found none that can be used: give another file"
        raise LabelError(msg)
    return labels[there].set_geometry(gpd.GeoSeries(geometries[there], index=labels.index[there], crs=labels.crs))


def _refuse_lines(geometries: NDArray[Any], path: Path) -> None:
    """Lines cover no pixels: which ones they mean is not ours to guess."""
    linear = shapely.get_dimensions(geometries) == 1
    if not linear.any():
        return
    kinds = sorted({geometry.geom_type for geometry in geometries[linear]})
    msg = (
        f"expected polygons or points in {path}, found {int(linear.sum())} of the type {', '.join(kinds)}: "
        "turn them into polygons (a buffer of half their width on the ground) or leave them out"
    )
    raise LabelError(msg)


def _plain(geometry: shapely.Geometry, *, points: bool) -> shapely.Geometry:
    """The polygons among a geometry's parts as one geometry; its points where it has none and they are wanted."""
    parts = shapely.get_parts(shapely.get_parts(geometry))
    dimensions = shapely.get_dimensions(parts)
    if points and not (dimensions == AREA).any():
        return shapely.MultiPoint(list(parts[dimensions == 0]))
    return shapely.union_all(parts[dimensions == AREA])
