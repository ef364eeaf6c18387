"""Whether probabilities can be believed: reliability, its one figure, and the temperature that mends it.

After Guo et al. 2017, "On calibration of modern neural networks", arXiv 1706.04599.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

# Equal parts of [0, 1] that confidences are sorted into, as in Guo et al.
BINS = 15

# In place of a probability that float32 rounds to 0.
LEAST_PROBABILITY = float(np.finfo(np.float32).tiny)

# What is known of the logarithm of a temperature before anything is seen: its standard deviation around 0. A logistic
# regression, and what a few careful steps make of it, is nearly calibrated by itself: a factor of e^0.25 = 1.3 either
# way is usual, one of 2 is not. Twice as wide a spread lets the few polygons of a small validation part do harm
# (docs/method.md).
USUAL_SPREAD = 0.25

# Bounds of that logarithm: a factor of 20 either way is far beyond what the line above leaves.
BOUNDS = (-3.0, 3.0)


@dataclass(frozen=True)
class Reliability:
    """How often pixels are right, by how sure the model was; arrays are (bin,).

    Attributes:
        confidence: Mean highest probability of a bin's pixels; NaN where there are none.
        accuracy: Share of them whose class is right; NaN where there are none.
        pixels: How many there are, int64.
    """

    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    pixels: NDArray[np.int64]

    @property
    def error(self) -> float:
        """Expected calibration error: the mean distance of confidence and accuracy, each bin by its pixels."""
        there = self.pixels > 0
        apart = np.abs(self.accuracy - self.confidence)[there]
        return float((apart * self.pixels[there]).sum() / self.pixels.sum()) if there.any() else float("nan")

    def as_list(self) -> list[dict[str, Any]]:
        """JSON-ready, one entry a bin."""
        edges = np.linspace(0, 1, len(self.pixels) + 1)
        return [
            {
                "low": float(edges[k]),
                "high": float(edges[k + 1]),
                "confidence": float(self.confidence[k]) if self.pixels[k] else None,
                "accuracy": float(self.accuracy[k]) if self.pixels[k] else None,
                "pixels": int(self.pixels[k]),
            }
            for k in range(len(self.pixels))
        ]


def reliability(probabilities: NDArray[np.floating], truth: NDArray[np.int64], bins: int = BINS) -> Reliability:
    """Sort pixels by their highest probability.

    Args:
        probabilities: (pixel, class), summing to 1.
        truth: (pixel,) index of the true class; −1 for one that the model does not know, where it is always wrong.
        bins: Equal parts of [0, 1]; a confidence on a border belongs to the lower one.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == truth
    place = np.clip(np.ceil(confidence * bins) - 1, 0, bins - 1).astype(np.int64)
    pixels = np.bincount(place, minlength=bins)
    means = [np.bincount(place, weights=values, minlength=bins) for values in (confidence, right)]
    with np.errstate(invalid="ignore"):
        return Reliability(means[0] / pixels, means[1] / pixels, pixels)


def fit_temperature(probabilities: NDArray[np.floating], truth: NDArray[np.int64], independent: int) -> float:
    """The temperature under which what is true was most to be expected, and no farther from 1 than the pixels say.

    Guo et al. take the temperature of the least cross entropy. Pixels of one polygon are right or wrong together, so
    their mean cross entropy counts as often as there are independent polygons, not pixels; and to it is added what
    speaks for 1 beforehand, log² T / 2 s² with s = `USUAL_SPREAD`. That is the maximum of the posterior under a
    log-normal prior. Without it a validation part without an error asks for a temperature of 0.

    Args:
        probabilities: (pixel, class), summing to 1.
        truth: (pixel,) index of the true class; −1, for a class that the model does not know, is left out.
        independent: Polygons, or whatever else is right or wrong as a whole, that the pixels come from.

    Returns:
        1 where there is nothing to learn it from.
    """
    known = truth >= 0
    if not known.any():
        return 1.0
    found, true = probabilities[known], truth[known, None]

    def surprise(logarithm: float) -> float:
        believed = np.take_along_axis(tempered(found, math.exp(logarithm)), true, axis=1)
        expected = -np.log(np.maximum(believed, LEAST_PROBABILITY)).mean()
        return float(independent * expected + logarithm**2 / (2 * USUAL_SPREAD**2))

    return math.exp(minimize_scalar(surprise, bounds=BOUNDS, method="bounded").x)


@dataclass(frozen=True)
class Leading:
    """The two most probable classes of each pixel; every array has the pixels' shape.

    Attributes:
        index: Of the most probable class, uint8; of several alike the first.
        first: Its probability.
        second: That of the second most probable class; 0 where there is no other class.
    """

    index: NDArray[np.uint8]
    first: NDArray[np.float32]
    second: NDArray[np.float32]


def leading(probabilities: NDArray[np.float32], temperature: float) -> Leading:
    """What `tempered` makes of the two highest probabilities, class by class and in float32: a map has many pixels.

    Args:
        probabilities: (class, ...), summing to 1; at most 256 classes.
        temperature: See `tempered`; the index does not depend on it.
    """
    first, second = probabilities[0].copy(), np.zeros_like(probabilities[0])
    index, less = np.zeros(first.shape, np.uint8), np.empty_like(first)
    for number, one in enumerate(probabilities[1:], 1):
        # Comparisons and extremes alone run through the processor many pixels at a time; argmax does not.
        np.maximum(index, (one > first) * np.uint8(number), out=index)
        np.minimum(first, one, out=less)
        np.maximum(second, less, out=second)
        np.maximum(first, one, out=first)
    if temperature == 1:
        return Leading(index, first, second)
    total = np.zeros_like(first)
    for one in probabilities:
        total += _power(one, first, temperature)
    following = _power(second, first, temperature) / total if len(probabilities) > 1 else second
    return Leading(index, 1 / total, following)


def _power(probabilities: NDArray[np.float32], highest: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """(probabilities / highest) to the power of 1 / temperature, in one piece of memory."""
    result: NDArray[np.float32] = probabilities / highest
    np.maximum(result, np.float32(LEAST_PROBABILITY), out=result)
    np.log(result, out=result)
    result *= np.float32(1 / temperature)
    np.exp(result, out=result)
    return result


def tempered(probabilities: NDArray[np.floating], temperature: float, axis: int = 1) -> NDArray[np.floating]:
    """Probabilities to the power of 1 / temperature, made to sum to 1 again; their order stays.

    That is the softmax of the scores divided by the temperature, and also works on means of several softmaxes. A
    temperature of 1 gives back what there is.
    """
    if temperature == 1:
        return probabilities
    logarithms = np.log(np.maximum(probabilities, LEAST_PROBABILITY, dtype=np.float64)) / temperature
    powers = np.exp(logarithms - logarithms.max(axis=axis, keepdims=True))
    result: NDArray[np.float64] = powers / powers.sum(axis=axis, keepdims=True)
    return result
