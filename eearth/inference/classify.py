"""From class probabilities to what a map shows of each pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eearth.calibration import leading, tempered
from eearth.errors import ModelError
from eearth.geo.products.landcover.prediction import MOST_OBSERVATIONS, OUTSIDE, WHOLE, Prediction, Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

# Pixels that are looked at together: the few arrays of so many numbers stay in a core's own cache.
STRIP = 2**16


def classify(
    probabilities: NDArray[np.float32],
    observations: NDArray[np.int32],
    inside: NDArray[np.bool_],
    codes: Sequence[int],
    temperature: float = 1.0,
    *,
    min_confidence: int = 0,
    unfamiliarity: NDArray[np.uint8] | None = None,
    keep: bool = False,
) -> Prediction:
    """The most probable class of every pixel that lies in the region and was ever seen.

    Args:
        probabilities: (class, y, x), summing to 1 over the classes.
        observations: (y, x) number of clear observations.
        inside: (y, x), True in the region.
        codes: Class code 1..255 of each class, in the order of `probabilities`.
        temperature: Of everything that says how probable a class is, see `eearth.calibration`; the classes do not
            depend on it.
        min_confidence: Percent; a pixel with less gets no land cover.
        unfamiliarity: (y, x), see `Prediction`; None where nothing is known of it.
        keep: Whether the map keeps the probabilities of all classes.

    Raises:
        ModelError: There are more or fewer codes than classes.
    """
    if len(probabilities) != len(codes):
        msg = f"expected a model of {len(codes)} classes, found {len(probabilities)}: run `eearth finetune` again"
        raise ModelError(msg)
    seen = inside & (observations > 0)
    landcover, confidence, margin = (np.empty(inside.shape, np.uint8) for _ in range(3))
    for strip in _strips(inside.shape):
        lead = leading(probabilities[:, *strip], temperature)
        landcover[strip] = np.take(np.asarray(codes, np.uint8), lead.index)
        confidence[strip] = np.maximum(_percent(lead.first), 1)
        margin[strip] = _percent(lead.first - lead.second)
    strange = np.full(inside.shape, OUTSIDE, np.uint8) if unfamiliarity is None else unfamiliarity
    reason = _reasons(inside, seen, confidence < min_confidence)
    return Prediction(
        landcover=landcover * (reason == Reason.MAPPED),
        confidence=_outside(confidence * seen, inside),
        observations=_outside(np.minimum(observations, MOST_OBSERVATIONS).astype(np.uint8), inside),
        margin=_outside(margin * seen, inside),
        reason=reason,
        unfamiliarity=_outside(strange, inside),
        probabilities=_kept(probabilities, seen, temperature) if keep else None,
    )


def _strips(shape: tuple[int, ...]) -> list[tuple[slice, slice]]:
    """Rows and columns of parts of about `STRIP` pixels."""
    rows = max(1, STRIP // shape[1])
    return [(slice(first, first + rows), slice(None)) for first in range(0, shape[0], rows)]


def _percent(share: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.rint(100 * share).astype(np.uint8)


def _outside(values: NDArray[np.uint8], inside: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """`OUTSIDE`, which is the highest value, where not `inside`."""
    return np.maximum(values, ~inside * np.uint8(OUTSIDE))


def _reasons(inside: NDArray[np.bool_], seen: NDArray[np.bool_], doubted: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The first that holds of: outside the region, never observed, rejected."""
    reason = doubted * np.uint8(Reason.REJECTED)
    reason[~seen] = Reason.NEVER_OBSERVED
    reason[~inside] = Reason.OUTSIDE_REGION
    return reason


def _kept(probabilities: NDArray[np.float32], seen: NDArray[np.bool_], temperature: float) -> NDArray[np.uint8]:
    """(class, y, x) calibrated probabilities in parts of `WHOLE`; `OUTSIDE` where not `seen`."""
    kept = np.empty(probabilities.shape, np.uint8)
    for strip in _strips(seen.shape):
        shares = tempered(probabilities[:, *strip], temperature, axis=0)
        kept[:, *strip] = np.where(seen[strip], np.rint(WHOLE * shares), OUTSIDE)
    return kept
