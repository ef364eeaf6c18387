"""What is known of a region's features after one look at them all: enough to code them as integers and to draw them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True)
class Moments:
    """Count, mean, spread and range of feature vectors.

    Attributes:
        count: Pixels with features.
        mean: (feature,); 0 where there is no pixel at all.
        scatter: (feature, feature) sums of products of the deviations from the mean.
        low: (feature,) least value.
        high: (feature,) largest value.
    """

    count: int
    mean: NDArray[np.float64]
    scatter: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    @classmethod
    def of(cls, parts: Iterable[NDArray[np.float32]], features: int) -> Moments:
        """Gather them part by part.

        Args:
            parts: Each (feature, y, x), NaN in every feature of a pixel without features.
            features: Length of a feature vector.
        """
        zero = np.zeros(features)
        found = cls(0, zero, np.zeros((features, features)), zero, zero)
        for part in parts:
            pixels = part[:, np.isfinite(part[0])].astype(np.float64)
            if pixels.shape[1]:
                mean = pixels.mean(axis=1)
                away = pixels - mean[:, None]
                found |= cls(pixels.shape[1], mean, away @ away.T, pixels.min(axis=1), pixels.max(axis=1))
        return found

    def __or__(self, other: Moments) -> Moments:
        """Both together, without the loss of digits of a sum of squares (Chan, Golub & LeVeque 1983)."""
        if not self.count:
            return other
        count = self.count + other.count
        step = other.mean - self.mean
        return Moments(
            count,
            self.mean + step * (other.count / count),
            self.scatter + other.scatter + np.outer(step, step) * (self.count * other.count / count),
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
        )

    @property
    def sd(self) -> NDArray[np.float64]:
        """(feature,) standard deviation."""
        deviation: NDArray[np.float64] = np.sqrt(np.diag(self.scatter) / max(1, self.count))
        return deviation
