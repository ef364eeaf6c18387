"""Intervals of accuracy measures by drawing whole groups of pixels again."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student

from eearth.accuracy.intervals import Interval, wilson
from eearth.metrics import Measures, measures

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

# Bootstrap samples that are summed up at the same time.
CHUNK = 256

# A measure that rests on fewer groups has no interval: two are the fewest that can differ.
FEWEST_GROUPS = 2


@dataclass(frozen=True)
class MeasuredGroups:
    """The measures of a sum of confusion matrices with their intervals; lists have one entry a class.

    Attributes:
        overall_accuracy, mean_iou: Of all classes.
        iou, f1, producers_accuracy, users_accuracy: Of each class.
    """

    overall_accuracy: Interval
    mean_iou: Interval
    iou: tuple[Interval, ...]
    f1: tuple[Interval, ...]
    producers_accuracy: tuple[Interval, ...]
    users_accuracy: tuple[Interval, ...]


def group_confusions(
    reference: NDArray[np.int64], mapped: NDArray[np.int64], groups: NDArray[np.int64], classes: int
) -> NDArray[np.int64]:
    """Confusion matrices of groups of pixels, (group, K, K + 1), row = reference.

    Args:
        reference: (pixel,) positions of classes, 0..K − 1.
        mapped: (pixel,) positions of classes; K = no data.
        groups: (pixel,) any numbers; pixels of one number belong together.
        classes: K.
    """
    numbers, own = np.unique(groups, return_inverse=True)
    shape = (numbers.size, classes, classes + 1)
    place = np.ravel_multi_index((own, reference, mapped), shape)
    return np.bincount(place, minlength=int(np.prod(shape))).reshape(shape)


def bootstrap(confusions: NDArray[np.int64], *, replicates: int, seed: int) -> MeasuredGroups:
    """The measures of all groups together, with 95 % intervals from drawing groups with replacement.

    Expanded percentile intervals (Hesterberg 2015, The American Statistician 69:371, 4.5): two percentiles of the
    measure over samples of as many groups as there are; the 2.5th and 97.5th for many groups, and for few those farther
    out that Student's distribution asks for. Pixels of one field or block are alike; drawn one by one they would
    promise far narrower intervals. Samples in which a measure has no value, because they miss the class, do not count.
    Where not one pixel was ever wrong (or right) all samples are the same; the interval is then Wilson's for as many
    trials as there are groups.

    Args:
        confusions: (group, K, K + 1).
        replicates: How many samples.
        seed: Of the draw.

    Returns:
        Intervals that are NaN where fewer than two groups hold what the measure is a share of.
    """
    random = np.random.default_rng(seed)
    groups, flat = len(confusions), confusions.reshape(len(confusions), -1)
    parts = []
    for start in range(0, replicates, CHUNK):
        count = min(CHUNK, replicates - start)
        times = random.multinomial(groups, np.full(groups, 1 / groups), size=count)
        parts.append(measures((times @ flat).reshape(count, *confusions.shape[1:])))
    found, held = measures(confusions.sum(axis=0)), _groups_behind(confusions)

    def one(name: str) -> Interval:
        return _interval(float(getattr(found, name)), _joined(parts, name), int(held[name]))

    def each(name: str) -> tuple[Interval, ...]:
        columns = zip(getattr(found, name), _joined(parts, name).T, held[name], strict=True)
        return tuple(_interval(float(estimate), samples, int(count)) for estimate, samples, count in columns)

    return MeasuredGroups(
        overall_accuracy=one("overall_accuracy"),
        mean_iou=one("mean_iou"),
        iou=each("iou"),
        f1=each("f1"),
        producers_accuracy=each("producers_accuracy"),
        users_accuracy=each("users_accuracy"),
    )


def _joined(parts: Sequence[Measures], name: str) -> NDArray[np.float64]:
    return np.concatenate([getattr(part, name) for part in parts])


def _groups_behind(confusions: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    """In how many groups each measure's denominator has pixels."""
    support, mapped = confusions.sum(axis=2) > 0, confusions[:, :, :-1].sum(axis=1) > 0
    either = (support | mapped).sum(axis=0)
    everywhere = np.asarray(support.any(axis=1).sum())
    of_class = {"producers_accuracy": support.sum(axis=0), "users_accuracy": mapped.sum(axis=0)}
    return {"overall_accuracy": everywhere, "mean_iou": everywhere, "iou": either, "f1": either, **of_class}


def _interval(estimate: float, samples: NDArray[np.float64], held: int) -> Interval:
    there = samples[~np.isnan(samples)]
    if np.isnan(estimate) or held < FEWEST_GROUPS or not there.size:
        return Interval(estimate, np.nan, np.nan)
    if estimate in (0, 1) and (there == estimate).all():  # as if the groups were so many trials without a failure
        return Interval(estimate, *wilson(estimate, 0.5, 0.25 / held))
    tail = _tail(held)
    low, high = np.quantile(there, (tail, 1 - tail))
    return Interval(estimate, float(low), float(high))


@cache
def _tail(groups: int) -> float:
    """The share of the bootstrap samples to leave out at each end: 0.025 for many groups, less for few."""
    wider = student.ppf(0.975, groups - 1) * math.sqrt(groups / (groups - 1))
    return float(norm.cdf(-wider))
