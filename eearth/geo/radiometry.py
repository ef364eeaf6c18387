"""Whether an item's numbers still hold the 1000 that ESA adds since baseline 04.00, decided once and with a reason.

Providers pass ESA's numbers on, or take the 1000 off again, and some say the wrong thing about it. Who is believed is
the provider's `offset_rule`:

* `announced`: the item's metadata, or the offset of the provider's table.
* `sentinel-2-baseline`: the processing baseline; the numbers are known to be as ESA published them.
* `sentinel-2`: the flag `earthsearch:boa_offset_applied` and an announced offset; where they are silent or deny, the
  pixels.
* `earth-search`: as `sentinel-2`, but every item announces an offset, so that alone means nothing.
"""

from __future__ import annotations

import math
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import median
from typing import TYPE_CHECKING

import pystac

from eearth.geo.providers import QUANTIFICATION, Provider, Source, announced, baseline_of, is_sentinel_2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

# Since processing baseline 04.00 (25 January 2022) ESA adds 1000 to every Level-2A number (Sentinel-2 Products
# Specification Document 14.9): reflectance = (DN - 1000) / 10000.
OFFSET_BASELINE = 4.0
OFFSET_SINCE = "2022-01-25"
BOA_OFFSET = -0.1

# With the 1000 in it, no number lies far below 1000: a first percentile below this shows that it is gone.
OFFSET_SHOWS_FROM_DN = 900
# Of the same ground at another date, the first percentile differs by less than half of the 1000, but for haze and snow.
HALF_DN = 500
# A flag that says "applied" is only overruled where a scene lies this far above the others ...
LEAST_STEP_DN, MOST_STEP_DN = 700, 1300
# ... and there are so many others.
FEWEST_OTHERS = 3
# Scenes whose metadata leave no doubt are asked only for comparison, and of each tile only so many.
MOST_WITNESSES = 5

YEAR_DAYS = 365

FLAG = "earthsearch:boa_offset_applied"


@dataclass(frozen=True)
class Radiometry:
    """How an item's numbers are read, and why.

    Attributes:
        offset: Offset to add to DN x scale; None: as each band announces.
        reason: One sentence for the manifest.
        tested: The pixels decided, for the metadata did not.
    """

    offset: float | None
    reason: str
    tested: bool = False

    def apply(self, source: Source) -> Source:
        """The source with the decided offset."""
        return source if self.offset is None else replace(source, offset=self.offset)


@dataclass(frozen=True)
class Case:
    """One item to decide.

    Attributes:
        item: The item.
        announced: One of its bands, as `band_source` describes it.
        provider: Whose item it is.
    """

    item: pystac.Item
    announced: Source
    provider: Provider

    @cached_property
    def tile(self) -> str:
        """The ground that it shows: scenes are only compared with others of their tile."""
        properties = self.item.properties
        return str(properties.get("grid:code") or properties.get("s2:mgrs_tile") or "")

    @cached_property
    def settled(self) -> Radiometry | None:
        """What the metadata decide; None where the pixels have to."""
        if self.provider.offset is not None or self.provider.offset_rule == "announced" or not self._is_doubtful:
            return Radiometry(None, f"offset {self.announced.offset:g} as announced")
        baseline = baseline_of(self.item)
        if baseline is not None and baseline < OFFSET_BASELINE:
            return Radiometry(0.0, f"no offset before baseline 04.00 (this is {baseline:05.2f})")
        if baseline is not None and self.provider.offset_rule == "sentinel-2-baseline":
            return Radiometry(BOA_OFFSET, f"offset {BOA_OFFSET} by baseline {baseline:05.2f}")
        if self.flag is True and self.announced.offset == 0:
            return Radiometry(0.0, APPLIED)
        return None

    @cached_property
    def flag(self) -> bool | None:
        """What `earthsearch:boa_offset_applied` says."""
        found: bool | None = self.item.properties.get(FLAG)
        return found

    @cached_property
    def _is_doubtful(self) -> bool:
        """Whether the announced offset alone is not to be believed."""
        if self.flag is not None:
            return True
        if baseline_of(self.item) is None:
            says = any("offset" in announced(asset) for asset in self.item.assets.values())
            return self.is_sentinel_2 and not (says and self.provider.offset_rule != "earth-search")
        before = (baseline_of(self.item) or 0.0) < OFFSET_BASELINE
        return before or self.announced.offset == 0 or self.provider.offset_rule != "sentinel-2"

    @cached_property
    def is_sentinel_2(self) -> bool:
        """Whether the numbers are those of Sentinel-2, ten-thousandths of reflectance."""
        return is_sentinel_2(self.item) and self.announced.scale == QUANTIFICATION

    @cached_property
    def added(self) -> float:
        """DN by which the numbers lie above ten-thousandths of reflectance, as far as the metadata settle it."""
        offset = self.settled.apply(self.announced).offset if self.settled else 0.0
        return -offset / QUANTIFICATION

    @cached_property
    def day_of_year(self) -> int:
        """Day of the year, from 1; 0 for an item without a moment."""
        return self.item.datetime.timetuple().tm_yday if self.item.datetime else 0

    @cached_property
    def presumed(self) -> float:
        """The offset that is likelier where the pixels do not tell either."""
        if self.flag is True:
            return 0.0
        if baseline_of(self.item) is None and str(self.item.datetime or "") < OFFSET_SINCE:
            return 0.0
        return BOA_OFFSET


