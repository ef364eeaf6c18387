"""Dense contrastive loss."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from eearth.losses.exponentials import exponential_sums, number_type
from eearth.losses.places import Places
from eearth.losses.precision import widened

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor


def info_nce(
    first: Tensor,
    second: Tensor,
    place: Tensor,
    *,
    temperature: float,
    exclusion: float | Tensor = 0.0,
    chunk: int | None = None,
    rows: slice | None = None,
    extra: Tensor | None = None,
) -> Tensor:
    """Symmetric pixel InfoNCE: logsumexp(q·k/τ) − q·k⁺/τ, averaged over pixels and both directions.

    The positive of a pixel is the same ground location in the other view; its negatives are the other view's pixels of
    another region, or farther away than `exclusion`. A pixel without negatives adds nothing. It is exact, and memory
    grows linearly with the number of pixels, in the backward pass too. Computed in float32, or in float64 where the
    views are or where τ is below 1/30; autocast changes nothing.

    Args:
        first: (pixel, feature), one view; normalised to unit length here.
        second: (pixel, feature), the other view, row by row at the same places.
        place: (pixel, 3) region, row and column on the ground; whole numbers.
        temperature: τ, at least 1/300.
        exclusion: Negatives of the same region lie farther away than this, in rows or in columns; one number, or one
            for each pixel.
        chunk: Rows, and columns, of the logits that are held at a time; by default what suits the device.
        rows: The pixels that ask, for one process of several; each pixel answers. Their sum is divided as if all had
            asked, so that the processes' losses add up to that of one process.
        extra: (key, feature) more negatives of every pixel in both directions, such as an earlier step's; normalised
            here, without gradient.

    Returns:
        Scalar; 0 if there is no pixel.

    Raises:
        ValueError: τ is below 1/300.
    """
    if len(first) == 0:
        return (first.sum() + second.sum()) * 0.0
    first, second = widened(first, second)
    least, kind = first.dtype, number_type(first.dtype, temperature)
    first, second = (F.normalize(view.to(kind), dim=1) for view in (first, second))
    sums = partial(exponential_sums, scale=1 / temperature, side=chunk)
    negatives = _negatives(first, second, Places.of(place, exclusion), rows, sums)
    asking = slice(None) if rows is None else rows
    if extra is not None:
        more = F.normalize(extra.detach().to(kind), dim=1)
        both = zip(negatives, (first, second), strict=True)
        negatives = [negative + sums(view[asking], more)[0] for negative, view in both]
    positive = torch.exp((first[asking] * second[asking]).sum(dim=1) / temperature)
    # log(exp(p) + Σ exp(n)) − p, without the cancellation.
    total = torch.stack([torch.log1p(negative / positive).sum() for negative in negatives]).sum()
    return (total / (2 * len(first))).to(least)


def _negatives(
    first: Tensor, second: Tensor, places: Places, rows: slice | None, sums: Callable[..., tuple[Tensor, Tensor]]
) -> Sequence[Tensor]:
    """Σ exp(negative / τ) of the pixels that ask: of the first view against the second, and the other way round."""
    if rows is None:
        return sums(first, second, places=(places, places))
    both = ((first, second), (second, first))
    return [sums(query[rows], key, places=(places[rows], places))[0] for query, key in both]
