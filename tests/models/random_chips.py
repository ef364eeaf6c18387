from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from eearth.data.series import Chips

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


def chips(times: int, height: int, width: int, *, bands: int = 2, count: int = 1, seed: int = 0) -> Chips:
    """Chips with seven in ten pixels clear, on days of which some may be the same."""
    random = torch.Generator().manual_seed(seed)
    valid = torch.rand(count, times, height, width, generator=random) < 0.7
    values = torch.rand(count, times, bands, height, width, generator=random) * valid[:, :, None]
    day = torch.randint(1, 367, (count, times), generator=random).float()
    return Chips(values, valid, day)


def each(drawn: Chips, change: Callable[[Tensor], Tensor]) -> Chips:
    """The same change to values, mask and days."""
    return Chips(*(change(part) for part in drawn))
