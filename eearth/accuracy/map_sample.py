"""A labelled sample and what is known of the map → what the sample says of the map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from eearth.accuracy.intervals import Interval
from eearth.accuracy.stratified import (
    Method,
    Strata,
    StratifiedAccuracy,
    StratifiedSample,
    area_shares,
    assess,
    ratio,
)
from eearth.config import listed
from eearth.errors import LabelError

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class SampledClass:
    """A class of the map or of the reference; area and pixels are 0 where the map lacks it."""

    code: int
    name: str
    colour: str
    pixels: int
    area_km2: float


@dataclass(frozen=True)
class SampledPoints:
    """The labelled points; arrays are (point,).

    Attributes:
        mapped: Class codes of the map.
        reference: Class codes of the reference; −1 = not labelled.
        sizes: Areas of their pixels, in any unit.
        places: Numbers of their pixels; equal for points in one pixel.
        near_training: Whether the model has learnt there, or beside.
    """

    mapped: NDArray[np.int64]
    reference: NDArray[np.int64]
    sizes: NDArray[np.float64]
    places: NDArray[np.int64]
    near_training: NDArray[np.bool_]


@dataclass(frozen=True)
class MapAccuracy:
    """What a probability sample says of a map.

    Attributes:
        classes: The K classes.
        sample: The sample, summed up.
        accuracy: The estimates.
        away: Overall accuracy away from where the model has learnt, and the points there; None where that is known of
            no point.
        flags: What a reader has to know.
    """

    classes: tuple[SampledClass, ...]
    sample: StratifiedSample
    accuracy: StratifiedAccuracy
    away: tuple[Interval, int] | None
    flags: tuple[str, ...]


def assess_sample(
    classes: Sequence[SampledClass], points: SampledPoints, method: Method, flags: Sequence[str] = ()
) -> MapAccuracy:
    """Estimate accuracy and areas.

    Args:
        classes: All classes of map and reference, with their pixels in the map.
        points: The sample.
        method: Of the intervals, see `stratified.assess`.
        flags: What is known already.

    Raises:
        LabelError: No point is labelled, or none in a class of the map.
    """
    labelled = points.reference >= 0
    if not labelled.any():
        msg = f"expected points with a reference, found all {labelled.size} unlabelled: fill in the column"
        raise LabelError(msg)
    codes = np.array([entry.code for entry in classes])
    order = np.argsort(codes)
    mapped, reference = (
        order[np.searchsorted(codes, values[labelled], sorter=order)] for values in (points.mapped, points.reference)
    )
    known = np.array([entry.pixels for entry in classes]), np.array([entry.area_km2 for entry in classes])
    sizes, places = points.sizes[labelled], points.places[labelled]
    sample = StratifiedSample.of_points(codes.tolist(), mapped, reference, sizes, known, places=places)
    _refuse_missing(classes, sample, points)
    near = points.near_training[labelled]
    kinds = np.where(near, 2, (mapped != reference).astype(np.int64))  # right, wrong, beside what was learnt from
    away = _away(sample, mapped, kinds, sizes, method) if near.any() else None
    told = [*flags, *_unlabelled(points, classes), *_single(classes, sample), *_lacking(classes, sample)]
    if near.any():
        told.append(
            f"{int(near.sum())} of {near.size} points lie in or beside labels that the model learnt from: the map may "
            "be better there; see the overall accuracy away from training labels"
        )
    return MapAccuracy(tuple(classes), sample, assess(sample, method), away, tuple(told))


def _refuse_missing(classes: Sequence[SampledClass], sample: StratifiedSample, points: SampledPoints) -> None:
    missing = [entry for entry, count in zip(classes, sample.points, strict=True) if entry.pixels and not count]
    if not missing:
        return
    # Points of one's choice in a class that a random sample has missed would make it no random sample.
    never = [entry for entry in missing if not (points.mapped == entry.code).any()]
    names = listed([entry.name for entry in never or missing])
    found, advice = ("none", "label those that lie there")
    if never:
        found = "no point at all"
        advice = (
            "add none by hand, that is not random, but draw a sample with `eearth sample`: it has some in every class"
        )
    msg = (
        f"expected labelled points in every class of the map, found {found} in {names}: the share of the map that "
        f"they cover would stay unknown; {advice}"
    )
    raise LabelError(msg)


def _unlabelled(points: SampledPoints, classes: Sequence[SampledClass]) -> list[str]:
    without = points.reference < 0
    if not without.any():
        return []
    names = {entry.code: entry.name for entry in classes}
    found, counts = np.unique(points.mapped[without], return_counts=True)
    where = ", ".join(f"{count} in {names[code]}" for code, count in zip(found.tolist(), counts.tolist(), strict=True))
    count = f"{int(without.sum())} of {without.size} points have no reference ({where})"
    return [f"{count}: the estimates hold if these are like the others of their class"]


def _single(classes: Sequence[SampledClass], sample: StratifiedSample) -> list[str]:
    lonely = [
        entry.name for entry, points in zip(classes, sample.points, strict=True) if points == 1 and entry.pixels > 1
    ]
    if not lonely:
        return []
    return [f"a single labelled point in {listed(lonely)}: a variance takes two, what depends on it has no interval"]


def _lacking(classes: Sequence[SampledClass], sample: StratifiedSample) -> list[str]:
    met = sample.counts.sum(axis=0)
    return [
        f"the map does not show {entry.name}, the reference does at {count} points: its area is estimated from these"
        for entry, count in zip(classes, met.tolist(), strict=True)
        if count and not entry.pixels
    ]


def _away(
    sample: StratifiedSample,
    mapped: NDArray[np.int64],
    kinds: NDArray[np.int64],
    sizes: NDArray[np.float64],
    method: Method,
) -> tuple[Interval, int]:
    """Overall accuracy of the part of the map where the model has not learnt, and the points there.

    The size of that part is itself estimated from the sample (a domain: Cochran 1977, 5A.14).
    """
    strata = Strata.of(sample, *area_shares(mapped, kinds, sizes, (len(sample.codes), 3)))
    right, away = (np.tile(row, (len(sample.codes), 1)) for row in ([1.0, 0, 0], [1.0, 1, 0]))
    return ratio(strata, right, away, method), int((kinds < 2).sum())  # noqa: PLR2004 - the kind of what lies beside
