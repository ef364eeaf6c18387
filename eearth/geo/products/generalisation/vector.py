"""A map's patches as polygons in a file, window by window, so that its size does not matter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio
import shapely

from eearth.events import Advanced, Finished, Report, Started, silent
from eearth.geo.grid import Grid, Window, tiles_of
from eearth.geo.products.generalisation.outlines import outlines
from eearth.geo.products.generalisation.patches import Patches
from eearth.geo.products.generalisation.vector_file import appending
from eearth.geo.products.rasters.unfinished import writing
from eearth.geo.sampling.areas import HECTARE, PixelAreas

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from eearth.geo.products.landcover.prediction import MapClass

TASK = "polygons"

# Polygons are cut along the edges of squares of so many pixels. A square that holds more than so many patches is cut
# into four, and so on: 50,000 of them take some 250 MB, and have no room in a square of `outlines.SMALLEST`.
SQUARE = 2048
MOST = 50_000


@dataclass(frozen=True)
class Drawing:
    """An open map, and how its polygons are drawn.

    Attributes:
        codes: The open raster of class codes, 0 = none.
        known: The open raster whose first band is the confidence.
        grid: The grid of both.
        areas: Areas of its pixels.
        names: Class code → name.
        simplify: How much borders are simplified, in pixels; 0 keeps every pixel's corner.
    """

    codes: Any
    known: Any
    grid: Grid
    areas: PixelAreas
    names: Mapping[int, str]
    simplify: float

    def of(self, window: Window, size: int) -> Iterator[gpd.GeoDataFrame]:
        """The polygons of one square, or of its parts, in the grid's CRS.

        Args:
            window: Its pixels.
            size: Its side, where the map's edge does not cut it.
        """
        framed = self._framed(window)
        patches = Patches.of(framed[1:-1, 1:-1])
        if len(patches) <= MOST:
            yield self._frame(window, framed, patches)
            return
        for part in tiles_of((window.height, window.width), size // 2):
            inner = Window(window.row + part.row, window.col + part.col, part.height, part.width)
            yield from self.of(inner, size // 2)

    def _frame(self, window: Window, framed: NDArray[np.uint8], patches: Patches) -> gpd.GeoDataFrame:
        drawn, number = outlines(patches, framed, self.simplify)
        mapped = patches.codes[number] > 0
        drawn, number = drawn[mapped], number[mapped]
        code = patches.codes[number]
        columns = {
            "code": code.astype(np.int16),
            "name": pd.Series([self.names.get(value, str(value)) for value in code.tolist()], dtype=object),
            "area_ha": self._square_metres(drawn, window) / HECTARE,
            "confidence": self._confidence(patches, window)[number],
        }
        return gpd.GeoDataFrame(columns, geometry=self._placed(drawn, window), crs=self.grid.crs.to_wkt())

    def _framed(self, window: Window) -> NDArray[np.uint8]:
        """Class codes of a window and of one pixel around it; 0 beyond the map."""
        frame = Window(window.row - 1, window.col - 1, window.height + 2, window.width + 2)
        there = window.grown(1, self.grid.shape)
        framed = np.zeros((frame.height, frame.width), dtype=np.uint8)
        framed[there.within(frame).slices] = self.codes.read(1, window=there.rasterio)
        return framed

    def _confidence(self, patches: Patches, window: Window) -> NDArray[np.float32]:
        """(patch,) mean of its pixels."""
        percent = self.known.read(1, window=window.rasterio)
        total = np.bincount(patches.numbers.ravel(), percent.ravel(), len(patches))
        return np.asarray(total / patches.pixels, dtype=np.float32)

    def _square_metres(self, drawn: NDArray[np.object_], window: Window) -> NDArray[np.float64]:
        """Areas on the ground: pixels that a polygon covers, times the area of the one at its centre.

        Where pixels differ in size, they do so evenly enough over a square: the error is below a millionth.
        """
        col, row = np.floor(shapely.get_coordinates(shapely.centroid(drawn)).T).astype(np.int64)
        return np.asarray(shapely.area(drawn) * self.areas.at(row + window.row, col + window.col))

    def _placed(self, drawn: NDArray[np.object_], window: Window) -> NDArray[np.object_]:
        """Polygons of columns and rows as polygons of coordinates; a corner has the same ones from all sides."""
        t = self.grid.transform
        pixels = shapely.get_coordinates(drawn) + np.array([window.col, window.row])
        return np.asarray(shapely.set_coordinates(drawn, pixels * np.array([t.a, t.e]) + np.array([t.c, t.f])))


def write_polygons(
    path: Path,
    landcover: Path,
    confidence: Path,
    grid: Grid,
    classes: Sequence[MapClass],
    *,
    simplify: float,
    scratch: Path,
    report: Report = silent,
) -> int:
    """Draw each patch of a map as a polygon, with `code`, `name`, `area_ha` on the ground and mean `confidence`.

    Patches are pixels of one class that touch along an edge. Polygons have neither gaps nor overlaps. Squares of
    `SQUARE` pixels, or their parts, are drawn one by one: a patch that lies in several becomes several polygons, which
    meet exactly.

    Args:
        path: `<name>.gpkg` or `<name>.parquet`; written elsewhere first, and moved there when it is whole.
        landcover: The map.
        confidence: Its file with the confidence.
        grid: The grid of both.
        classes: The legend.
        simplify: See `Drawing`.
        scratch: A folder on the same file system.
        report: Receives progress.

    Returns:
        How many polygons there are.

    Raises:
        DiskError: The file could not be written.
        EearthError: Part of a projected map lies off the globe.
    """
    count, squares, unfinished = 0, list(grid.windows(SQUARE)), scratch / f"unfinished-{path.name}"
    names = {entry.code: entry.name for entry in classes}
    report(Started(task=TASK, total=len(squares), unit="squares"))
    with writing(scratch), rasterio.open(landcover) as codes, rasterio.open(confidence) as known:
        drawing = Drawing(codes, known, grid, PixelAreas(grid), names, simplify)
        with appending(unfinished, grid) as append:
            for square in squares:
                for polygons in drawing.of(square, SQUARE):
                    append(polygons)
                    count += len(polygons)
                report(Advanced(task=TASK))
        unfinished.replace(path)
    report(Finished(task=TASK))
    return count
