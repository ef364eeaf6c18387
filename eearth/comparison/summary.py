"""From runs to means, spreads and paired differences."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from eearth.comparison.contenders import FOREST, LABELS, PRETRAINED, PROBE, SCRATCH, Contender, Outcome, Task

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike

CONFIDENCE = 0.95

# Seeds after which a learning rate that is told to be behind another one is tried no further.
FIRST_SEEDS = 5


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
        rate: The learning rate with the best mean, where several were tried.
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
        rates: Learning rates tried.
        tried: (contender, budget) → seeds that it was run on; fewer than the others for a learning rate given up.

    Args:
        outcomes: Runs; those beyond the seeds that count are left out.
        contenders: Who took part.
        seeds: Budget → how many seeds count, from 0 on.
    """

    def __init__(
        self, outcomes: Mapping[Task, Outcome], contenders: Sequence[Contender], seeds: Mapping[str, int]
    ) -> None:
        """Choose among the learning rates of each network, for each budget."""
        self.budgets = tuple(seeds)
        self.seeds = dict(seeds)
        self.rates = tuple(dict.fromkeys(one.rate for one in contenders if one.rate is not None))
        self.labels = tuple(dict.fromkeys(one.label for one in contenders))
        self.pretrained = tuple(dict.fromkeys(one.label for one in contenders if one.kind == PRETRAINED))
        self.tried: dict[tuple[str, str], int] = {}
        self._cells: dict[tuple[str, str], Cell] = {}
        for budget, count in seeds.items():
            left = in_the_race(outcomes, contenders, budget)
            self.tried |= {(one.name, budget): count if one in left else min(count, FIRST_SEEDS) for one in contenders}
            runs: dict[str, list[Cell]] = {}
            for one in left:
                cell = _cell([outcomes[Task(one.name, budget, seed)] for seed in range(count)], one.rate)
                runs.setdefault(one.label, []).append(cell)
            self._cells |= {(label, budget): _at_the_best_rate(cells) for label, cells in runs.items()}

    def cell(self, label: str, budget: str) -> Cell:
        """One contender with one budget."""
        return self._cells[label, budget]

    def difference(self, label: str, other: str, budget: str) -> Difference:
        """One contender minus another."""
        return paired(self.cell(label, budget).scores, self.cell(other, budget).scores)

    @property
    def references(self) -> tuple[str, ...]:
        """What one of the pre-trained networks is compared with."""
        named = {other for label in self.pretrained for other in self.references_of(label)}
        return tuple(label for label in self.labels if label in named)

    def references_of(self, label: str) -> tuple[str, ...]:
        """What a pre-trained network is compared with: a probe only where it looks at the same encoder."""
        probe = LABELS[PROBE] + label.removeprefix(LABELS[PRETRAINED])
        return tuple(other for other in self.labels if other in (LABELS[SCRATCH], probe, LABELS[FOREST]))


def in_the_race(
    outcomes: Mapping[Task, Outcome], contenders: Sequence[Contender], budget: str
) -> tuple[Contender, ...]:
    """Contenders that go on beyond the first seeds: learning rates told to be behind the network's best do not.

    Args:
        outcomes: Runs; only the first seeds decide, and before they are all there nobody is left out.
        contenders: Who takes part.
        budget: Of the runs.
    """
    networks: dict[str, dict[Contender, Cell]] = {}
    for one in contenders:
        tasks = [Task(one.name, budget, seed) for seed in range(FIRST_SEEDS)]
        if one.rate is None:
            continue
        if any(task not in outcomes for task in tasks):
            return tuple(contenders)
        networks.setdefault(one.label, {})[one] = _cell([outcomes[task] for task in tasks], one.rate)
    behind = {one for cells in networks.values() for one in _behind(cells)}
    return tuple(one for one in contenders if one not in behind)


def _behind(cells: Mapping[Contender, Cell]) -> set[Contender]:
    """Learning rates of one network that are told to be behind the one with the best mean."""
    best = max(cells.values(), key=lambda cell: cell.mean)
    return {one for one, cell in cells.items() if (gap := paired(best.scores, cell.scores)).told and gap.mean > 0}


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


def _at_the_best_rate(cells: Sequence[Cell]) -> Cell:
    """Each seed at the learning rate that is best on the mean of the others: it does not choose for itself."""
    scores, overall = (np.array([getattr(one, name) for one in cells]) for name in ("scores", "overall"))
    seeds = scores.shape[1]
    others = scores.sum(axis=1, keepdims=True) - scores if seeds > 1 else scores
    best, each = others.argmax(axis=0), range(seeds)
    rate = cells[int(scores.mean(axis=1).argmax())].rate
    return Cell(tuple(scores[best, each].tolist()), tuple(overall[best, each].tolist()), rate)


def _cell(outcomes: Sequence[Outcome], rate: float | None) -> Cell:
    return Cell(tuple(100 * one.miou for one in outcomes), tuple(100 * one.overall for one in outcomes), rate)
