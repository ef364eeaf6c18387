from __future__ import annotations

import csv
import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread
from scipy import stats

from eearth.comparison.conclusion import conclude
from eearth.comparison.contenders import Contender, Outcome, Pretrained, Task, line_up
from eearth.comparison.crew import Crew
from eearth.comparison.figure import draw_budgets, spread_apart
from eearth.comparison.ledger import Ledger
from eearth.comparison.plan import Plan
from eearth.comparison.rounds import run_all, together
from eearth.comparison.summary import Summary, in_the_race, paired
from eearth.comparison.tables import markdown, write_cells, write_runs
from eearth.events import silent
from eearth.settings import CompareSettings, FinetuneSettings

Scores = dict[tuple[str, str], list[float]]

SCRATCH = ["scratch, rate 0.001", "scratch, rate 0.01"]
PRETRAINED = ["pre-trained, rate 0.001", "pre-trained, rate 0.01"]


def outcomes_of(scores: Scores) -> dict[Task, Outcome]:
    """The pre-trained network's scores are those of the rate 0.001; at 0.01 it is far behind."""
    for (name, budget), values in [item for item in scores.items() if item[0][0] == "pre-trained"]:
        scores = {key: kept for key, kept in scores.items() if key != (name, budget)}
        scores |= {(PRETRAINED[0], budget): values, (PRETRAINED[1], budget): [one - 40 for one in values[:5]]}
    tasks = {
        Task(name, budget, s): one for (name, budget), all_seeds in scores.items() for s, one in enumerate(all_seeds)
    }
    return {task: Outcome(task, 50, 20, 2, 10, 2, score / 100, 0.9, 1.0) for task, score in tasks.items()}


def lined_up(path: Path, kinds: tuple[str, ...] = ("pretrained", "scratch", "forest")) -> tuple[Contender, ...]:
    return line_up(kinds, [Pretrained(path)], [1e-3, 1e-2])


def summary_of(path: Path, scores: Scores) -> Summary:
    seeds = {budget: len(values) for (_, budget), values in scores.items()}
    return Summary(outcomes_of(scores), lined_up(path), seeds)


@pytest.fixture
def summary(tmp_path: Path) -> Summary:
    """Ahead of scratch with 1, not to be told with all; behind the forest with all."""
    return summary_of(
        tmp_path,
        {
            ("pre-trained", "1"): [50.0, 54.0, 52.0, 56.0],
            (SCRATCH[0], "1"): [40.0, 43.0, 41.0, 46.0],
            (SCRATCH[1], "1"): [30.0, 53.0, 31.0, 36.0],
            ("random forest", "1"): [49.0, 56.0, 51.0, 57.0],
            ("pre-trained", "all"): [80.0, 81.0, 82.0, 83.0],
            (SCRATCH[0], "all"): [70.0, 70.0, 70.0, 70.0],
            (SCRATCH[1], "all"): [79.0, 82.5, 81.0, 84.0],
            ("random forest", "all"): [90.0, 91.5, 92.0, 92.5],
        },
    )


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), min_size=2, max_size=20))
def test_a_paired_difference_is_scipys(pairs: list[tuple[float, float]]) -> None:
    one, other = np.array(pairs).T
    found = paired(one.tolist(), other.tolist())
    gaps = one - other
    assert found.mean == pytest.approx(gaps.mean(), abs=1e-9)
    assert found.wins == sum(1 for a, b in pairs if a > b)
    if gaps.std() > 1e-9:
        interval = stats.ttest_rel(one, other).confidence_interval(0.95)
        assert (found.mean - found.half, found.mean + found.half) == pytest.approx(tuple(interval), abs=1e-6)
        assert found.told == (interval.low > 0 or interval.high < 0)


def test_one_seed_tells_nothing() -> None:
    found = paired([60.0], [50.0])
    assert (found.mean, found.wins, found.seeds, found.told) == (10.0, 1, 1, False)
    assert np.isnan(found.half)


def test_the_best_mean_of_the_learning_rates_counts_for_each_budget(summary: Summary) -> None:
    assert summary.cell("scratch", "1").rate == 1e-3
    assert summary.cell("scratch", "all").rate == 1e-2
    assert summary.labels == ("pre-trained", "scratch", "random forest")


