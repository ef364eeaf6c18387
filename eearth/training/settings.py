"""Settings of the two training stages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from eearth.config import Settings, setting


@dataclass(frozen=True, kw_only=True)
class PretrainSettings(Settings):
    """Unlabelled imagery → an encoder that knows what the same place looks like on other dates."""

    stage: ClassVar[str] = "pretrain"
    model: str = setting("seasonal-unet", text="Encoder by name.")
    features: int = setting(64, below=1, text="Length of the feature vector of a pixel.")
    depth: int = setting(2, text="Times the encoder halves the resolution, 0 to 2: less looks less at the surroundings.")
    steps: int = setting(150, text="Training steps; more can make the encoder know places instead of their cover.")
    windows: int = setting(16, below=1, text="Places in a step, two views of each.")
    window_size: int = setting(32, below=4, text="Side of a view in pixels.")
    pixels: int = setting(64, below=1, text="Pixels compared at each place.")
    dates: int = setting(12, below=1, text="Most acquisitions of a view.")
    temperature: float = setting(0.5, below=1e-3, text="Temperature of the contrastive loss.")
    exclusion: float = setting(32, text="Pixels of the same region within this many rows and columns are no negatives.")
    learning_rate: float = setting(1e-3, text="Learning rate after the warm-up.")
    weight_decay: float = setting(1e-2, text="Weight decay.")
    gain: float = setting(0.05, text="Spread of the band gains of a view.")
    offset: float = setting(0.1, text="Spread of the band offsets of a view, in standard deviations of the band.")
    noise: float = setting(0.1, text="Spread of the noise of a pixel, in standard deviations of the band.")
    drop_band: float = setting(0.1, text="Chance that a view lacks a band.")
    shuffle: bool = setting(False, text="Compare unrelated pixels: a control that must lose the gain.")


@dataclass(frozen=True, kw_only=True)
class FinetuneSettings(Settings):
    """An encoder and labels → a land cover model."""

    stage: ClassVar[str] = "finetune"
    mode: Literal["full", "frozen"] = setting("full", text="full: train all weights; frozen: only the last layer.")
    labels_per_class: int | None = setting(
        None, below=1, text="Labelled pixels of each class to learn from. Default: all training pixels."
    )
    steps: int = setting(150, text="Training steps.")
    windows: int = setting(16, below=1, text="Windows around labelled pixels in a step.")
    window_size: int = setting(32, below=4, text="Side of a window in pixels.")
    dates: int = setting(32, below=1, text="Most acquisitions of a window.")
    learning_rate: float = setting(1e-3, text="Learning rate of the encoder.")
    head_learning_rate: float = setting(1e-2, text="Learning rate of the last layer.")
    weight_decay: float = setting(1e-2, text="Weight decay.")
    class_balance: float = setting(0.5, text="Class weights are the class's pixel count to the power of minus this.")
    patience: int = setting(5, below=1, text="Stop after this many validations without a better mIoU.")
    validate_every: int = setting(25, below=1, text="Steps between validations.")
    gain: float = setting(0.05, text="Spread of the band gains of a window.")
    offset: float = setting(0.05, text="Spread of the band offsets of a window, in standard deviations of the band.")
    noise: float = setting(0.05, text="Spread of the noise of a pixel, in standard deviations of the band.")
    drop_band: float = setting(0.0, text="Chance that a window lacks a band.")
