from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from eearth.accuracy.bootstrap import _tail, bootstrap, group_confusions
from eearth.metrics import accuracy, confusion_matrix, measures


def made(groups: int, seed: int = 0, classes: int = 3) -> np.ndarray:
    random = np.random.default_rng(seed)
    counts = random.integers(0, 20, (groups, classes, classes + 1))
    counts[:, np.arange(classes), np.arange(classes)] += random.integers(20, 200, (groups, classes))
    return counts


def test_measures_of_many_matrices_are_those_of_each() -> None:
    many = made(30)
    many[3], many[4, 1], many[5, :, 1] = 0, 0, 0
    found = measures(many)
    for number, one in enumerate(many):
        alone = accuracy(one, (1, 2, 3))
        for name in ("overall_accuracy", "mean_iou", "iou", "f1", "producers_accuracy", "users_accuracy"):
            np.testing.assert_array_equal(getattr(found, name)[number], getattr(alone, name))


def test_groups_sum_up_to_the_confusion_matrix() -> None:
    random = np.random.default_rng(0)
    reference, mapped, groups = random.integers(0, 3, 500), random.integers(0, 4, 500), random.integers(-9, 9, 500)
    found = group_confusions(reference, mapped, groups, 3)
    np.testing.assert_array_equal(
        found.sum(axis=0), confusion_matrix(reference + 1, np.where(mapped < 3, mapped + 1, 0), (1, 2, 3))
    )
    for number, own in zip(np.unique(groups), found, strict=True):
        assert own.sum() == (groups == number).sum()


def test_the_same_seed_gives_the_same_intervals() -> None:
    one, same, other = (bootstrap(made(12), replicates=300, seed=seed) for seed in (0, 0, 1))
    assert one == same
    assert one != other


def test_intervals_equal_a_naive_bootstrap() -> None:
    counts = made(25)
    found = bootstrap(counts, replicates=4000, seed=0)
    random = np.random.default_rng(5)
    drawn = [accuracy(counts[random.integers(0, 25, 25)].sum(axis=0), (1, 2, 3)) for _ in range(4000)]
    tail = stats.norm.cdf(stats.t.ppf(0.025, 24) * np.sqrt(25 / 24))
    for name in ("overall_accuracy", "mean_iou"):
        low, high = np.quantile([getattr(each, name) for each in drawn], (tail, 1 - tail))
        assert getattr(found, name).low == pytest.approx(low, abs=0.003)
        assert getattr(found, name).high == pytest.approx(high, abs=0.003)
        assert getattr(found, name).estimate == getattr(accuracy(counts.sum(axis=0), (1, 2, 3)), name)
    low, high = np.quantile([each.f1[1] for each in drawn], (tail, 1 - tail))
    assert (found.f1[1].low, found.f1[1].high) == pytest.approx((low, high), abs=0.003)


def test_intervals_equal_those_of_scipy() -> None:
    """Of many groups the expanded percentiles are the plain ones."""
    counts = made(400)
    right, all_ = np.diagonal(counts, axis1=1, axis2=2).sum(axis=1), counts.sum(axis=(1, 2))
    oracle = stats.bootstrap(
        (right, all_), lambda a, b, axis: a.sum(axis=axis) / b.sum(axis=axis), paired=True, vectorized=True,
        n_resamples=4000, method="percentile", rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    found = bootstrap(counts, replicates=4000, seed=0).overall_accuracy
    assert (found.low, found.high) == pytest.approx((oracle.low, oracle.high), abs=4e-4)


def test_few_groups_take_percentiles_farther_out() -> None:
    """Hesterberg (2015): as Student's distribution and the spread of so few ask for."""
    assert stats.norm.ppf(_tail(5)) == pytest.approx(-2.776 * np.sqrt(5 / 4), abs=1e-3)
    assert _tail(1000) == pytest.approx(0.025, abs=2e-4)


def test_whole_groups_promise_less_than_single_pixels() -> None:
    """Two kinds of blocks, one all right and one all wrong: pixel by pixel the interval would be a tenth as wide."""
    counts = np.zeros((20, 1, 2), dtype=int)
    counts[:10, 0, 0], counts[10:, 0, 1] = 100, 100
    blocks = bootstrap(counts, replicates=1000, seed=0).overall_accuracy
    pixels = bootstrap(np.repeat(counts // 100, 100, axis=0), replicates=1000, seed=0).overall_accuracy
    assert blocks.high - blocks.low > 7 * (pixels.high - pixels.low)


def test_what_rests_on_one_group_has_no_interval() -> None:
    counts = made(6)
    counts[1:, 2] = 0  # the reference shows the third class in the first group only
    found = bootstrap(counts, replicates=200, seed=0)
    assert np.isnan(found.producers_accuracy[2].low)
    assert found.producers_accuracy[2].estimate > 0
    assert not np.isnan(found.producers_accuracy[1].low)
    assert np.isnan(bootstrap(counts[:1], replicates=100, seed=0).overall_accuracy.low)


def test_a_class_without_an_error_is_not_certain() -> None:
    counts = np.zeros((5, 2, 3), dtype=int)
    counts[:, 0, 0], counts[:, 1, 1], counts[:, 1, 2] = 50, 20, np.arange(5)
    found = bootstrap(counts, replicates=200, seed=0).users_accuracy[0]
    assert (found.estimate, found.high) == (1, 1)
    assert found.low == pytest.approx(5 / (5 + 1.96**2))
