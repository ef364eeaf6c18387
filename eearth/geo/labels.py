"""Ground truth: a file of labelled polygons or points → a raster of class codes on the imagery's grid."""

from __future__ import annotations

import difflib
import json
import re
import unicodedata
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import shapely
from pyproj import CRS, Transformer
from rasterio.features import rasterize

from eearth.errors import LabelError, WorkspaceError
from eearth.events import Note, Report, Warned, silent
from eearth.geo.colours import class_colours

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from eearth.geo.grid import Grid

NO_LABEL = 0
MAX_CODE = 255  # the largest code of a uint8 raster
POLYGONAL = ("Polygon", "MultiPolygon")
POINTS = ("Point", "MultiPoint")
LAYER = "labels"
# A point closer than this share of a pixel to a pixel edge lies on it: the rounding of a reprojected coordinate must
# not decide to which pixel it belongs.
ON_EDGE = 1e-6
# White space, and the characters that are invisible in a name but make two names differ.
BLANKS = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u200b\ufeff]+")


@dataclass(frozen=True)
class LandCoverClass:
    """One entry of the legend.

    Attributes:
        code: Value in the rasters, 1..255.
        name: The name as in the label file, white space tidied.
        colour: "#rrggbb", lower case.
        pixels: Labelled pixels on the grid.
        polygons: Label geometries (polygons or points) that meet the grid's rectangle.
    """

    code: int
    name: str
    colour: str
    pixels: int
    polygons: int


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
    frame = _read_layer(Path(path), report)
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
        msg = f"expected polygons or points in {path}, found no layer with geometries: give a vector file with --labels"
        raise LabelError(msg)
    msg = (
        f"expected one layer, or one called `{LAYER}`, in {path}, found {', '.join(layers)}: "
        f"run `ogr2ogr -nln {LAYER} labels.gpkg {path} LAYER` with the right one, then use labels.gpkg"
    )
    raise LabelError(msg)


def _read_layer(path: Path, report: Report) -> gpd.GeoDataFrame:
    """All features of the chosen layer, with a CRS."""
    if not path.exists():
        msg = f"expected a vector file with the ground truth, found nothing at {path}: check the path given to --labels"
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
        msg = f"expected labelled polygons or points in {path}, found no features: give another file with --labels"
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
            "add the column, or give another file with --labels"
        )
    folded = {column.casefold(): column for column in columns}
    near = difflib.get_close_matches(wanted.casefold(), folded, n=1)
    hint = f"--class-column {folded[near[0]]}" if near else "--class-column NAME"
    return (
        f"expected a column `{wanted}` with the classes in {path}, found the columns "
        f"{', '.join(columns)}: run again with {hint}"
    )


def _class_names(column: pd.Series[Any], path: Path) -> pd.Series[Any]:
    """The classes as tidy text; None where there is none."""
    if pd.api.types.is_float_dtype(column.dtype):
        broken = column.notna() & (column % 1 != 0)
        if broken.any():
            msg = (
                f"expected classes in the column `{column.name}` of {path}, found numbers that are not whole, such as "
                f"{float(column[broken].iloc[0]):g}: choose another column with --class-column"
            )
            raise LabelError(msg)
        column = column.astype("Int64")
    tidy = {value: _tidy(str(value)) or None for value in column.dropna().unique()}
    return column.astype(object).map(tidy).astype(object).where(column.notna(), None)


def _tidy(name: str) -> str:
    """One spelling (Unicode NFC) and one blank between words."""
    return BLANKS.sub(" ", unicodedata.normalize("NFC", name)).strip()


def _file_codes(
    frame: gpd.GeoDataFrame, names: pd.Series[Any], path: Path, report: Report
) -> pd.Series[Any] | None:
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
        return codes
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
        geometries[broken] = shapely.make_valid(geometries[broken])
        report(Warned(text=f"{int(broken.sum())} polygons of {path} cross themselves and were repaired"))
    collections = shapely.get_type_id(geometries) == shapely.GeometryType.GEOMETRYCOLLECTION
    lines = broken & (shapely.get_dimensions(geometries) == 1)
    for index in np.flatnonzero(collections | lines):
        geometries[index] = _with_area(geometries[index])
    there = ~shapely.is_empty(geometries)
    if not there.all():
        report(Warned(text=f"{int((~there).sum())} polygons of {path} have no area and are left out"))
    if not there.any():
        msg = f"expected labelled polygons or points in {path}, found none with a geometry: give another with --labels"
        raise LabelError(msg)
    return labels[there].set_geometry(gpd.GeoSeries(geometries[there], index=labels.index[there], crs=labels.crs))


