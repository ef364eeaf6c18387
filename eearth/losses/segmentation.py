"""Segmentation losses of pixels, of which those without a label count nothing."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol

import torch
import torch.nn.functional as F

from eearth.losses.precision import widened

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

# Target of a pixel that teaches nothing.
IGNORED = -1

# How much less a focal loss counts what is right already: Lin et al.'s best on every network that they tried.
FOCAL_GAMMA = 2.0


class SegmentationLoss(Protocol):
    """A loss of pixels."""

    def __call__(self, scores: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """How far scores are from what is true.

        Args:
            scores: (pixel, class), before the softmax.
            target: (pixel,) index of the true class; `IGNORED` where there is none.
            weight: (class,), not negative: how much a class counts.

        Returns:
            Scalar float32, or float64 if the scores are; 0, with a gradient of 0, if no pixel counts.
        """


def weighted_cross_entropy(scores: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Cross entropy of pixels, each class with its weight; divided by the sum of the weights, not of the pixels."""
    scores, target, weight = _counted(scores, target, weight)
    return F.cross_entropy(scores, target, weight=weight) if len(target) else scores.sum() * 0.0


def focal(scores: Tensor, target: Tensor, weight: Tensor, gamma: float = FOCAL_GAMMA) -> Tensor:
    """Cross entropy in which a pixel counts (1 − p)^gamma, p the probability of its true class.

    Lin et al. 2017, "Focal loss for dense object detection", arXiv 1708.02002, equation 5, averaged as
    `weighted_cross_entropy` is. With gamma = 0 it is that.
    """
    scores, target, weight = _counted(scores, target, weight)
    if not len(target):
        return scores.sum() * 0.0
    true = scores.log_softmax(dim=1).gather(1, target[:, None])[:, 0]
    wrong = (-true.expm1()).clamp(min=torch.finfo(true.dtype).tiny)  # a power below 1 has no slope at 0
    return -(weight[target] * wrong**gamma * true).sum() / weight[target].sum()


def dice(scores: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """One minus the soft Dice coefficient of each class that is there, as a weighted mean over these.

    With p the probabilities and t the truth, 0 or 1, that of a class is 2 Σ p t / (Σ p + Σ t) over all pixels: the F1
    score, with probabilities for decisions (Sudre et al. 2017, arXiv 1707.03237, section 2.2, for several classes).
    """
    scores, target, weight = _counted(scores, target, weight)
    if not len(target):
        return scores.sum() * 0.0
    probabilities, truth = scores.softmax(dim=1), F.one_hot(target, scores.shape[1]).to(scores.dtype)
    there = truth.sum(dim=0)
    found = 2 * (probabilities * truth).sum(dim=0) / (probabilities.sum(dim=0) + there)
    counts = weight * (there > 0)
    return (counts * (1 - found)).sum() / counts.sum()


def summed(terms: Sequence[str], gamma: float = FOCAL_GAMMA) -> SegmentationLoss:
    """The sum of several losses.

    Args:
        terms: Some of `cross_entropy`, `dice` and `focal`.
        gamma: Of the focal loss.
    """
    known: dict[str, SegmentationLoss] = {
        "cross_entropy": weighted_cross_entropy,
        "dice": dice,
        "focal": partial(focal, gamma=gamma),
    }
    losses = [known[term] for term in terms]

    def loss(scores: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        return torch.stack([one(scores, target, weight) for one in losses]).sum()

    return loss


def _counted(scores: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Scores and targets of the pixels that count, and the weights, all in a type that is wide enough."""
    (scores,) = widened(scores)
    weight = weight.to(scores)
    known = target != IGNORED
    known = known & (weight[target * known] > 0)
    return scores[known], target[known], weight
