"""What is made of a tile: its part of the map, or its features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from eearth.geo.lattice import Axis, margin_for
from eearth.inference.classify import classify
from eearth.inference.tiles import encode_tile, predict_tile
from eearth.inference.walk import Clock
from eearth.models.encoder import Encoder
from eearth.models.segmentation import LandCoverModel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from eearth.data.sights import Sight
    from eearth.data.sliding import Sliding
    from eearth.geo.products.prediction import Prediction
    from eearth.inference.walk import Tile


class WindowSettings(Protocol):
    """How a network is slid over imagery, as every stage that does so asks for it."""

    @property
    def window_size(self) -> int:
        """Side of a window in pixels."""

    @property
    def batch_size(self) -> int:
        """Windows in the network at the same time."""


@dataclass(frozen=True)
class LandCoverMapper:
    """Maps tiles.

    Args:
        model: On its device.
        device: That device.
        settings: How it is slid.
        clock: Is told how long the network waited for windows.

    Raises:
        UsageError: The windows are too small for the network.
    """

    model: LandCoverModel
    device: torch.device
    settings: WindowSettings
    clock: Clock

    def __post_init__(self) -> None:
        """Refuse at once what would be refused at the first tile."""
        Axis(1, self.settings.window_size, self.margin)

    @property
    def margin(self) -> int:
        """Half of the windows' overlap in pixels."""
        return margin_for(self.model.margin)

    @property
    def reach(self) -> int:
        """Pixels around a tile that its map depends on."""
        return self.margin

    def __call__(self, sight: Sight, tile: Tile) -> Prediction:
        """Map one tile."""
        model, shape = self.model, tile.inside.shape
        if sight.series is None:
            probabilities = np.full((len(model.classes), *shape), 1 / len(model.classes), np.float32)
            found = probabilities, np.zeros(shape, np.int32)
        else:
            sliding = _sliding(self.settings, self.margin, self.device, sight, model.bands, self.clock)
            found = predict_tile(model, sight.series, sight.window, tile.inside, augment=model.augment, **sliding)
        return classify(*found, tile.inside, model.classes, model.temperature)


@dataclass(frozen=True)
class FeatureMapper:
    """Encodes tiles; see `LandCoverMapper`."""

    encoder: Encoder
    device: torch.device
    settings: WindowSettings
    clock: Clock

    def __post_init__(self) -> None:
        """Refuse at once what would be refused at the first tile."""
        Axis(1, self.settings.window_size, self.reach)

    @property
    def reach(self) -> int:
        """Pixels around a tile that its features depend on."""
        return margin_for(self.encoder.margin)

    def __call__(self, sight: Sight, tile: Tile) -> NDArray[np.float32]:
        """Encode one tile: (feature, y, x), see `encode_tile`."""
        if sight.series is None:
            return np.full((self.encoder.features, *tile.inside.shape), np.nan, np.float32)
        sliding = _sliding(self.settings, self.reach, self.device, sight, self.encoder.bands, self.clock)
        return encode_tile(self.encoder, sight.series, sight.window, tile.inside, **sliding)


def _sliding(  # noqa: PLR0917 - all are needed, none twice
    settings: WindowSettings, margin: int, device: torch.device, sight: Sight, bands: tuple[str, ...], clock: Clock
) -> Sliding:
    return {
        "size": settings.window_size,
        "margin": margin,
        "device": device,
        "batch": settings.batch_size,
        "bands": bands,
        "phase": sight.phase,
        "waited": clock.waited,
    }
