from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eearth.inference import smoothing
from eearth.inference.smoothing import smoothed, smoothing_halo


def made(classes: int, height: int, width: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, some of them 0 and 1, and where they were observed."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, 4, (classes, height, width)).astype(np.float32)
    scores[0, rng.random((height, width)) < 0.05] = 200
    found = np.exp(scores - scores.max(axis=0))
    return found / found.sum(axis=0), rng.random((height, width)) < 0.8


def by_hand(probabilities: np.ndarray, seen: np.ndarray, window: int) -> np.ndarray:
    """The formula, pixel by pixel, with the standard library's mean and variance."""
    clipped = np.clip(probabilities.astype(np.float64), 1e-4, 1 - 1e-4)
    logits, reach = np.log(clipped / (1 - clipped)), window // 2
    result = probabilities.astype(np.float64)
    for row, col in zip(*np.nonzero(seen), strict=True):
        rows, cols = (slice(max(0, place - reach), place + reach + 1) for place in (row, col))
        values = []
        for logit in logits:
            around = sorted(logit[rows, cols][seen[rows, cols]].tolist(), reverse=True)
            high = around[: math.ceil(len(around) / 2)]
            if len(high) > 1:
                mean, spread = statistics.mean(high), statistics.variance(high)
                values.append((spread * logit[row, col] + 20 * mean) / (spread + 20))
        if values:
            likely = 1 / (1 + np.exp(-np.array(values)))
            result[:, row, col] = likely / likely.sum()
    return result


@pytest.mark.parametrize("window", [3, 5, 9])
def test_smoothing_is_the_posterior_mean(window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smoothing, "PIXELS_AT_ONCE", 60)  # several strips
    probabilities, seen = made(4, 17, 13, seed=window)
    seen[:6, :6] = False
    seen[2, 2] = seen[14, 3] = True  # one without any neighbour
    found = smoothed(probabilities, seen, window)
    np.testing.assert_allclose(found, by_hand(probabilities, seen, window), atol=2e-6)
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-6)
    assert found.dtype == np.float32


@pytest.mark.parametrize("count", [1, 2, 3, 9, 25, 49, 441])
def test_highest_values_are_those_of_a_sort(count: int) -> None:
    values = np.random.default_rng(count).integers(-9, 9, (count, 500)).astype(np.float32)
    values[values == -9] = -np.inf
    most = (count + 1) // 2
    found = smoothing._highest(list(values.copy()), most)
    np.testing.assert_array_equal(found, -np.sort(-values, axis=0)[:most])


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.sampled_from([1, 3, 5, 7]), st.integers(1, 30), st.integers(1, 30), st.data())
def test_a_tile_with_its_halo_is_that_of_the_whole(
    seed: int, window: int, height: int, width: int, data: st.DataObject
) -> None:
    probabilities, seen = made(3, height, width, seed)
    whole = smoothed(probabilities, seen, window)
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    bottom, right = data.draw(st.integers(top + 1, height)), data.draw(st.integers(left + 1, width))
    halo = smoothing_halo(window)
    row, col = max(0, top - halo), max(0, left - halo)
    part = slice(row, bottom + halo), slice(col, right + halo)
    found = smoothed(probabilities[:, *part], seen[part], window)[:, top - row : bottom - row, left - col : right - col]
    np.testing.assert_array_equal(found, whole[:, top:bottom, left:right])


def test_pixels_never_observed_neither_give_nor_take() -> None:
    probabilities, seen = made(3, 20, 20, seed=1)
    other = np.where(seen, probabilities, made(3, 20, 20, seed=2)[0])
    found, again = smoothed(probabilities, seen, 5), smoothed(other, seen, 5)
    np.testing.assert_array_equal(found[:, seen], again[:, seen])
    np.testing.assert_array_equal(found[:, ~seen], probabilities[:, ~seen])


def test_lone_errors_go_and_edges_stay() -> None:
    likely = np.full((2, 20, 20), 0.05, np.float32)
    likely[0, :, :10] = likely[1, :, 10:] = 0.95
    truth = likely.argmax(axis=0)
    rng = np.random.default_rng(0)
    wrong = rng.random((20, 20)) < 0.05
    noisy = np.where(wrong, np.float32([[[0.55]], [[0.45]]]), likely)
    noisy = np.where(wrong & (truth == 0), np.float32([[[0.45]], [[0.55]]]), noisy)
    assert (noisy.argmax(axis=0) != truth).sum() == wrong.sum() > 10
    np.testing.assert_array_equal(smoothed(noisy, np.ones((20, 20), dtype=bool), 5).argmax(axis=0), truth)
