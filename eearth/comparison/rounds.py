"""Which runs are made, and when there are enough of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eearth.comparison.contenders import FOREST, SCRATCH, Task
from eearth.comparison.experiment import Experiment
from eearth.comparison.summary import FIRST_SEEDS, Summary, in_the_race, precise
from eearth.events import Advanced, Finished, Report, Started

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eearth.comparison.contenders import Contender
    from eearth.comparison.crew import Crew
    from eearth.comparison.ledger import Ledger
    from eearth.comparison.plan import Plan
    from eearth.settings import CompareSettings

TASK = "Comparing"

# Seeds without a wanted precision; with one, the fewest (fewer give an interval by luck) and the most.
USUAL_SEEDS, FEWEST_SEEDS, MOST_SEEDS = 5, FIRST_SEEDS, 20


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
    prepare(crew, settings.budgets, report)
    usual, most = seeds_asked(settings)
    seeds = dict.fromkeys(settings.budgets, min(usual, FIRST_SEEDS))
    name = TASK
    while True:
        _run(crew, ledger, _tasks(contenders, seeds, ledger), name, report)
        summary = Summary(ledger.outcomes, contenders, seeds)
        more = {budget: max(usual, seeds[budget] + 1) for budget in _open(summary, settings) if seeds[budget] < most}
        more |= {budget: usual for budget in seeds if seeds[budget] < usual}
        if not more:
            return summary
        seeds |= more
        name = f"{TASK}, {max(seeds.values())} seeds"


def seeds_asked(settings: CompareSettings) -> tuple[int, int]:
    """Seeds to begin with, and the most."""
    if settings.precision is None:
        usual = settings.seeds or USUAL_SEEDS
        return usual, usual
    most = settings.seeds or MOST_SEEDS
    return min(FEWEST_SEEDS, most), most


def prepare(crew: Crew, budgets: Sequence[str], report: Report) -> None:
    """Compute the features that forests, probes and encoders that take no step look at in every run."""
    plan = crew.plan
    looked_at = dict.fromkeys(
        one.encoder
        for one in plan.contenders
        if one.kind == FOREST or (one.encoder and any(plan.frozen(one, budget) for budget in budgets))
    )
    if not looked_at:
        return
    report(Started(task="Features", total=len(looked_at), unit="sets"))
    for _ in crew.each(Experiment.prepare, list(looked_at)):
        report(Advanced(task="Features"))
    report(Finished(task="Features"))


def _open(summary: Summary, settings: CompareSettings) -> list[str]:
    if settings.precision is None:
        return []
    return [budget for budget in summary.budgets if not precise(summary, budget, settings.precision)]


def _tasks(contenders: Sequence[Contender], seeds: dict[str, int], ledger: Ledger) -> list[Task]:
    """Every run, seed by seed; those of many labels first, for they may take longest."""
    left = {budget: in_the_race(ledger.outcomes, contenders, budget) for budget in seeds}
    return [
        Task(one.name, budget, seed)
        for seed in range(max(seeds.values()))
        for budget in list(seeds)[::-1]
        if seed < seeds[budget]
        for one in contenders
        if seed < FIRST_SEEDS or one in left[budget]
    ]


def _run(crew: Crew, ledger: Ledger, tasks: Sequence[Task], name: str, report: Report) -> None:
    missing = [task for task in tasks if task not in ledger.outcomes]
    report(Started(task=name, total=len(tasks), unit="runs", done=len(tasks) - len(missing)))
    for outcomes in crew.each(Experiment.run, together(crew.plan, missing)):
        for outcome in outcomes:
            ledger.add(outcome)
            task = outcome.task
            report(Advanced(task=name, detail=f"{task.contender}, {task.budget}: mIoU {100 * outcome.miou:.1f}"))
    report(Finished(task=name))


def together(plan: Plan, tasks: Sequence[Task]) -> list[tuple[Task, ...]]:
    """Runs that look at the same features of a network with random weights, for one process; all others alone."""
    by_name = {one.name: one for one in plan.contenders}
    groups: dict[object, list[Task]] = {}
    for task in tasks:
        one = by_name[task.contender]
        shared = one.kind == SCRATCH and plan.frozen(one, task.budget)
        groups.setdefault((task.contender, task.seed) if shared else task, []).append(task)
    return [tuple(group) for group in groups.values()]
