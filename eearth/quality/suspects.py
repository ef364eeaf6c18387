"""Labels whose spectral-temporal profile disagrees with their class, found by confident learning.

Northcutt, Jiang & Chuang (2021), Confident Learning: Estimating Uncertainty in Dataset Labels, JAIR 70: a label is
suspect if a classifier that has not seen it gives another class at least the probability that features labelled so get
for it on average. The classifier has not seen anything near it either, or neighbours of one field would vouch for each
other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eearth.classifiers import discriminant
from eearth.geo.distance import pixel_sides
from eearth.geo.splits.blocks import gather
from eearth.geo.splits.folds import deal_folds
from eearth.geo.splits.split import laid_out

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from eearth.geo.grid import Grid
    from eearth.geo.splits.footprints import Footprints
    from eearth.quality.profiles import Profiles

FOLDS = 5
FEWEST_FEATURES = 10  # below which nothing can be said
# Of the other class. Lower ones find no more planted errors, and more where classes are hard to tell apart anyway.
LEAST_CONFIDENCE = 0.7


@dataclass(frozen=True)
class Suspect:
    """A feature that looks like another class.

    Attributes:
        feature: Its number in the file.
        code: The class that it is labelled as.
        looks_like: The class that it looks like.
        confidence: Probability of that class, the mean over its pixels.
    """

    feature: int
    code: int
    looks_like: int
    confidence: float


def find_suspects(
    profiles: Profiles, labels: NDArray[np.uint8], footprints: Footprints, grid: Grid, seed: int
) -> tuple[Suspect, ...]:
    """Find features that look like another class, the clearest cases first.

    Args:
        profiles: What was seen of them.
        labels: (y, x) class codes.
        footprints: The features on the grid.
        grid: The grid of `labels`.
        seed: Of the folds.

    Returns:
        The suspects; none where fewer than two classes, or hardly a feature, were seen.
    """
    if profiles.number.size < FEWEST_FEATURES or np.unique(profiles.code).size < 2:  # noqa: PLR2004
        return ()
    fold = _folds(labels, footprints, grid, seed)[profiles.number]
    classes = np.unique(profiles.code)
    likely = out_of_fold(profiles, classes, fold)
    given = np.searchsorted(classes, profiles.code)
    looks_like, confidence = disagreeing(likely, given)
    found = np.flatnonzero((looks_like != given) & (confidence > LEAST_CONFIDENCE))
    return tuple(
        Suspect(
            int(profiles.number[at]),
            int(profiles.code[at]),
            int(classes[looks_like[at]]),
            round(float(confidence[at]), 4),
        )
        for at in found[np.argsort(-confidence[found], kind="stable")]
    )


def _folds(labels: NDArray[np.uint8], footprints: Footprints, grid: Grid, seed: int) -> NDArray[np.int64]:
    """(feature + 1,) the fold of each, from 1: features of a block are in one fold."""
    squares, _ = laid_out(labels, pixel_sides(grid), None, None)
    blocks = gather(labels, squares, footprints, footprints.pixels > 0)
    if blocks.homes is None or blocks.numbers.size < FOLDS:
        return np.arange(footprints.pixels.size) % FOLDS + 1
    of_block = np.zeros(int(blocks.numbers[-1]) + 1, np.int64)
    of_block[blocks.numbers] = deal_folds(blocks, FOLDS, seed)
    return np.where(blocks.homes >= 0, of_block[blocks.homes], 0)


def out_of_fold(profiles: Profiles, classes: NDArray[np.uint8], fold: NDArray[np.int64]) -> NDArray[np.float64]:
    """Probability of each class, (feature, class), from a classifier that saw none of the feature's fold.

    Args:
        profiles: What was seen.
        classes: The classes, rising.
        fold: (feature,) the fold of each.
    """
    code, pixel_fold = profiles.code[profiles.feature], fold[profiles.feature]
    sums = np.zeros((fold.size, classes.size))
    for each in np.unique(fold):
        learnt, asked = pixel_fold != each, pixel_fold == each
        counts = np.bincount(code[learnt], minlength=256)
        learnt &= counts[code] > 1
        known = np.unique(code[learnt])
        if known.size > 1:
            place = np.searchsorted(classes, known)
            found = discriminant(profiles.medians[learnt], code[learnt])(profiles.medians[asked])
            np.add.at(sums, (profiles.feature[asked][:, None], place), found)
    return sums / np.bincount(profiles.feature, minlength=fold.size)[:, None]


def disagreeing(likely: NDArray[np.float64], given: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The class that each feature confidently looks like (its own where there is none), and how likely that is.

    Args:
        likely: (feature, class) out-of-fold probabilities.
        given: (feature,) position of the class that each is labelled as.
    """
    rows = np.arange(given.size)
    own = likely[rows, given]
    number = np.bincount(given, minlength=likely.shape[1])
    usual = np.bincount(given, own, likely.shape[1]) / np.maximum(number, 1)
    confident = np.where(likely >= np.maximum(usual, np.finfo(float).tiny), likely, 0)
    looks_like = np.where(confident.any(axis=1), confident.argmax(axis=1), given)
    return looks_like, likely[rows, looks_like]
