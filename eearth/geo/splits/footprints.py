"""Features as they lie on the grid: how many pixels each has, of which class, and where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from eearth.geo.splits.blocks import NAMES, Blocks, strips_of

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Footprints:
    """The features of a raster; each array below has one entry for each number up to the highest, 0 among them.

    Attributes:
        raster: (y, x) uint32, the number of the feature that labels a pixel, 0 = none.
        pixels: How many pixels it labels; 0 for a number without a pixel.
        code: Its class.
        row, column: Its middle, the mean over its pixels; inside the grid, though not always inside the feature.
        height, width: Rows and columns from its first to its last, both included.
    """

    raster: NDArray[np.uint32]
    pixels: NDArray[np.int64]
    code: NDArray[np.uint8]
    row: NDArray[np.float64]
    column: NDArray[np.float64]
    height: NDArray[np.int64]
    width: NDArray[np.int64]

    def longer_than(self, blocks: Blocks) -> NDArray[np.bool_]:
        """Which features are longer or wider than a block."""
        return (self.height > blocks.height) | (self.width > blocks.width)


def footprints_of(labels: NDArray[np.uint8], features: NDArray[np.uint32]) -> Footprints:
    """Measure the features.

    Args:
        labels: (y, x) class codes, 0 = no label.
        features: (y, x) number of the feature that labels each pixel, 0 = none; each is of one class.
    """
    number = int(features.max(initial=0)) + 1
    pixels, code = np.zeros(number, np.int64), np.zeros(number, np.uint8)
    sums = np.zeros((2, number))
    first, last = np.full((2, number), np.iinfo(np.int64).max), np.full((2, number), -1)
    for row, column, length, feature in _runs(features):
        pixels += np.bincount(feature, length, number).astype(np.int64)
        sums[0] += np.bincount(feature, row * length, number)
        sums[1] += np.bincount(feature, (column + (length - 1) / 2) * length, number)
        for axis, (begin, end) in enumerate(((row, row), (column, column + length - 1))):
            np.minimum.at(first[axis], feature, begin)
            np.maximum.at(last[axis], feature, end)
        code[feature] = labels[row, column]
    pixels[0] = 0
    height, width = np.where(pixels > 0, last - first + 1, 0)
    row, column = sums / np.maximum(pixels, 1)
    return Footprints(features, pixels, code, row, column, height, width)


def torn_features(part: NDArray[np.uint8], features: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Features, rising, with pixels in several of the parts training, validation and test."""
    seen = np.zeros((len(NAMES), int(features.max(initial=0)) + 1), dtype=bool)
    for strip in strips_of(part):
        for place, code in enumerate(NAMES):
            seen[place, features[strip][part[strip] == code]] = True
    seen[:, 0] = False
    return np.flatnonzero(seen.sum(axis=0) > 1)


def _runs(
    features: NDArray[np.uint32],
) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], NDArray[np.uint32]]]:
    """Pixels of one feature side by side: ten times fewer than pixels, where a feature is ten pixels wide.

    Yields:
        For each strip of rows: row, first column, length and feature of each run.
    """
    width = features.shape[1]
    for strip in strips_of(features):
        part = features[strip]
        begins = np.ones(part.shape, dtype=bool)
        np.not_equal(part[:, 1:], part[:, :-1], out=begins[:, 1:])
        begin = np.flatnonzero(begins)
        length = np.diff(begin, append=part.size)
        feature = part.ravel()[begin]
        there = feature > 0
        row, column = np.divmod(begin[there], width)
        yield row + strip.start, column, length[there], feature[there]
