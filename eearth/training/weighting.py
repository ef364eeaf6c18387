"""How much a pixel of each class counts in fine-tuning."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eearth.config import suggestion
from eearth.errors import UsageError
from eearth.geo.labels.legend import code_named

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from eearth.settings import FinetuneSettings


# How far rare classes count more, with all labels and with a label budget. Of 0, 1/4, 1/2 and 1 a quarter was never
# behind on four sites with all labels (docs/method.md); a budget takes as many of each class, but for the rarest.
BALANCE, BUDGET_BALANCE = 0.25, 0.5


def class_weights(
    counts: NDArray[np.int64], codes: Sequence[int], settings: FinetuneSettings, legend: Mapping[str, int]
) -> NDArray[np.float32]:
    """Weight of each class: automatic, with the factors that the user gave.

    Args:
        counts: (class,) training pixels.
        codes: Code of each class.
        settings: `class_weights` and `class_balance`.
        legend: Name → code of every class.

    Raises:
        UsageError: A factor is for no class of the legend or could be for two, or no two classes count anything.
    """
    weight = balanced_weights(counts, planned_balance(settings))
    for given, factor in settings.class_factors().items():
        code = _code(given, codes, legend)
        if code in codes:  # a class of the legend may have no training pixel
            weight[list(codes).index(code)] *= np.float32(factor)
    if np.count_nonzero(weight) < 2:  # noqa: PLR2004 (one class is no choice)
        msg = "expected class_weights above 0 for at least two classes with training pixels, found fewer"
        raise UsageError(msg)
    return weight


def planned_balance(settings: FinetuneSettings) -> float:
    """How far rare classes count more: the exponent of `balanced_weights`."""
    if settings.class_weights == ("none",):
        return 0.0
    if settings.class_balance is not None:
        return settings.class_balance
    return BUDGET_BALANCE if settings.labels_per_class else BALANCE


def balanced_weights(counts: NDArray[np.int64], balance: float) -> NDArray[np.float32]:
    """Weight of each class: its pixel count to the power of −`balance`, averaging 1; 0 for a class without pixels."""
    weight = np.where(counts > 0, np.maximum(counts, 1).astype(np.float64) ** -balance, 0.0)
    scaled: NDArray[np.float32] = (weight * (counts > 0).sum() / weight.sum()).astype(np.float32)
    return scaled


def _code(given: str, codes: Sequence[int], legend: Mapping[str, int]) -> int:
    """The code of a class that the user named, by its name or its code."""
    names = {code: str(code) for code in codes} | {code: name for name, code in legend.items()}
    code = code_named(given, names, UsageError)
    if code is not None:
        return code
    known = [*legend, *map(str, codes)]
    msg = f"expected names or codes of classes in class_weights, found {given!r}; {suggestion(given, known)}"
    raise UsageError(msg)
