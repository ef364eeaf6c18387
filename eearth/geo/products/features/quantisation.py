"""Features as 8-bit integers: a quarter of the size, and by how much they are off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from eearth.geo.products.features.moments import Moments

# −127..127 are features; the one number left is no feature.
LARGEST = 127
NODATA = -128

# No number stands for more than this many standard deviations from the mean: a few odd pixels must not coarsen all the
# others. At most 1 % of the pixels lie beyond (Chebyshev), and none does where the features are as usual; for the
# others the root mean square error is at most about 10 / 127 / sqrt(12) = 2.3 % of a standard deviation.
FARTHEST = 10.0


@dataclass(frozen=True)
class Int8:
    """Feature = number × scale + offset.

    Attributes:
        scale: (feature,), positive.
        offset: (feature,) the mean: a feature may vary little around a large value, which numbers that are symmetric
            about zero would resolve badly.
    """

    scale: NDArray[np.float64]
    offset: NDArray[np.float64]

    @classmethod
    def fitting(cls, moments: Moments) -> Int8:
        """Symmetric about the mean, as far as the features reach, but no farther than `FARTHEST`."""
        reach = np.maximum(moments.high - moments.mean, moments.mean - moments.low)
        scale = np.minimum(reach, FARTHEST * moments.sd) / LARGEST
        return cls(np.where(scale > 0, scale, 1.0), moments.mean)

    def encode(self, features: NDArray[np.float32]) -> NDArray[np.int8]:
        """(feature, y, x) → numbers; `NODATA` for NaN. One feature after the other, which bounds the memory."""
        numbers = np.full(features.shape, NODATA, np.int8)
        for values, coded, scale, offset in zip(features, numbers, self.scale, self.offset, strict=True):
            there = np.isfinite(values)
            coded[there] = np.clip(np.rint((values[there] - offset) / scale), -LARGEST, LARGEST)
        return numbers


class MeasuredInt8:
    """Codes features part by part, and measures how far the numbers are off.

    Args:
        moments: Of all the features.
    """

    def __init__(self, moments: Moments) -> None:
        """Begin with no error."""
        self.code, self._moments = Int8.fitting(moments), moments
        self._squares = np.zeros(len(moments.mean))
        self._most = np.zeros(len(moments.mean))
        self.clipped = np.zeros(len(moments.mean), np.int64)

    def encode(self, features: NDArray[np.float32]) -> NDArray[np.int8]:
        """(feature, y, x) → numbers; `NODATA` for NaN. Each pixel counts, so none may come twice."""
        numbers = self.code.encode(features)
        for index, (scale, offset) in enumerate(zip(self.code.scale, self.code.offset, strict=True)):
            there = numbers[index] != NODATA
            values = features[index][there] - offset
            error = np.abs(numbers[index][there] * scale - values)
            self._squares[index] += (error**2).sum()
            self._most[index] = max(self._most[index], error.max(initial=0))
            self.clipped[index] += (np.abs(values) > (LARGEST + 0.5) * scale).sum()
        return numbers

    @property
    def rms(self) -> NDArray[np.float64]:
        """(feature,) root mean square error in standard deviations of the feature."""
        return self._in_deviations(np.sqrt(self._squares / max(1, self._moments.count)))

    @property
    def largest(self) -> NDArray[np.float64]:
        """(feature,) largest error in standard deviations of the feature."""
        return self._in_deviations(self._most)

    def _in_deviations(self, error: NDArray[np.float64]) -> NDArray[np.float64]:
        sd = self._moments.sd
        share: NDArray[np.float64] = np.divide(error, sd, out=np.zeros_like(error), where=sd > 0)
        return share

    def figures(self) -> dict[str, Any]:
        """For the summary: the errors of the worst feature, and the values of all features that were cut."""
        values = max(1, self._moments.count * len(self.clipped))
        clipped = int(self.clipped.sum())
        return {
            "int8 rms error": f"{self.rms.max():.2%} of a standard deviation",
            "int8 largest error": f"{self.largest.max():.2%} of a standard deviation",
            "int8 values clipped": f"{clipped} ({clipped / values:.4%})",
        }

    def records(self) -> dict[str, Any]:
        """For the manifest: code and error of each feature."""
        return {
            "scale": self.code.scale.tolist(),
            "offset": self.code.offset.tolist(),
            "rms error in standard deviations": self.rms.tolist(),
            "largest error in standard deviations": self.largest.tolist(),
            "clipped": self.clipped.tolist(),
        }
