"""The default encoder: seasonal composites, then a small U-Net as a residual.

The network starts as a seasonal compositor, because a plain temporal attention with random queries averages the season
away, and the season is what tells crops and forests apart. Every operation is local: nothing is normalised over space
or over the batch, so that a map made in tiles equals a map made in one piece.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eearth.data.series import Chips

# Mean length of a year in the Gregorian calendar.
DAYS_IN_YEAR = 365.2425

# Narrowest kernel in days. It bounds the exponent of a date half a year away to −42, which float32 and bfloat16 hold
# (smallest normal number e^−87), so that the softmax needs no maximum for each pixel and is one matrix product.
NARROWEST_KERNEL = 20.0

# Normalised reflectance is cut at this many standard deviations: clouds and glint that the mask missed are far beyond.
OUTLIER = 5.0


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
        chips, times, bands, height, width = values.shape
        with torch.autocast(values.device.type, enabled=False):
            weights = self.weights(day.float())
            total = torch.bmm(weights, (values * clear[:, :, None]).reshape(chips, times, -1).float())
            weight = torch.bmm(weights, clear.reshape(chips, times, -1).float())
        seen = clear.amax(dim=1, keepdim=True) > 0
        weight = torch.where(seen, weight.reshape(chips, -1, height, width), 1.0)
        total = total.reshape(chips, -1, bands, height, width) / weight[:, :, None]
        return total.reshape(chips, -1, height, width)


class PixelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of each pixel of (chip, channel, y, x)."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (torch's own name)
        """Normalise each pixel by itself."""
        return super().forward(input.movedim(1, -1)).movedim(-1, 1)


def _block(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), PixelNorm(channels), nn.GELU())


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
        self.down = nn.ModuleList(_block(hidden) for _ in range(depth + 1))
        self.up = nn.ModuleList(_block(hidden) for _ in range(depth))
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


class Encoder(nn.Module):
    """Image time series → one feature vector a pixel.

    Args:
        bands: Names of the bands, in the order of the chips' band axis.
        mean: Mean reflectance of each band.
        std: Standard deviation of each band.
        features: Length of a feature vector.
        kernels: Seasonal composites.
        hidden: Channels of the U-Net.
        depth: Times the U-Net halves the resolution; at most 2.
    """

    name = "seasonal-unet"

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
        super().__init__()
        self.bands = tuple(bands)
        self.features = features
        self._shape = {"features": features, "kernels": kernels, "hidden": hidden, "depth": depth}
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(list(mean), dtype=torch.float32)[:, None, None])
        self.register_buffer("std", torch.tensor(list(std), dtype=torch.float32)[:, None, None])
        self.compositor = SeasonalCompositor(kernels)
        self.project = nn.Conv2d(kernels * len(self.bands), features, 1)
        self.residual = ResidualUNet(features, hidden, depth)

    @property
    def alignment(self) -> int:
        """Tiles whose first row and column are multiples of this give the map of the whole image."""
        return 1 << self._shape["depth"]

    @property
    def margin(self) -> int:
        """Farthest pixel, in rows or columns, that a feature depends on.

        A 3 × 3 convolution at level l reaches 2**l pixels: two on each level but the lowest, one there; pooling and
        nearest-neighbour upsampling reach to the edge of a block.
        """
        low = self.alignment
        return sum(2 << level for level in range(self._shape["depth"])) + low + (low - 1)

    def config(self) -> dict[str, Any]:
        """JSON-ready description that `build` makes the same network from."""
        mean, std = self.mean.flatten().tolist(), self.std.flatten().tolist()
        return {"name": self.name, "bands": list(self.bands), "mean": mean, "std": std, **self._shape}

    def normalise(self, chips: Chips) -> Tensor:
        """Reflectance in standard deviations from the mean, cut at outliers; any value where not valid."""
        return ((chips.reflectance - self.mean) / self.std).clamp(-OUTLIER, OUTLIER)

    def forward(self, chips: Chips) -> Tensor:
        """Encode.

        Args:
            chips: Any number of dates and any size from one pixel up.

        Returns:
            (chip, feature, y, x). A pixel without any clear observation has a feature of its surroundings.
        """
        composites = self.compositor(self.normalise(chips), chips.valid.float(), chips.day)
        height, width = composites.shape[-2:]
        padding = (0, -width % self.alignment, 0, -height % self.alignment)
        profile = self.project(F.pad(composites, padding))
        features: Tensor = profile + self.residual(profile)
        return features[..., :height, :width]
