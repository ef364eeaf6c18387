"""Settings of `eearth finetune`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from eearth.config import Settings, setting, suggestion
from eearth.errors import UsageError

# What `loss` may add up.
LOSSES = ("cross_entropy", "dice", "focal")


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
    mode: Literal["full", "frozen", "gradual"] = setting(
        "full",
        text="full: train all weights; frozen: only the last layer; gradual: the last layer first, then one layer of "
        "the encoder after the other, from the features down to the imagery.",
    )
    layer_decay: float = setting(
        1.0, most=1, text="Learning rate of a layer of the encoder, as a share of that of the layer above it."
    )
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
    ema: float = setting(
        0.0, most=1, text="Share that a running average of the weights keeps at each step; 0 for no average."
    )
    loss: str = setting(
        "cross_entropy", text="cross_entropy, dice or focal, or the sum of several: cross_entropy+dice."
    )
    focal_gamma: float = setting(2.0, text="How much less the focal loss counts what is right already.")
    class_weights: tuple[str, ...] = setting(
        ("auto",),
        text="auto: by the classes' pixel counts; none: all alike; NAME=FACTOR (or CODE=FACTOR): auto, times this.",
    )
    class_balance: float | None = setting(
        None,
        text="Automatic class weights are the class's pixel count to the power of minus this. Default: 0.25; with a "
        "label budget 0.5.",
    )
    sampling: Literal["balanced", "plain"] = setting(
        "balanced", text="balanced: windows around pixels of each class as often; plain: of each pixel as often."
    )
    patience: int = setting(5, least=1, text="Stop after this many validations without a better mIoU.")
    validate_every: int = setting(25, least=1, text="Steps between validations.")
    gain: float = setting(0.05, text="Spread of the band gains of a window.")
    offset: float = setting(0.05, text="Spread of the band offsets of a window, in standard deviations of the band.")
    noise: float = setting(0.05, text="Spread of the noise of a pixel, in standard deviations of the band.")
    drop_band: float = setting(0.0, most=1, text="Chance that a window lacks a band.")
    augment: bool = setting(
        False,
        text="Examine the model, and later map with it, as the mean over the eight flips and quarter turns of the "
        "imagery, at eight times the cost.",
    )
    seed: int = setting(0, text="Seed of the chosen labels and of every draw.")
    device: Literal["auto", "cpu", "cuda"] = setting("auto", text="Where to compute.", incidental=True)

    @property
    def losses(self) -> tuple[str, ...]:
        """The terms of the loss."""
        return tuple(self.loss.split("+"))

    def __post_init__(self) -> None:
        """Refuse a loss or class weights that say nothing."""
        super().__post_init__()
        for term in self.losses:
            if term not in LOSSES:
                msg = f"expected a sum of {', '.join(LOSSES)} for loss, found {term!r}; {suggestion(term, LOSSES)}"
                raise UsageError(msg)
        if len(set(self.losses)) < len(self.losses):
            msg = f"expected each term of the loss once, found {self.loss!r}"
            raise UsageError(msg)
        if self.mode == "frozen" and self.layer_decay != 1:
            msg = f"expected --layer-decay with --mode full or gradual only, found {self.layer_decay:g} with frozen"
            raise UsageError(msg)
        self.class_factors()

    def class_factors(self) -> dict[str, float]:
        """Name or code of a class → its factor; empty for `auto` and for `none`.

        Raises:
            UsageError: Neither `auto` nor `none`, nor factors that are not negative.
        """
        if self.class_weights in {("auto",), ("none",)}:
            return {}
        pairs = [given.rpartition("=") for given in self.class_weights]
        for name, _, value in pairs:
            if not name or not _is_factor(value):
                msg = f"expected auto, none or NAME=FACTOR for class_weights, found {','.join(self.class_weights)!r}"
                raise UsageError(msg)
        return {name.strip(): float(value) for name, _, value in pairs}


def _is_factor(text: str) -> bool:
    """Whether it is a finite number of at least 0."""
    try:
        return 0 <= float(text) < math.inf
    except ValueError:
        return False
