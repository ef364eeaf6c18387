"""One layer of a vector file → its features, with a CRS, and only the columns that are wanted."""

from __future__ import annotations

import difflib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pyogrio.errors

from eearth.errors import LabelError
from eearth.events import Report, Warned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

LAYER = "labels"
# Formats with one layer, whose whole text is read to list it.
ONE_LAYER = (".geojson", ".geojsonl", ".geojsons")
UNREADABLE = (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, RuntimeError, ValueError, OSError)
# pyogrio's word for a loss that does no harm: measures along a line are no part of a label.
HARMLESS = r"Measured \(M\) geometry types are not supported"


@dataclass(frozen=True)
class Layer:
    """A layer that was found, but not read.

    Attributes:
        path: The file.
        name: The layer's name; None = the only one.
        columns: Its columns beside the geometry.
    """

    path: Path
    name: str | None
    columns: tuple[str, ...]

    def require(self, wanted: str, what: str, option: str) -> str:
        """The column, if there is exactly one of that name.

        Raises:
            LabelError: There is none, or more than one; the message lists the columns.
        """
        count = self.columns.count(wanted)
        if count == 1:
            return wanted
        found, do = f"the columns {', '.join(self.columns)}", f"run again with {option} {self._near(wanted) or 'NAME'}"
        if count:
            found, do = f"{count} columns of that name", "rename one"
        elif not self.columns:
            found, do = "no columns beside the geometry", "add the column, or give another file"
        msg = f"expected a column `{wanted}` with {what} in {self.path}, found {found}: {do}"
        raise LabelError(msg)

    def _near(self, wanted: str) -> str | None:
        folded = {column.casefold(): column for column in self.columns}
        near = difflib.get_close_matches(wanted.casefold(), folded, n=1)
        return folded[near[0]] if near else None


def find_layer(path: Path) -> Layer:
    """The layer with the labels: the one called `labels`, or the only one with geometries.

    Raises:
        LabelError: The file cannot be read, or no layer or more than one may be meant.
    """
    if not path.exists():
        msg = f"expected a vector file with the ground truth, found nothing at {path}: check the path"
        raise LabelError(msg)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", HARMLESS)
            name = None if path.suffix.lower() in ONE_LAYER else _choose(path)
            info = pyogrio.read_info(path, layer=name)
    except UNREADABLE as error:
        raise _unreadable(path, error) from error
    if info["geometry_type"] is None:
        msg = f"expected polygons or points in {path}, found no layer with geometries: give another file"
        raise LabelError(msg)
    return Layer(path, name, tuple(str(field) for field in info["fields"]))


def _choose(path: Path) -> str:
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


def read_features(layer: Layer, columns: Sequence[str], where: str | None, report: Report) -> gpd.GeoDataFrame:
    """The features of a layer.

    Args:
        layer: From `find_layer`.
        columns: What to read beside the geometry.
        where: An OGR SQL condition that features must meet; None = all.
        report: Hears GDAL's warnings.

    Returns:
        Columns and geometry; the index counts the features of the whole file from 0, also where only some are read.

    Raises:
        LabelError: The file or the condition cannot be read, there is no feature, or no CRS.
    """
    path, where = layer.path, (where or "").strip() or None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.filterwarnings("ignore", HARMLESS)
        try:
            # Some formats find nothing in a column that is not read: those that the condition may name are read, too.
            named = [name for name in layer.columns if name.casefold() in (where or "").casefold()]
            chosen = list(dict.fromkeys([*columns, *named]))
            frame = pyogrio.read_dataframe(
                path, layer=layer.name, columns=chosen, where=where, fid_as_index=where is not None
            )
            frame.index = pd.RangeIndex(len(frame)) if where is None else _places(layer, frame.index.to_numpy())
        except UNREADABLE as error:
            raise (_misread(layer, where, error) if where else _unreadable(path, error)) from error
    for warning in caught:
        if issubclass(warning.category, UserWarning | RuntimeWarning):
            report(Warned(text=f"{path}: {one_line(warning.message)}"))
    if not isinstance(frame, gpd.GeoDataFrame) or frame.empty:
        found = f"none that meets --where `{where}` (text stands in single quotes there)" if where else "no features"
        msg = f"expected labelled polygons or points in {path}, found {found}: "
        raise LabelError(msg + ("mend the condition" if where else "give another file"))
    _check_crs(frame, path)
    return frame


def _places(layer: Layer, ids: NDArray[Any]) -> NDArray[np.int64]:
    """Which features of the file, counted from 0, have those feature ids."""
    every = pyogrio.raw.read(layer.path, layer=layer.name, columns=[], read_geometry=False, return_fids=True)[1]
    places: NDArray[np.int64] = pd.Index(every).get_indexer(ids).astype(np.int64)
    return places


def _misread(layer: Layer, where: str, error: Exception) -> LabelError:
    reason = one_line(error).rpartition(f"{where}: ")[2]
    reason = "" if reason.endswith(f"'{where}'") else f" ({reason})"  # where the condition is all that it says
    return LabelError(
        f"expected a condition such as `{(layer.columns or ('area',))[0]} = 'x'` on the columns "
        f"{', '.join(layer.columns)} of {layer.path}, found --where `{where}`{reason}: see OGR SQL's WHERE"
    )


def _unreadable(path: Path, error: Exception) -> LabelError:
    return LabelError(
        f"expected a vector file (GeoPackage, GeoJSON, Shapefile) or a GeoTIFF of class codes, found that {path} "
        f"cannot be read ({one_line(error)}): look at it with `ogrinfo -al -so {path}`"
    )


def one_line(cause: object) -> str:
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
    east, north = extent[[0, 2]].max(), extent[[1, 3]].max()
    if frame.crs.is_geographic and (east > 360 or north > 90 + 1e-6):  # noqa: PLR2004
        swapped = east <= 90 and north <= 180  # noqa: PLR2004
        what = "are longitude and latitude swapped?" if swapped else ""
        hint = f"run `ogr2ogr -a_srs EPSG:<code> labels.gpkg {path}` with the CRS they are in"
        msg = (
            f"expected longitudes and latitudes in {path} (its CRS is {frame.crs.name}), found coordinates up to "
            f"{extent.max():.7g}: {what or hint}"
        )
        raise LabelError(msg)