def _refuse_lines(geometries: NDArray[Any], path: Path) -> None:
    """Lines cover no pixels: which ones they mean is not ours to guess."""
    kinds = {str(kind) for kind in np.unique([geometry.geom_type for geometry in geometries])}
    foreign = sorted(kinds - {*POLYGONAL, *POINTS, "GeometryCollection"})
    if not foreign:
        return
    msg = (
        f"expected polygons or points in {path}, found {', '.join(foreign)} geometries: "
        f"buffer them into polygons (ST_Buffer in `ogr2ogr -dialect sqlite -sql ...`), or leave them out"
    )
    raise LabelError(msg)


def _with_area(geometry: shapely.Geometry) -> shapely.Geometry:
    """The polygons of a geometry as one geometry; its points where it has none."""
    parts = shapely.get_parts(shapely.get_parts(geometry))
    dimensions = shapely.get_dimensions(parts)
    if (dimensions == 2).any():  # noqa: PLR2004 - an area's dimension
        return shapely.union_all(parts[dimensions == 2])  # noqa: PLR2004
    return shapely.MultiPoint(list(parts[dimensions == 0]))


def burn(
    labels: gpd.GeoDataFrame, grid: Grid, *, all_touched: bool, report: Report = silent
) -> tuple[NDArray[np.uint8], tuple[LandCoverClass, ...]]:
    """Rasterise labels onto a grid; where labels overlap, the one that comes later in the file wins.

    A polygon labels the pixels whose centre lies inside it, a point the pixel it lies in: of a point on the edge
    between two pixels the right or lower one, and none where that is outside the grid.

    Args:
        labels: From `read_labels`; reprojected here, once.
        grid: The imagery's grid.
        all_touched: Polygons label every pixel they touch.
        report: Hears of classes without a pixel.

    Returns:
        The codes, (y, x) uint8, 0 = no label, and the legend by rising code. Codes are the file's own (column
        `code`), or 1..K in alphabetical order of all the file's classes (code-point order; numerical where every name
        is an integer). A class of the file without a pixel on the grid stays in the legend with `pixels` 0.

    Raises:
        LabelError: No label meets the grid, or fewer than two classes have a pixel on it.
    """
    codes = _numbered(labels)
    geometries = labels.geometry.to_crs(CRS.from_wkt(grid.crs.to_wkt())).to_numpy()
    meets = shapely.intersects(geometries, grid.footprint)
    if not meets.any():
        raise LabelError(_no_overlap(labels, grid))
    values = labels["class"].map(codes).to_numpy()
    shapes = zip(_snapped(geometries[meets], grid), values[meets].tolist(), strict=True)
    raster: NDArray[np.uint8] = rasterize(
        shapes, out_shape=grid.shape, transform=grid.transform, fill=NO_LABEL, all_touched=all_touched, dtype="uint8"
    )
    pixels = np.bincount(raster.ravel(), minlength=MAX_CODE + 1)
    polygons = np.bincount(values[meets], minlength=MAX_CODE + 1)
    colours = class_colours(list(codes))
    classes = tuple(
        LandCoverClass(code, name, colour, int(pixels[code]), int(polygons[code]))
        for (name, code), colour in zip(codes.items(), colours, strict=True)
    )
    _check_classes(classes, labels, all_touched=all_touched, report=report)
    return raster, classes


def _numbered(labels: gpd.GeoDataFrame) -> dict[str, int]:
    """Class name → code, by rising code."""
    if "code" in labels:
        pairs = labels[["class", "code"]].drop_duplicates().sort_values("code")
        return {str(name): int(code) for name, code in pairs.itertuples(index=False)}
    names = [str(name) for name in labels["class"].unique()]
    numeric = all(re.fullmatch(r"-?\d+", name, re.ASCII) for name in names)
    ordered = sorted(names, key=int) if numeric else sorted(names)
    return {name: code for code, name in enumerate(ordered, start=1)}


