"""Accuracy and area from a stratified random sample whose strata are the classes of the map.

The estimators are those of Olofsson et al. (2014, Remote Sensing of Environment 148:42-57, equations 1 to 11). They are
written here as one: every measure is a ratio of two totals, and its variance is that of the sample mean of a number z
in each stratum (Cochran 1977, Sampling Techniques, 5.6 and 6.11; Stehman 2014, International Journal of Remote Sensing
35:4923), which for these measures gives the same formulas.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from eearth.accuracy.intervals import Interval, wald, wilson

if TYPE_CHECKING:
    from collections.abc import Sequence

Method = Literal["wilson", "wald"]

NOTHING = Interval(np.nan, np.nan, np.nan)

# Points added to what was seen and to what was not, before a variance is computed for Wilson's interval: a confusion
# that is absent from the sample may exist. Of 0, 1/4, 1/2 a quarter kept the coverage nearest to 95 % in
# benchmarks/interval_coverage.py.
UNSEEN = 0.25


@dataclass(frozen=True)
class StratifiedSample:
    """A labelled sample, summed up.

    Attributes:
        codes: The K classes of map and reference together.
        counts: Labelled points, (K, K) int64, row = mapped class (stratum), column = reference class.
        shares: Share of each reference class in its stratum, (K, K) float64; equal to counts / points where all pixels
            have one size, else weighted by the pixels' areas. NaN in rows without points.
        squares: What a variance takes instead of shares, (K, K) float64; equal to them where all pixels have one size,
            else points x sum of the cell's squared areas / squared sum of the stratum's areas.
        pixels: Pixels of each stratum in the map, (K,) int64; 0 for a class that the map lacks.
        areas: Their area, (K,) float64, in any unit.
        distinct: Different pixels among the points of each stratum, (K,) int64.
    """

    codes: tuple[int, ...]
    counts: NDArray[np.int64]
    shares: NDArray[np.float64]
    squares: NDArray[np.float64]
    pixels: NDArray[np.int64]
    areas: NDArray[np.float64]
    distinct: NDArray[np.int64]

    @classmethod
    def of_counts(cls, codes: Sequence[int], counts: NDArray[np.int64], pixels: NDArray[np.int64]) -> StratifiedSample:
        """A sample from a map whose pixels all have one size and no two points; areas are in pixels."""
        points = counts.sum(axis=1)
        shares = counts / np.where(points > 0, points, np.nan)[:, None]
        return cls(tuple(codes), counts, shares, shares, pixels, pixels.astype(np.float64), points)

    @classmethod
    def of_points(
        cls,
        codes: Sequence[int],
        mapped: NDArray[np.int64],
        reference: NDArray[np.int64],
        sizes: NDArray[np.float64],
        strata: tuple[NDArray[np.int64], NDArray[np.float64]],
        *,
        places: NDArray[np.int64],
    ) -> StratifiedSample:
        """Sum up labelled points.

        Args:
            codes: The K classes.
            mapped: (point,) position of the mapped class in `codes`.
            reference: (point,) position of the reference class.
            sizes: (point,) area of the point's pixel.
            strata: Pixels and area of each class in the map, (K,) each.
            places: (point,) number of the point's pixel; two points may lie in one.
        """
        counts = np.zeros((len(codes), len(codes)), dtype=np.int64)
        np.add.at(counts, (mapped, reference), 1)
        distinct = np.bincount(mapped[np.unique(places, return_index=True)[1]], minlength=len(codes))
        return cls(tuple(codes), counts, *area_shares(mapped, reference, sizes, counts.shape), *strata, distinct)

    @property
    def points(self) -> NDArray[np.int64]:
        """Labelled points of each stratum, (K,)."""
        points: NDArray[np.int64] = self.counts.sum(axis=1)
        return points


def area_shares(
    strata: NDArray[np.int64], cells: NDArray[np.int64], sizes: NDArray[np.float64], shape: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """`shares` and `squares` of points: see `StratifiedSample`.

    Args:
        strata: (point,) positions of their strata.
        cells: (point,) positions of their cells within the stratum.
        sizes: (point,) areas of their pixels.
        shape: (strata, cells).
    """
    weights, squares = np.zeros(shape), np.zeros(shape)
    np.add.at(weights, (strata, cells), sizes)
    np.add.at(squares, (strata, cells), sizes**2)
    points = np.bincount(strata, minlength=shape[0])[:, None]
    whole = np.where(points > 0, weights.sum(axis=1, keepdims=True), np.nan)
    return weights / whole, points * squares / whole**2


@dataclass(frozen=True)
class Strata:
    """What the formulas need to know of the strata.

    Attributes:
        weights: Share of each stratum in the area, (stratum,).
        shares: Share of each kind of point in its stratum, (stratum, cell).
        squares: See `StratifiedSample`, (stratum, cell).
        points: Number of points, (stratum,).
        complete: Whether every pixel of the stratum is in the sample, and once, (stratum,).
    """

    weights: NDArray[np.float64]
    shares: NDArray[np.float64]
    squares: NDArray[np.float64]
    points: NDArray[np.int64]
    complete: NDArray[np.bool_]

    @classmethod
    def of(cls, sample: StratifiedSample, shares: NDArray[np.float64], squares: NDArray[np.float64]) -> Strata:
        """The strata of a sample, its points sorted into cells in some way."""
        weights = sample.areas / sample.areas.sum()
        complete = (sample.pixels == sample.points) & (sample.pixels == sample.distinct)
        return cls(weights, np.nan_to_num(shares), np.nan_to_num(squares), sample.points, complete)

    @property
    def freedom(self) -> NDArray[np.float64]:
        """What a stratum's spread is divided by: points - 1; NaN for a single point, infinite for all pixels."""
        left = np.where(self.points > 1, self.points - 1, np.nan)
        return np.where(self.complete, np.inf, left)

    def spread(self, z: NDArray[np.float64], unequal: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mean square of z about its mean in each stratum, points weighted by the area of their pixels.

        Args:
            z: (stratum, cell), a number for each kind of point.
            unequal: (stratum,) sum of `squares` before any shrinking: 1 where all pixels have one size.
        """
        mean = (self.shares * z).sum(axis=1)
        squared = (self.squares * z**2).sum(axis=1) - 2 * mean * (self.squares * z).sum(axis=1) + mean**2 * unequal
        return np.asarray(squared.clip(min=0))  # rounding

    def shrunk(self, added: float) -> Strata:
        """The same with `added` points more in each cell, of 2 x `UNSEEN` more in the stratum."""
        points, kept = self.points[:, None], self.complete[:, None]
        unequal = self.squares.sum(axis=1, keepdims=True)
        shares = (points * self.shares + added) / (points + 2 * UNSEEN)
        squares = (points * self.squares + added * unequal) / (points + 2 * UNSEEN)
        shares, squares = np.where(kept, self.shares, shares), np.where(kept, self.squares, squares)
        return replace(self, shares=shares, squares=squares)


@dataclass(frozen=True)
class StratifiedAccuracy:
    """What a stratified sample says of a map; lists are in the order of `codes`.

    Attributes:
        codes: The K classes.
        proportions: Estimated share of the area in each cell of the confusion matrix, (K, K), row = mapped class.
        overall_accuracy: Share of the area that is mapped right.
        users_accuracy: Of what is mapped as the class, the share that is the class; NaN if nothing is mapped so.
        producers_accuracy: Of the class, the share that is mapped as such; NaN if the sample never met the class.
        area_shares: Share of the area that is the class.
    """

    codes: tuple[int, ...]
    proportions: NDArray[np.float64]
    overall_accuracy: Interval
    users_accuracy: tuple[Interval, ...]
    producers_accuracy: tuple[Interval, ...]
    area_shares: tuple[Interval, ...]


def assess(sample: StratifiedSample, method: Method = "wilson") -> StratifiedAccuracy:
    """Estimate accuracy and area, with 95 % intervals.

    A stratum with a single point has no variance, and neither has what depends on it: such intervals are NaN. A stratum
    of which every pixel is in the sample adds none. Otherwise it is not made use of that the sample is a share of the
    stratum (as in the published formulas), so that intervals are too wide on maps of a few thousand pixels.

    Args:
        sample: The labelled sample; every stratum that the map has holds a point.
        method: wald: estimate ± 1.96 standard errors, as published. wilson: the same estimates and standard errors with
            Wilson's interval, which holds for few points and for shares near 1.

    Raises:
        ValueError: A stratum of the map has no point.
    """
    empty = (sample.pixels > 0) & (sample.points == 0)
    if empty.any():
        msg = f"expected a point in each stratum, found none in {[sample.codes[k] for k in np.flatnonzero(empty)]}"
        raise ValueError(msg)
    strata = Strata.of(sample, sample.shares, sample.squares)
    weights = strata.weights
    right = np.eye(len(weights))
    columns = right[:, None, :].repeat(len(weights), axis=1)  # of class k: 1 in the cells with that reference class
    return StratifiedAccuracy(
        codes=sample.codes,
        proportions=weights[:, None] * strata.shares,
        overall_accuracy=ratio(strata, right, None, method),
        users_accuracy=tuple(
            ratio(replace(strata, weights=right[k]), np.diag(right[k]), None, method) if weights[k] > 0 else NOTHING
            for k in range(len(weights))
        ),
        producers_accuracy=tuple(ratio(strata, columns[k] * right, columns[k], method) for k in range(len(weights))),
        area_shares=tuple(ratio(strata, columns[k], None, method) for k in range(len(weights))),
    )


def ratio(
    strata: Strata, top: NDArray[np.float64], bottom: NDArray[np.float64] | None, method: Method = "wilson"
) -> Interval:
    """One share of the map, or of a part of it, with its interval.

    Args:
        strata: The strata and what the sample found in them.
        top: (stratum, cell), 1 in the cells that count.
        bottom: (stratum, cell), 1 in the cells of the part; None = all of them.
        method: See `assess`.
    """
    unequal = strata.squares.sum(axis=1)
    estimate, variance = _linearised(strata, top, bottom, unequal)
    error = float(np.sqrt(variance))
    if np.isnan(estimate) or not (top * strata.weights[:, None]).any():  # the map never shows the class: 0, and known
        return Interval(estimate, estimate, estimate, error)
    if method == "wald":
        return Interval(estimate, *wald(estimate, variance), error)
    # A quarter of a point in one class's cell of each of many strata makes up most of a rare class, and its producer's
    # accuracy is then mostly invented. The same points shared among all cells invent less; the wider interval holds.
    added = [UNSEEN] if bottom is None else [UNSEEN, 2 * UNSEEN / top.shape[1]]
    ends = [wilson(estimate, *_linearised(strata.shrunk(each), top, bottom, unequal)) for each in added]
    return Interval(estimate, min(low for low, _ in ends), max(high for _, high in ends), error)


def _linearised(
    strata: Strata, top: NDArray[np.float64], bottom: NDArray[np.float64] | None, unequal: NDArray[np.float64]
) -> tuple[float, float]:
    """(ratio, its variance): that of the total of z = top - ratio x bottom, over the square of the bottom's total."""
    cells = strata.weights[:, None] * strata.shares
    whole = 1.0 if bottom is None else float((cells * bottom).sum())
    if whole == 0:
        return np.nan, np.nan
    share = float((cells * top).sum()) / whole
    z = top if bottom is None else top - share * bottom
    involved = (strata.weights > 0) & (z != 0).any(axis=1)
    variance = strata.weights**2 * strata.spread(z, unequal) / strata.freedom
    return share, float(variance[involved].sum()) / whole**2
