"""Dense contrastive and segmentation losses: pure functions."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable


def info_nce(
    first: Tensor,
    second: Tensor,
    place: Tensor,
    *,
    temperature: float,
    exclusion: float | Tensor = 0.0,
    chunk: int = 1024,
) -> Tensor:
    """Symmetric pixel InfoNCE: logsumexp(q·k/τ) − q·k⁺/τ, averaged over pixels and both directions.

    The positive of a pixel is the same ground location in the other view; its negatives are the other view's pixels of
    another region, or farther away than `exclusion`. A pixel without negatives adds nothing. Logits are made for
    `chunk` rows at a time and made again in the backward pass, so memory grows linearly with the number of pixels.

    Args:
        first: (pixel, feature), one view; normalised to unit length here.
        second: (pixel, feature), the other view, row by row at the same places.
        place: (pixel, 3) region, row and column on the ground.
        temperature: τ.
        exclusion: Negatives of the same region lie farther away than this, in rows or in columns; one number, or one
            for each pixel.
        chunk: Rows whose logits are held at a time.

    Returns:
        Scalar; 0 if there is no pixel.
    """
    if len(first) == 0:
        return (first.sum() + second.sum()) * 0.0
    first, second = (F.normalize(view.float(), dim=1) for view in (first, second))
    place = place.float()
    exclusion = torch.as_tensor(exclusion, dtype=place.dtype, device=place.device).expand(len(place))
    total = first.new_zeros(())
    for query, key in ((first, second), (second, first)):
        for start in range(0, len(query), chunk):
            rows = slice(start, start + chunk)
            total = total + checkpoint(
                _chunk_loss,
                query[rows],
                key[rows],
                key,
                near=partial(_near, place[rows], exclusion[rows], place),
                temperature=temperature,
                use_reentrant=False,
            )
    return total / (2 * len(first))


def _chunk_loss(query: Tensor, own: Tensor, keys: Tensor, *, near: Callable[[], Tensor], temperature: float) -> Tensor:
    """Summed InfoNCE of some rows against all keys but the near ones."""
    logits = (query @ keys.T / temperature).masked_fill(near(), -torch.inf)
    positive = (query * own).sum(dim=1) / temperature
    # softplus(l − p) = log(exp(p) + exp(l)) − p, with l = log Σ exp(negative); −inf where there is no negative.
    return F.softplus(torch.logsumexp(logits, dim=1) - positive).sum()


def _near(here: Tensor, exclusion: Tensor, place: Tensor) -> Tensor:
    """Which places are the same region's and not farther than `exclusion`: (row, place) bool."""
    region, row, col = (here[:, None, axis] - place[None, :, axis] for axis in range(3))
    return (region == 0) & (row.abs() <= exclusion[:, None]) & (col.abs() <= exclusion[:, None])


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
