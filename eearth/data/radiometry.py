"""Radiometric changes of chips, so that a network does not rely on what haze, sun and sensor change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from eearth.data.series import Chips


@dataclass(frozen=True, kw_only=True)
class Radiometry:
    """Strengths of the radiometric changes, in standard deviations of a band where not said otherwise.

    Attributes:
        gain: Standard deviation of a view's gain for each band, as a factor about 1.
        offset: Standard deviation of a view's offset for each band.
        noise: Standard deviation of the noise of each pixel, band and date.
        drop_band: Chance that a view lacks a band: it shows the band's mean.
    """

    gain: float
    offset: float
    noise: float
    drop_band: float


def change_radiometry(
    chips: Chips, radiometry: Radiometry, mean: Tensor, std: Tensor, randoms: Sequence[np.random.Generator]
) -> Chips:
    """Change each chip's bands by a gain, an offset and noise; drop some bands.

    Args:
        chips: Any chips.
        radiometry: How strongly.
        mean: (band, 1, 1) mean reflectance, on the chips' device.
        std: (band, 1, 1) standard deviation, on the chips' device.
        randoms: For each chip, the source of all chance; always drawn from on the CPU.
    """
    values = chips.reflectance
    count, _, bands = values.shape[:3]
    gain, offset = (np.empty((count, 1, bands, 1, 1), np.float32) for _ in range(2))
    dropped = np.empty(gain.shape, bool)
    noise = np.empty(values.shape, np.float32)
    for i, random in enumerate(randoms):
        random.standard_normal(out=gain[i], dtype=np.float32)
        random.standard_normal(out=offset[i], dtype=np.float32)
        dropped[i] = random.random(dropped[i].shape) < radiometry.drop_band
        # Last, so that a batch that is filled up with more dates leaves all other draws as they are.
        random.standard_normal(out=noise[i], dtype=np.float32)
    drawn = (torch.from_numpy(part).to(values.device, non_blocking=True) for part in (gain, offset, dropped, noise))
    factor, shift, lost, blur = drawn
    blur = blur.mul_(radiometry.noise).add_(radiometry.offset * shift).mul_(std)
    changed = (values * (1 + radiometry.gain * factor)).add_(blur)
    return chips._replace(reflectance=torch.where(lost, mean, changed).mul_(chips.valid[:, :, None]))
