"""How far features lie from all that a model was trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence


class Familiarity(nn.Module):
    """The ground that a model was trained on, as points of its feature space, and how far one may be from them.

    The distance is Euclidean in the features as the last layer sees them, to the nearest point: see docs/design/0013
    for what it was chosen from.

    Args:
        points: Number of points.
        features: Length of a feature vector.
        months: Months 1..12 in which the training's imagery was acquired, rising.

    Attributes:
        points: (point, feature).
        reach: Distance to the nearest point that only the farthest 1 % of the training's ground exceeds, where that
            ground was held out from the points.
    """

    def __init__(self, points: int, features: int, months: Sequence[int] = ()) -> None:
        """Start with points that know nothing."""
        super().__init__()
        self.months = tuple(int(month) for month in months)
        self.points: Tensor
        self.reach: Tensor
        self.register_buffer("points", torch.zeros(points, features))
        self.register_buffer("reach", torch.ones(()))

    def config(self) -> dict[str, Any]:
        """JSON-ready description of its size and its months."""
        return {"points": len(self.points), "months": list(self.months)}

    def forward(self, features: Tensor) -> Tensor:
        """Distance to the nearest point in units of `reach`.

        Args:
            features: (chip, feature, y, x).

        Returns:
            (chip, 1, y, x) float32.
        """
        with torch.autocast(features.device.type, enabled=False):
            pixels = features.float().flatten(2)
            # |f - p|² = |f|² + (|p|² - 2 f·p): one matrix product, and only the nearest point is looked at again.
            beyond = torch.baddbmm(
                self.points.square().sum(dim=1)[None, :, None],
                self.points.expand(len(pixels), -1, -1),
                pixels,
                alpha=-2,
            ).amin(dim=1, keepdim=True)
            squares = (beyond + pixels.square().sum(dim=1, keepdim=True)).clamp(min=0)
            distance: Tensor = squares.sqrt() / self.reach
        return distance.reshape(len(distance), 1, *features.shape[2:])
