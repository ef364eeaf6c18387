"""The area of each class of a map, by counting its pixels."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import rasterio

from eearth.errors import EearthError
from eearth.events import Advanced, Finished, Report, Started, Warned, silent
from eearth.geo.products.landcover.prediction import Reason
from eearth.geo.products.rasters.unfinished import CACHE_BYTES
from eearth.geo.sampling.areas import SQUARE_KILOMETRE, PixelAreas
from eearth.manifest import write_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from eearth.geo.grid import Grid
    from eearth.geo.products.landcover.prediction import MapClass

AREAS = "areas.csv"
TASK = "areas"

# A map's classes are not always right, and mistakes do not cancel out: Olofsson et al. 2014, "Good practices for
# estimating area and assessing accuracy of land change", Remote Sensing of Environment 148, 42-57.
METHOD = "pixel counting, biased by the map's errors: for unbiased areas run eearth sample and eearth assess"

# Parts of the region without a class; their places in a count follow those of the class codes.
UNMAPPED = {Reason.NEVER_OBSERVED: "never observed", Reason.REJECTED: "rejected"}
PLACES = 256 + len(UNMAPPED)

# Side of the tiles that are counted at once: a multiple of the blocks.
TILE = 1024


@dataclass(frozen=True)
class Area:
    """What one class, or what has none, takes of the region.

    Attributes:
        code: Class code; None for what has no class.
        name: As in the legend.
        pixels: How many there are.
        square_metres: Their area on the ground; NaN where that is not known.
        share: Of the whole region's area, 0..1; of its pixels where areas are not known.
    """

    code: int | None
    name: str
    pixels: int
    square_metres: float
    share: float

    @property
    def square_kilometres(self) -> float:
        """Their area on the ground."""
        return self.square_metres / SQUARE_KILOMETRE


def count_areas(
    landcover: Path, confidence: Path, grid: Grid, classes: Sequence[MapClass], report: Report = silent
) -> list[Area]:
    """Count the pixels of each class and of what has none, tile by tile, each with its area on the ground.

    Args:
        landcover: The map.
        confidence: Its file with the reasons.
        grid: The grid of both.
        classes: The legend.
        report: Receives progress.

    Returns:
        One entry a class of the legend, in its order, then those of `UNMAPPED`. Areas are NaN where part of a projected
        grid lies off the globe.
    """
    pixels, square_metres = np.zeros(PLACES, dtype=np.int64), np.zeros(PLACES)
    areas, windows = _pixel_areas(grid, report), list(grid.windows(TILE))
    report(Started(task=TASK, total=len(windows), unit="tiles"))
    bounded = rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES)
    with bounded, rasterio.open(landcover) as codes, rasterio.open(confidence) as known:
        band = known.descriptions.index("reason") + 1
        for window in windows:
            place = _places(codes.read(1, window=window.rasterio), known.read(band, window=window.rasterio))
            rows = np.flatnonzero(place.any(axis=1))
            counts = _counted(place[rows])
            pixels += counts.sum(axis=0)
            if areas is not None:
                # Where the columns of a row differ in size, they do so evenly: their mean column stands for them.
                cols = np.array([int(np.flatnonzero(row).mean()) for row in place[rows]], dtype=np.int64)
                square_metres += areas.at(rows + window.row, cols + window.col) @ counts
            report(Advanced(task=TASK))
    report(Finished(task=TASK))
    return _listed(pixels, square_metres if areas is not None else square_metres * math.nan, classes)


def _pixel_areas(grid: Grid, report: Report) -> PixelAreas | None:
    try:
        return PixelAreas(grid)
    except EearthError as error:
        report(Warned(text=f"no areas in square kilometres: {error}"))
        return None


def _places(codes: NDArray[np.uint8], reasons: NDArray[np.uint8]) -> NDArray[np.int16]:
    """(y, x) where each pixel is counted; 0 outside the region."""
    place = codes.astype(np.int16)
    for number, reason in enumerate(UNMAPPED):
        place[(codes == 0) & (reasons == reason)] = 256 + number
    return place


def _counted(place: NDArray[np.int16]) -> NDArray[np.int64]:
    """(row, place) pixels; those outside the region left out."""
    key = place + (np.arange(len(place)) * PLACES)[:, np.newaxis]
    counts = np.bincount(key.ravel(), minlength=len(place) * PLACES).reshape(len(place), PLACES)
    counts[:, 0] = 0
    return counts


def _listed(pixels: NDArray[np.int64], square_metres: NDArray[np.float64], classes: Sequence[MapClass]) -> list[Area]:
    names: list[tuple[int | None, str, int]] = [(entry.code, entry.name, entry.code) for entry in classes]
    names += [(None, name, 256 + number) for number, name in enumerate(UNMAPPED.values())]
    weights = square_metres if np.isfinite(square_metres).all() else pixels
    shares = weights / (weights.sum() or 1)
    return [Area(code, name, int(pixels[at]), float(square_metres[at]), float(shares[at])) for code, name, at in names]


def write_areas(path: Path, areas: Sequence[Area]) -> None:
    """Write them as a table; each row says how they were found."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["code", "name", "pixels", "area_km2", "share", "method"])
    for area in areas:
        code = "" if area.code is None else area.code
        size = "" if math.isnan(area.square_kilometres) else f"{area.square_kilometres:.6f}"
        writer.writerow([code, area.name, area.pixels, size, f"{area.share:.6f}", METHOD])
    write_text(path, text.getvalue())
