"""Alignment and uniformity of features on the unit sphere, after Wang & Isola, ICML 2020."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from eearth.losses.exponentials import exponential_sums
from eearth.losses.places import Places
from eearth.losses.precision import widened


def alignment(first: Tensor, second: Tensor, *, power: float = 2.0) -> Tensor:
    """Mean of ‖x − y‖^α over pairs of pixels: 0 where both views say the same.

    Args:
        first: (pixel, feature), one view; normalised to unit length here.
        second: (pixel, feature), the other view, row by row at the same places.
        power: α.

    Returns:
        Scalar, from 0 to 2^α; not a number if there is no pixel.
    """
    first, second = (F.normalize(view, dim=1) for view in widened(first, second))
    distance: Tensor = torch.linalg.vector_norm(first - second, dim=1)
    return distance.pow(power).mean()


def uniformity(features: Tensor, *, sharpness: float = 2.0) -> Tensor:
    """Logarithm of the mean of exp(−t ‖x − y‖²) over all pairs of pixels: the lower, the more of the sphere is used.

    Exact; time grows with the square of the number of pixels, memory linearly.

    Args:
        features: (pixel, feature); normalised to unit length here.
        sharpness: t, at most 15.

    Returns:
        Scalar, from −4t to 0, which is collapse; not a number if there are fewer than two pixels.
    """
    unit = F.normalize(widened(features)[0], dim=1)
    count = len(unit)
    if count < 2:  # noqa: PLR2004
        return unit.sum() * math.nan
    # Each pixel at a place of its own, so that the pair with itself is left out.
    alone = Places.of(F.pad(torch.arange(count, device=unit.device)[:, None], (0, 2)), 0)
    # ‖x − y‖² = 2 − 2 x·y
    sums, _ = exponential_sums(unit, unit, scale=2 * sharpness, places=(alone, alone))
    return torch.log(sums.sum() / (count * (count - 1))) - 2 * sharpness
