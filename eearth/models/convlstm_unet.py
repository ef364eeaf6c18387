"""A U-Net over each date, whose coarsest level goes through a ConvLSTM in order of time.

After the UNet2D-ConvLSTM of Rustowicz et al. (2019, Semantic segmentation of crop type in Africa, CVPR workshops), with
the ConvLSTM of Shi et al. (2015, arXiv 1506.04214) on the bottleneck; the finer levels are means over the dates.

The recurrence is a 1 × 1 convolution, and only what a date adds is looked at in 3 × 3. A recurrence of 3 × 3 sees one
pixel farther with each date: a map in windows would need a margin that grows with the number of dates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from eearth.models.encoder import Encoder
from eearth.models.layers import Ascent, Descent, by_date, composite, date_images, halved, unet_reach, weighted_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

# A gate that starts open lets the first dates of a year reach the last state (Jozefowicz et al. 2015, ICML).
FORGET_BIAS = 1.0


def rising(day: Tensor) -> Tensor:
    """The matrix that puts dates in order and makes one of those of the same day.

    Args:
        day: (chip, time), day of the year.

    Returns:
        (chip, slot, time), 1 where a date belongs to a slot. There are as many slots as dates; where days repeat, the
        slots of the repetitions are empty.
    """
    ordered = day.sort(dim=1).values
    first = torch.ones_like(ordered, dtype=torch.bool)
    first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    return ((ordered[:, :, None] == day[:, None]) & first[:, :, None]).float()


class ConvLSTM(nn.Module):
    """A long short-term memory for each pixel of a series of images.

    Args:
        channels: Channels of the input and of the state.
    """

    def __init__(self, channels: int) -> None:
        """Start by remembering."""
        super().__init__()
        self.look = nn.Conv2d(channels, 4 * channels, 3, padding=1)
        self.recall = nn.Conv2d(channels, 4 * channels, 1, bias=False)
        with torch.no_grad():
            self.look.bias[channels : 2 * channels] += FORGET_BIAS  # type: ignore[index]

    def forward(self, images: Tensor, clear: Tensor) -> Tensor:
        """The state after the last date.

        Args:
            images: (chip * time, channel, y, x), in order of time.
            clear: (chip, time, y, x), clear share of each pixel, by which a date moves the state.

        Returns:
            (chip, channel, y, x).
        """
        seen = by_date(self.look(images), clear)
        state = memory = torch.zeros_like(seen[:, 0].chunk(4, dim=1)[0])
        for time in range(seen.shape[1]):
            enter, keep, leave, change = (seen[:, time] + self.recall(state)).chunk(4, dim=1)
            fresh = keep.sigmoid() * memory + enter.sigmoid() * change.tanh()
            memory = torch.lerp(memory, fresh, share := clear[:, time, None].to(fresh.dtype))
            state = torch.lerp(state, leave.sigmoid() * fresh.tanh(), share)
        return state


class ConvLSTMUNet(Encoder):
    """A U-Net with a ConvLSTM at the bottom.

    Args:
        bands: See `Encoder`.
        mean: See `Encoder`.
        std: See `Encoder`.
        features: Length of a feature vector.
        hidden: Channels of the U-Net and of the ConvLSTM's state.
        directions: 1 to go through the year forwards; 2 to go backwards as well.
        depth: Times the U-Net halves the resolution.
    """

    name: ClassVar[str] = "convlstm-unet"
    copies: ClassVar[float] = 18.5

    def __init__(
        self,
        bands: Sequence[str],
        mean: Sequence[float],
        std: Sequence[float],
        *,
        features: int = 64,
        hidden: int = 32,
        directions: int = 1,
        depth: int = 2,
    ) -> None:
        """One ConvLSTM for each direction."""
        super().__init__(
            bands, mean, std, {"features": features, "hidden": hidden, "directions": directions, "depth": depth}
        )
        self.descent = Descent(len(self.bands) + 3, hidden, depth)
        self.memories = nn.ModuleList(ConvLSTM(hidden) for _ in range(directions))
        self.join = nn.Conv2d(directions * hidden, hidden, 1)
        self.ascent = Ascent(hidden, depth)
        self.leave = nn.Conv2d(hidden, features, 1)

    @property
    def margin(self) -> int:
        """As far as the U-Net reaches, and one pixel of its coarsest level that the ConvLSTM adds."""
        return unet_reach(self.depth) + self.alignment

    def layers(self) -> list[nn.Module]:
        """See `Encoder.layers`."""
        return [*self.descent.layers(), nn.ModuleList([self.memories, self.join]), *self.ascent.blocks, self.leave]

    def encode(self, values: Tensor, clear: Tensor, day: Tensor) -> Tensor:
        """See `Encoder.encode`."""
        order = rising(day)
        values, weight = composite(order, values, clear)
        clear, day = (weight > 0).float(), day.sort(dim=1).values
        levels = self.descent(date_images(values, clear, day))
        shares = halved(clear, self.depth)
        means = [self._mean(*parts) for parts in zip(levels[:-1], shares[:-1], strict=True)]
        features: Tensor = self.leave(self.ascent([*means, self._remember(levels[-1], shares[-1])]))
        return features

    def _mean(self, images: Tensor, clear: Tensor) -> Tensor:
        return weighted_mean(by_date(images, clear), clear[:, :, None])

    def _remember(self, images: Tensor, clear: Tensor) -> Tensor:
        """The last state of every direction, as one: (chip, channel, y, x)."""
        backwards = by_date(images, clear).flip(1).flatten(0, 1), clear.flip(1)
        ways = [(images, clear), backwards]
        states = [memory(*way) for memory, way in zip(self.memories, ways, strict=False)]
        joined: Tensor = self.join(torch.cat(states, dim=1))
        return joined
