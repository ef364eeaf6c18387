"""A picture of the map with its legend, for a report or a quick look."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING

import numpy as np
import rasterio
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from rasterio.enums import Resampling

from eearth.geo.grid import Grid
from eearth.geo.products.landcover.prediction import printable, rgb

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from eearth.geo.products.landcover.prediction import MapClass

# All lengths are picture elements; 9 points at 100 dots an inch are 12.5 of them.
DPI = 100
FONT = 9
LETTER = 7.5
# A larger map is thinned out, a smaller one drawn in whole multiples.
LARGEST, SMALLEST = 1500, 500
BORDER, TITLE, FOOT = 16, 34, 44
LINE, SWATCH, GAP = 22, 14, 8
LONGEST_NAME = 32
NO_DATA = (232, 232, 232)
NO_DATA_NAME = "no data"
# A legend of many classes takes further columns beside the map, which it may exceed by this much in a small map.
LEAST_HEIGHT = 300


def draw_map(path: Path, landcover: Path, classes: Sequence[MapClass], *, title: str = "") -> None:
    """Draw a land cover raster with legend and scale bar; the same map gives the same bytes.

    Args:
        path: The PNG file to write.
        landcover: Raster of class codes.
        classes: The legend, in the order to show.
        title: One line above the map.
    """
    codes, grid = _thinned(landcover)
    picture = _coloured(codes, classes)
    height, width = picture.shape[:2]
    legend = _legend(classes, max(height, LEAST_HEIGHT))
    right = BORDER + width + BORDER
    total_height = TITLE + max(height, LEAST_HEIGHT) + FOOT
    figure = _sheet(max(right + _legend_width(legend), int(LETTER * len(title))), total_height)
    axes = figure.axes[0]
    axes.imshow(picture, extent=(BORDER, BORDER + width, TITLE + height, TITLE), interpolation="nearest", aspect="auto")
    _write(axes, BORDER, TITLE / 2, title, size=FONT + 2)
    _draw_scale_bar(axes, grid.pixel_metres * grid.width / width, width, TITLE + height + BORDER)
    for column, entries in enumerate(legend):
        left = right + column * _column_width(legend)
        for line, (name, colour) in enumerate(entries):
            _draw_entry(axes, left, TITLE + line * LINE, name, colour)
    with warnings.catch_warnings():
        # A letter that the font lacks is drawn as a box; the files' own metadata hold the whole name.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(path, format="png", dpi=DPI, metadata={"Software": None})


def _sheet(width: int, height: int) -> Figure:
    """An empty sheet with one frame, whose data coordinates are picture elements from the upper left corner."""
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0), autoscale_on=False)
    axes.set_axis_off()
    return figure


def _thinned(landcover: Path) -> tuple[NDArray[np.uint8], Grid]:
    """The codes with at most `LARGEST` rows and columns (the most frequent class of each cell), and the full grid."""
    with rasterio.open(landcover) as file:
        grid = Grid(file.crs, file.transform, file.height, file.width)
        step = max(1, math.ceil(max(grid.shape) / LARGEST))
        shape = tuple(math.ceil(side / step) for side in grid.shape)
        return file.read(1, out_shape=shape, resampling=Resampling.mode), grid


def _coloured(codes: NDArray[np.uint8], classes: Sequence[MapClass]) -> NDArray[np.uint8]:
    """(y, x, rgb) picture, magnified by a whole number where the map is small."""
    palette = np.full((256, 3), NO_DATA, np.uint8)
    for entry in classes:
        palette[entry.code] = rgb(entry.colour)
    times = max(1, SMALLEST // max(codes.shape))
    return palette[codes].repeat(times, axis=0).repeat(times, axis=1)


def _legend(classes: Sequence[MapClass], height: int) -> list[list[tuple[str, tuple[int, int, int]]]]:
    """(name, colour) of the entries, "no data" last, in columns that fit into `height`."""
    entries = [(_short(entry.name), rgb(entry.colour)) for entry in classes]
    entries.append((NO_DATA_NAME, NO_DATA))
    rows = height // LINE
    return [entries[first : first + rows] for first in range(0, len(entries), rows)]


def _short(name: str) -> str:
    shown = printable(name)
    return shown if len(shown) <= LONGEST_NAME else shown[: LONGEST_NAME - 1] + "…"


def _column_width(legend: Sequence[Sequence[tuple[str, tuple[int, int, int]]]]) -> int:
    longest = max(len(name) for column in legend for name, _ in column)
    return SWATCH + GAP + int(LETTER * longest) + BORDER


def _legend_width(legend: Sequence[Sequence[tuple[str, tuple[int, int, int]]]]) -> int:
    return _column_width(legend) * len(legend)


def _write(axes: Axes, x: float, y: float, text: str, *, size: float = FONT) -> None:
    """Text with its left middle at (x, y); a dollar sign in a name is no mathematics."""
    axes.text(x, y, printable(text), size=size, va="center", ha="left", parse_math=False)


def _draw_entry(axes: Axes, x: float, y: float, name: str, colour: tuple[int, int, int]) -> None:
    fill = tuple(part / 255 for part in colour)
    axes.add_patch(Rectangle((x, y), SWATCH, SWATCH, facecolor=fill, edgecolor="#555555", linewidth=0.6))
    _write(axes, x + SWATCH + GAP, y + SWATCH / 2, name)


def _draw_scale_bar(axes: Axes, metres: float, width: int, y: float) -> None:
    """The longest bar of 1, 2 or 5 times a power of ten metres within a third of the map's width."""
    room = metres * width / 3
    power = 10.0 ** math.floor(math.log10(room))
    length = max(factor * power for factor in (1, 2, 5) if factor * power <= room)
    bar = length / metres
    axes.add_patch(Rectangle((BORDER, y), bar, 4, facecolor="black"))
    _write(axes, BORDER + bar + GAP, y + 2, f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m")  # noqa: PLR2004 (metres in a kilometre)
