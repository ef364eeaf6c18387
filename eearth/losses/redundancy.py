"""Objectives without negatives: what keeps features from collapsing is their variance and covariance over pixels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from eearth.losses.precision import widened


def vicreg(
    first: Tensor,
    second: Tensor,
    *,
    invariance: float = 25.0,
    variance: float = 25.0,
    covariance: float = 1.0,
) -> Tensor:
    """VICReg: λ s(Z, Z′) + μ (v(Z) + v(Z′)) + ν (c(Z) + c(Z′)), as in equation 6 of Bardes et al., ICLR 2022.

    Equation 5 sums s over the features; the paper's algorithm 1, with which its coefficients go, takes their mean, and
    so does this.

    Args:
        first: (pixel, feature), one view; not normalised.
        second: (pixel, feature), the other view, row by row at the same places.
        invariance: λ, of the mean squared difference of the views.
        variance: μ, of how much the features' standard deviations fall short of 1.
        covariance: ν, of the features' squared covariances.

    Returns:
        Scalar; 0 if there are fewer than two pixels.
    """
    if len(first) < 2:  # noqa: PLR2004
        return (first.sum() + second.sum()) * 0.0
    first, second = widened(first, second)
    with torch.autocast(first.device.type, enabled=False):
        spread, shared = (part(first) + part(second) for part in (_shortfall, _shared))
    return invariance * F.mse_loss(first, second) + variance * spread + covariance * shared


def _shortfall(view: Tensor) -> Tensor:
    """v(Z), equation 1: mean over the features of max(0, γ − √(Var + ε)), with the paper's γ = 1 and ε = 10⁻⁴."""
    return F.relu(1 - (view.var(dim=0) + 1e-4).sqrt()).mean()


def _shared(view: Tensor) -> Tensor:
    """c(Z), equation 4: sum of the squared covariances of different features, for each feature."""
    width = view.shape[1]
    return _off_diagonal(view.T.cov().reshape(width, width)).square().sum() / width


def barlow_twins(first: Tensor, second: Tensor, *, redundancy: float = 5e-3) -> Tensor:
    """Barlow Twins: Σ_i (1 − C_ii)² + λ Σ_{i≠j} C_ij², equation 1 of Zbontar et al., ICML 2021.

    C is the correlation over pixels of feature i in one view with feature j in the other, equation 2. A feature that
    is constant correlates with nothing.

    Args:
        first: (pixel, feature), one view; not normalised.
        second: (pixel, feature), the other view, row by row at the same places.
        redundancy: λ.

    Returns:
        Scalar; 0 if there are fewer than two pixels.
    """
    if len(first) < 2:  # noqa: PLR2004
        return (first.sum() + second.sum()) * 0.0
    first, second = (F.normalize(view - view.mean(dim=0), dim=0) for view in widened(first, second))
    with torch.autocast(first.device.type, enabled=False):
        correlation = first.T @ second
    return (1 - correlation.diagonal()).square().sum() + redundancy * _off_diagonal(correlation).square().sum()


def _off_diagonal(matrix: Tensor) -> Tensor:
    return matrix - torch.diag(matrix.diagonal())
