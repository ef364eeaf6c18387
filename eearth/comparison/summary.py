"""From runs to means, spreads and paired differences."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from eearth.comparison.contenders import LABELS, PRETRAINED, SCRATCH, Contender, Outcome, Task

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Difference:
    """One contender minus another on the same seeds, in points of mIoU.

    Attributes:
        mean: Mean over the seeds.
        half: Half width of its 95 % interval by Student's t; NaN for a single seed.
        wins: Seeds on which the first one is better.
        seeds: All seeds.
    """

    mean: float
    half: float
    wins: int
    seeds: int

    @property
    def told(self) -> bool:
        """Whether the interval leaves out 0."""
        return abs(self.mean) > self.half  # never for NaN


@dataclass(frozen=True)
class Cell:
    """One contender with one budget, in percent.

    Attributes:
        scores: mIoU of each seed.
        overall: Overall accuracy of each seed.
        rate: The best learning rate, where several were tried.
    """

    scores: tuple[float, ...]
    overall: tuple[float, ...]
    rate: float | None = None

    @property
    def mean(self) -> float:
        """Mean mIoU."""
        return float(np.mean(self.scores))

    @property
    def sd(self) -> float:
        """Standard deviation of mIoU over the seeds; NaN for a single one."""
        return float(np.std(self.scores, ddof=1)) if len(self.scores) > 1 else math.nan


class Summary:
    """Every contender with every budget.

    Attributes:
        budgets: In the order asked for.
        seeds: Budget → seeds that count.
        labels: Contenders, as tables name them.
        pretrained: Those among them that are pre-trained and trained on.
        rates: Learning rates tried from scratch.

    Args:
        outcomes: Runs; those beyond the seeds that count are left out.
        contenders: Who took part.
        seeds: Budget → how many seeds count, from 0 on.
    """

    def __init__(
        self, outcomes: Mapping[Task, Outcome], contenders: Sequence[Contender], seeds: Mapping[str, int]
    ) -> None:
        """Keep the best learning rate of the network from scratch for each budget."""
        self.budgets = tuple(seeds)
        self.seeds = dict(seeds)
        self.rates = tuple(one.rate for one in contenders if one.rate is not None)
        self.labels = tuple(dict.fromkeys(one.label for one in contenders))
        self.pretrained = tuple(one.label for one in contenders if one.kind == PRETRAINED)
        self._cells: dict[tuple[str, str], Cell] = {}
        for budget, count in seeds.items():
            for one in contenders:
                cell = _cell([outcomes[Task(one.name, budget, seed)] for seed in range(count)], one.rate)
                known = self._cells.get((one.label, budget))
                if known is None or cell.mean > known.mean:
                    self._cells[one.label, budget] = cell

    def cell(self, label: str, budget: str) -> Cell:
        """One contender with one budget."""
        return self._cells[label, budget]

    def difference(self, label: str, other: str, budget: str) -> Difference:
        """One contender minus another."""
        return paired(self.cell(label, budget).scores, self.cell(other, budget).scores)

    @property
    def references(self) -> tuple[str, ...]:
        """What the pre-trained networks are compared with."""
        return tuple(label for label in self.labels if label not in self.pretrained)


def paired(one: Sequence[float], other: Sequence[float]) -> Difference:
    """Paired difference of two lists of scores."""
    gaps = np.subtract(one, other)
    return Difference(float(gaps.mean()), half_width(gaps), int((gaps > 0).sum()), len(gaps))


def half_width(values: ArrayLike) -> float:
    """Half width of the 95 % interval of a mean by Student's t; NaN for a single value."""
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.size < 2:  # noqa: PLR2004 (one value has no spread)
        return math.nan
    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, numbers.size - 1)
    return float(quantile * numbers.std(ddof=1) / math.sqrt(numbers.size))


def precise(summary: Summary, budget: str, precision: float) -> bool:
    """Whether every gain over training from scratch is known to within `precision` points."""
    scratch = LABELS[SCRATCH]
    return all(summary.difference(label, scratch, budget).half < precision for label in summary.pretrained)


def _cell(outcomes: Sequence[Outcome], rate: float | None) -> Cell:
    return Cell(tuple(100 * one.miou for one in outcomes), tuple(100 * one.overall for one in outcomes), rate)
