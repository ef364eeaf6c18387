"""A transformer over the dates of every patch, then over the patches around it.

After TSViT (Tarasiou, Chavez & Zafeiriou 2023, ViTs for SITS: vision transformers for satellite image time series,
arXiv 2301.04944): time first, then space; several learnt tokens gather what the dates say, as many as there are classes
in the paper, and each goes through space by itself.

Two departures. The tokens start at different parts of the year, see `SeasonScores`: as random queries they average the
season away. And there every patch of a small image attends to every other; a map of any size needs features that depend
on nothing far away, so here the patches of a window attend to that window and a ring around it (after Vaswani et al.
2021, HaloNet, arXiv 2103.12731); the windows lie on multiples of `ALIGNMENT` pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eearth.models.encoder import Encoder
from eearth.models.layers import HARMONICS, SeasonScores, harmonics

if TYPE_CHECKING:
    from collections.abc import Sequence

# Side of a patch in pixels; of a window, of the ring around it, and of both in patches.
PATCH = 2
WINDOW, RING = 2, 2
SPAN = WINDOW + 2 * RING
ALIGNMENT = PATCH * WINDOW


class Attention(nn.Module):
    """Multi-head attention whose queries and keys may be different tokens.

    Args:
        width: Length of a token, a multiple of `heads`.
        heads: Number of heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        """Linear maps without biases but the last."""
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width, bias=False)
        self.keys = nn.Linear(width, 2 * width, bias=False)
        self.leave = nn.Linear(width, width)

    def forward(self, tokens: Tensor, others: Tensor, mask: Tensor) -> Tensor:
        """Attend.

        Args:
            tokens: (batch, query, width).
            others: (batch, key, width).
            mask: Broadcasts to (batch, head, query, key): what is added to the scores.
        """
        query = self._split(self.query(tokens))
        key, value = (self._split(part) for part in self.keys(others).chunk(2, dim=-1))
        found = F.scaled_dot_product_attention(query, key, value, attn_mask=mask.to(query.dtype))
        result: Tensor = self.leave(found.transpose(1, 2).flatten(2))
        return result

    def _split(self, tokens: Tensor) -> Tensor:
        """(batch, token, width) → (batch, head, token, width / heads)."""
        return tokens.reshape(*tokens.shape[:2], self.heads, -1).transpose(1, 2)


