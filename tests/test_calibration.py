from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from torchmetrics.functional.classification import multiclass_calibration_error

from eearth.calibration import BOUNDS, fit_temperature, reliability, tempered

SEEDS = st.integers(0, 1000)


def drawn(seed: int, count: int = 2000, *, sharpness: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Scores, and truths drawn from the softmax of `sharpness` times the scores."""
    random = np.random.default_rng(seed)
    scores = random.normal(0, 2, (count, 4))
    chances = softmax(sharpness * scores, axis=1).cumsum(axis=1)
    return scores, (random.random((count, 1)) > chances).sum(axis=1).clip(max=3)


@given(SEEDS)
def test_the_calibration_error_is_torchmetrics(seed: int) -> None:
    scores, truth = drawn(seed, 300, sharpness=0.4)
    found = reliability(softmax(scores, axis=1), truth)
    given_scores, given_truth = torch.from_numpy(scores).softmax(dim=1), torch.from_numpy(truth)
    expected = multiclass_calibration_error(given_scores, given_truth, num_classes=4, n_bins=15, norm="l1")
    assert found.error == pytest.approx(expected.item(), abs=1e-6)


def test_bins_tell_what_lies_in_them() -> None:
    probabilities = np.array([[1.0, 0.0], [0.95, 0.05], [0.4, 0.6], [0.4, 0.6], [0.5, 0.5]])
    found = reliability(probabilities, np.array([0, 1, 1, -1, 0]), bins=2).as_list()
    assert found[0] == {"low": 0.0, "high": 0.5, "confidence": 0.5, "accuracy": 1.0, "pixels": 1}
    assert found[1]["confidence"] == pytest.approx((1 + 0.95 + 0.6 + 0.6) / 4)
    assert (found[1]["accuracy"], found[1]["pixels"]) == (0.5, 4)
    empty = reliability(np.array([[0.9, 0.1]]), np.array([0]), bins=4)
    assert empty.as_list()[0]["accuracy"] is None
    json.dumps(empty.as_list(), allow_nan=False)
    assert empty.error == pytest.approx(0.1)


@given(SEEDS, st.floats(0.05, 20))
def test_tempered_is_the_softmax_of_divided_scores_and_keeps_the_order(seed: int, temperature: float) -> None:
    scores, _ = drawn(seed, 50)
    found = tempered(softmax(scores, axis=1), temperature)
    np.testing.assert_allclose(found, softmax(scores / temperature, axis=1), atol=1e-7)
    assert (found.argmax(axis=1) == scores.argmax(axis=1)).all()
    np.testing.assert_allclose(tempered(softmax(scores, axis=1).T, temperature, axis=0), found.T)


@pytest.mark.parametrize("true", [0.5, 1.0, 2.5])
def test_with_many_independent_pixels_it_is_the_temperature_of_the_least_cross_entropy(true: float) -> None:
    scores, truth = drawn(1, 20_000, sharpness=1 / true)
    found = fit_temperature(softmax(scores, axis=1), truth, len(truth))

    def surprise(temperature: float) -> float:
        return -np.log(softmax(scores / temperature, axis=1)[np.arange(len(truth)), truth]).mean()

    assert found == pytest.approx(minimize_scalar(surprise, bounds=(0.1, 10), method="bounded").x, rel=5e-3)
    assert found == pytest.approx(true, rel=0.05)
    before, after = (reliability(softmax(scores / t, axis=1), truth).error for t in (1.0, found))
    assert after < before or true == 1


def test_few_polygons_say_little_and_none_nothing() -> None:
    scores, truth = drawn(2, 2000, sharpness=0.3)
    probabilities = softmax(scores, axis=1)
    found = [fit_temperature(probabilities, truth, independent) for independent in (0, 1, 5, 30, 2000)]
    assert found[0] == pytest.approx(1, abs=1e-5)
    assert found == sorted(found)
    assert found[1] < 1.2
    assert found[4] > 3
    assert fit_temperature(probabilities, np.full(2000, -1), 30) == 1
    assert fit_temperature(probabilities[:0], truth[:0], 0) == 1


def test_no_error_among_few_polygons_does_not_make_the_model_sure_of_everything() -> None:
    probabilities = np.tile([[0.97, 0.03]], (3000, 1))
    right = np.zeros(3000, np.int64)
    assert 0.95 < fit_temperature(probabilities, right, 8) < 1
    assert fit_temperature(probabilities, right, 3000) < 0.6


@given(st.lists(st.sampled_from([0, 1, -1]), min_size=1, max_size=30), st.integers(1, 30))
def test_a_model_that_is_sure_of_everything_gets_a_finite_temperature(truth: list[int], independent: int) -> None:
    probabilities = np.tile([[1.0, 0.0]], (len(truth), 1))
    found = fit_temperature(probabilities, np.array(truth), independent)
    assert found >= (1 - 1e-4 if 1 in truth else 0.9)
    assert found <= np.exp(BOUNDS[1])