def test_the_conclusion_claims_no_more_than_the_intervals(summary: Summary) -> None:
    gap = stats.ttest_rel([50, 54, 52, 56], [40, 43, 41, 46]).confidence_interval(0.95)
    other = stats.ttest_rel([80, 81, 82, 83], [79, 82.5, 81, 84]).confidence_interval(0.95)
    assert conclude(summary) == (
        f"With 1 labelled pixel a class pre-training gains +10.5 ({gap.low:+.1f} to {gap.high:+.1f}) points of mIoU "
        f"over training from scratch; with all labels no difference can be told (-0.1 ± {other.high + 0.125:.1f}); "
        "against the random forest it is behind with all labels, no difference can be told with 1."
    )


def test_a_loss_is_called_one(tmp_path: Path) -> None:
    scores = {("pre-trained", "5"): [1.0, 2.0], ("random forest", "5"): [1.0, 2.0]}
    scores |= {(name, "5"): [11.0, 12.1] for name in SCRATCH}
    text = conclude(summary_of(tmp_path, scores))
    assert text.startswith("With 5 labelled pixels a class pre-training loses -10.1 (")
    assert "points of mIoU against training from scratch" in text


def test_tables_hold_the_same_figures(summary: Summary, tmp_path: Path) -> None:
    write_cells(tmp_path / "table.csv", summary)
    with (tmp_path / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    row = next(r for r in rows if r["compared_with"] == "scratch" and r["budget"] == "1")
    assert (row["contender"], row["miou"], row["difference"], row["wins"]) == ("pre-trained", "53.0000", "10.5000", "4")
    assert len(rows) == 2 * (2 + 1 + 1)
    text = markdown(summary, "So it is.")
    lines = text.splitlines()
    assert lines[2] == (
        "| labelled pixels a class | seeds | pre-trained | scratch | random forest | pre-trained - scratch | "
        "pre-trained - random forest |"
    )
    half = np.diff(stats.ttest_rel([50, 54, 52, 56], [40, 43, 41, 46]).confidence_interval(0.95)).item() / 2
    assert lines[4].startswith(
        f"| 1 | 4 | 53.0 ± 2.6 (rate 0.001) | 42.5 ± 2.6 (rate 0.001) | 53.2 ± 3.9 | +10.5 ± {half:.1f} (4/4) | -0.2 ± "
    )
    assert lines[5].startswith(
        "| all labels | 4 | 81.5 ± 1.3 (rate 0.001) | 81.6 ± 2.1 (rate 0.01) | 91.5 ± 1.1 | -0.1 ± "
    )
    assert text.endswith("|\n\nSo it is.\n")


def test_other_encoders_have_rows_of_their_own(tmp_path: Path) -> None:
    encoders = [Pretrained(tmp_path), Pretrained(tmp_path, "coast on sand"), Pretrained(tmp_path, "plain")]
    contenders = line_up(("pretrained", "scratch", "probe", "forest"), encoders, [0.0])
    scores = {one.name: [10.0 * number, 10.0 * number + 2 + number] for number, one in enumerate(contenders)}
    outcomes = outcomes_of({(name, budget): values for name, values in scores.items() for budget in ("1", "5")})
    summary = Summary(outcomes, contenders, {"1": 2, "5": 2})
    assert summary.references_of("pre-trained on plain") == ("scratch", "frozen probe on plain", "random forest")
    lines = markdown(summary, "So.").splitlines()
    assert lines[2].startswith("| labelled pixels a class | seeds | pre-trained | scratch | frozen probe | random f")
    assert "plain" not in lines[2]
    assert lines[7] == (
        "| encoder | labelled pixels a class | seeds | mIoU, % | - scratch | - frozen probe | - random forest |"
    )
    assert [line.split(" | ")[:2] for line in lines[9:13]] == [
        [f"| pre-trained on {name}", budget] for name in ("coast on sand", "plain") for budget in ("1", "5")
    ]
    assert lines[9].split(" | ")[2:4] == ["2", "11.5 ± 2.1 (rate 0)"]
    gap = stats.ttest_rel(scores["pre-trained on plain, rate 0"], scores["scratch, rate 0"])
    half = np.diff(gap.confidence_interval(0.95)).item() / 2
    means = [np.mean(scores[name]) for name in ("pre-trained on plain, rate 0", "scratch, rate 0")]
    assert f" | {means[0] - means[1]:+.1f} ± {half:.1f} (0/2)" in lines[11]


def test_a_rate_told_to_be_behind_is_tried_no_further() -> None:
    random = np.random.default_rng(0)
    rates = line_up(("scratch", "forest"), [], [0.0, 1e-3, 1e-2])
    best = random.normal(50, 5, 7)
    pre = line_up(("pretrained",), [Pretrained(Path("one"))], [0.0, 1e-3, 1e-2])
    scores = {"scratch, rate 0": best, "scratch, rate 0.001": best - random.normal(1, 3, 7)}
    scores |= {"scratch, rate 0.01": best - random.normal(10, 3, 7), "random forest": best - 40}
    rivals = ("scratch, rate 0.001", "scratch, rate 0.01")
    low = {name: stats.ttest_rel(best[:5], scores[name][:5]).confidence_interval().low for name in rivals}
    assert low["scratch, rate 0.001"] < 0 < low["scratch, rate 0.01"]
    outcomes = outcomes_of({(name, "5"): of_one.tolist() for name, of_one in scores.items()})
    assert [one.name for one in in_the_race(outcomes, rates, "5")] == [
        "scratch, rate 0", "scratch, rate 0.001", "random forest",
    ]  # fmt: skip
    ahead = outcomes | outcomes_of({(one.name, "5"): [90.0 - 9 * number] * 7 for number, one in enumerate(pre)})
    assert [one.name for one in in_the_race(ahead, (*pre, *rates), "5")] == [
        "pre-trained, rate 0", "scratch, rate 0", "scratch, rate 0.001", "random forest",
    ]  # fmt: skip
    four = {task: outcome for task, outcome in outcomes.items() if task.seed < 4}
    assert in_the_race(four, rates, "5") == rates
    given_up = [Task("scratch, rate 0.01", "5", seed) for seed in (5, 6)]
    for task in given_up:
        outcomes.pop(task)
    summary = Summary(outcomes, rates, {"5": 7})
    assert summary.tried == {(name, "5"): 5 if name == "scratch, rate 0.01" else 7 for name in scores}
    left = (best, scores["scratch, rate 0.001"])
    expected = []
    for seed in range(7):
        without = [np.mean(np.delete(scores_of, seed)) for scores_of in left]
        expected.append(left[int(np.argmax(without))][seed])
    assert summary.cell("scratch", "5").scores == pytest.approx(expected)
    assert summary.cell("scratch", "5").rate == (0.0, 1e-3)[int(np.argmax([np.mean(one) for one in left]))]


def test_runs_that_share_a_networks_features_come_together(tmp_path: Path) -> None:
    contenders = line_up(("pretrained", "scratch", "forest"), [Pretrained(tmp_path)], [0.0, 1e-3])
    plan = Plan((), contenders, {}, FinetuneSettings(), "cpu", tmp_path)
    tasks = [Task(one.name, budget, seed) for seed in (0, 1) for budget in ("1", "5", "all") for one in contenders]
    groups = together(plan, tasks)
    assert sorted((task for group in groups for task in group), key=tasks.index) == tasks
    assert {group for group in groups if len(group) > 1} == {
        tuple(Task("scratch, rate 0", budget, seed) for budget in ("1", "5", "all")) for seed in (0, 1)
    }


def test_only_rates_in_the_race_are_run(tmp_path: Path) -> None:
    """Every run that is wanted is there; those given up are not, and a crew that is asked for one would fail."""
    scores = {("pre-trained", "5"): [50.0 + seed for seed in range(8)]}
    scores |= {(SCRATCH[0], "5"): [45.0 + 1.1 * seed for seed in range(8)], (SCRATCH[1], "5"): [20.0] * 5}
    ledger = Ledger(tmp_path / "none")
    ledger.outcomes |= outcomes_of(scores)
    settings = CompareSettings(budgets=("5",), rates=(1e-3, 1e-2), seeds=8)
    plan = Plan((), lined_up(tmp_path, ("pretrained", "scratch")), {}, FinetuneSettings(steps=1), "cpu", tmp_path)
    with Crew(plan, 1) as crew:
        summary = run_all(crew, ledger, settings, silent)
    assert summary.seeds == {"5": 8}
    write_runs(tmp_path / "runs.csv", ledger.outcomes, plan.contenders, summary)
    assert len((tmp_path / "runs.csv").read_text().splitlines()) == 1 + 8 + 8 + 5 + 5


def test_the_figure_is_drawn_the_same_each_time(summary: Summary, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        draw_budgets(tmp_path / name, summary)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    picture = imread(tmp_path / "a.png")[..., :3]
    for colour in ((0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00), (0x00, 0x9E, 0x73)):
        assert (np.abs(picture - np.array(colour) / 255).max(axis=-1) < 0.02).sum() > 50


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_names_move_apart_and_keep_their_order(places: list[float]) -> None:
    moved = spread_apart(places, 0.1)
    for (one, new), (other, new_other) in itertools.combinations(zip(places, moved, strict=True), 2):
        assert abs(new - new_other) > 0.1 - 1e-9
        assert one == other or (one < other) == (new < new_other)
    if all(abs(a - b) > 0.1 for a, b in itertools.combinations(places, 2)):
        assert moved == pytest.approx(places)


def test_a_line_that_was_cut_short_is_forgotten(tmp_path: Path) -> None:
    one, two = outcomes_of({("random forest", "all"): [50.123456789, 100 / 3]}).values()
    Ledger(tmp_path / "runs").add(one)
    whole = (tmp_path / "runs").read_bytes()
    Ledger(tmp_path / "runs").add(two)
    with (tmp_path / "runs").open("r+b") as file:
        file.truncate(len(whole) + 30)
    ledger = Ledger(tmp_path / "runs")
    assert ledger.outcomes == {one.task: one}
    ledger.add(two)
    assert Ledger(tmp_path / "runs").outcomes == {one.task: one, two.task: two}


def seeds_taken(folder: Path, gaps: list[float], **asked: float) -> dict[str, int]:
    """Seeds that count, where every run has been made before."""
    ledger = Ledger(folder / "none")
    scratch = [40.0 + seed for seed in range(len(gaps))]
    scores = {("pre-trained", "5"): [one + gap for one, gap in zip(scratch, gaps, strict=True)]}
    scores |= {(name, "5"): scratch for name in SCRATCH}
    ledger.outcomes |= outcomes_of(scores)
    settings = CompareSettings(budgets=("5",), rates=(1e-3, 1e-2), **asked)  # type: ignore[arg-type]
    plan = Plan((), lined_up(folder, ("pretrained", "scratch")), {}, FinetuneSettings(steps=1), "cpu", folder)
    with Crew(plan, 1) as crew:
        return run_all(crew, ledger, settings, silent).seeds


def test_it_goes_on_until_the_difference_is_precise_and_no_longer(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    gaps = random.normal(3, 5, 20).tolist()
    needed = next(n for n in range(5, 21) if stats.sem(gaps[:n]) * stats.t.ppf(0.975, n - 1) < 3)
    assert 5 < needed < 15
    assert seeds_taken(tmp_path, gaps, precision=3.0) == {"5": needed}
    assert seeds_taken(tmp_path, gaps, precision=3.0, seeds=needed - 1) == {"5": needed - 1}
    assert seeds_taken(tmp_path, gaps, precision=0.1) == {"5": 20}
    assert seeds_taken(tmp_path, [2.0, 2.1, 2.0, 1.9, 2.0, 30.0], precision=3.0, seeds=6) == {"5": 5}
    assert seeds_taken(tmp_path, gaps) == {"5": 5}
    assert seeds_taken(tmp_path, gaps, seeds=2) == {"5": 2}
