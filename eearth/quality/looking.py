"""Which part of the imagery is looked at to judge the labels: all of a small region, squares of a large one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eearth.geo.grid import Window, tiles_of
from eearth.geo.labels.patches import number_patches
from eearth.geo.splits.blocks import classes_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from eearth.data.series import Series

SIDE = 128  # pixels of a square: all dates of one fit into any memory
# Numbers that are read at most: of the imagery (some seconds), and of what was seen clearly (one a pixel and date).
MOST_VALUES, MOST_SIGHTINGS = 500_000_000, 2_000_000_000
MOST_PATCHED = 30_000_000  # pixels


def squares(labels: NDArray[np.uint8], seed: int) -> list[Window]:
    """Squares with labels in the order in which to look at them: the richest of each class, then at random.

    Args:
        labels: (y, x) class codes, 0 = no label.
        seed: Of the order.
    """
    held = [tile for tile in tiles_of(labels.shape, SIDE) if labels[tile.slices].any()]
    counts = np.stack([np.bincount(labels[tile.slices].ravel(), minlength=256) for tile in held])
    richest = counts[:, classes_of(labels)].argmax(axis=0).tolist()
    order = [*richest, *np.random.default_rng(seed).permutation(len(held)).tolist()]
    return [held[number] for number in dict.fromkeys(order)]


def affordable(looked_at: list[Window], values_per_pixel: int, most: int) -> list[Window]:
    """The first of some squares that are cheap enough to read; one at least."""
    return looked_at[: max(1, most // (values_per_pixel * SIDE**2))]


def patches(labels: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """(y, x) number of the patch that each pixel lies in, see `number_patches`; of too large a raster all 0."""
    if labels.size > MOST_PATCHED:
        return np.zeros(labels.shape, dtype=np.uint32)
    return number_patches(labels)[0]


def clear_observations(series: Series, looked_at: list[Window], labels: NDArray[np.uint8]) -> dict[int, dict[str, int]]:
    """How often labelled pixels were seen clearly.

    Returns:
        Class code → the least and the median number of clear observations of its pixels; a class without a pixel in
        the squares is missing.
    """
    times = len(series.times)
    table = np.zeros((256, times + 1), np.int64)
    for square in affordable(looked_at, times, MOST_SIGHTINGS):
        rows, columns = square.slices
        seen = np.asarray(series.valid[:, rows, columns], dtype=bool).sum(axis=0)
        np.add.at(table, (labels[square.slices], seen), 1)
    return {
        int(code): {"least": int(np.flatnonzero(table[code])[0]), "median": _median(table[code])}
        for code in np.flatnonzero(table.any(axis=1))
        if code
    }


def _median(counts: NDArray[np.int64]) -> int:
    """The median of whole numbers of which each occurs so often; of two the lower one."""
    return int(np.searchsorted(np.cumsum(counts), (counts.sum() + 1) // 2))
