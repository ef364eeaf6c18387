"""The default encoder: robust seasonal composites at several scales, a linear map of them, and a small U-Net on top.

The network starts as a seasonal compositor, because a plain temporal attention with random queries averages the season
away, and the season is what tells crops and forests apart. Every operation is local: nothing is normalised over space
or over the batch, so that a map made in tiles equals a map made in one piece.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eearth.errors import ModelError
from eearth.models.contrast import along, contrast
from eearth.models.encoder import Encoder
from eearth.models.layers import DAYS_IN_YEAR, PixelNorm, box_means, convolution, robust_composite, unet_reach

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eearth.data.series import Chips
    from eearth.models.contrast import Directions, Recipe

# Sides in pixels of the squares whose mean composites are features too: the pixel, its neighbours, its field.
SCALES = (1, 3, 7)

# Tolerance of the composites, in standard deviations of a band: an observation that far from the others of its
# season counts half.
TOLERANCE = 1.0

# Least standard deviation of a composite, in those of its band: of one that never varies none could be taken.
LEAST_SPREAD = 1e-3

# Pairs of neighbours drawn from a sample, and how far apart at most in rows and in columns: within a field, mostly.
NEIGHBOURS = 400
NEIGHBOUR_DISTANCE = 3

# How much of a metric counts in other imagery, as an exponent: halfway between all of it and none. Over twelve pairs of
# regions and seasons with 5 pixels a class half gained 1.0 point of mIoU on random weights, all 0.1 (docs/design/0009).
RELIED_ON = 0.5

# Standard deviation of a kernel in days: kernels of neighbouring months overlap, and a date half a year away weighs
# e^−27, which float32 and bfloat16 hold, so that the softmax needs no maximum for each pixel and is one matrix product.
KERNEL_WIDTH = 25.0


class SeasonalCompositor(nn.Module):
    """One composite for each of several Gaussian kernels over the day of the year, spread evenly.

    A composite is the mean of the pixel's clear observations under softmax weights −d²/2σ², d the circular distance in
    days between the acquisition and the kernel's centre; then once more without what lies far from that mean. Nothing
    of it is learnt: with few labels there is nothing to learn it from, and it would double the cost of a training step.

    Args:
        kernels: Number of kernels.
    """

    def __init__(self, kernels: int) -> None:
        """Place the kernels in the middle of equal parts of the year."""
        super().__init__()
        self.centre: Tensor
        self.register_buffer("centre", (torch.arange(kernels) + 0.5) / kernels, persistent=False)

    def weights(self, day: Tensor) -> Tensor:
        """Unnormalised weights exp(−d²/2σ²) of dates.

        Args:
            day: (chip, time), day of the year.

        Returns:
            (chip, kernel, time).
        """
        turns = (day / DAYS_IN_YEAR)[:, None] - self.centre[:, None]
        distance = (turns - torch.round(turns)) * DAYS_IN_YEAR
        return torch.exp(-0.5 * (distance / KERNEL_WIDTH) ** 2)

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
        return robust_composite(weights, values, clear, TOLERANCE).flatten(1, 2)


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

    def layers(self) -> list[nn.Module]:
        """From the input to the output; the way in belongs to the first convolution, the way out to the last."""
        first, *others = [*self.down, *self.up]
        *others, last = [nn.ModuleList([self.enter, first]), *others]
        return [*others, nn.ModuleList([last, self.leave])]

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
    """Seasonal composites of every pixel and of its surroundings, and a U-Net over them.

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
    copies: ClassVar[float] = 3.3
    revision: ClassVar[int] = 3
    solves: ClassVar[bool] = True

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
        """Start as a random rotation of the seasonal profile."""
        super().__init__(bands, mean, std, {"features": features, "kernels": kernels, "hidden": hidden, "depth": depth})
        composites = kernels * len(self.bands)
        self.compositor = SeasonalCompositor(kernels)
        self.usual: Tensor
        self.spread: Tensor
        self.register_buffer("usual", torch.zeros(composites, 1, 1))
        self.register_buffer("spread", torch.ones(composites, 1, 1))
        self.metric: Tensor
        self.register_buffer("metric", torch.zeros(len(SCALES) * composites, len(SCALES) * composites))
        self.project = nn.Conv2d(len(SCALES) * composites, features, 1)
        nn.init.orthogonal_(self.project.weight)
        nn.init.zeros_(self.project.bias)  # type: ignore[arg-type]
        self.residual = ResidualUNet(features, hidden, depth)

    @property
    def margin(self) -> int:
        """As far as the U-Net reaches beyond the largest square."""
        return max(SCALES) // 2 + unet_reach(self.depth)

    def layers(self) -> list[nn.Module]:
        """See `Encoder.layers`."""
        return [self.project, *self.residual.layers()]

    def encode(self, values: Tensor, clear: Tensor, day: Tensor) -> Tensor:
        """See `Encoder.encode`."""
        profile = self.project(self._profile(values, clear, day))
        features: Tensor = profile + self.residual(profile)
        return features

    def _profile(self, values: Tensor, clear: Tensor, day: Tensor) -> Tensor:
        """Standardised composites at each scale, (chip, scale * composite, y, x)."""
        seen = clear.amax(dim=1, keepdim=True).gt(0).float()
        composites = (self.compositor(values, clear, day) - self.usual) / self.spread * seen
        return box_means(composites, seen, SCALES)

    @torch.no_grad()
    def get_used_to(self, samples: Sequence[Chips]) -> None:
        """Take the mean and the spread of the composites from some imagery; see `Encoder.get_used_to`."""
        own = torch.cat([self._composites(chips) for chips in samples])
        if not len(own):
            return
        self.usual.copy_(own.mean(dim=0)[:, None, None])
        self.spread.copy_(own.std(dim=0, correction=0).clamp(min=LEAST_SPREAD)[:, None, None])

    def _composites(self, chips: Chips) -> Tensor:
        """Composites of the pixels that were seen, (pixel, composite)."""
        composites = self.compositor(self.normalise(chips), chips.valid.float(), chips.day.float())
        seen: Tensor = composites.movedim(1, -1)[chips.valid.any(dim=1)]
        return seen

    @torch.no_grad()
    def contrast_neighbours(self, samples: Sequence[Chips], recipe: Recipe, random: np.random.Generator) -> Directions:
        """Let `project` be the map that `contrast` finds; see `Encoder.contrast_neighbours`."""
        pairs = [self._neighbours(chips, random) for chips in samples]
        own, other = (torch.cat(side).double() for side in zip(*pairs, strict=True))
        if not len(own):
            msg = "expected neighbouring pixels that were both seen, found none: give --agreement 0 --evening 0"
            raise ModelError(msg)
        other = {
            "neighbours": other,
            "unrelated": other[torch.from_numpy(random.permutation(len(other)))],
            "identical": own,
        }[recipe.pairs]
        found = contrast(own, other, self.features, evening=recipe.evening, agreement=recipe.agreement)
        self._point(found.weight, found.bias)
        self.metric.copy_(found.metric)
        return found

    def begin_steps(self) -> None:
        """Forget the metric; see `Encoder.begin_steps`."""
        self.metric.zero_()

    @torch.no_grad()
    def settle(self, samples: Sequence[Chips], random: np.random.Generator) -> None:
        """Turn to this imagery's principal axes under half of the metric, if there is one; see `Encoder.settle`."""
        own = torch.cat([self._neighbours(chips, random)[0] for chips in samples]).double()
        if len(own) and self.metric.any():
            self._point(*along(RELIED_ON * self.metric.double(), own, self.features))

    def _point(self, weight: Tensor, bias: Tensor) -> None:
        """Let `project` be this map."""
        self.project.weight.copy_(weight[:, :, None, None])
        self.project.bias.copy_(bias)  # type: ignore[union-attr]

    def _neighbours(self, chips: Chips, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Profiles of some pixels and of a neighbour of each, both (pixel, scale * composite)."""
        profile = self._profile(self.normalise(chips), chips.valid.float(), chips.day.float())[0].movedim(0, -1)
        seen = chips.valid[0].any(dim=0)
        place = torch.from_numpy(np.stack([random.integers(0, side, NEIGHBOURS) for side in seen.shape]))
        step = torch.from_numpy(random.integers(-NEIGHBOUR_DISTANCE, NEIGHBOUR_DISTANCE + 1, place.shape))
        near, last = place + step, torch.tensor(seen.shape)[:, None] - 1
        inside = (near >= 0).all(dim=0) & (near <= last).all(dim=0) & step.any(dim=0)
        place, near = place[:, inside], near[:, inside]
        both = seen[tuple(place)] & seen[tuple(near)]
        return profile[tuple(place[:, both])], profile[tuple(near[:, both])]
