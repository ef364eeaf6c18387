"""Settings of `eearth finetune`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from eearth.config import Settings, setting


@dataclass(frozen=True, kw_only=True)
class FinetuneSettings(Settings):
    """An encoder and labels → a land cover model."""

    stage: ClassVar[str] = "finetune"
    also: tuple[Path, ...] = setting(
        (), text="Other workspaces to learn from as well, with the same bands and classes.", incidental=True
    )
    encoder: str | None = setting(
        None,
        text="Another workspace, an encoder file, or 'none'. Default: this workspace's pretrain/, if it is there.",
        incidental=True,
    )
    mode: Literal["full", "frozen"] = setting("full", text="full: train all weights; frozen: only the last layer.")
    labels_per_class: int | None = setting(
        None, least=1, text="Labelled pixels of each class to learn from. Default: all training pixels."
    )
    steps: int | None = setting(
        None,
        text="Training steps after the linear start, at most. Default: 300; with a label budget 0, the start alone.",
    )
    batch_size: int = setting(8, least=1, text="Windows around labelled pixels in a step.")
    window_size: int = setting(16, least=4, text="Side of a window in pixels.")
    dates: int = setting(32, least=1, text="Most acquisitions of a window.")
    learning_rate: float = setting(1e-4, text="Learning rate of the encoder.")
    head_learning_rate: float = setting(1e-4, text="Learning rate of the last layer.")
    weight_decay: float = setting(1e-2, text="Weight decay.")
    class_balance: float = setting(0.5, text="Class weights are the class's pixel count to the power of minus this.")
    patience: int = setting(5, least=1, text="Stop after this many validations without a better mIoU.")
    validate_every: int = setting(25, least=1, text="Steps between validations.")
    gain: float = setting(0.05, text="Spread of the band gains of a window.")
    offset: float = setting(0.05, text="Spread of the band offsets of a window, in standard deviations of the band.")
    noise: float = setting(0.05, text="Spread of the noise of a pixel, in standard deviations of the band.")
    drop_band: float = setting(0.0, most=1, text="Chance that a window lacks a band.")
    seed: int = setting(0, text="Seed of the chosen labels and of every draw.")
    device: Literal["auto", "cpu", "cuda"] = setting("auto", text="Where to compute.", incidental=True)
