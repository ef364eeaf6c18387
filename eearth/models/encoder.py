"""What every encoder is: a network from image time series to one feature vector a pixel, with all that applies it.

Every encoder keeps four promises, so that a map made in windows equals the map made in one piece, whatever the clouds:

* What is not valid has no influence: no pixel, and no date on which nothing is valid.
* The order in which dates are given does not matter; the day of the year does.
* A feature depends on nothing farther away than `margin`, and windows that start on multiples of `alignment` agree.
* Nothing is normalised over space or over the batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eearth.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from eearth.data.series import Chips
    from eearth.models.contrast import Directions, Recipe

# Normalised reflectance is cut at this many standard deviations: clouds and glint that the mask missed are far beyond.
OUTLIER = 5.0

# Windows of a map start on multiples of 4 pixels (`eearth.geo.lattice.STEP`), which bounds the alignment.
DEEPEST = 2


class Encoder(nn.Module, ABC):
    """Image time series → one feature vector a pixel.

    Args:
        bands: Names of the bands, in the order of the chips' band axis.
        mean: Mean reflectance of each band.
        std: Standard deviation of each band.
        shape: The other arguments of the subclass's constructor, JSON-ready; `features` and `depth` are among them.

    Attributes:
        name: What `--model` calls it.
        copies: What a window takes in the network on a CPU, itself included, against its reflectance in float32 and its
            mask; measured with 256 x 256 pixels, 30 dates and 10 bands.
        revision: Counts what makes weights of earlier files mean something else; they are refused then.
        solves: Whether there is something to learn in closed form: see `contrast_neighbours`.

    Raises:
        ModelError: The depth is not 0, 1 or 2.
    """

    name: ClassVar[str]
    copies: ClassVar[float]
    revision: ClassVar[int] = 1
    solves: ClassVar[bool] = False

    def __init__(
        self, bands: Sequence[str], mean: Sequence[float], std: Sequence[float], shape: dict[str, int]
    ) -> None:
        """Hold what `config` gives back."""
        super().__init__()
        if not 0 <= shape["depth"] <= DEEPEST:
            msg = f"expected an encoder's depth from 0 to {DEEPEST}, found {shape['depth']}"
            raise ModelError(msg)
        self.bands = tuple(bands)
        self.features = shape["features"]
        self.depth = shape["depth"]
        self._shape = shape
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(list(mean), dtype=torch.float32)[:, None, None])
        self.register_buffer("std", torch.tensor(list(std), dtype=torch.float32)[:, None, None])

    @property
    def alignment(self) -> int:
        """Windows whose first row and column are multiples of this give the features of the whole image."""
        return 1 << self.depth

    @property
    @abstractmethod
    def margin(self) -> int:
        """Farthest pixel, in rows or columns, that a feature depends on."""

    @abstractmethod
    def layers(self) -> list[nn.Module]:
        """The network from the imagery to the features, every weight in one of the layers.

        Training may give each its own learning rate, or let the last ones learn first.
        """

    @abstractmethod
    def encode(self, values: Tensor, clear: Tensor, day: Tensor) -> Tensor:
        """Encode chips whose sides are multiples of `alignment`.

        Args:
            values: (chip, time, band, y, x), normalised reflectance; 0 where not valid.
            clear: (chip, time, y, x), 1 where valid, else 0.
            day: (chip, time), day of the year.

        Returns:
            (chip, feature, y, x).
        """

    def get_used_to(self, samples: Sequence[Chips]) -> None:
        """Take what is usual in some imagery, before any training; random weights stay random.

        Args:
            samples: Some imagery, with the encoder's bands.
        """

    def settle(self, samples: Sequence[Chips], random: np.random.Generator) -> None:
        """Fit what was learnt to other imagery, once used to it, as far as it can be relied on there.

        Args:
            samples: Some imagery, with the encoder's bands.
            random: Source of all chance.
        """

    def contrast_neighbours(self, samples: Sequence[Chips], recipe: Recipe, random: np.random.Generator) -> Directions:
        """Learn directions in which places differ and neighbours agree, in closed form; only where `solves` says so.

        Args:
            samples: Some imagery, with the encoder's bands.
            recipe: What to learn from, and how far.
            random: Source of all chance.

        Raises:
            ModelError: No two neighbouring pixels were ever seen clearly.
        """
        raise NotImplementedError

    def begin_steps(self) -> None:
        """Be told that steps of training follow, so that directions in closed form are no longer all that is learnt."""

    def config(self) -> dict[str, Any]:
        """JSON-ready description that `build` makes the same network from."""
        mean, std = self.mean.flatten().tolist(), self.std.flatten().tolist()
        return {"name": self.name, "bands": list(self.bands), "mean": mean, "std": std, **self._shape}

    def normalise(self, chips: Chips) -> Tensor:
        """Reflectance in standard deviations from the mean, cut at outliers; 0 where not valid."""
        scale = 1 / self.std
        values = torch.addcmul(-self.mean * scale, chips.reflectance, scale).clamp_(-OUTLIER, OUTLIER)
        return values.masked_fill_(~chips.valid[:, :, None], 0.0)

    def forward(self, chips: Chips) -> Tensor:
        """Encode.

        Args:
            chips: Any number of dates and any size from one pixel up.

        Returns:
            (chip, feature, y, x). A pixel without any clear observation has a feature of its surroundings.
        """
        height, width = chips.valid.shape[-2:]
        values, clear = self.normalise(chips), chips.valid.float()
        if any(padding := (0, -width % self.alignment, 0, -height % self.alignment)):
            values, clear = F.pad(values, padding), F.pad(clear, padding)
        return self.encode(values, clear, chips.day.float())[..., :height, :width]
