"""Parts that several encoders share: the year, means over dates, and the two halves of a U-Net.

U-Nets halve by averaging and double by repeating, and have one convolution of 3 × 3 a level on either way, so that what
a pixel depends on is known exactly.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Mean length of a year in the Gregorian calendar.
DAYS_IN_YEAR = 365.2425

# Pixels of a composite that a CPU works on together: their arrays of all dates and slots take some megabytes.
PIXELS_AT_ONCE = 4096

# Channels whose surroundings a CPU sums together: some hundred kilobytes of a window.
CHANNELS_AT_ONCE = 4

# Multiples of the year's frequency that attention knows: the shortest period is six weeks.
HARMONICS = 8


def harmonics(day: Tensor, count: int) -> Tensor:
    """Cosines, then sines, of the first multiples of the day's angle in the year.

    The sinusoids of Vaswani et al. (2017, arXiv 1706.03762), but with periods that divide the year, so that the last
    day of December lies beside the first of January.

    Args:
        day: (...), day of the year.
        count: Number of multiples.

    Returns:
        (..., 2 * count) float32.
    """
    angle = day.float()[..., None] * (2 * math.pi / DAYS_IN_YEAR) * torch.arange(1, count + 1, device=day.device)
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


class SeasonScores(nn.Linear):
    """Attention scores of dates by their day alone, a linear map of the day's harmonics.

    With random weights all heads would average over the whole year and lose the season. So each starts at its own part
    of the year: a von Mises density in the day, which is what the first harmonic gives.

    Args:
        heads: Number of scores, at first spread evenly over the year, with half their distance as standard deviation.
    """

    def __init__(self, heads: int) -> None:
        """Zero but for the first harmonic."""
        super().__init__(2 * HARMONICS, heads, bias=False)
        centre = 2 * math.pi * (torch.arange(heads) + 0.5) / heads
        sharpness = (heads / math.pi) ** 2
        with torch.no_grad():
            self.weight.zero_()
            self.weight[:, 0] = sharpness * centre.cos()
            self.weight[:, HARMONICS] = sharpness * centre.sin()

    def forward(self, day: Tensor) -> Tensor:
        """(chip, time) → (chip, time, head)."""
        return super().forward(harmonics(day, HARMONICS))


def composite(weights: Tensor, values: Tensor, clear: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted means over the clear dates, in float32 under autocast too.

    Args:
        weights: (chip, slot, time), how much a date counts in each slot, not below 0.
        values: (chip, time, band, y, x), any finite value where not clear.
        clear: (chip, time, y, x), weight of each observation; 0 where not valid.

    Returns:
        The means (chip, slot, band, y, x), 0 where nothing counts, and the sums of the weights (chip, slot, y, x).
    """
    chips, times, bands, height, width = values.shape
    with torch.autocast(values.device.type, enabled=False):
        total = torch.bmm(weights, (values * clear[:, :, None]).reshape(chips, times, -1).float())
        weight = torch.bmm(weights, clear.reshape(chips, times, -1).float()).reshape(chips, -1, height, width)
    total = total.reshape(chips, -1, bands, height, width)
    return total / torch.where(weight > 0, weight, 1.0)[:, :, None], weight


def robust_composite(weights: Tensor, values: Tensor, clear: Tensor, tolerance: float) -> Tensor:
    """Weighted means over the clear dates, taken again with less weight for what lies far from the first mean.

    One step of iteratively reweighted least squares with Cauchy's weight 1 / (1 + d² / c²) (Holland & Welsch 1977,
    doi 10.1080/03610927708827533), d² the mean over the bands of the squared distance to the slot's first mean: clouds
    and shadows that a mask missed hardly count.

    Args:
        weights: (chip, slot, time), how much a date counts in each slot, not below 0.
        values: (chip, time, band, y, x), any finite value where not clear.
        clear: (chip, time, y, x), weight of each observation; 0 where not valid.
        tolerance: c, above 0, in the unit of the values.

    Returns:
        (chip, slot, band, y, x), 0 where nothing counts.
    """
    chips, _, bands, height, width = values.shape
    with torch.autocast(values.device.type, enabled=False):
        parts = [
            torch.cat([_robust(of_chip[0], *part, tolerance) for part in _pixels(*of_chip[1:])], dim=1)
            for of_chip in zip(weights.float(), values.float(), clear.float(), strict=True)
        ]
    return torch.stack(parts).reshape(chips, -1, bands, height, width)


