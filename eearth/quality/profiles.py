"""What the imagery shows of some pixels of each labelled feature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from eearth.data.medians import monthly_medians
from eearth.quality.looking import MOST_VALUES, affordable

if TYPE_CHECKING:
    from eearth.data.series import Series
    from eearth.geo.grid import Window
    from eearth.geo.splits.footprints import Footprints

PIXELS_PER_FEATURE = 8  # enough to tell a field from its mixed edge
MOST_FEATURES = 4000  # some seconds
FEWEST_OF_A_CLASS = 50  # features, where it has so many: a rare class is not crowded out


@dataclass(frozen=True)
class Profiles:
    """Clear monthly medians of pixels, and the features that these belong to.

    Attributes:
        medians: (pixel, month * band).
        feature: (pixel,) position of each pixel's feature in `number`.
        number: (feature,) its number in the file, rising.
        code: (feature,) the class that it is labelled as.
    """

    medians: NDArray[np.float32]
    feature: NDArray[np.int64]
    number: NDArray[np.int64]
    code: NDArray[np.uint8]


def profiles_of(series: Series, looked_at: list[Window], footprints: Footprints, seed: int) -> Profiles:
    """Draw features, and pixels of each, and read what was seen of them; pixels that were never seen are left out.

    Args:
        series: The imagery.
        looked_at: Squares in the order in which to look at them; the first ones, as far as time allows, are.
        footprints: The labelled features.
        seed: Of the draw.
    """
    rng = np.random.default_rng(seed)
    shown = affordable(looked_at, series.reflectance.shape[0] * series.reflectance.shape[1], MOST_VALUES)
    place = _drawn(footprints, shown, rng)
    seen = np.zeros(footprints.raster.shape, dtype=bool)
    seen.flat[place] = True
    for square in shown:
        rows, columns = square.slices
        seen[square.slices] &= np.asarray(series.valid[:, rows, columns], dtype=bool).any(axis=0)
    if not seen.any():
        nothing = np.zeros(0, np.int64)
        return Profiles(np.zeros((0, 0), np.float32), nothing, nothing, np.zeros(0, np.uint8))
    number, feature = np.unique(footprints.raster[seen], return_inverse=True)
    return Profiles(monthly_medians(series, seen), feature, number.astype(np.int64), footprints.code[number])


def _drawn(footprints: Footprints, shown: list[Window], rng: np.random.Generator) -> NDArray[np.int64]:
    """Places (row * width + column) of some pixels of some features."""
    wanted = np.zeros(footprints.code.size, dtype=bool)
    for square in shown:
        wanted[footprints.raster[square.slices]] = True
    chosen = _chosen(np.flatnonzero(wanted[1:]) + 1, footprints.code, rng)
    wanted[:] = False
    wanted[chosen] = True  # their pixels alone: all of a large region would take gigabytes
    place: NDArray[np.int64] = rng.permutation(
        np.concatenate([_places(footprints.raster, square, wanted) for square in shown])
    )
    feature = footprints.raster.ravel()[place]
    order = np.argsort(feature, kind="stable")
    place, feature = place[order], feature[order]
    rank = np.arange(feature.size) - np.searchsorted(feature, feature)
    return place[rank < PIXELS_PER_FEATURE]


def _places(raster: NDArray[np.uint32], square: Window, wanted: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The pixels of a square that belong to features that are wanted."""
    rows, columns = np.nonzero(wanted[raster[square.slices]])
    return np.asarray((rows + square.row) * raster.shape[1] + columns + square.col)


def _chosen(features: NDArray[np.int64], code: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.int64]:
    """At most `MOST_FEATURES`: some of each class, the rest at random."""
    if features.size <= MOST_FEATURES:
        return features
    features = rng.permutation(features)
    own = code[features]
    some = [features[own == each][:FEWEST_OF_A_CLASS] for each in np.unique(own)]
    return np.array(list(dict.fromkeys(np.concatenate([*some, features]).tolist()))[:MOST_FEATURES], np.int64)
