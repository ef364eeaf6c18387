"""A first look at a cube: one clear date in colour, and how often each pixel was seen clearly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from eearth.geo.cube import Cube

# Most pixels on a side of the picture.
LONGEST_SIDE = 800
READ_SIDE = 512


def clear_counts(cube: Cube) -> NDArray[np.int32]:
    """Clear observations per pixel, shape (y, x)."""
    counts = np.zeros(cube.grid.shape, dtype=np.int32)
    for window in cube.grid.windows(READ_SIDE):
        counts[window.slices] = np.asarray(cube.valid[:, *window.slices]).sum(axis=0)
    return counts


def draw_quicklook(path: Path, cube: Cube, clear: NDArray[np.int32]) -> None:
    """Draw the clearest date (red, green, blue where the cube has them, else the first band) and `clear`."""
    step = max(1, -(-max(cube.grid.shape) // LONGEST_SIDE))
    date = _clearest_date(cube)
    picture = _colour_picture(cube, date, step)
    figure = Figure(figsize=(11, 5), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.imshow(picture, cmap="gray")
    left.set_title(f"{np.datetime_as_string(cube.times[date], unit='D')}, the clearest of {len(cube.times)} dates")
    counts = right.imshow(clear[::step, ::step], cmap="viridis", vmin=0, vmax=max(1, int(clear.max())))
    right.set_title(f"clear observations per pixel, median {np.median(clear):.0f}")
    figure.colorbar(counts, ax=right, shrink=0.8)
    for axes in (left, right):
        axes.set_axis_off()
    FigureCanvasAgg(figure)
    figure.savefig(path, metadata={"Software": None})


def _clearest_date(cube: Cube) -> int:
    total = np.zeros(len(cube.times), dtype=np.int64)
    for window in cube.grid.windows(READ_SIDE):
        total += np.asarray(cube.valid[:, *window.slices]).sum(axis=(1, 2))
    return int(total.argmax())


def _colour_picture(cube: Cube, date: int, step: int) -> NDArray[np.float64]:
    """(y, x, 3) or (y, x) in 0..1, stretched between the 2nd and 98th percentile of what is there."""
    names = ("red", "green", "blue")
    bands = [cube.bands.index(name) for name in names] if set(names) <= set(cube.bands) else [0]
    picture = np.stack([_decimated(cube, date, band, step) for band in bands], axis=-1)
    low, high = np.nanpercentile(picture, (2, 98)) if np.isfinite(picture).any() else (0.0, 1.0)
    stretched = np.clip((picture - low) / max(high - low, 1e-6), 0, 1)
    return np.nan_to_num(stretched, nan=1.0).squeeze(-1) if len(bands) == 1 else np.nan_to_num(stretched, nan=1.0)


def _decimated(cube: Cube, date: int, band: int, step: int) -> NDArray[np.float64]:
    """Every `step`-th pixel of one date and band as reflectance, NaN where there is no data."""
    stored = np.asarray(cube.reflectance[date, band, ::step, ::step])
    return np.where(stored == cube.encoding.fill, np.nan, stored * cube.scale + cube.offset)
