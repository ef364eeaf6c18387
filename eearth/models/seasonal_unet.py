"""The default encoder: seasonal composites, then a small U-Net as a residual.

The network starts as a seasonal compositor, because a plain temporal attention with random queries averages the season
away, and the season is what tells crops and forests apart. Every operation is local: nothing is normalised over space
or over the batch, so that a map made in tiles equals a map made in one piece.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eearth.models.encoder import Encoder
from eearth.models.layers import DAYS_IN_YEAR, PixelNorm, composite, convolution, unet_reach

if TYPE_CHECKING:
    from collections.abc import Sequence

# Narrowest kernel in days. It bounds the exponent of a date half a year away to −42, which float32 and bfloat16 hold
# (smallest normal number e^−87), so that the softmax needs no maximum for each pixel and is one matrix product.
NARROWEST_KERNEL = 20.0


class SeasonalCompositor(nn.Module):
    """One composite for each of several learnable Gaussian kernels over the day of the year.

    A composite is the mean of the pixel's clear observations under softmax weights −d²/2σ², d the circular distance in
    days between the acquisition and the kernel's centre.

    Args:
        kernels: Number of kernels, at first spread evenly over the year.
        width: First σ in days.
    """

    def __init__(self, kernels: int, width: float = 25.0) -> None:
        """Place the kernels in the middle of equal parts of the year."""
        super().__init__()
        turns = (torch.arange(kernels) + 0.5) / kernels
        self.angle = nn.Parameter(2 * math.pi * turns)
        self.log_width = nn.Parameter(torch.full((kernels,), math.log(width - NARROWEST_KERNEL)))

    def weights(self, day: Tensor) -> Tensor:
        """Unnormalised weights exp(−d²/2σ²) of dates.

        Args:
            day: (chip, time), day of the year.

        Returns:
            (chip, kernel, time).
        """
        turns = (day / DAYS_IN_YEAR)[:, None] - (self.angle / (2 * math.pi))[:, None]
        distance = (turns - torch.round(turns.detach())) * DAYS_IN_YEAR
        width = NARROWEST_KERNEL + torch.exp(self.log_width)
        return torch.exp(-0.5 * (distance / width[:, None]) ** 2)

    def forward(self, values: Tensor, clear: Tensor, day: Tensor) -> Tensor:
        """Composite.

        Args:
            values: (chip, time, band, y, x), any finite value where not valid.
            clear: (chip, time, y, x), weight of each observation; 0 where not valid.
            day: (chip, time), day of the year.

        Returns:
            (chip, kernel * band, y, x); 0 where a pixel has no clear observation at all.
        """
        with torch.autocast(values.device.type, enabled=False):
            weights = self.weights(day.float())
        return composite(weights, values, clear)[0].flatten(1, 2)


class ResidualUNet(nn.Module):
    """A small U-Net that starts as zero.

    Args:
        channels: Channels of input and output.
        hidden: Channels inside.
        depth: Times the resolution is halved.
    """

    def __init__(self, channels: int, hidden: int, depth: int) -> None:
        """One convolution on the way down and one on the way up at each level."""
        super().__init__()
        self.enter = nn.Sequential(PixelNorm(channels), nn.Conv2d(channels, hidden, 1))
        self.down = nn.ModuleList(convolution(hidden) for _ in range(depth + 1))
        self.up = nn.ModuleList(convolution(hidden) for _ in range(depth))
        self.leave = nn.Conv2d(hidden, channels, 1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> Tensor:
        """(chip, channel, y, x) → the same shape; y and x are multiples of 2**depth."""
        hidden, kept = self.enter(features), []
        for block in self.down[:-1]:
            hidden = hidden + block(hidden)
            kept.append(hidden)
            hidden = F.avg_pool2d(hidden, 2)
        hidden = hidden + self.down[-1](hidden)
        for block in self.up:
            hidden = F.interpolate(hidden, scale_factor=2.0, mode="nearest") + kept.pop()
            hidden = hidden + block(hidden)
        change: Tensor = self.leave(hidden)
        return change


class SeasonalUNet(Encoder):
    """Seasonal composites of every pixel, and a U-Net over them.

    Args:
        bands: See `Encoder`.
        mean: See `Encoder`.
        std: See `Encoder`.
        features: Length of a feature vector.
        kernels: Seasonal composites.
        hidden: Channels of the U-Net.
        depth: Times the U-Net halves the resolution.
    """

    name: ClassVar[str] = "seasonal-unet"

    def __init__(
        self,
        bands: Sequence[str],
        mean: Sequence[float],
        std: Sequence[float],
        *,
        features: int = 64,
        kernels: int = 12,
        hidden: int = 32,
        depth: int = 2,
    ) -> None:
        """Start as a linear projection of the seasonal profile."""
        super().__init__(bands, mean, std, {"features": features, "kernels": kernels, "hidden": hidden, "depth": depth})
        self.compositor = SeasonalCompositor(kernels)
        self.project = nn.Conv2d(kernels * len(self.bands), features, 1)
        self.residual = ResidualUNet(features, hidden, depth)

    @property
    def margin(self) -> int:
        """As far as the U-Net reaches."""
        return unet_reach(self.depth)

    def encode(self, values: Tensor, clear: Tensor, day: Tensor) -> Tensor:
        """See `Encoder.encode`."""
        profile = self.project(self.compositor(values, clear, day))
        features: Tensor = profile + self.residual(profile)
        return features