def _snapped(geometries: NDArray[Any], grid: Grid) -> NDArray[Any]:
    """The same geometries with each point moved to the centre of the pixel that owns it."""
    points = np.isin(shapely.get_type_id(geometries), (shapely.GeometryType.POINT, shapely.GeometryType.MULTIPOINT))
    t = grid.transform

    def to_centre(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        cells = np.floor((xy - (t.c, t.f)) / (t.a, t.e) + ON_EDGE) + 0.5
        return cells * (t.a, t.e) + (t.c, t.f)

    moved = geometries.copy()
    moved[points] = shapely.transform(geometries[points], to_centre)
    return moved


def _check_classes(
    classes: Sequence[LandCoverClass], labels: gpd.GeoDataFrame, *, all_touched: bool, report: Report
) -> None:
    """Refuse a legend that no classifier can learn; name the classes without a pixel."""
    seen = [entry.name for entry in classes if entry.pixels]
    source = labels.attrs.get("source", "the labels")
    if len(seen) < 2:  # noqa: PLR2004 - one class leaves nothing to tell apart
        found = f"only `{seen[0]}`" if seen else "none"
        touch = "" if all_touched else " or, where polygons are smaller than a pixel, run again with --all-touched"
        msg = f"expected at least 2 classes of {source} with pixels on the imagery's grid, found {found}: "
        raise LabelError(msg + "label more of the region," * bool(touch) + (touch or "label more of the region"))
    unseen = [f"`{entry.name}`" for entry in classes if not entry.pixels]
    if unseen:
        report(Warned(text=f"classes of {source} without a pixel on the imagery's grid: {', '.join(unseen)}"))


def _no_overlap(labels: gpd.GeoDataFrame, grid: Grid) -> str:
    """What to say where labels and imagery lie apart, both in longitude and latitude."""

    def degrees(crs: Any, bounds: Sequence[float]) -> str:
        box = Transformer.from_crs(crs, 4326, always_xy=True).transform_bounds(*bounds)
        return "({:.4f}, {:.4f}, {:.4f}, {:.4f})".format(*box)

    imagery = degrees(CRS.from_wkt(grid.crs.to_wkt()), grid.bounds)
    found = degrees(labels.crs, labels.total_bounds)
    return (
        f"expected labels on the imagery, which covers {imagery} (west, south, east, north), found those of "
        f"{labels.attrs.get('source', 'the labels')} in {found}: give another file with --labels, or check its CRS"
    )


def write_classes(path: Path, classes: Sequence[LandCoverClass]) -> None:
    """Write the legend as JSON: a list of {code, name, colour, pixels, polygons}."""
    text = json.dumps([asdict(entry) for entry in classes], indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def read_classes(path: Path) -> tuple[LandCoverClass, ...]:
    """Read what `write_classes` wrote.

    Raises:
        WorkspaceError: The file is missing or is no legend.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        classes = tuple(LandCoverClass(**entry) for entry in entries)
    except (OSError, ValueError, TypeError) as error:
        msg = f"expected a list of classes in {path}, found {_one_line(error)}: run `eearth rasterize` again"
        raise WorkspaceError(msg) from error
    fault = _fault(classes)
    if fault:
        msg = f"expected a list of classes in {path}, found {fault}: run `eearth rasterize` again"
        raise WorkspaceError(msg)
    return classes


def _fault(classes: Sequence[LandCoverClass]) -> str | None:
    """What is wrong with a legend read from a file; None where nothing is."""
    for entry in classes:
        numbers = (entry.code, entry.pixels, entry.polygons)
        if not all(type(number) is int and number >= 0 for number in numbers) or not 1 <= entry.code <= MAX_CODE:
            return f"the code {entry.code!r} with {entry.pixels!r} pixels and {entry.polygons!r} polygons"
        if not isinstance(entry.name, str) or not entry.name:
            return f"the name {entry.name!r}"
        if not isinstance(entry.colour, str) or not re.fullmatch(r"#[0-9a-f]{6}", entry.colour):
            return f"the colour {entry.colour!r}"
    for what, values in (("code", [e.code for e in classes]), ("name", [e.name for e in classes])):
        if len(set(values)) != len(values):
            return f"a {what} twice"
    return None if classes else "no class"
