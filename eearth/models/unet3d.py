"""A 3-D U-Net over time and space.

After the UNet3D of Rustowicz et al. (2019, Semantic segmentation of crop type in Africa, CVPR workshops) and of the
authors of Embedding Earth in their neighbouring work (Tarasiou et al. 2022, Context-self contrastive pretraining for
crop type semantic segmentation, arXiv 2104.04310), itself after Çiçek et al. (2016, arXiv 1606.06650).

Theirs stacks the dates as they come and fills up the series. A convolution over time then spans a week here and a
month there, and a date that only fills up changes its neighbours. Here the dates are first brought onto equal parts of
the year, which is a circle to the convolutions; so that the mean over it still knows the season, every part of the year
carries its own place in it.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eearth.models.encoder import Encoder
from eearth.models.layers import DAYS_IN_YEAR, PixelNorm, composite, harmonics, unet_reach, weighted_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

# 3 × 3 × 3 convolutions of a level on either way, as in the papers.
CONVOLUTIONS = 2


def slot_days(slots: int, device: torch.device) -> Tensor:
    """Day in the middle of each of several equal parts of the year, (slot,)."""
    return (torch.arange(slots, device=device) + 0.5) * (DAYS_IN_YEAR / slots)


def slot_weights(day: Tensor, slots: int) -> Tensor:
    """How each date is shared between the two parts of the year whose middles are nearest: linearly.

    Args:
        day: (chip, time), day of the year.
        slots: Number of equal parts of the year.

    Returns:
        (chip, slot, time) in [0, 1]; they sum to 1 over the slots, if there are at least two.
    """
    turns = (day[:, None] - slot_days(slots, day.device)[:, None]) / DAYS_IN_YEAR
    return (1 - slots * (turns - turns.round()).abs()).clamp(min=0)


class YearConvolution(nn.Module):
    """A 3 × 3 × 3 convolution over (time, y, x) for which December lies beside January.

    Args:
        channels: Channels of the input.
        hidden: Channels of the output.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        """Pad in space alone; time is wrapped."""
        super().__init__()
        self.convolve = nn.Conv3d(channels, hidden, 3, padding=(0, 1, 1))
        self.norm = PixelNorm(hidden)

    def forward(self, volume: Tensor) -> Tensor:
        """(chip, channel, time, y, x) → the same but for the channels."""
        wrapped = torch.cat([volume[:, :, -1:], volume, volume[:, :, :1]], dim=2)
        return F.gelu(self.norm(self.convolve(wrapped)))


def _level(channels: int, hidden: int) -> nn.Sequential:
    sizes = [channels, *[hidden] * CONVOLUTIONS]
    return nn.Sequential(*(YearConvolution(*pair) for pair in pairwise(sizes)))


class UNet3D(Encoder):
    """A U-Net over (time, y, x), averaged over the observed parts of the year.

    Args:
        bands: See `Encoder`.
        mean: See `Encoder`.
        std: See `Encoder`.
        features: Length of a feature vector.
        hidden: Channels of the finest level; each level has twice those of the finer one.
        slots: Equal parts of the year, a multiple of 2**depth.
        depth: Times the U-Net halves the resolution, in space and in time.
    """

    name: ClassVar[str] = "unet3d"
    copies: ClassVar[float] = 13.5

    def __init__(
        self,
        bands: Sequence[str],
        mean: Sequence[float],
        std: Sequence[float],
        *,
        features: int = 64,
        hidden: int = 16,
        slots: int = 16,
        depth: int = 2,
    ) -> None:
        """Two convolutions on the way down and two on the way up at each level."""
        super().__init__(bands, mean, std, {"features": features, "hidden": hidden, "slots": slots, "depth": depth})
        self.slots = slots
        sizes = [hidden << level for level in range(depth + 1)]
        self.down = nn.ModuleList(map(_level, [len(self.bands) + 3, *sizes[:-1]], sizes))
        self.up = nn.ModuleList(_level(3 * size, size) for size in reversed(sizes[:-1]))
        self.leave = nn.Conv2d(hidden, features, 1)

    @property
    def margin(self) -> int:
        """As far as the U-Net reaches."""
        return unet_reach(self.depth, CONVOLUTIONS)

    def layers(self) -> list[nn.Module]:
        """See `Encoder.layers`."""
        return [*self.down, *self.up, self.leave]

    def encode(self, values: Tensor, clear: Tensor, day: Tensor) -> Tensor:
        """See `Encoder.encode`."""
        means, weight = composite(slot_weights(day, self.slots), values, clear)
        observed = weight.clamp(max=1)
        season = harmonics(slot_days(self.slots, day.device), 1)[..., None, None]
        season = season.expand(len(day), -1, -1, *clear.shape[-2:])
        hidden = self._unet(torch.cat([means, observed[:, :, None], season], dim=2).movedim(1, 2))
        # Where nothing was ever seen, the mean over the whole year of what the surroundings gave.
        weights = torch.where(weight.amax(dim=1, keepdim=True) > 0, observed, 1.0)
        features: Tensor = self.leave(weighted_mean(hidden.movedim(2, 1), weights[:, :, None]))
        return features

    def _unet(self, volume: Tensor) -> Tensor:
        """(chip, channel, time, y, x) → the same but for the channels."""
        hidden, kept = self.down[0](volume), []
        for level in self.down[1:]:
            kept.append(hidden)
            hidden = level(F.avg_pool3d(hidden, 2))
        for level in self.up:
            finer = F.interpolate(hidden, scale_factor=2.0, mode="nearest")
            hidden = level(torch.cat([finer, kept.pop()], dim=1))
        result: Tensor = hidden
        return result
