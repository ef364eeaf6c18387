from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from eearth.calibration import leading, tempered
from eearth.geo.products.landcover.prediction import Reason
from eearth.inference.classify import STRIP, classify

if TYPE_CHECKING:
    from numpy.typing import NDArray

CODES = (3, 4, 9, 200)


def drawn(classes: int, height: int, width: int, seed: int = 0) -> NDArray[np.float32]:
    scores = np.random.default_rng(seed).normal(0, 2, (classes, height, width))
    return softmax(scores, axis=0).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 14), st.integers(0, 10_000), st.floats(0.1, 10))
def test_leading_is_the_sort_of_all_tempered_probabilities(classes: int, seed: int, temperature: float) -> None:
    probabilities = drawn(classes, 3, 7, seed)
    probabilities[:, 0, 0] = probabilities[0, 0, 0]  # all alike: the first class
    found = leading(probabilities, temperature)
    ordered = np.sort(tempered(probabilities.astype(np.float64), temperature, axis=0), axis=0)
    np.testing.assert_array_equal(found.index, probabilities.argmax(axis=0))
    if temperature != 1:
        ordered[:, 0, 0] = 1 / classes
    np.testing.assert_allclose(found.first, ordered[-1], rtol=1e-4)
    np.testing.assert_allclose(found.second, ordered[-2] if classes > 1 else np.zeros((3, 7)), rtol=1e-4, atol=1e-30)


def test_a_probability_of_nothing_is_no_accident() -> None:
    probabilities = np.array([1, 0, 0], np.float32).reshape(3, 1, 1)
    found = leading(probabilities, 0.3)
    assert (found.index.item(), found.first.item()) == (0, 1)
    assert 0 <= found.second.item() < 1e-30


@pytest.mark.parametrize("temperature", [1.0, 1.7])
def test_classify_is_a_loop_over_pixels(temperature: float) -> None:
    height, width = 9, 11
    probabilities, random = drawn(4, height, width), np.random.default_rng(1)
    observations = random.integers(0, 3, (height, width)).astype(np.int32) * 150
    inside, strange = random.random((height, width)) > 0.2, random.integers(0, 101, (height, width)).astype(np.uint8)
    found = classify(
        probabilities, observations, inside, CODES, temperature, min_confidence=55, unfamiliarity=strange, keep=True
    )
    assert found.probabilities is not None
    reasons = set()
    for y in range(height):
        for x in range(width):
            powers = probabilities[:, y, x].astype(float) ** (1 / temperature)
            shares = powers / powers.sum()
            second, first = np.sort(shares)[-2:]
            percent, margin = round(100 * first), round(100 * (first - second))
            code, kept = CODES[int(shares.argmax())], np.rint(250 * shares).tolist()
            if not inside[y, x]:
                expected = (0, 255, 255, 255, 255, 255, 4 * [255])
            elif not observations[y, x]:
                expected = (0, 0, 0, 0, 1, strange[y, x], 4 * [255])
            else:
                code, reason = (0, 2) if percent < 55 else (code, 0)
                expected = (code, percent, min(observations[y, x], 254), margin, reason, strange[y, x], kept)
            of_pixel = (
                found.landcover, found.confidence, found.observations, found.margin, found.reason, found.unfamiliarity,
            )  # fmt: skip
            assert (*(band[y, x] for band in of_pixel), found.probabilities[:, y, x].tolist()) == expected
            reasons.add(int(found.reason[y, x]))
    assert reasons == {Reason.MAPPED, Reason.OUTSIDE_REGION, Reason.NEVER_OBSERVED, Reason.REJECTED}


def test_classes_do_not_depend_on_the_temperature_nor_pixels_on_their_strip() -> None:
    height, width = 2 * STRIP // 640 + 5, 640
    probabilities = drawn(4, height, width)
    observations, inside = np.ones((height, width), np.int32), np.ones((height, width), bool)
    cold, warm = (classify(probabilities, observations, inside, CODES, t) for t in (1.0, 2.5))
    np.testing.assert_array_equal(cold.landcover, warm.landcover)
    assert (warm.confidence <= cold.confidence).all()
    assert cold.probabilities is None
    assert np.unique(cold.unfamiliarity).tolist() == [255]
    half = classify(probabilities[:, 77:], observations[77:], inside[77:], CODES, 2.5)
    np.testing.assert_array_equal(half.confidence, warm.confidence[77:])
    np.testing.assert_array_equal(half.margin, warm.margin[77:])
