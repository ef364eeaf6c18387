"""Directions in which places differ while neighbours agree, in closed form from pairs of neighbouring pixels.

A contrastive loss pulls the two pixels of a pair together and pushes all others apart. For a linear map all that it can
know of its pairs are two covariances: W of the differences within pairs, C of all pixels. The map that follows from
them is found here at once, without steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

# What is added to the eigenvalues of a covariance, as a share of their mean, before the logarithm.
RIDGE = 0.05

# Directions weaker than this share of the strongest are numerical noise.
LEAST_STRENGTH = 1e-6


Pairs = Literal["neighbours", "unrelated", "identical"]


@dataclass(frozen=True)
class Recipe:
    """What to learn from pairs of neighbours, and how far.

    Attributes:
        evening: How far all directions are made equally strong, 0 to 1.
        agreement: How far those are raised in which neighbours agree, 0 to 1.
        pairs: What a pixel is paired with. The last two are controls: an unrelated pixel, and itself.
    """

    evening: float
    agreement: float
    pairs: Pairs = "neighbours"


@dataclass(frozen=True)
class Directions:
    """A linear map of profiles, and what it shows.

    Attributes:
        weight: (feature, profile) float64; rows beyond the rank of the profiles are 0.
        bias: (feature,) float64.
        strength: (feature,) standard deviation of each feature over places; of those that are not 0 at all, the mean
            square is 1.
        shared: (feature,) correlation between neighbours, 1 where they always agree.
        metric: (profile, profile), log M of the metric M that the map follows from: see `contrast`.
    """

    weight: Tensor
    bias: Tensor
    strength: Tensor
    shared: Tensor
    metric: Tensor


def contrast(own: Tensor, other: Tensor, features: int, *, evening: float, agreement: float) -> Directions:
    """Scale the directions of profiles by what varies there in all and between neighbours.

    Profiles are multiplied by M^½ with M = exp(−evening · log C + agreement · (log C − log W)) and turned to their
    principal axes. With evening 1 and agreement 0 this is principal components made equally strong; with both 1,
    M = W⁻¹ is relevant component analysis (Shental et al. 2002, doi 10.1007/3-540-47979-1_52), and the order of C/W is
    that of the maximum noise fraction transform (Green et al. 1988, doi 10.1109/36.3001), which estimates its noise
    from neighbours as well. A pair counts by 1 / (1 + d² / m), d² its squared difference and m the median of those, so
    that pairs across an edge hardly count.

    Args:
        own: (pixel, profile) float64.
        other: (pixel, profile), a neighbour of each.
        features: Number of directions.
        evening: See `Recipe`.
        agreement: See `Recipe`.
    """
    mean = own.mean(dim=0)
    every, within = (own - mean).T @ (own - mean) / len(own), _within(own - other)
    metric = (agreement - evening) * _log(every) - agreement * _log(within)
    weight, bias = along(metric, own, features)
    return Directions(weight, bias, *_shown(weight, every, within), metric)


def along(metric: Tensor, own: Tensor, features: int) -> tuple[Tensor, Tensor]:
    """The map to the principal axes of profiles under a metric.

    Args:
        metric: (profile, profile) float64, its logarithm.
        own: (pixel, profile) float64.
        features: Number of axes.

    Returns:
        Weight and bias as in `Directions`.
    """
    mean = own.mean(dim=0)
    every = (own - mean).T @ (own - mean) / len(own)
    value, axis = torch.linalg.eigh(metric)
    scaled = axis * torch.exp(value / 2)
    strength, turn = torch.linalg.eigh(scaled.T @ every @ scaled)
    strength, turn = strength.flip(0)[:features].clamp(min=0), turn.flip(1)[:, :features]
    weight = (scaled @ turn * (strength > strength[0] * LEAST_STRENGTH)).T
    weight *= torch.sign(weight.gather(1, weight.abs().argmax(dim=1, keepdim=True)))  # or the sign would be arbitrary
    weight /= strength.mean().sqrt().clamp(min=1e-12)
    filled = weight.new_zeros(features, weight.shape[1])
    filled[: len(weight)] = weight
    return filled, -filled @ mean


def _within(difference: Tensor) -> Tensor:
    """Covariance within pairs, each pair counted less the more it differs."""
    squared = difference.square().sum(dim=1)
    counted = 1 / (1 + squared / squared.median().clamp(min=1e-12))
    return (difference * counted[:, None]).T @ difference / (2 * counted.sum())


def _log(covariance: Tensor) -> Tensor:
    value, axis = torch.linalg.eigh(covariance)
    value = value.clamp(min=0)
    logarithm: Tensor = (axis * torch.log((value + RIDGE * value.mean()).clamp(min=1e-12))) @ axis.T
    return logarithm


def _shown(weight: Tensor, every: Tensor, within: Tensor) -> tuple[Tensor, Tensor]:
    """Standard deviation and neighbours' correlation of each feature."""
    variance, apart = (torch.einsum("fp,pq,fq->f", weight, matrix, weight) for matrix in (every, within))
    return variance.sqrt(), torch.where(variance > 0, 1 - apart / variance.clamp(min=1e-12), 0.0)
