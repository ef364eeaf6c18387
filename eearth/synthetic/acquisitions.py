"""When the satellites pass, what they see of the region, and how their products are processed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import numpy as np
import shapely
from shapely.geometry import Polygon, box

from eearth.errors import UsageError
from eearth.synthetic.landscape import PIXEL

FEWEST, MOST = 6, 140  # scenes a year: one before the offset and one of each kind after it; every pass of both orbits

# Sentinel-2's processing baselines by their first day in operation. Since 04.00 the DN carry +1000, so that noise over
# dark ground is not cut off at zero.
BASELINES = ((date(2022, 12, 6), "05.09"), (date(2022, 1, 25), "04.00"), (date(2021, 6, 30), "03.01"))
OLDEST_BASELINE = "03.00"
FIRST_WITH_OFFSET = "04.00"
LEFT_ALONE = 5  # one product in so many is one that the provider did not harmonise

# The two descending orbits that see the region: relative number, first day of the year, minute after 9:00 UTC.
ORBITS = ((79, 2, 58), (122, 5, 68))
REPEAT = 5  # days between two passes of one orbit, with both satellites
TRACK = math.radians(14.0)  # the swath's edge leans this much from north to the west, going south
KEPT = 0.62  # share of the region's width that the second orbit's swath covers at half height


@dataclass(frozen=True)
class Acquisition:
    """One scene before it is rendered.

    Attributes:
        index: Place in the year's series, from 0.
        time: Sensing time, UTC.
        orbit: Relative orbit number.
        platform: "sentinel-2a" or "sentinel-2b".
        baseline: Processing baseline.
        shifted: The DN still carry the +1000 of baseline 04.00.
        harmonised: The provider took the +1000 away (`earthsearch:boa_offset_applied`).
        cover: Share of the sky with clouds.
        haze: Remaining haze, as reflectance at the blue band.
        gain: Error of the radiometric calibration, as a factor.
        wetness: Factor on the brightness of bare soil.
        snow: Share of open ground under snow.
        edge: Columns at the upper left that the swath covers; None where it covers everything.
    """

    index: int
    time: datetime
    orbit: int
    platform: str
    baseline: str
    shifted: bool
    harmonised: bool
    cover: float
    haze: float
    gain: float
    wetness: float
    snow: float
    edge: float | None

    @property
    def day(self) -> int:
        """Day of the year, from 1."""
        return self.time.timetuple().tm_yday

    @property
    def hours(self) -> float:
        """Hours since the year began."""
        return (self.time - datetime(self.time.year, 1, 1, tzinfo=UTC)).total_seconds() / 3600

    def swath(self, side: float) -> Polygon:
        """What the sensor sees of a region of `side` metres; metres east and north of its lower left corner."""
        region = box(0, 0, side, side)
        if self.edge is None:
            return region
        top = self.edge * PIXEL
        west = Polygon([(-9 * side, side), (top, side), (top - side * math.tan(TRACK), 0), (-9 * side, 0)])
        return Polygon(shapely.get_coordinates(region.intersection(west)))


def schedule(scenes: int, *, size: int, seed: int, year: int) -> list[Acquisition]:
    """A year of passes, alternating between the two orbits, in order of time.

    Raises:
        UsageError: Too few scenes to hold every kind of product, or more than there are passes.
    """
    if not FEWEST <= scenes <= MOST:
        msg = f"expected {FEWEST} to {MOST} scenes, found {scenes}"
        raise UsageError(msg)
    rng = np.random.default_rng([seed, 7, year])
    # A central European year: a fifth of the scenes nearly clear, two fifths of the sky covered on average.
    covers = np.clip(1.2 * ((rng.permutation(scenes) + 0.5) / scenes) ** 1.6 - 0.1, 0, 1)
    passes = sorted((_pass_time(4 + 360 * nth / (scenes - 1), nth % 2, year), nth % 2) for nth in range(scenes))
    return [
        _acquisition(rng, index, time, orbit=orbit, cover=float(cover), size=size)
        for index, ((time, orbit), cover) in enumerate(zip(passes, covers, strict=True))
    ]


def _pass_time(target: float, orbit: int, year: int) -> datetime:
    """The pass of an orbit that is nearest to a day of the year."""
    _, first, minute = ORBITS[orbit]
    day = first + REPEAT * max(0, round((target - first) / REPEAT))
    return datetime(year, 1, 1, 9, tzinfo=UTC) + timedelta(days=day - 1, minutes=minute)


def _acquisition(
    rng: np.random.Generator, index: int, time: datetime, *, orbit: int, cover: float, size: int
) -> Acquisition:
    baseline = next((name for start, name in BASELINES if time.date() >= start), OLDEST_BASELINE)
    carries_offset = baseline >= FIRST_WITH_OFFSET
    shifted = carries_offset and index % LEFT_ALONE == 1
    half_height = KEPT * size + rng.normal(0, 1.5)
    return Acquisition(
        index=index,
        time=time,
        orbit=ORBITS[orbit][0],
        platform=("sentinel-2a", "sentinel-2b")[time.timetuple().tm_yday // REPEAT % 2],
        baseline=baseline,
        shifted=shifted,
        harmonised=carries_offset and not shifted,
        cover=cover,
        haze=float(rng.gamma(2.0, 0.006)),
        gain=float(rng.normal(1, 0.03)),
        wetness=float(rng.uniform(0.7, 1.05)),
        snow=_snow(time),
        edge=half_height + size / 2 * math.tan(TRACK) if orbit else None,
    )


def _snow(time: datetime) -> float:
    """Ten days of snow in the middle of December."""
    start = date(time.year, 12, 9)
    return 0.8 if start <= time.date() < start + timedelta(days=10) else 0.0
