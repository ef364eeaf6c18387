"""From class probabilities to what a map shows of each pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eearth.calibration import highest
from eearth.errors import ModelError
from eearth.geo.products.prediction import MOST_OBSERVATIONS, OUTSIDE, Prediction

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def classify(
    probabilities: NDArray[np.float32],
    observations: NDArray[np.int32],
    inside: NDArray[np.bool_],
    codes: Sequence[int],
    temperature: float = 1.0,
) -> Prediction:
    """The most probable class of every pixel that lies in the region and was ever seen.

    Args:
        probabilities: (class, y, x), summing to 1 over the classes.
        observations: (y, x) number of clear observations.
        inside: (y, x), True in the region.
        codes: Class code 1..255 of each class, in the order of `probabilities`.
        temperature: Of the confidence, see `eearth.calibration`; the classes do not depend on it.

    Raises:
        ModelError: There are more or fewer codes than classes.
    """
    if len(probabilities) != len(codes):
        msg = f"expected a model of {len(codes)} classes, found {len(probabilities)}: run `eearth finetune` again"
        raise ModelError(msg)
    seen = inside & (observations > 0)
    landcover = np.asarray(codes, np.uint8)[probabilities.argmax(axis=0)]
    percent = np.clip(np.rint(100 * highest(probabilities, temperature)), 1, 100).astype(np.uint8)
    counts = np.minimum(observations, MOST_OBSERVATIONS).astype(np.uint8)
    return Prediction(
        landcover=np.where(seen, landcover, 0).astype(np.uint8),
        confidence=np.where(inside, np.where(seen, percent, 0), OUTSIDE).astype(np.uint8),
        observations=np.where(inside, counts, OUTSIDE).astype(np.uint8),
    )
