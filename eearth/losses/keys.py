"""Dense contrastive loss against the keys of a second branch, after momentum contrast (He et al., CVPR 2020)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from eearth.losses.exponentials import exponential_sums, number_type
from eearth.losses.places import Places

if TYPE_CHECKING:
    from torch import Tensor


def key_nce(
    query: Tensor,
    key: Tensor,
    place: Tensor,
    *,
    temperature: float,
    exclusion: Tensor,
    rows: slice,
    past: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Pixel InfoNCE in one direction: logsumexp(q·k/τ) − q·k⁺/τ, averaged over the pixels.

    As `info_nce`, but only the queries ask and only they learn; and keys of earlier steps are negatives by the same
    rule as those of this step: farther away than the exclusion.

    Args:
        query: (pixel, feature), one view; normalised to unit length here.
        key: (pixel, feature), the other view, row by row at the same places; without gradient.
        place: (pixel, 3) region, row and column on the ground; whole numbers.
        temperature: τ.
        exclusion: (pixel,) negatives of the same region lie farther away than this, in rows or in columns.
        rows: The pixels that ask; their sum is divided as if all had asked.
        past: Earlier keys (key, feature) and their places (key, 3).

    Returns:
        Scalar; 0 if there is no pixel.

    Raises:
        ValueError: τ is below 1/300.
    """
    if len(query) == 0:
        return query.sum() * 0.0
    keys, places = (
        torch.cat([now, then]) for now, then in zip((key, place), past or (key[:0], place[:0]), strict=True)
    )
    kind = number_type(torch.float32, temperature)
    asking, keys = F.normalize(query.to(kind), dim=1)[rows], F.normalize(keys.detach().to(kind), dim=1)
    at = Places.of(places, F.pad(exclusion, (0, len(places) - len(place))))
    negative, _ = exponential_sums(asking, keys, scale=1 / temperature, places=(at[: len(place)][rows], at))
    positive = torch.exp((asking * keys[: len(place)][rows]).sum(dim=1) / temperature)
    return (torch.log1p(negative / positive).sum() / len(query)).float()
