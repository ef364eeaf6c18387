from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from eearth.accuracy.intervals import Interval, wilson
from eearth.accuracy.stratified import StratifiedSample, assess

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from interval_coverage import MAPS, Known, coverage

# Olofsson et al. (2014), table 8 and section 5.1.3: rows are the map's classes.
COUNTS = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
PIXELS = np.array([200_000, 150_000, 3_200_000, 6_450_000])


def published(counts: np.ndarray, pixels: np.ndarray) -> dict[str, list[tuple[float, float]]]:
    """Estimates and variances by the published formulas, written out one by one."""
    classes, total = range(len(pixels)), pixels.sum()
    weight, points = pixels / total, counts.sum(axis=1)
    share = [[counts[i][j] / points[i] for j in classes] for i in classes]
    spread = [[share[i][j] * (1 - share[i][j]) / (points[i] - 1) for j in classes] for i in classes]
    users = [(share[i][i], spread[i][i]) for i in classes]
    overall = sum(weight[i] * share[i][i] for i in classes), sum(weight[i] ** 2 * spread[i][i] for i in classes)
    areas = [
        (sum(weight[i] * share[i][j] for i in classes), sum(weight[i] ** 2 * spread[i][j] for i in classes))
        for j in classes
    ]
    producers = []
    for j in classes:
        whole = sum(pixels[i] * share[i][j] for i in classes)
        if whole == 0:
            producers.append((math.nan, math.nan))
            continue
        own = pixels[j] * share[j][j] / whole
        missed = sum(pixels[i] ** 2 * spread[i][j] for i in classes if i != j)
        producers.append((own, (pixels[j] ** 2 * (1 - own) ** 2 * spread[j][j] + own**2 * missed) / whole**2))
    return {"OA": [overall], "UA": users, "PA": producers, "area": areas}


def found_by(sample: StratifiedSample, method: str = "wilson") -> dict[str, tuple[Interval, ...]]:
    found = assess(sample, method)  # type: ignore[arg-type]
    return {
        "OA": (found.overall_accuracy,),
        "UA": found.users_accuracy,
        "PA": found.producers_accuracy,
        "area": found.area_shares,
    }


@pytest.mark.parametrize("method", ["wilson", "wald"])
def test_the_published_example_to_its_digits(method: str) -> None:
    found = found_by(StratifiedSample.of_counts((1, 2, 3, 4), COUNTS, PIXELS), method)
    half = {name: [1.96 * each.standard_error for each in part] for name, part in found.items()}
    assert [round(each.estimate, 4) for each in found["OA"]] == [0.9465]
    assert [round(value, 4) for value in half["OA"]] == [0.0185]
    assert [round(each.estimate, 4) for each in found["PA"]] == [0.7487, 0.8472, 0.9345, 0.9616]
    assert [round(value, 4) for value in half["PA"]] == [0.2133, 0.2544, 0.0343, 0.0184]
    assert round(found["area"][0].times(10_000_000).estimate) == 235_086
    assert round(1.96 * found["area"][0].times(10_000_000).standard_error) == 68_418


def test_wald_intervals_are_the_published_ones() -> None:
    found = found_by(StratifiedSample.of_counts((1, 2, 3, 4), COUNTS, PIXELS), "wald")
    assert (found["OA"][0].high - found["OA"][0].low) / 2 == pytest.approx(0.0185, abs=5e-5)
    first = found["area"][0].times(10_000_000)
    assert (round(first.low), round(first.high)) == (235_086 - 68_418, 235_086 + 68_418)
    assert first.as_dict()["plus_minus"] == pytest.approx(68_418, abs=0.5)


@given(
    arrays(np.int64, (3, 3), elements=st.integers(0, 60)),
    arrays(np.int64, 3, elements=st.integers(200, 10**6)),
)
def test_estimates_and_standard_errors_are_the_published_formulas(counts: np.ndarray, pixels: np.ndarray) -> None:
    counts[:, 0] += 1
    counts[np.arange(3), np.arange(3)] += 1  # two points in each stratum at least
    found = found_by(StratifiedSample.of_counts((4, 8, 9), counts, pixels))
    for name, expected in published(counts, pixels).items():
        for each, (estimate, variance) in zip(found[name], expected, strict=True):
            assert each.estimate == pytest.approx(estimate, abs=1e-12)
            assert each.standard_error == pytest.approx(math.sqrt(max(variance, 0)), abs=1e-9)
            assert 0 <= each.low <= each.estimate + 1e-12
            assert each.estimate - 1e-12 <= each.high <= 1
    assert sum(each.estimate for each in found["area"]) == pytest.approx(1)


@given(st.integers(0, 40), st.integers(1, 40))
def test_wilsons_interval_of_a_simple_share_is_wilsons(right: int, more: int) -> None:
    points, share = right + more, right / (right + more)
    centre = (right + 1.96**2 / 2) / (points + 1.96**2)
    half = 1.96 / (points + 1.96**2) * math.sqrt(points * share * (1 - share) + 1.96**2 / 4)
    assert wilson(share, 0.5, 0.25 / points) == pytest.approx((centre - half, centre + half))


def test_coverage_of_ten_thousand_samples_in_short() -> None:
    """benchmarks/interval_coverage.py has all maps and samples; these are two of them, with fewer."""
    share = coverage(MAPS[0], "wilson", 1200, seed=1)
    every = np.concatenate(list(share.values()))
    assert ((every >= 0.93) & (every <= 0.98)).all(), share  # ± 0.6 % of chance in so few samples
    assert 0.945 <= every.mean() <= 0.96
    # The published formulas fail where an omission is rarer than the points that could show it.
    short = coverage(MAPS[2], "wald", 400, seed=1)
    kept = coverage(MAPS[2], "wilson", 400, seed=1)
    assert short["PA"][1] < 0.7
    assert kept["PA"][1] > 0.89


