"""Segmentation losses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F

if TYPE_CHECKING:
    from torch import Tensor


def weighted_cross_entropy(scores: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Cross entropy of pixels, each class with its weight; divided by the sum of the weights, not of the pixels.

    Args:
        scores: (pixel, class), before the softmax.
        target: (pixel,) index of the true class.
        weight: (class,), not negative.

    Returns:
        Scalar; 0 if there is no pixel.
    """
    if len(target) == 0:
        return scores.sum() * 0.0
    return F.cross_entropy(scores.float(), target, weight=weight)
