"""The comparison as files and as rows: every run, every cell, and what a person reads."""

from __future__ import annotations

import csv
import math
from typing import TYPE_CHECKING

import numpy as np

from eearth.comparison.contenders import ALL, LABELS, PRETRAINED, Outcome, Task

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from eearth.comparison.contenders import Contender
    from eearth.comparison.summary import Difference, Summary

# Attributes of an outcome.
COUNTS = ("train_pixels", "test_pixels", "test_classes", "labels", "classes")

RUN_COLUMNS = ("contender", "budget", "seed", *COUNTS, "miou", "overall_accuracy")
CELL_COLUMNS = (
    "budget", "contender", "learning_rate", "seeds", "miou", "miou_sd", "overall_accuracy", "compared_with",
    "difference", "half_width", "wins",
)  # fmt: skip

Rows = tuple[tuple[str, ...], ...]


def write_runs(path: Path, outcomes: Mapping[Task, Outcome], contenders: Sequence[Contender], summary: Summary) -> None:
    """Every run that counts, with its split; mIoU and accuracy from 0 to 1, in full."""
    tasks = (
        Task(one.name, budget, seed)
        for budget in summary.budgets
        for seed in range(summary.seeds[budget])
        for one in contenders
        if seed < summary.tried[one.name, budget]
    )
    _write_csv(path, RUN_COLUMNS, (_run_row(outcomes[task]) for task in tasks))


def read_runs(path: Path) -> dict[Task, Outcome]:
    """What `write_runs` wrote; how long a run took is not known any more, and NaN."""
    outcomes = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            task = Task(row["contender"], row["budget"], int(row["seed"]))
            counts = {name: int(row[name]) for name in COUNTS}
            miou, overall = float(row["miou"]), float(row["overall_accuracy"])
            outcomes[task] = Outcome(task=task, **counts, miou=miou, overall=overall, seconds=math.nan)
    return outcomes


def write_cells(path: Path, summary: Summary) -> None:
    """Every cell in percent, once for each other contender that a pre-trained one is compared with."""
    rows = (row for budget in summary.budgets for label in summary.labels for row in _cell_rows(summary, label, budget))
    _write_csv(path, CELL_COLUMNS, rows)


def mean_table(summary: Summary) -> tuple[tuple[str, ...], Rows]:
    """Header and rows: mean ± standard deviation of mIoU, contenders by budgets."""
    rows = [[label, *(_mean_text(summary, label, budget) for budget in summary.budgets)] for label in summary.labels]
    return ("mIoU, %", *map(heading, summary.budgets)), tuple(tuple(row) for row in rows)


def difference_table(summary: Summary) -> tuple[tuple[str, ...], Rows]:
    """Header and rows: what pre-training gains over each other contender, by budgets."""
    rows = [
        (f"{label} - {other}", *(difference_text(summary.difference(label, other, each)) for each in summary.budgets))
        for label in summary.pretrained
        for other in summary.references_of(label)
    ]
    return ("gain, points", *map(heading, summary.budgets)), tuple(rows)


def markdown(summary: Summary, sentence: str) -> str:
    """A row for each budget, then one for each budget of each other encoder, what they mean, and the conclusion."""
    parts = [
        "Test mIoU in percent, mean ± standard deviation over seeds; differences paired by seed, in points of mIoU, ± "
        "half width of their 95 % interval (Student's t), and the seeds with a gain. " + _rates_text(summary),
        _markdown_table(*budget_table(summary)),
        _markdown_table(*transfer_table(summary)),
        sentence,
    ]
    return "\n\n".join(part.rstrip() for part in parts if part) + "\n"


def budget_table(summary: Summary) -> tuple[tuple[str, ...], Rows]:
    """Header and rows, one a budget: seeds, all but the encoders of others, and what the own encoder gains."""
    own = LABELS[PRETRAINED]
    labels = [label for label in summary.labels if label in LABELS.values()]
    others = summary.references_of(own) if own in summary.pretrained else ()
    header = ("labelled pixels a class", "seeds", *labels, *(f"{own} - {other}" for other in others))
    return header, tuple(
        (*_budget(summary, each), *_entries(summary, each, labels, own, others)) for each in summary.budgets
    )


def transfer_table(summary: Summary) -> tuple[tuple[str, ...], Rows]:
    """Header and rows, one a budget of each encoder of other regions; without rows where there is none."""
    names = [label for label in summary.pretrained if label != LABELS[PRETRAINED]]
    others = [summary.references_of(label) for label in names]
    header = ("encoder", "labelled pixels a class", "seeds", "mIoU, %")
    rows = (
        (label, *_budget(summary, each), *_entries(summary, each, [label], label, references))
        for label, references in zip(names, others, strict=True)
        for each in summary.budgets
    )
    compared = (f"- {other.split(' on ')[0]}" for other in (others[0] if others else ()))
    return (*header, *compared), tuple(rows)


def _budget(summary: Summary, budget: str) -> tuple[str, str]:
    return heading(budget), str(summary.seeds[budget])


def _entries(
    summary: Summary, budget: str, labels: Sequence[str], label: str, others: Sequence[str]
) -> tuple[str, ...]:
    """Means of some contenders, and what one of them gains over others."""
    gains = (difference_text(summary.difference(label, other, budget)) for other in others)
    return (*(_mean_text(summary, each, budget) for each in labels), *gains)


def heading(budget: str) -> str:
    """A budget as the head of a column."""
    return "all labels" if budget == ALL else budget


def difference_text(difference: Difference) -> str:
    """Such as `+4.2 ± 3.1 (9/10)`."""
    interval = "" if np.isnan(difference.half) else f" ± {difference.half:.1f}"
    return f"{difference.mean:+.1f}{interval} ({difference.wins}/{difference.seeds})"


def _mean_text(summary: Summary, label: str, budget: str) -> str:
    cell = summary.cell(label, budget)
    rate = f" (rate {cell.rate:g})" if cell.rate is not None else ""
    return f"{cell.mean:.1f}" + ("" if np.isnan(cell.sd) else f" ± {cell.sd:.1f}") + rate


def _rates_text(summary: Summary) -> str:
    if len(summary.rates) < 2:  # noqa: PLR2004 (one is no choice)
        return ""
    tried = ", ".join(f"{rate:g}" for rate in summary.rates)
    return f"Of the learning rates tried ({tried}) each seed takes that which is best on the others; the best is named."


def _markdown_table(header: Sequence[str], rows: Rows) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) if rows else ""


def _run_row(run: Outcome) -> tuple[object, ...]:
    task = run.task
    counts = (getattr(run, name) for name in COUNTS)
    return (task.contender, task.budget, task.seed, *counts, repr(run.miou), repr(run.overall))


def _cell_rows(summary: Summary, label: str, budget: str) -> list[tuple[object, ...]]:
    cell = summary.cell(label, budget)
    rate = "" if cell.rate is None else f"{cell.rate:g}"
    figures = (cell.mean, cell.sd, float(np.mean(cell.overall)))
    first = (budget, label, rate, len(cell.scores), *map(_figure, figures))
    if label not in summary.pretrained:
        return [(*first, "", "", "", "")]
    gaps = {other: summary.difference(label, other, budget) for other in summary.references_of(label)}
    return [(*first, other, _figure(gap.mean), _figure(gap.half), gap.wins) for other, gap in gaps.items()] or [
        (*first, "", "", "", "")
    ]


def _figure(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.4f}"


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
