"""Number types of losses."""

from __future__ import annotations

import torch
from torch import Tensor


def widened(*views: Tensor) -> list[Tensor]:
    """Tensors in float64 if any of them is, in float32 otherwise: a loss is no place for half precision."""
    kind = torch.float64 if any(view.dtype == torch.float64 for view in views) else torch.float32
    return [view.to(kind) for view in views]
