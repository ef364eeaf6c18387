"""What there is to say of a trained land cover model: to a catalogue, and to the people who are to use it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import shapely
from shapely.geometry.base import BaseGeometry

from eearth.geo.labels.legend import LandCoverClass


@dataclass(frozen=True, kw_only=True)
class TrainingRegion:
    """One region that a model learnt from.

    Attributes:
        name: What its files call it.
        outline: Of its imagery, longitude and latitude on WGS 84; beyond 180° across the antimeridian.
        pixel_metres: Side of a pixel.
        collection: Of the imagery.
        first: First acquisition, UTC without a zone.
        last: Last acquisition.
        acquisitions: Their number.
        pixels: Code of a class → labelled pixels for training, for validation and for the test.
    """

    name: str
    outline: BaseGeometry
    pixel_metres: float
    collection: str
    first: datetime
    last: datetime
    acquisitions: int
    pixels: Mapping[int, tuple[int, int, int]]


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """A trained land cover model.

    Attributes:
        network: `LandCoverModel.config()`.
        parameters: Number of its weights.
        margin: Farthest pixel that a score depends on.
        classes: The legend.
        regions: What it learnt from; the first is the one that it was tested on.
        pretrained: What its encoder learnt from before; None: it started from random weights.
        settings: Of the training.
        test: `Accuracy.as_dict()` of the test blocks; None where there is no test pixel.
        calibration: As in `metrics.json`; None where there is no test pixel.
    """

    network: Mapping[str, Any]
    parameters: int
    margin: int
    classes: tuple[LandCoverClass, ...]
    regions: tuple[TrainingRegion, ...]
    pretrained: str | None
    settings: Mapping[str, Any]
    test: Mapping[str, Any] | None
    calibration: Mapping[str, Any] | None

    @property
    def home(self) -> TrainingRegion:
        """The region that it was tested on."""
        return self.regions[0]

    @property
    def encoder(self) -> Mapping[str, Any]:
        """`Encoder.config()`."""
        encoder: Mapping[str, Any] = self.network["encoder"]
        return encoder

    @property
    def outline(self) -> BaseGeometry:
        """Of all regions."""
        united: BaseGeometry = shapely.union_all([region.outline for region in self.regions])
        return united

    @property
    def period(self) -> tuple[datetime, datetime]:
        """First and last acquisition of all regions."""
        return min(region.first for region in self.regions), max(region.last for region in self.regions)

    @property
    def title(self) -> str:
        """What to call it."""
        return f"Land cover model of {self.home.name}"