APPLIED = f"offset already in the numbers ({FLAG})"


def decide_offsets(
    cases: Sequence[Case],
    percentile: Callable[[int], float | None],
    *,
    witness: Callable[[int], float | None] | None = None,
    workers: int = 1,
) -> list[Radiometry]:
    """Decide for each item whether the Sentinel-2 Level-2A offset of -0.1 is still to be applied.

    Pixels are asked as seldom as is safe. Metadata that agree with each other are believed. Where they leave doubt,
    the first percentile of blue is asked: below DN 900 the 1000 cannot be in the numbers. From 900 on it may also be
    bright ground, such as a desert; then the same ground at the other dates decides, and without enough of these the
    metadata. A flag "applied" that contradicts an announced offset is right on nearly all items, and believed unless
    the scene lies 700 to 1300 above the median of at least three others: that costs one small read for each item, and
    none where there are too few to compare with.

    Args:
        cases: The items.
        percentile: Number of a case → first percentile of the DN of clear ground in its blue band over the region,
            best without snow; None where there is too little.
        witness: The same for a band far from blue, such as swir16: haze and snow, which are bright in blue, are not
            there. Asked for scenes that blue makes suspect and, for comparison, for a few others. None: blue alone.
        workers: Cases to ask at the same time.

    Returns:
        One decision for each case, in their order.
    """
    tiles: dict[str, list[int]] = defaultdict(list)
    for number, case in enumerate(cases):
        tiles[case.tile].append(number)
    decided: dict[int, Radiometry] = {}
    with ThreadPoolExecutor(workers) as pool:
        blue = _Probe(percentile, pool)
        other = _Probe(witness, pool) if witness else None
        for numbers in tiles.values():
            decided |= _Tile({number: cases[number] for number in numbers}, blue, other).decide()
    return [decided[number] for number in range(len(cases))]


class _Probe:
    """Percentiles by case, each asked once."""

    def __init__(self, ask: Callable[[int], float | None], pool: ThreadPoolExecutor) -> None:
        self._ask, self._pool = ask, pool
        self._known: dict[int, float | None] = {}

    def __call__(self, numbers: Iterable[int]) -> dict[int, float]:
        """Number → percentile, for those that have one."""
        wanted = list(numbers)
        new = [number for number in wanted if number not in self._known]
        self._known |= dict(zip(new, self._pool.map(self._ask, new), strict=True))
        return {number: dn for number in wanted if (dn := self._known[number]) is not None}