@pytest.mark.parametrize(("known", "samples"), [(MAPS[7], 500), (MAPS[8], 150)], ids=lambda each: str(each)[:20])
def test_a_rare_class_among_many_keeps_its_coverage(known: Known, samples: int) -> None:
    """Where points that nobody has seen are added to each of many strata they must not make up most of the class."""
    share = coverage(known, "wilson", samples, seed=1)
    assert share["PA"][-1] > 0.91, share["PA"]
    assert share["PA"].mean() > 0.93
    assert share["OA"][0] > 0.91
    assert share["area"][-1] > 0.93


def test_a_class_that_the_map_lacks_has_an_area_and_is_missed_altogether() -> None:
    counts = np.array([[40, 5, 5], [2, 45, 3], [0, 0, 0]])
    found = found_by(StratifiedSample.of_counts((1, 2, 3), counts, np.array([5000, 5000, 0])))
    assert found["area"][2].estimate == pytest.approx(0.08)
    assert found["area"][2].low > 0.03
    assert (found["PA"][2].estimate, found["PA"][2].high) == (0, 0)
    assert math.isnan(found["UA"][2].estimate)


def test_a_single_point_has_no_variance_and_says_so() -> None:
    counts = np.array([[40, 10], [0, 1]])
    found = found_by(StratifiedSample.of_counts((1, 2), counts, np.array([5000, 500])))
    assert found["OA"][0].estimate == pytest.approx((0.8 * 5000 + 500) / 5500)
    assert math.isnan(found["OA"][0].low)
    assert math.isnan(found["OA"][0].high)
    assert not math.isnan(found["UA"][0].low)
    assert math.isnan(found["UA"][1].low)
    assert found["OA"][0].as_dict() == {"estimate": pytest.approx(0.8182, abs=1e-4), "low": None, "high": None}


def test_a_stratum_of_which_every_pixel_is_in_the_sample_adds_no_variance() -> None:
    counts = np.array([[40, 10], [0, 1]])
    found = found_by(StratifiedSample.of_counts((1, 2), counts, np.array([5000, 1])))
    assert not math.isnan(found["OA"][0].low)
    assert (found["UA"][1].low, found["UA"][1].high) == (1, 1)


def test_a_pixel_that_was_drawn_twice_is_no_pixel_more() -> None:
    """Ten points that hit nine pixels of ten have not seen the tenth."""
    mapped, reference = np.zeros(10, np.int64), np.zeros(10, np.int64)
    known = np.array([10, 0]), np.array([10.0, 0.0])
    for places, low in ((np.arange(10), 1.0), (np.array([0, *range(9)]), 0.7)):
        sample = StratifiedSample.of_points((1, 2), mapped, reference, np.ones(10), known, places=places)
        assert assess(sample).users_accuracy[0].low == pytest.approx(low, abs=0.1 if low < 1 else 0)
        assert assess(sample).users_accuracy[0].high == 1


def test_a_stratum_without_points_is_refused() -> None:
    counts = np.array([[40, 10], [0, 0]])
    with pytest.raises(ValueError, match=r"none in \[7\]"):
        assess(StratifiedSample.of_counts((3, 7), counts, np.array([5000, 10])))


def test_points_of_unequal_pixels_count_by_their_area() -> None:
    """A map in degrees: in the north pixels are half as large, and the map is right only there."""
    random = np.random.default_rng(0)
    north = random.random(4000) < 0.5
    sizes, right = np.where(north, 0.5, 1.0), north
    reference = np.where(right, 0, 1)
    known = np.array([100_000, 0]), np.array([75_000.0, 0.0])
    sample = StratifiedSample.of_points(
        (1, 2), np.zeros(4000, np.int64), reference, sizes, known, places=np.arange(4000)
    )
    found = found_by(sample)
    assert found["OA"][0].estimate == pytest.approx(sizes[right].sum() / sizes.sum())
    assert found["OA"][0].estimate == pytest.approx(1 / 3, abs=0.02)
    mean = right @ sizes / sizes.sum()  # the variance of a ratio of means (Cochran 1977, 2.43)
    spread = ((sizes * (right - mean)) ** 2).sum() / sizes.sum() ** 2 * 4000 / 3999
    assert found["OA"][0].standard_error == pytest.approx(math.sqrt(spread))
    equal, places = np.full(4000, 7.0), np.arange(4000)
    plain = StratifiedSample.of_points((1, 2), np.zeros(4000, np.int64), reference, equal, known, places=places)
    assert found_by(plain)["OA"][0].estimate == pytest.approx(right.mean())
    assert found_by(plain)["OA"][0].standard_error == pytest.approx(math.sqrt(right.mean() * (1 - right.mean()) / 3999))


def test_intervals_of_unequal_pixels_hold_the_truth() -> None:
    random, held = np.random.default_rng(1), 0
    sizes = random.uniform(0.5, 1, 200_000)
    wrong = random.random(200_000) < np.where(sizes > 0.75, 0.2, 0.05)
    truth = sizes[~wrong].sum() / sizes.sum()
    known = np.array([200_000, 0]), np.array([sizes.sum(), 0.0])
    for _ in range(400):
        some = random.choice(200_000, 300, replace=False)
        sample = StratifiedSample.of_points(
            (1, 2), np.zeros(300, np.int64), wrong[some].astype(int), sizes[some], known, places=some
        )
        found = assess(sample).overall_accuracy
        held += found.low <= truth <= found.high
    assert 0.93 <= held / 400 <= 0.97
