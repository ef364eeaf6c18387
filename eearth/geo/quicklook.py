"""A first look at a cube: one clear date in colour, how often each pixel was seen clearly, and when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from numpy.typing import NDArray

from eearth.geo.grid import Grid, Window

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from eearth.geo.cube import Cube

# Most pixels on a side of the picture.
LONGEST_SIDE = 800

COLOURS = ("red", "green", "blue")


def step_of(grid: Grid) -> int:
    """Every how many pixels the pictures show one."""
    return max(1, -(-max(grid.shape) // LONGEST_SIDE))


# Edges of the picture's parts, and the room between them, in shares of its sides.
PLACES = {"left": 0.06, "right": 0.96, "bottom": 0.06, "top": 0.95, "hspace": 0.1, "wspace": 0.06}


@dataclass(frozen=True)
class Summary:
    """What a first look shows of a window, gathered while the cube is written, so that nobody need read it again.

    Attributes:
        window: The part of the grid that it tells of.
        step: Every how many rows and columns of the grid the pictures show one.
        histogram: (time + 1,) pixels of the region by how often they were seen clearly.
        clear: (time,) pixels of the region that each date shows clearly.
        counts: (y, x) clear observations.
        picture: (y, x, 3 or 1) reflectance on one date, NaN where there is none.
    """

    window: Window
    step: int
    histogram: NDArray[np.int64]
    clear: NDArray[np.int64]
    counts: NDArray[np.int32]
    picture: NDArray[np.float32]

    @classmethod
    def of(
        cls, cube: Cube, window: Window, values: NDArray[Any], valid: NDArray[np.bool_], inside: NDArray[np.bool_]
    ) -> Summary:
        """Summarise a window.

        Args:
            cube: Whose encoding and bands they are.
            window: Where.
            values: (band, y, x) of the date that the picture shows, as the cube stores it.
            valid: (time, y, x).
            inside: (y, x), True in the region.
        """
        step = step_of(cube.grid)
        thin = slice(-window.row % step, None, step), slice(-window.col % step, None, step)
        often = valid.sum(axis=0, dtype=np.int32)
        shown = values[_shown_bands(cube.bands)][:, *thin]
        reflectance = np.where(shown == cube.encoding.fill, np.nan, shown * cube.scale + cube.offset)
        return cls(
            window=window,
            step=step,
            histogram=np.bincount(often[inside], minlength=len(valid) + 1).astype(np.int64),
            clear=valid[:, inside].sum(axis=1, dtype=np.int64),
            counts=often[thin],
            picture=np.moveaxis(reflectance, 0, -1).astype(np.float32),
        )

    @classmethod
    def joined(cls, window: Window, parts: Sequence[Summary]) -> Summary:
        """One summary of a window from those of its parts."""
        step = parts[0].step
        first = -(-window.row // step), -(-window.col // step)
        shape = -(-(window.row + window.height) // step) - first[0], -(-(window.col + window.width) // step) - first[1]
        counts = np.zeros(shape, dtype=np.int32)
        picture = np.full((*shape, parts[0].picture.shape[-1]), np.nan, dtype=np.float32)
        for part in parts:
            row, col = -(-part.window.row // step) - first[0], -(-part.window.col // step) - first[1]
            place = slice(row, row + part.counts.shape[0]), slice(col, col + part.counts.shape[1])
            counts[place], picture[place] = part.counts, part.picture
        histogram = np.sum([part.histogram for part in parts], axis=0)
        clear = np.sum([part.clear for part in parts], axis=0)
        return cls(window, step, histogram, clear, counts, picture)

    @property
    def median(self) -> int:
        """Clear observations of the region's median pixel."""
        return int(np.searchsorted(np.cumsum(self.histogram), self.histogram.sum() / 2))

    @property
    def least(self) -> int:
        """Clear observations of the region's least seen pixel."""
        return int(np.flatnonzero(self.histogram)[0]) if self.histogram.any() else 0

    @property
    def never(self) -> int:
        """Pixels of the region without any clear observation."""
        return int(self.histogram[0])

    @property
    def region(self) -> int:
        """Pixels of the region."""
        return int(self.histogram.sum())

    def write(self, path: Path) -> None:
        """Keep it for a run that goes on."""
        window = np.array([self.window.row, self.window.col, self.window.height, self.window.width, self.step])
        np.savez(
            path, window=window, histogram=self.histogram, clear=self.clear, counts=self.counts, picture=self.picture
        )

    @classmethod
    def read(cls, path: Path) -> Summary:
        """What `write` kept."""
        with np.load(path) as kept:
            *window, step = (int(number) for number in kept["window"])
            arrays = {name: kept[name] for name in ("histogram", "clear", "counts", "picture")}
        return cls(window=Window(*window), step=step, **arrays)


def _shown_bands(bands: Sequence[str]) -> list[int]:
    return [bands.index(name) for name in COLOURS] if set(COLOURS) <= set(bands) else [0]


def draw_quicklook(path: Path, cube: Cube, summary: Summary, shown: int) -> None:
    """Draw the date that the summary shows, the clear observations, and how clear each date is.

    Args:
        path: PNG to write.
        cube: Its dates are shown.
        summary: Of the whole grid.
        shown: Number of the date in the summary's picture.
    """
    figure = Figure(figsize=(11, 6.4))
    figure.subplots_adjust(**PLACES)  # to find the places out takes as long again as to draw
    axes = figure.subplot_mosaic([["picture", "counts"], ["time", "time"]], height_ratios=[3, 1])
    axes["picture"].imshow(_stretched(summary.picture), cmap="gray")
    day = np.datetime_as_string(cube.times[shown], unit="D")
    axes["picture"].set_title(f"{day}, the clearest of {len(cube.times)} dates")
    counts = axes["counts"].imshow(summary.counts, cmap="viridis", vmin=0, vmax=max(1, int(summary.counts.max())))
    axes["counts"].set_title(f"clear observations: median {summary.median}, least {summary.least}")
    figure.colorbar(counts, cax=axes["counts"].inset_axes((1.03, 0.1, 0.035, 0.8)))
    for name in ("picture", "counts"):
        axes[name].set_axis_off()
    _draw_time_line(axes["time"], cube, summary)
    FigureCanvasAgg(figure)
    figure.savefig(path, metadata={"Software": None}, pil_kwargs={"compress_level": 3})


def _draw_time_line(axes: Any, cube: Cube, summary: Summary) -> None:
    """A stem for each date, as high as the share of the region that it shows clearly."""
    share = 100 * summary.clear / max(1, summary.region)
    axes.vlines(cube.times.astype("datetime64[s]"), 0, share, color="tab:blue", linewidth=2)
    axes.plot(cube.times.astype("datetime64[s]"), share, "o", color="tab:blue", markersize=4)
    axes.set_ylim(0, 105)
    axes.set_ylabel("clear, % of region")
    locator = AutoDateLocator()  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    axes.spines[["top", "right"]].set_visible(False)


def _stretched(picture: NDArray[np.float32]) -> NDArray[Any]:
    """(y, x, 3) or (y, x) in 0..1, each band from its 2nd to its 98th percentile; white where nothing is."""
    seen = np.isfinite(picture).all(axis=-1)
    low, high = np.percentile(picture[seen], (2, 98), axis=0) if seen.any() else (0.0, 1.0)
    stretched = np.nan_to_num(np.clip((picture - low) / np.maximum(high - low, 1e-6), 0, 1), nan=1.0)
    shown: NDArray[Any] = stretched.squeeze(-1) if stretched.shape[-1] == 1 else stretched
    return shown