@dataclass(frozen=True)
class _Tile:
    """The scenes of one tile, by the numbers of their cases, and what can be asked of their pixels."""

    cases: dict[int, Case]
    blue: _Probe
    other: _Probe | None

    def decide(self) -> dict[int, Radiometry]:
        """Every scene's radiometry."""
        decided = {number: case.settled for number, case in self.cases.items() if case.settled}
        open_cases = {number: case for number, case in self.cases.items() if number not in decided}
        flagged = [number for number, case in open_cases.items() if case.flag is True]
        doubtful = [number for number in open_cases if number not in flagged]
        settled = _spread([number for number in decided if self.cases[number].is_sentinel_2])
        asked = self.blue([*doubtful, *(flagged if len(flagged) + len(settled) > FEWEST_OTHERS else ())])
        bright = [number for number, dn in asked.items() if dn >= OFFSET_SHOWS_FROM_DN]
        peers = [*flagged, *(number for number in doubtful if number in asked and number not in bright)]
        peers += settled if len(peers) <= FEWEST_OTHERS else []
        decided |= {number: Radiometry(0.0, APPLIED) for number in flagged}
        decided |= {number: _alone(self.cases[number], asked.get(number)) for number in doubtful}
        compare = {number: self._overruled if number in flagged else self._beside for number in bright}
        found = {number: judge(number, peers) for number, judge in compare.items()}
        return decided | {number: radiometry for number, radiometry in found.items() if radiometry}

    def _step(self, number: int, probe: _Probe, peers: list[int]) -> float | None:
        """DN by which a scene lies above the median of the same ground at other dates; None without enough of these."""
        own = probe([number]).get(number)
        ground = [dn - self.cases[each].added for each, dn in probe(each for each in peers if each != number).items()]
        return None if own is None or len(ground) < FEWEST_OTHERS else own - median(ground)

    def _nearest(self, number: int, peers: list[int]) -> list[int]:
        """A few others of the same season, whichever year."""
        day = self.cases[number].day_of_year

        def apart(each: int) -> float:
            days = abs(self.cases[each].day_of_year - day)
            return min(days, YEAR_DAYS - days)

        return sorted((each for each in peers if each != number), key=apart)[:MOST_WITNESSES]

    def _is_dark_elsewhere(self, number: int) -> bool:
        """Whether another band shows that the 1000 is gone."""
        return self.other is not None and self.other([number]).get(number, math.inf) < OFFSET_SHOWS_FROM_DN

    def _beside(self, number: int, peers: list[int]) -> Radiometry | None:
        """A bright scene whose metadata are in doubt; None where comparing does not help."""
        dn = self.blue([number])[number]
        if self._is_dark_elsewhere(number):
            text = f"no offset left to apply: tested, first percentile of blue is DN {dn:.0f}, but of another band less"
            return Radiometry(0.0, f"{text} than {OFFSET_SHOWS_FROM_DN}", tested=True)
        step = self._step(number, self.blue, peers)
        if step is None:
            return None
        text = f"tested, first percentile of blue is DN {dn:.0f}, {step:+.0f} to the same ground at other dates"
        if step < HALF_DN:
            return Radiometry(0.0, f"no offset left to apply: {text}", tested=True)
        return Radiometry(BOA_OFFSET, f"offset {BOA_OFFSET}: {text}", tested=True)

    def _overruled(self, number: int, peers: list[int]) -> Radiometry | None:
        """A scene whose flag says "applied" while its pixels say otherwise; None where they do not."""
        step = self._step(number, self.blue, peers)
        if step is None or not LEAST_STEP_DN <= step <= MOST_STEP_DN or self._is_dark_elsewhere(number):
            return None
        second = self._step(number, self.other, self._nearest(number, peers)) if self.other else None
        if second is not None and second < HALF_DN:
            return None
        dn = self.blue([number])[number]
        text = f"{FLAG} says that it is applied, but the first percentile of blue is DN {dn:.0f}"
        return Radiometry(
            BOA_OFFSET, f"offset {BOA_OFFSET}: {text}, {step:+.0f} to the same ground at other dates", tested=True
        )


def _spread(numbers: list[int]) -> list[int]:
    """A few of them, evenly."""
    return numbers[:: max(1, len(numbers) // MOST_WITNESSES)][:MOST_WITNESSES]


def _alone(case: Case, dn: float | None) -> Radiometry:
    """What a scene's own pixels tell, and where they do not, its metadata."""
    if dn is None:
        why = "baseline" if baseline_of(case.item) is not None else "date"
        return Radiometry(case.presumed, f"offset {case.presumed:g} by its {why}; no clear pixel to test")
    what = f"tested, first percentile of blue is DN {dn:.0f}"
    if dn < OFFSET_SHOWS_FROM_DN or case.presumed == 0:
        return Radiometry(0.0, f"no offset left to apply: {what}", tested=True)
    return Radiometry(case.presumed, f"offset {case.presumed:g}: {what}", tested=True)