class Layer(nn.Module):
    """What every transformer layer has: normalised attention, then a perceptron, each as a residual.

    Args:
        width: Length of a token.
        heads: Attention heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        """The perceptron is twice as wide as a token."""
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.perceive = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )


class TemporalLayer(Layer):
    """Attention among the tokens of one patch."""

    def forward(self, tokens: Tensor, mask: Tensor, count: int) -> Tensor:
        """Tokens (patch, token, width), mask (patch, 1, 1 or count, token) → the first `count` tokens."""
        normed = self.norm(tokens)
        tokens = tokens[:, :count] + self.attention(normed[:, :count], normed, mask)
        result: Tensor = tokens + self.perceive(tokens)
        return result


class SpatialLayer(Layer):
    """Attention of the patches of a window to those of the window and of the ring around it."""

    def __init__(self, width: int, heads: int) -> None:
        """Learn a bias for each pair of places."""
        super().__init__(width, heads)
        self.place = nn.Parameter(torch.zeros(heads, WINDOW**2, SPAN**2))

    def forward(self, grid: Tensor) -> Tensor:
        """(image, y, x, width) → the same; y and x are multiples of `WINDOW`."""
        shape = images, rows, cols, width = grid.shape
        outside = torch.full((1, rows, cols, 1), 0.0, device=grid.device)
        around = _around(outside, float("-inf")).expand(images, -1, -1, -1, -1).reshape(-1, 1, 1, SPAN**2)
        normed = self.norm(grid)
        windows = _windows(normed).reshape(-1, WINDOW**2, width)
        change = self.attention(windows, _around(normed, 0.0).reshape(-1, SPAN**2, width), self.place + around)
        grid = grid + _unite(change.reshape(images, rows // WINDOW, cols // WINDOW, WINDOW**2, width), shape)
        result: Tensor = grid + self.perceive(grid)
        return result


def _windows(grid: Tensor) -> Tensor:
    """(image, y, x, width) → the patches of each window, (image, row, column, patch, width)."""
    images, rows, cols, width = grid.shape
    return grid.reshape(images, rows // WINDOW, WINDOW, cols // WINDOW, WINDOW, width).transpose(2, 3).flatten(3, 4)


def _unite(windows: Tensor, shape: torch.Size) -> Tensor:
    """The inverse of `_windows`, to (image, y, x, width)."""
    return windows.reshape(*windows.shape[:3], WINDOW, WINDOW, -1).transpose(2, 3).reshape(shape)


def _around(grid: Tensor, beyond: float) -> Tensor:
    """(image, y, x, width) → the patches of each window and of its ring, (image, row, column, patch, width)."""
    padded = F.pad(grid, (0, 0, RING, RING, RING, RING), value=beyond)
    return padded.unfold(1, SPAN, WINDOW).unfold(2, SPAN, WINDOW).flatten(4, 5).transpose(3, 4)


class TSViT(Encoder):
    """Patches through time, then through space.

    Args:
        bands: See `Encoder`.
        mean: See `Encoder`.
        std: See `Encoder`.
        features: Length of a feature vector.
        width: Length of a token, a multiple of `heads`.
        heads: Attention heads.
        tokens: Learnt tokens that gather the dates; in the paper one for each class, which are not known here.
        layers: Layers over time, at least 1.
        depth: Layers over space.
    """

    name: ClassVar[str] = "tsvit"
    copies: ClassVar[float] = 20.5

    def __init__(
        self,
        bands: Sequence[str],
        mean: Sequence[float],
        std: Sequence[float],
        *,
        features: int = 64,
        width: int = 64,
        heads: int = 4,
        tokens: int = 4,
        layers: int = 2,
        depth: int = 2,
    ) -> None:
        """A token is a patch of one date, all bands and the mask, and the day of the year."""
        shape = {"features": features, "width": width, "heads": heads, "tokens": tokens, "layers": layers}
        super().__init__(bands, mean, std, {**shape, "depth": depth})
        self.enter = nn.Linear((len(self.bands) + 1) * PATCH**2, width)
        self.season = nn.Linear(2 * HARMONICS, width)
        self.prior = SeasonScores(tokens)
        self.tokens = nn.Parameter(torch.randn(tokens, width))
        self.time = nn.ModuleList(TemporalLayer(width, heads) for _ in range(layers))
        self.space = nn.ModuleList(SpatialLayer(width, heads) for _ in range(depth))
        self.leave = nn.Sequential(nn.LayerNorm(tokens * width), nn.Linear(tokens * width, features * PATCH**2))

    @property
    def alignment(self) -> int:
        """Side of a window."""
        return ALIGNMENT

    @property
    def margin(self) -> int:
        """From one edge of a window over the other one and as many rings as there are layers over space."""
        return PATCH * RING * self.depth + ALIGNMENT - 1 if self.depth else PATCH - 1

    def layers(self) -> list[nn.Module]:
        """See `Encoder.layers`."""
        enter = nn.ModuleList([self.enter, self.season, self.prior, nn.ParameterList([self.tokens])])
        return [enter, *self.time, *self.space, self.leave]

    def encode(self, values: Tensor, clear: Tensor, day: Tensor) -> Tensor:
        """See `Encoder.encode`."""
        grid = self._through_time(values, clear, day)
        for layer in self.space:
            grid = layer(grid)
        gathered = grid.reshape(len(day), -1, *grid.shape[1:]).movedim(1, -2).flatten(-2)
        features: Tensor = F.pixel_shuffle(self.leave(gathered).movedim(-1, 1), PATCH)
        return features

    def _through_time(self, values: Tensor, clear: Tensor, day: Tensor) -> Tensor:
        """Every patch's learnt tokens after the dates: (chip * token, y, x, width)."""
        patches = F.pixel_unshuffle(torch.cat([values, clear[:, :, None]], dim=2), PATCH).permute(0, 3, 4, 1, 2)
        dates = self.enter(patches) + self.season(harmonics(day, HARMONICS))[:, None, None]
        learnt = self.tokens.expand(*dates.shape[:3], -1, -1)
        tokens = torch.cat([learnt, dates.to(learnt.dtype)], dim=3).flatten(0, 2)
        seen = F.max_pool2d(clear, PATCH).permute(0, 2, 3, 1)[..., None, :] > 0
        mask = torch.zeros_like(seen, dtype=values.dtype).masked_fill(~seen, float("-inf"))
        prior = mask + self.prior(day).transpose(1, 2)[:, None, None]
        mask, prior = (F.pad(part, (len(self.tokens), 0)).flatten(0, 2)[:, None] for part in (mask, prior))
        for layer in self.time[:-1]:
            tokens = layer(tokens, mask, tokens.shape[1])
        tokens = self.time[-1](tokens, prior, len(self.tokens))  # nothing reads the others any more
        kept: Tensor = tokens.reshape(learnt.shape)
        return kept.movedim(3, 1).flatten(0, 1)
