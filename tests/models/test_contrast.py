"""The closed form against matrix functions of SciPy, and against what it is for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import expm, logm, sqrtm
from scipy.spatial.distance import pdist

from eearth.models.contrast import contrast

if TYPE_CHECKING:
    from random import Random

    from numpy.typing import NDArray

RIDGE = 0.05


def drawn(count: int, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Profiles of four numbers and those of neighbours: places differ in two, one is noise, one never varies."""
    random = np.random.default_rng(seed)
    place = random.normal(size=(count, 1)) * [3.0, 1.0, 0.0, 0.0]
    own, other = (place + random.normal(size=(count, 4)) * [2.0, 0.1, 1.0, 0.0] for _ in range(2))
    return own, other


def learnt(
    own: NDArray[np.float64], other: NDArray[np.float64], evening: float, agreement: float, features: int = 4
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    found = contrast(torch.from_numpy(own), torch.from_numpy(other), features, evening=evening, agreement=agreement)
    return found.weight.numpy(), found.bias.numpy()


def within(own: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pair by pair: the differences' products, each counted less the longer it is."""
    squared = ((own - other) ** 2).sum(axis=1)
    total, weights = np.zeros((own.shape[1],) * 2), 0.0
    for difference, length in zip(own - other, squared, strict=True):
        weight = 1 / (1 + length / np.sort(squared)[(len(squared) - 1) // 2])
        total += weight * np.outer(difference, difference) / 2
        weights += weight
    return total / weights


def ridged(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    return covariance + RIDGE * np.trace(covariance) / len(covariance) * np.eye(len(covariance))


@pytest.mark.parametrize(("evening", "agreement"), [(0.5, 0.75), (0.0, 0.5), (1.0, 1.0), (0.5, 0.0)])
def test_distances_are_those_of_the_metric(evening: float, agreement: float) -> None:
    own, other = drawn(600)
    weight, bias = learnt(own, other, evening, agreement)
    every = logm(ridged(np.cov(own.T, bias=True)))
    metric = expm(-evening * every + agreement * (every - logm(ridged(within(own, other)))))
    features = own @ weight.T + bias
    ratio = pdist(features[:100]) / pdist(own[:100] @ np.real(sqrtm(metric)))
    assert ratio == pytest.approx(ratio[0], rel=1e-6)
    assert features.mean(axis=0) == pytest.approx(0, abs=1e-9)
    assert features.var(axis=0).mean() == pytest.approx(1)
    strength = features.std(axis=0)
    assert (np.diff(strength) <= 0).all()
    assert np.cov(features.T) - np.diag(np.diag(np.cov(features.T))) == pytest.approx(0, abs=1e-9)


def test_it_shows_the_strength_and_the_correlation_of_neighbours() -> None:
    own, other = drawn(20000)
    found = contrast(torch.from_numpy(own), torch.from_numpy(other), 4, evening=0.0, agreement=1.0)
    features, beside = (side @ found.weight.numpy().T + found.bias.numpy() for side in (own, other))
    assert found.strength.numpy() == pytest.approx(features.std(axis=0))
    correlation = [np.corrcoef(features[:, k], beside[:, k])[0, 1] for k in range(3)]
    # pairs that differ most count least, which raises the correlation
    assert (found.shared.numpy()[:3] >= np.array(correlation) - 0.02).all()
    assert found.shared[0] > 0.9
    assert found.shared[3] == 0


def apart(features: NDArray[np.float64], first: NDArray[np.bool_]) -> float:
    """Squared distance between two classes' means beside the spread within them."""
    between = np.square(features[first].mean(axis=0) - features[~first].mean(axis=0)).sum()
    return float(between / (features[first].var(axis=0).sum() + features[~first].var(axis=0).sum()))


def test_classes_that_neighbours_share_come_apart_and_with_broken_pairs_they_do_not() -> None:
    random = np.random.default_rng(0)
    place = random.integers(0, 2, (5000, 1)) * [0.5, 0.5]
    own, other = (place + random.normal(size=(5000, 2)) * [1.0, 0.1] for _ in range(2))
    first = place[:, 0] == 0

    def gain(beside: NDArray[np.float64]) -> float:
        return apart(own @ learnt(own, beside, 0.0, 0.75, 2)[0].T, first) / apart(own, first)

    assert gain(other) > 1.3
    assert gain(random.permutation(other)) == pytest.approx(1, abs=0.2)
    assert gain(own) < 1  # nothing differs within pairs: what varies most is raised, which is noise


def test_an_edge_between_neighbours_hardly_counts() -> None:
    """One pair in twenty lies across the edge of a field, where the profile jumps."""
    own, other = drawn(4000)
    jumped = other.copy()
    jumped[::20] += 40 * np.eye(4)[0]
    kept, bent = learnt(own, other, 0.5, 0.75)[0], learnt(own, jumped, 0.5, 0.75)[0]
    assert np.abs(bent[0]) / np.linalg.norm(bent[0]) == pytest.approx(
        np.abs(kept[0]) / np.linalg.norm(kept[0]), abs=0.1
    )


@given(
    st.integers(2, 40), st.integers(1, 6), st.integers(1, 8), st.tuples(st.floats(0, 1), st.floats(0, 1)), st.randoms()
)
def test_whatever_the_profiles_the_map_is_finite(
    pixels: int, profile: int, features: int, recipe: tuple[float, float], chance: Random
) -> None:
    random = np.random.default_rng(chance.randrange(100))
    own, other = (random.normal(size=(pixels, profile)) * random.integers(0, 3, profile) for _ in range(2))
    for beside in (other, own):
        weight, bias = learnt(own, beside, *recipe, features)
        assert weight.shape == (features, profile)
        assert np.isfinite(weight).all()
        assert np.isfinite(bias).all()
