"""Which runs are made, and when there are enough of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eearth.comparison.contenders import FOREST, PROBE, Task
from eearth.comparison.experiment import Experiment
from eearth.comparison.summary import Summary, precise
from eearth.events import Advanced, Finished, Report, Started

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eearth.comparison.contenders import Contender
    from eearth.comparison.crew import Crew
    from eearth.comparison.ledger import Ledger
    from eearth.settings import CompareSettings

TASK = "Comparing"

# Seeds without a wanted precision; with one, the fewest (fewer give an interval by luck) and the most.
USUAL_SEEDS, FEWEST_SEEDS, MOST_SEEDS = 5, 5, 20


def run_all(crew: Crew, ledger: Ledger, settings: CompareSettings, report: Report) -> Summary:
    """Run every contender with every budget on as many seeds as are asked for, or as the precision takes.

    A budget is finished at the first number of seeds that is precise enough, whatever else has been run already: so
    the number of workers, or an interruption, changes nothing.

    Args:
        crew: Who runs.
        ledger: Where runs are kept; those in it are not run again.
        settings: Budgets, seeds, precision.
        report: Receives progress.
    """
    contenders = crew.plan.contenders
    prepare(crew, report)
    usual, most = seeds_asked(settings)
    seeds = dict.fromkeys(settings.budgets, usual)
    name = TASK
    while True:
        _run(crew, ledger, _tasks(contenders, seeds), name, report)
        summary = Summary(ledger.outcomes, contenders, seeds)
        unsettled = [budget for budget in _open(summary, settings) if seeds[budget] < most]
        if not unsettled:
            return summary
        seeds |= {budget: seeds[budget] + 1 for budget in unsettled}
        name = f"{TASK}, {max(seeds.values())} seeds"


def seeds_asked(settings: CompareSettings) -> tuple[int, int]:
    """Seeds to begin with, and the most."""
    if settings.precision is None:
        usual = settings.seeds or USUAL_SEEDS
        return usual, usual
    most = settings.seeds or MOST_SEEDS
    return min(FEWEST_SEEDS, most), most


def prepare(crew: Crew, report: Report) -> None:
    """Compute the features that forests and probes of all runs look at."""
    names = [one.name for one in crew.plan.contenders if one.kind in (FOREST, PROBE)]
    if not names:
        return
    report(Started(task="Features", total=len(names), unit="sets"))
    for _ in crew.each(Experiment.prepare, names):
        report(Advanced(task="Features"))
    report(Finished(task="Features"))


def _open(summary: Summary, settings: CompareSettings) -> list[str]:
    if settings.precision is None:
        return []
    return [budget for budget in summary.budgets if not precise(summary, budget, settings.precision)]


def _tasks(contenders: Sequence[Contender], seeds: dict[str, int]) -> list[Task]:
    """Every run, seed by seed; those of many labels first, for they may take longest."""
    budgets = list(seeds)[::-1]
    return [
        Task(one.name, budget, seed)
        for seed in range(max(seeds.values()))
        for budget in budgets
        if seed < seeds[budget]
        for one in contenders
    ]


def _run(crew: Crew, ledger: Ledger, tasks: Sequence[Task], name: str, report: Report) -> None:
    missing = [task for task in tasks if task not in ledger.outcomes]
    report(Started(task=name, total=len(tasks), unit="runs", done=len(tasks) - len(missing)))
    for outcome in crew.each(Experiment.run, missing):
        ledger.add(outcome)
        task = outcome.task
        report(Advanced(task=name, detail=f"{task.contender}, {task.budget}: mIoU {100 * outcome.miou:.1f}"))
    report(Finished(task=name))