def _pixels(values: Tensor, clear: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """A chip in parts of some pixels: (time, band, pixel) and (time, pixel).

    On a CPU a part's arrays stay in the cache, which makes the whole several times as fast as arrays of all pixels.
    """
    pixels = values[0, 0].numel()
    count = PIXELS_AT_ONCE if values.device.type == "cpu" else pixels
    for first in range(0, pixels, count):
        value, seen = (part.flatten(-2)[..., first : first + count].contiguous() for part in (values, clear))
        yield value, seen


def _robust(weights: Tensor, values: Tensor, clear: Tensor, tolerance: float) -> Tensor:
    """Means (slot * band, pixel) with Cauchy's weights, see `_pixels`; |v − m|² is |v|² − 2 v·m + |m|².

    In place where it can be, for to get memory takes longer than to fill it; and transposed as matrices of two
    dimensions, which is several times as fast as to permute three.
    """
    _, bands, pixels = values.shape
    weight = weights @ clear
    first = (weights @ (values * clear[:, None]).flatten(1)).reshape(-1, bands, pixels)
    first.div_(torch.where(weight > 0, weight, 1.0)[:, None])
    means, value = (part.flatten(0, 1).T.contiguous().reshape(pixels, -1, bands) for part in (first, values))
    squared = torch.bmm(value, means.transpose(1, 2)).mul_(-2)
    squared.add_(value.square().sum(dim=2)[:, :, None]).add_(means.square().sum(dim=2)[:, None]).clamp_(min=0)
    counted = torch.mul(clear.T.contiguous()[:, :, None], weights.T.contiguous())
    counted.div_(squared.div_(bands * tolerance**2).add_(1))
    total = counted.sum(dim=1)[:, :, None]
    again = torch.bmm(counted.transpose(1, 2), value).div_(torch.where(total > 0, total, 1.0))
    return again.flatten(1).T.contiguous()


@torch.no_grad()
def box_means(values: Tensor, seen: Tensor, sides: Sequence[int]) -> Tensor:
    """Means over squares around each pixel, of the pixels that were seen; no gradient goes through.

    Args:
        values: (chip, channel, y, x), 0 where not seen.
        seen: (chip, 1, y, x), 1 where seen, else 0.
        sides: Odd sides of the squares in pixels.

    Returns:
        (chip, side * channel, y, x), 0 where a square holds nothing seen; squares end at the image's edge.
    """
    chips, channels, *shape = values.shape
    with torch.autocast(values.device.type, enabled=False):
        values, seen = values.float(), seen.float()
        means = values.new_empty((chips, len(sides), channels, *shape))
        for place, side in enumerate(sides):
            share = 1 / _box_sums(seen, side).clamp_(min=1)
            for part, mean in zip(_channels(values), _channels(means[:, place]), strict=True):
                torch.mul(_box_sums(part, side), share, out=mean)
    return means.flatten(1, 2)


def _channels(images: Tensor) -> Iterator[Tensor]:
    """Some channels at a time on a CPU, whose cache they fit into; all at once elsewhere."""
    count = CHANNELS_AT_ONCE if images.device.type == "cpu" else images.shape[1]
    for first in range(0, images.shape[1], count):
        yield images[:, first : first + count]


def _box_sums(images: Tensor, side: int) -> Tensor:
    """Sums over squares, by rows and then by columns."""
    around = F.pad(images, (side // 2,) * 4)
    return _run_sums(_run_sums(around, side, 2), side, 3)


def _run_sums(images: Tensor, side: int, axis: int) -> Tensor:
    """Sums of `side` neighbours along an axis, made of runs of 1, 2, 4, ...: the fewest additions."""
    count = images.shape[axis] - side + 1
    total, run, length, done = None, images, 1, 0
    while done < side:
        if side & length:
            part = run.narrow(axis, done, count)
            total = part if total is None else total + part
            done += length
        if done < side:
            left = run.shape[axis] - length
            run = run.narrow(axis, 0, left) + run.narrow(axis, length, left)
            length *= 2
    assert total is not None  # noqa: S101 - a side is odd
    return total


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Mean over the dates of (chip, time, channel, y, x) under weights of a shape that fits; 0 where all are 0."""
    total = weights.sum(dim=1)
    return (values * weights).sum(dim=1) / torch.where(total > 0, total, 1.0)


def date_images(values: Tensor, clear: Tensor, day: Tensor) -> Tensor:
    """What a network that looks at one date at a time sees: the bands, the mask, and the time of the year.

    Args:
        values: (chip, time, band, y, x), 0 where not valid.
        clear: (chip, time, y, x).
        day: (chip, time), day of the year.

    Returns:
        (chip * time, band + 3, y, x), 0 where not valid.
    """
    season = harmonics(day, 1)[..., None, None] * clear[:, :, None]
    images = torch.cat([values, clear[:, :, None], season], dim=2).flatten(0, 1)
    return images.contiguous(memory_format=torch.channels_last)


def by_date(images: Tensor, day: Tensor) -> Tensor:
    """(chip * time, ...) → (chip, time, ...), as `day` (chip, time) has them."""
    return images.reshape(*day.shape[:2], *images.shape[1:])


def halved(clear: Tensor, depth: int) -> list[Tensor]:
    """Clear share of each pixel at each level, finest first: `depth + 1` tensors (chip, time, y, x)."""
    return [F.avg_pool2d(clear, 1 << level) if level else clear for level in range(depth + 1)]


class PixelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of each pixel of (chip, channel, ..., y, x)."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (torch's own name)
        """Normalise each pixel by itself."""
        return super().forward(input.movedim(1, -1)).movedim(-1, 1)


def convolution(channels: int) -> nn.Sequential:
    """The one convolution of a level, with what follows it."""
    return nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), PixelNorm(channels), nn.GELU())


def unet_reach(depth: int, convolutions: int = 1) -> int:
    """Farthest pixel, in rows or columns, that a pixel of a U-Net's output depends on.

    A 3 × 3 convolution at level l reaches 2**l pixels: there are as many on the way down as on the way up on each level
    but the lowest; pooling and nearest-neighbour upsampling reach to the edge of a block.

    Args:
        depth: Times the resolution is halved.
        convolutions: 3 × 3 convolutions of a level on either way.
    """
    low = 1 << depth
    return convolutions * (sum(2 << level for level in range(depth)) + low) + (low - 1)


class Descent(nn.Module):
    """The way down of a U-Net.

    Args:
        channels: Channels of the input.
        hidden: Channels of every level.
        depth: Times the resolution is halved.
    """

    def __init__(self, channels: int, hidden: int, depth: int) -> None:
        """One residual convolution a level."""
        super().__init__()
        self.enter = nn.Conv2d(channels, hidden, 1)
        self.blocks = nn.ModuleList(convolution(hidden) for _ in range(depth + 1))

    def layers(self) -> list[nn.Module]:
        """From the input to the coarsest level; the way in belongs to the first convolution."""
        return [nn.ModuleList([self.enter, self.blocks[0]]), *self.blocks[1:]]

    def forward(self, images: Tensor) -> list[Tensor]:
        """(image, channel, y, x) → the levels, finest first; y and x are multiples of 2**depth."""
        levels: list[Tensor] = []
        hidden = self.enter(images)
        for block in self.blocks:
            hidden = F.avg_pool2d(hidden, 2) if levels else hidden
            hidden = hidden + block(hidden)
            levels.append(hidden)
        return levels


class Ascent(nn.Module):
    """The way up of a U-Net.

    Args:
        hidden: Channels of every level.
        depth: Times the resolution is doubled.
    """

    def __init__(self, hidden: int, depth: int) -> None:
        """One residual convolution a level."""
        super().__init__()
        self.blocks = nn.ModuleList(convolution(hidden) for _ in range(depth))

    def forward(self, levels: list[Tensor]) -> Tensor:
        """The levels (chip, channel, y, x), finest first → the finest, with all coarser ones in it."""
        hidden = levels[-1]
        for block, finer in zip(self.blocks, reversed(levels[:-1]), strict=True):
            hidden = F.interpolate(hidden, scale_factor=2.0, mode="nearest") + finer
            hidden = hidden + block(hidden)
        return hidden
