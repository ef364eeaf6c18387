"""A map of classes in a raster file: its legend, and how many pixels of each class lie in each of its rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import RasterioError

from eearth.errors import EearthError, WorkspaceError
from eearth.events import Advanced, Finished, Report, Started, silent
from eearth.geo.colours import class_colours
from eearth.geo.grid import Grid, Window
from eearth.geo.labels.categories import read_categories
from eearth.geo.labels.legend import MAX_CODE, read_classes
from eearth.geo.labels.regrid import read_window
from eearth.geo.sampling.areas import PixelAreas

# Side of the tiles that are counted at once: a multiple of the blocks of most files.
TILE = 1024


@dataclass(frozen=True)
class Stratum:
    """One class of a map.

    Attributes:
        code: Its pixel value.
        name: As in the legend; the code where there is none.
        colour: "#rrggbb".
        pixels: Pixels of the map with that value; 0 for a class of the legend that the map lacks.
        area: Their area in square metres.
    """

    code: int
    name: str
    colour: str
    pixels: int
    area: float


@dataclass(frozen=True)
class ClassMap:
    """A map and what it holds.

    Attributes:
        path: The raster.
        grid: Its grid.
        strata: Its classes, by rising code.
        rows: Pixels of each class in each row, (class, row) int32, for the classes that the map has.
    """

    path: Path
    grid: Grid
    strata: tuple[Stratum, ...]
    rows: dict[int, NDArray[np.int32]]


def read_map(path: Path, legend: Path | None = None, report: Report = silent) -> ClassMap:
    """Count the classes of a map, tile by tile, so that its size does not matter.

    Pixels without data (by the file's nodata value, mask or alpha band) belong to no class.

    Args:
        path: A raster of whole numbers, north-up, with a CRS; its first band counts.
        legend: A `classes.json`. None = what the file itself says of its classes.
        report: Receives progress.

    Raises:
        WorkspaceError: The file is no such raster, holds no data, or more than 255 classes.
    """
    with _opened(path) as file:
        grid, dtype = _grid(file, path), np.dtype(file.dtypes[0])
        if dtype.kind not in "iu":
            msg = f"expected whole numbers as class codes in {path}, found {dtype}: run `gdal_translate -ot Byte` on it"
            raise WorkspaceError(msg)
        rows, areas = _counted(file, grid, path, report)
        names, colours = _own_legend(file, path)
    if legend is not None:
        given = {entry.code: entry for entry in read_classes(legend)}
        names, colours = {code: c.name for code, c in given.items()}, {code: c.colour for code, c in given.items()}
    codes = sorted({*rows, *names})
    spare = dict(zip(codes, class_colours([names.get(code, str(code)) for code in codes]), strict=True))
    strata = tuple(
        Stratum(
            code,
            names.get(code, str(code)),
            colours.get(code, spare[code]),
            int(rows[code].sum()) if code in rows else 0,
            areas.get(code, 0.0),
        )
        for code in codes
    )
    return ClassMap(path, grid, strata, rows)


def classes_at(path: Path, rows: NDArray[np.int64], cols: NDArray[np.int64]) -> NDArray[np.int64]:
    """The map's values at some pixels; −1 where there is no data or no pixel."""
    found = np.full(rows.shape, -1, dtype=np.int64)
    with _opened(path) as file:
        inside = (rows >= 0) & (rows < file.height) & (cols >= 0) & (cols < file.width)
        for point in np.flatnonzero(inside)[np.lexsort((cols[inside], rows[inside]))]:
            values, there = read_window(file, Window(int(rows[point]), int(cols[point]), 1, 1))
            found[point] = int(values[0, 0]) if there[0, 0] else -1
    return found


def read_row(file: Any, row: int, code: int) -> NDArray[np.int64]:
    """The columns of one row of an open map that hold a class."""
    values, there = read_window(file, Window(row, 0, 1, file.width))
    return np.flatnonzero((values[0] == code) & there[0])


def _opened(path: Path) -> Any:
    try:
        return rasterio.open(path)
    except RasterioError as error:
        msg = f"expected a map in a raster file at {path}, found: {error}"
        raise WorkspaceError(msg) from error


def _grid(file: Any, path: Path) -> Grid:
    if file.crs is None:
        msg = (
            f"expected a map with a coordinate reference system, found none in {path}: "
            f"run `gdal_edit.py -a_srs EPSG:<code> {path}`"
        )
        raise WorkspaceError(msg)
    try:
        return Grid(file.crs, file.transform, file.height, file.width)
    except EearthError as error:
        msg = f"{path}: {error}; bring it onto one with `gdalwarp -r near`"
        raise WorkspaceError(msg) from error


def _counted(
    file: Any, grid: Grid, path: Path, report: Report
) -> tuple[dict[int, NDArray[np.int32]], dict[int, float]]:
    """(class → pixels of each row, class → square metres)."""
    rows: dict[int, NDArray[np.int32]] = {}
    areas: dict[int, float] = {}
    pixel_areas, windows = PixelAreas(grid), list(grid.windows(TILE))
    report(Started(task="count", total=len(windows), unit="tiles"))
    for window in windows:
        size = pixel_areas.of_rows(window)
        for code, counts in _of_tile(*read_window(file, window)).items():
            rows.setdefault(code, np.zeros(grid.height, dtype=np.int32))[window.slices[0]] += counts
            areas[code] = areas.get(code, 0.0) + float(counts @ size)
        if len(rows) > MAX_CODE:
            msg = f"expected a map of at most {MAX_CODE} classes, found more in {path}: is it a map of classes?"
            raise WorkspaceError(msg)
        report(Advanced(task="count"))
    report(Finished(task="count"))
    if not rows:
        msg = f"expected classes in {path}, found no pixel with data"
        raise WorkspaceError(msg)
    return rows, areas


def _of_tile(values: NDArray[Any], there: NDArray[np.bool_]) -> dict[int, NDArray[np.int32]]:
    """Pixels of each class in each row of a tile."""
    found, place = np.unique(values[there], return_inverse=True)
    if found.size > MAX_CODE:
        return {int(code): np.zeros(len(values), np.int32) for code in found}  # no map of classes: the caller says so
    key = np.nonzero(there)[0] * found.size + place
    counts = np.bincount(key, minlength=len(values) * found.size).reshape(len(values), found.size)
    return {int(code): counts[:, k].astype(np.int32) for k, code in enumerate(found)}


def _own_legend(file: Any, path: Path) -> tuple[dict[int, str], dict[int, str]]:
    """(code → name, code → colour) as the file or its side file says; empty where neither does."""
    said = read_categories(path)
    names = {
        int(key.removeprefix("CLASS_")): text
        for key, text in file.tags().items()
        if key.removeprefix("CLASS_").isdecimal() and key.startswith("CLASS_")
    } or said.names
    return names, {code: colour for code, colour in said.colours.items() if code in names}
