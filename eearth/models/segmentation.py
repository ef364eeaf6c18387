"""Land cover segmentation: an encoder and one linear layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eearth.data.series import Chips
    from eearth.models.encoder import Encoder
    from eearth.models.familiarity import Familiarity


class LandCoverModel(nn.Module):
    """Image time series → one score for each class and pixel.

    Args:
        encoder: Gives the features.
        classes: Class codes 1..255, rising; channel k of the scores speaks of classes[k].
        temperature: What the logarithms of its probabilities are divided by where they are to be believed, see
            `eearth.calibration`. The scores are what they are.
        augment: Whether it was examined, and is to map, as the mean over the eight flips and quarter turns of the
            imagery.
        familiarity: The ground that it was trained on; None where that is not known.
    """

    def __init__(
        self,
        encoder: Encoder,
        classes: Sequence[int],
        temperature: float = 1.0,
        *,
        augment: bool = False,
        familiarity: Familiarity | None = None,
    ) -> None:
        """Start from equal scores for all classes."""
        super().__init__()
        self.encoder = encoder
        self.temperature = temperature
        self.augment = augment
        self.familiarity = familiarity
        self.classes = tuple(int(code) for code in classes)
        self.head = nn.Conv2d(encoder.features, len(self.classes), 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    @property
    def bands(self) -> tuple[str, ...]:
        """Bands that the chips must have, in this order."""
        return self.encoder.bands

    @property
    def margin(self) -> int:
        """Farthest pixel that a score depends on."""
        return self.encoder.margin

    def config(self) -> dict[str, Any]:
        """JSON-ready description that `build_land_cover` makes the same network from."""
        shown = {"temperature": self.temperature, "augment": self.augment}
        known = {"familiarity": self.familiarity.config()} if self.familiarity else {}
        return {"encoder": self.encoder.config(), "classes": list(self.classes), **shown, **known}

    def score(self, features: Tensor) -> Tensor:
        """Scores of single pixels, (pixel, feature) → (pixel, class), by the last layer alone."""
        return F.linear(features, self.head.weight[:, :, 0, 0], self.head.bias)

    def forward(self, chips: Chips) -> Tensor:
        """Scores before the softmax, (chip, class, y, x)."""
        scores: Tensor = self.head(self.encoder(chips))
        return scores

    def with_distance(self, chips: Chips) -> tuple[Tensor, Tensor]:
        """Scores as from `forward`, and how far the pixels are from the ground that the model was trained on.

        Returns:
            (chip, class, y, x), and (chip, 1, y, x): see `Familiarity`; NaN where that ground is not known.
        """
        features: Tensor = self.encoder(chips)
        if self.familiarity is None:
            return self.head(features), torch.full_like(features[:, :1], torch.nan)
        return self.head(features), self.familiarity(features)
