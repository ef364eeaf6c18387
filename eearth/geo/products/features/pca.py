"""Features as a picture: their three principal components as red, green and blue."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.image import imsave

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from eearth.geo.products.features.moments import Moments
    from eearth.geo.products.features.writer import FeatureWriter

# Sides of the picture: a larger region is thinned out by means, a smaller one drawn in whole multiples.
LARGEST, SMALLEST = 1500, 500

# Pixels read at once on a side, at most, and at least one cell of the picture.
SPAN = 256

COLOURS = 3

# matplotlib would name itself.
NO_VERSION: Any = {"Software": None}

# Percentiles of a component that are shown darkest and brightest.
STRETCH = (2, 98)


def draw_pca(path: Path, features: FeatureWriter, moments: Moments) -> None:
    """Draw the features that were written; what has none is transparent. The same features give the same bytes.

    Args:
        path: The PNG file to write.
        features: Read once, in parts.
        moments: Of them.
    """
    grid = features.grid
    step = max(1, math.ceil(max(grid.shape) / LARGEST))
    axes = _colour_axes(moments)
    picture = np.full((math.ceil(grid.height / step), math.ceil(grid.width / step), COLOURS), np.nan, np.float32)
    for window, values in features.parts(step * max(1, SPAN // step)):
        cells = _means(np.tensordot(values - moments.mean[:, None, None], axes, axes=(0, 0)), step)
        rows, cols = window.row // step, window.col // step
        picture[rows : rows + cells.shape[0], cols : cols + cells.shape[1]] = cells
    times = max(1, SMALLEST // max(picture.shape))
    shown = _stretched(picture).repeat(times, axis=0).repeat(times, axis=1)
    imsave(path, shown, format="png", metadata=NO_VERSION)


def principal_axes(scatter: NDArray[np.float64]) -> NDArray[np.float64]:
    """Directions of the largest spread, each with its largest entry positive, or its sign would be arbitrary.

    Args:
        scatter: (feature, feature) sums of products of the deviations from the mean.

    Returns:
        (feature, axis), one axis for each colour; fewer where there are fewer features.
    """
    _, vectors = np.linalg.eigh(scatter)
    axes = vectors[:, ::-1][:, :COLOURS]
    signed: NDArray[np.float64] = axes * np.sign(np.take_along_axis(axes, np.abs(axes).argmax(axis=0)[None], axis=0))
    return signed


def _colour_axes(moments: Moments) -> NDArray[np.float64]:
    """(feature, 3) axes; where there are fewer than three features, the last one is there several times."""
    axes = principal_axes(moments.scatter)
    return axes[:, [min(i, axes.shape[1] - 1) for i in range(COLOURS)]]


def _means(values: NDArray[np.float64], step: int) -> NDArray[np.float32]:
    """Means of what is there in cells of step × step pixels of (y, x, colour); NaN where there is nothing."""
    height, width, colours = values.shape
    rows, cols = math.ceil(height / step), math.ceil(width / step)
    padded = np.full((rows * step, cols * step, colours), np.nan)
    padded[:height, :width] = values
    cells = padded.reshape(rows, step, cols, step, colours)
    there = np.isfinite(cells)
    total, count = np.where(there, cells, 0).sum(axis=(1, 3)), there.sum(axis=(1, 3))
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)


def _stretched(picture: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(y, x, red green blue alpha), 0..255."""
    there = np.isfinite(picture[..., 0])
    if not there.any():
        return np.zeros((*there.shape, 4), np.uint8)
    low, high = np.percentile(picture[there], STRETCH, axis=0)
    shares = (picture - low) / np.where(high > low, high - low, 1)
    colours = np.clip(np.nan_to_num(shares), 0, 1)
    painted: NDArray[np.uint8] = np.rint(np.dstack([colours, there]) * 255).astype(np.uint8)
    return painted
