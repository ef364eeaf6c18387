"""The map as a report shows it: thinned out, with its legend, its counts and where it lies."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio.enums import Resampling
from rasterio.errors import RasterioError

from eearth.errors import WorkspaceError
from eearth.events import Advanced, Finished, Started
from eearth.geo.antimeridian import CIRCLE
from eearth.geo.aoi import LONLAT
from eearth.geo.grid import Grid
from eearth.geo.products.landcover.prediction import OUTSIDE, printable
from eearth.geo.products.landcover.unfamiliar import FAMILIAR, unfamiliar_share
from eearth.geo.products.landcover.writer import BANDS, CONFIDENCE, LANDCOVER
from eearth.geo.sampling.areas import SQUARE_KILOMETRE, PixelAreas

if TYPE_CHECKING:
    from pathlib import Path

    from eearth.events import Report
    from eearth.report.sources import Held

TASK = "classes of the map"

# Side of the windows that the map is counted in: four of its blocks.
COUNTED = 1024

# Steps of the confidence on the page, in percent: finer ones the eye cannot tell apart, and they take more room.
CONFIDENCE_STEP = 5

# Where the page's colours of the unfamiliarity end: twice as far as nearly all of the training's ground.
MOST_UNFAMILIAR = 2 * FAMILIAR

# Points of the lattice, on each side, between which longitude and latitude are interpolated: over 100 km of UTM the
# error is below a metre.
LATTICE = 17

UNNAMED_COLOUR = "#7f7f7f"


@dataclass(frozen=True)
class Entry:
    """A class of the map.

    Attributes:
        code: Value in the raster.
        name: As the user wrote it, on one line.
        colour: "#rrggbb".
        pixels: Pixels of it, counted on the whole map.
        km2: Their area on the ground.
    """

    code: int
    name: str
    colour: str
    pixels: int
    km2: float


@dataclass(frozen=True)
class Landcover:
    """The map, thinned out.

    Attributes:
        grid: Of the whole map.
        codes: (y, x) uint8, the most frequent class of each cell; 0 = no data.
        confidence: (y, x) uint8 percent in steps of `CONFIDENCE_STEP`, 255 outside the region; None without the file.
        classes: The legend: all of its classes, and codes of the map that it does not name.
        unfamiliarity: (y, x) uint8 percent in steps of `CONFIDENCE_STEP`, at most `MOST_UNFAMILIAR`, 255 where not
            known; None where it is known nowhere.
        unfamiliar: Share of the whole map's pixels that are beyond 100; None as above.
    """

    grid: Grid
    codes: NDArray[np.uint8]
    confidence: NDArray[np.uint8] | None
    classes: tuple[Entry, ...]
    unfamiliarity: NDArray[np.uint8] | None = None
    unfamiliar: float | None = None

    @property
    def pixels(self) -> int:
        """Mapped pixels."""
        return sum(entry.pixels for entry in self.classes)

    @property
    def km2(self) -> float:
        """Mapped area on the ground."""
        return sum(entry.km2 for entry in self.classes)


def read_landcover(held: Held, max_side: int, report: Report) -> Landcover | None:
    """Read the map of the workspace; None where there is none.

    Args:
        held: The workspace.
        max_side: Most rows and columns to show.
        report: Receives progress.

    Raises:
        WorkspaceError: One of its files cannot be read.
    """
    path = held.path("predict", LANDCOVER)
    if path is None:
        return None
    try:
        pixels, km2 = _counted(path, report)
        grid, codes = _thinned(path, max_side)
        known = held.path("predict", CONFIDENCE)
        confidence = None if known is None else _percent(known, "confidence", codes.shape)
        unfamiliar = None if known is None else unfamiliar_share(known)
        strange = None if known is None or unfamiliar is None else _percent(known, "unfamiliarity", codes.shape)
    except RasterioError as error:
        msg = f"expected rasters in {path.parent}, found: {error}: run `eearth predict` again"
        raise WorkspaceError(msg) from error
    named = _legend(held)
    codes_shown = sorted({*named, *(int(code) for code in np.flatnonzero(pixels) if code)})
    classes = tuple(
        Entry(code, *named.get(code, (f"code {code}", UNNAMED_COLOUR)), int(pixels[code]), float(km2[code]))
        for code in codes_shown
    )
    return Landcover(grid, codes, confidence, classes, strange, unfamiliar)


def _counted(path: Path, report: Report) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(pixels, square kilometres) of each code, each (256,); read window by window."""
    pixels, area = np.zeros(256, dtype=np.int64), np.zeros(256)
    with rasterio.open(path) as file:
        grid = Grid(file.crs, file.transform, file.height, file.width)
        sizes, windows = PixelAreas(grid), list(grid.windows(COUNTED))
        report(Started(task=TASK, total=len(windows), unit="windows"))
        for window in windows:
            codes = file.read(1, window=window.rasterio)
            pixels += np.bincount(codes.ravel(), minlength=256)
            of_each = np.broadcast_to(sizes.of_rows(window)[:, None], codes.shape)
            area += np.bincount(codes.ravel(), weights=of_each.ravel(), minlength=256)
            report(Advanced(task=TASK))
    report(Finished(task=TASK))
    return pixels, area / SQUARE_KILOMETRE


