"""A U-Net over each date, and attention over the dates.

After U-TAE (Garnot & Landrieu 2021, Panoptic segmentation of satellite image time series with convolutional temporal
attention networks, arXiv 2107.07933) with the temporal attention of L-TAE (Garnot & Landrieu 2020, arXiv 2007.00586):
the dates share one encoder, the attention is computed on its coarsest level, and every level is averaged over the dates
under that same attention, brought to its resolution.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from eearth.models.encoder import Encoder
from eearth.models.layers import (
    Ascent,
    Descent,
    PixelNorm,
    SeasonScores,
    by_date,
    date_images,
    halved,
    unet_reach,
    weighted_mean,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

# Score of a date that is not clear: its weight beside any clear date is exactly 0 in float32.
NEVER = -1e4


class DateAttention(nn.Module):
    """Scores of the dates, for each head and pixel.

    In L-TAE the query is learnt and the same everywhere, so that query times key is a linear map of the date's
    features, one row a head. The day of the year enters through a linear map as well, see `SeasonScores`.

    Args:
        hidden: Channels of the features.
        heads: Number of heads.
    """

    def __init__(self, hidden: int, heads: int) -> None:
        """Spread the heads over the year."""
        super().__init__()
        self.features = nn.Sequential(PixelNorm(hidden), nn.Conv2d(hidden, heads, 1, bias=False))
        self.season = SeasonScores(heads)

    def forward(self, images: Tensor, day: Tensor) -> Tensor:
        """(chip * time, channel, y, x) and (chip, time) → (chip, time, head, y, x)."""
        season: Tensor = self.season(day)
        return by_date(self.features(images), day) + season[..., None, None]


def attend(scores: Tensor, clear: Tensor) -> Tensor:
    """Softmax over the clear dates.

    Args:
        scores: (chip, time, head, y, x).
        clear: (chip, time, y, x), clear share of each pixel, by which a date counts.

    Returns:
        (chip, time, head, y, x) float32, not negative; 0 for a date that is not clear. They need not sum to 1.
    """
    clear = clear[:, :, None]
    return scores.float().masked_fill(clear == 0, NEVER).softmax(dim=1) * clear


class TemporalAttentionUNet(Encoder):
    """A U-Net whose levels are averaged over the dates by one attention.

    Args:
        bands: See `Encoder`.
        mean: See `Encoder`.
        std: See `Encoder`.
        features: Length of a feature vector.
        hidden: Channels of the U-Net, a multiple of `heads`.
        heads: Attention heads; each weights its own share of the channels.
        depth: Times the U-Net halves the resolution.
    """

    name: ClassVar[str] = "temporal-attention-unet"
    copies: ClassVar[float] = 23.5

    def __init__(
        self,
        bands: Sequence[str],
        mean: Sequence[float],
        std: Sequence[float],
        *,
        features: int = 64,
        hidden: int = 32,
        heads: int = 8,
        depth: int = 2,
    ) -> None:
        """Start with heads that look at different parts of the year."""
        super().__init__(bands, mean, std, {"features": features, "hidden": hidden, "heads": heads, "depth": depth})
        self.descent = Descent(len(self.bands) + 3, hidden, depth)
        self.attention = DateAttention(hidden, heads)
        self.mix = nn.Sequential(PixelNorm(hidden), nn.Conv2d(hidden, hidden, 1), nn.GELU())
        self.ascent = Ascent(hidden, depth)
        self.leave = nn.Conv2d(hidden, features, 1)

    @property
    def margin(self) -> int:
        """As far as the U-Net reaches."""
        return unet_reach(self.depth)

    def layers(self) -> list[nn.Module]:
        """See `Encoder.layers`."""
        return [*self.descent.layers(), nn.ModuleList([self.attention, self.mix]), *self.ascent.blocks, self.leave]

    def encode(self, values: Tensor, clear: Tensor, day: Tensor) -> Tensor:
        """See `Encoder.encode`."""
        levels = self.descent(date_images(values, clear, day))
        scores = self.attention(levels[-1], day)
        shares = halved(clear, self.depth)
        means = [self._mean(*parts, scores) for parts in zip(levels, shares, strict=True)]
        means[-1] = means[-1] + self.mix(means[-1])
        features: Tensor = self.leave(self.ascent(means))
        return features

    def _mean(self, images: Tensor, clear: Tensor, scores: Tensor) -> Tensor:
        """One level's mean over the dates, under scores of the coarsest level: (chip, channel, y, x)."""
        factor = clear.shape[-1] / scores.shape[-1]
        finer = by_date(F.interpolate(scores.flatten(0, 1), scale_factor=factor, mode="nearest"), clear)
        weights = attend(finer, clear).repeat_interleave(images.shape[1] // scores.shape[2], dim=2)
        return weighted_mean(by_date(images, clear), weights)
