"""How many points a validation sample needs, and how many of them each class of the map gets."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Scheme = Literal["olofsson", "proportional", "equal"]

# Two points are the fewest that have a variance.
FEWEST = 2


@dataclass(frozen=True)
class Allocation:
    """Points of each stratum, (stratum,) int64, and in words why they are that many."""

    points: NDArray[np.int64]
    reasons: tuple[str, ...]


def sample_size(pixels: NDArray[np.int64], expected: NDArray[np.float64], standard_error: float) -> int:
    """Points that a proportional sample needs for overall accuracy to have a given standard error.

    n = (Σ W S)² / (V + Σ W S² / N), with S² = U (1 - U): Cochran (1977), equation 5.25, and equation 13 of Olofsson et
    al. (2014).

    Args:
        pixels: Pixels of each stratum.
        expected: The user's accuracy U that each is expected to have.
        standard_error: The square root of V, above 0.
    """
    weights = pixels / pixels.sum()
    spread = np.sqrt(expected * (1 - expected))
    wanted = standard_error**2 + float((weights * spread**2).sum()) / float(pixels.sum())
    return math.ceil(float((weights * spread).sum()) ** 2 / wanted)


def allocate(pixels: NDArray[np.int64], size: int, scheme: Scheme, minimum: int) -> Allocation:
    """Deal points out to strata.

    proportional: by the strata's shares of the map, which suits overall accuracy. equal: all alike, which suits user's
    accuracies. olofsson: strata whose proportional share is below `minimum` get `minimum` points and the rest is
    proportional, the compromise that Olofsson et al. (2014, section 5.1.2) recommend.

    Every stratum gets at least two points, or all of its pixels where it has fewer, even if the sample grows by that.

    Args:
        pixels: Pixels of each stratum, at least 1 each.
        size: Points in all.
        scheme: The rule.
        minimum: The fewest points of a stratum, for `olofsson`.
    """
    floor = np.minimum(pixels, max(minimum, FEWEST) if scheme == "olofsson" else FEWEST)
    fixed = floor >= pixels
    while True:
        points = np.where(fixed, floor, 0)
        points[~fixed] = _shared(pixels[~fixed], max(size - int(points.sum()), 0), scheme)
        high = points > pixels  # first: what these cannot take may lift others above their floor
        beyond = high if high.any() else points < floor
        if not beyond.any():
            break
        floor, fixed = np.where(high, pixels, floor), fixed | beyond
    share = np.asarray(pixels / pixels.sum())
    return Allocation(points, tuple(_reason(*row, scheme) for row in zip(points, pixels, share, fixed, strict=True)))


def _shared(pixels: NDArray[np.int64], size: int, scheme: Scheme) -> NDArray[np.int64]:
    """`size` points by pixels, or equally: whole numbers by largest remainder, so that they sum up."""
    weights = np.ones(len(pixels)) if scheme == "equal" else pixels.astype(np.float64)
    exact = size * weights / max(weights.sum(), 1)
    points: NDArray[np.int64] = np.floor(exact).astype(np.int64)
    missing = size - int(points.sum())
    points[np.argsort(points - exact, kind="stable")[:missing]] += 1
    return points


def _reason(points: int, pixels: int, share: float, fixed: bool, scheme: Scheme) -> str:  # noqa: FBT001 - one of a row
    if points == pixels:
        return "every pixel that it has"
    if fixed and scheme == "olofsson" and points > FEWEST:
        return "the least that a class gets"
    if fixed:
        return "two, the fewest that have a variance"
    return "the same for all" if scheme == "equal" else f"in proportion to its {share:.1%} of the map"
