"""What is made of a tile: its part of the map, or its features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from eearth.errors import UsageError
from eearth.geo.lattice import Axis, margin_for
from eearth.geo.products.landcover.unfamiliar import unfamiliarity
from eearth.inference.classify import classify
from eearth.inference.load import WindowSettings, load_of
from eearth.inference.smoothing import smoothed, smoothing_halo
from eearth.inference.tiles import encode_tile, map_tile
from eearth.inference.walk import Clock
from eearth.models.device import choose_device
from eearth.models.encoder import Encoder
from eearth.models.files import SavedModel, load_described_encoder, load_land_cover
from eearth.models.segmentation import LandCoverModel

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from eearth.data.sights import Sight
    from eearth.data.sliding import Sliding
    from eearth.geo.products.landcover.prediction import Prediction
    from eearth.inference.walk import Tile


class MapSettings(WindowSettings, Protocol):
    """What a map shows, as a stage asks for it."""

    @property
    def min_confidence(self) -> int:
        """Percent; a pixel with less gets no class."""

    @property
    def probabilities(self) -> bool:
        """Whether the probability of every class is kept."""

    @property
    def smooth(self) -> int:
        """Side of the neighbourhood for smoothing in pixels, odd; 0 for none."""


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
    settings: MapSettings
    clock: Clock

    def __post_init__(self) -> None:
        """Refuse at once what would be refused at the first tile."""
        Axis(1, self.settings.window_size, self.margin)
        if self.settings.smooth and self.settings.smooth % 2 == 0:
            msg = f"expected an odd number of pixels, or 0, for --smooth, found {self.settings.smooth}"
            raise UsageError(msg)

    @classmethod
    def loaded(cls, path: Path, settings: MapSettings) -> tuple[LandCoverMapper, SavedModel]:
        """With the model of a file, and what is known of it.

        Raises:
            ModelError: See `load_land_cover`.
            UsageError: There is no such device, or the settings do not fit the model.
        """
        model, saved = load_land_cover(path)
        device = choose_device(settings.device)
        return cls(model.to(device), device, settings, Clock()), saved

    @property
    def margin(self) -> int:
        """Half of the windows' overlap in pixels."""
        return margin_for(self.model.margin)

    @property
    def reach(self) -> int:
        """Pixels around a tile that its map depends on."""
        return self.margin + self.halo

    @property
    def halo(self) -> int:
        """Pixels around a tile whose probabilities count for its own."""
        return smoothing_halo(self.settings.smooth) if self.settings.smooth else 0

    def __call__(self, sight: Sight, tile: Tile) -> Prediction:
        """Map one tile."""
        probabilities, distance, observations = self._looked_at(sight, tile)
        return classify(
            probabilities,
            observations,
            tile.inside,
            self.model.classes,
            self.model.temperature,
            min_confidence=self.settings.min_confidence,
            unfamiliarity=unfamiliarity(distance, observations > 0),
            keep=self.settings.probabilities,
        )

    def _looked_at(
        self, sight: Sight, tile: Tile
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int32]]:
        """(class, y, x) probabilities, smoothed if wanted; (y, x) distances; (y, x) numbers of clear observations."""
        model, shape = self.model, tile.inside.shape
        if sight.series is None:
            even = np.full((len(model.classes), *shape), 1 / len(model.classes), np.float32)
            return even, np.full(shape, np.nan, np.float32), np.zeros(shape, np.int32)
        sliding = _sliding(self.settings, self.margin, self.device, sight, model.encoder, self.clock)
        if not self.halo:
            return map_tile(model, sight.series, sight.window, tile.inside, **sliding)
        wide = sight.window.grown(self.halo, sight.series.shape)
        own = sight.window.within(wide).slices
        found, away, seen = map_tile(model, sight.series, wide, **sliding)
        found = smoothed(found, seen > 0, self.settings.smooth)
        return found[:, *own], away[own], seen[own]


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

    @classmethod
    def loaded(cls, path: Path, settings: WindowSettings) -> tuple[FeatureMapper, SavedModel]:
        """With the encoder of a file; see `LandCoverMapper.loaded`."""
        encoder, saved = load_described_encoder(path)
        device = choose_device(settings.device)
        return cls(encoder.to(device), device, settings, Clock()), saved

    @property
    def reach(self) -> int:
        """Pixels around a tile that its features depend on."""
        return margin_for(self.encoder.margin)

    def __call__(self, sight: Sight, tile: Tile) -> NDArray[np.float32]:
        """Encode one tile: (feature, y, x), see `encode_tile`."""
        if sight.series is None:
            return np.full((self.encoder.features, *tile.inside.shape), np.nan, np.float32)
        sliding = _sliding(self.settings, self.reach, self.device, sight, self.encoder, self.clock)
        return encode_tile(self.encoder, sight.series, sight.window, tile.inside, **sliding)


def _sliding(  # noqa: PLR0917 - all are needed, none twice
    settings: WindowSettings, margin: int, device: torch.device, sight: Sight, encoder: Encoder, clock: Clock
) -> Sliding:
    assert sight.series is not None  # noqa: S101 - there is nothing to slide over where there is no imagery
    load = load_of(encoder, settings, len(sight.series.times), device)
    return {
        "size": settings.window_size,
        "margin": margin,
        "device": device,
        "batch": load.batch,
        "workers": load.workers,
        "bands": encoder.bands,
        "phase": sight.phase,
        "waited": clock.waited,
    }
