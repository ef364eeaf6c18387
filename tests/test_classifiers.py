from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from eearth import classifiers
from eearth.classifiers import forest, probe

if TYPE_CHECKING:
    from numpy.typing import NDArray


def drawn(classes: int, count: int = 120, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Features of which the first ones tell the classes apart, each with its own spread; codes that are not indices."""
    random = np.random.default_rng(seed)
    target = random.integers(0, classes, count)
    features = (random.normal(size=(count, 10)) + 2 * np.eye(classes, 10)[target]) * np.geomspace(0.1, 30, 10) + 7
    return features.astype(np.float32), np.array([3, 4, 90, 200], np.uint8)[target]


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_the_probe_is_scikit_learns_logistic_regression_with_one_scale(classes: int) -> None:
    known, codes = drawn(classes)
    usual, _ = drawn(classes, 500, seed=1)
    asked, _ = drawn(classes, 1000, seed=2)
    scale = np.sqrt(np.mean([column.std() ** 2 for column in usual.astype(np.float64).T]))
    expected = LogisticRegression(max_iter=10_000, tol=1e-8).fit(known / scale, codes)
    found = probe(known, codes, usual)
    assert found(asked).dtype == np.uint8
    assert (found(asked) == expected.predict(asked / scale)).mean() > 0.998
    chances = np.exp(asked @ found.weights.T + found.biases)
    chances /= chances.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(chances, expected.predict_proba(asked / scale), atol=0.01)
    np.testing.assert_allclose((asked @ found.weights.T + found.biases).sum(axis=1), 0, atol=1e-6)


def test_a_pixel_that_counts_twice_is_one_that_is_there_twice() -> None:
    known, codes = drawn(3)
    asked, _ = drawn(3, 500, seed=2)
    counts = np.where(codes == 90, 2, 1).astype(np.float32)
    twice = np.repeat(np.arange(len(codes)), counts.astype(int))
    weighted, repeated = probe(known, codes, known, counts), probe(known[twice], codes[twice], known)
    np.testing.assert_allclose(weighted.weights, repeated.weights, rtol=1e-3, atol=1e-4)
    assert (weighted(asked) == repeated(asked)).all()
    assert (weighted(asked) != probe(known, codes, known)(asked)).any()


def test_the_unit_of_the_features_does_not_matter() -> None:
    known, codes = drawn(3)
    asked, _ = drawn(3, 500, seed=2)
    small = probe(1e-4 * known, codes, 1e-4 * known)
    assert (small(1e-4 * asked) == probe(known, codes, known)(asked)).mean() > 0.995


def test_of_a_single_class_the_probe_knows_nothing_else() -> None:
    known, codes = drawn(3)
    alone = probe(known[codes == 4], codes[codes == 4], known)
    assert (alone(known) == 4).all()


def test_features_that_do_not_vary_leave_the_more_frequent_class() -> None:
    known = np.full((5, 2), 3.0, np.float32)
    assert (probe(known, np.array([1, 1, 9, 9, 9], np.uint8), known)(known) == 9).all()


@pytest.mark.parametrize("name", ["forest", "probe"])
def test_classifiers_learn(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifiers, "TREES", 20)
    random = np.random.default_rng(0)
    codes = np.repeat(np.array([3, 200], np.uint8), 10)
    features = (random.normal(0, 1, (20, 4)) + 4 * (codes == 200)[:, None]).astype(np.float32)
    model = forest(features, codes, 5) if name == "forest" else probe(features, codes, features)
    assert model(features).tolist() == codes.tolist()
    assert model(features).dtype == np.uint8


def test_a_forest_is_a_function_of_its_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifiers, "TREES", 5)
    random = np.random.default_rng(0)
    noise, codes = random.normal(0, 1, (220, 4)).astype(np.float32), random.integers(1, 4, 20).astype(np.uint8)
    one, again, other = (forest(noise[:20], codes, seed)(noise[20:]).tolist() for seed in (5, 5, 6))
    assert one == again != other