def _thinned(path: Path, max_side: int) -> tuple[Grid, NDArray[np.uint8]]:
    """The whole map's grid, and the most frequent class of each cell."""
    with rasterio.open(path, OVERVIEW_LEVEL="NONE") as file:  # the most frequent class of overviews may be another
        grid = Grid(file.crs, file.transform, file.height, file.width)
        step = math.ceil(max(grid.shape) / max_side)
        shape = tuple(math.ceil(side / step) for side in grid.shape)
        return grid, file.read(1, out_shape=shape, resampling=Resampling.mode)


def _legend(held: Held) -> dict[int, tuple[str, str]]:
    """Code → (name, colour), from the map's STAC Item."""
    item = held.document("predict", "item.json")
    entries: list[Any] = item.entries("/assets/landcover/classification:classes") if item else []
    return {
        int(entry["value"]): (printable(str(entry["title"])), f"#{str(entry['color_hint']).lower()}")
        for entry in entries
        if not entry.get("nodata")
    }


def _percent(path: Path, name: str, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """A band of percentages, thinned out by its mean."""
    with rasterio.open(path) as file:
        band = list(BANDS).index(name) + 1
        mean = file.read(band, out_shape=shape, resampling=Resampling.average, masked=True)
    stepped = np.minimum(np.round(mean.filled(0) / CONFIDENCE_STEP) * CONFIDENCE_STEP, MOST_UNFAMILIAR)
    shown: NDArray[np.uint8] = np.where(np.ma.getmaskarray(mean), OUTSIDE, stepped).astype(np.uint8)
    return shown


def lonlat_lattice(grid: Grid) -> dict[str, Any] | None:
    """Longitude and latitude on a lattice over the map, its edges included; None where the CRS gives none.

    Longitudes are those within 180° of the first one, so that they can be interpolated across the antimeridian.
    """
    share = np.linspace(0, 1, LATTICE)
    cols, rows = np.meshgrid(share * grid.width, share * grid.height)
    to_lonlat = Transformer.from_crs(grid.crs.to_wkt(), LONLAT, always_xy=True)
    place = grid.transform
    x, y = place.c + place.a * cols, place.f + place.e * rows
    longitude, latitude = (np.asarray(part) for part in to_lonlat.transform(x, y))
    if not (np.isfinite(longitude).all() and np.isfinite(latitude).all()):
        return None
    longitude = longitude - CIRCLE * np.round((longitude - longitude[0, 0]) / CIRCLE)
    return {
        "side": LATTICE,
        "longitude": longitude.ravel().round(6).tolist(),
        "latitude": latitude.ravel().round(6).tolist(),
    }
