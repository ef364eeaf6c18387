"""Settings of `eearth pretrain`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from eearth.config import Settings, setting
from eearth.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class PretrainSettings(Settings):
    """Unlabelled imagery → an encoder that knows what the same place looks like on other dates."""

    stage: ClassVar[str] = "pretrain"
    imagery: tuple[Path, ...] = setting(
        (), text="Other workspaces whose imagery to learn from as well.", incidental=True
    )
    model: Literal["seasonal-unet", "temporal-attention-unet", "unet3d", "convlstm-unet", "tsvit"] = setting(
        "seasonal-unet", text="Encoder by name."
    )
    features: int = setting(64, least=1, text="Length of the feature vector of a pixel.")
    depth: int = setting(
        1, most=2, text="Times the encoder halves the resolution, 0 to 2: less looks less at the surroundings."
    )
    evening: float = setting(
        0.5,
        most=1,
        text="seasonal-unet: how far all directions in which pixels differ are made equally strong, 0 to 1.",
    )
    agreement: float = setting(
        0.75,
        most=1,
        text="seasonal-unet: how far those directions are raised in which neighbouring pixels agree, 0 to 1; with "
        "evening 0 as well, the directions stay random.",
    )
    steps: int | None = setting(
        None,
        text="Contrastive training steps after that; more can make the encoder know places instead of their cover. "
        "Default: 0 for seasonal-unet, unless its directions stay random; else 150.",
    )
    batch_size: int = setting(24, least=1, text="Places in a step, two views of each.")
    window_size: int = setting(16, least=4, text="Side of a view in pixels.")
    pixels: int = setting(32, least=1, text="Pixels compared at each place.")
    dates: int = setting(12, least=1, text="Most acquisitions of a view.")
    temperature: float = setting(0.5, least=0.004, text="Temperature of the contrastive loss.")
    exclusion: float = setting(32, text="Pixels of the same region within this many rows and columns are no negatives.")
    learning_rate: float = setting(1e-3, text="Learning rate after the warm-up.")
    weight_decay: float = setting(1e-2, text="Weight decay.")
    gain: float = setting(0.1, text="Spread of the band gains of a view.")
    offset: float = setting(0.3, text="Spread of the band offsets of a view, in standard deviations of the band.")
    noise: float = setting(0.3, text="Spread of the noise of a pixel, in standard deviations of the band.")
    drop_band: float = setting(0.2, most=1, text="Chance that a view lacks a band.")
    objective: Literal["info_nce", "vicreg", "barlow_twins"] = setting(
        "info_nce", text="What the two views of a pixel are compared by; temperature and exclusion are info_nce's."
    )
    momentum: float = setting(
        0.0,
        most=1,
        text="Share that the weights of a second branch, which gives the keys, keep of themselves at each step, such "
        "as 0.99; 0: one branch gives both views.",
    )
    queue: int = setting(0, text="Keys of earlier steps that are negatives as well; needs momentum.")
    ema: float = setting(
        0.0,
        most=1,
        text="Keep a running average of the encoder's weights, with this share of itself at each step, instead of the "
        "last ones; 0: the last ones.",
    )
    shuffle: bool = setting(False, text="Compare unrelated pixels: a control that must lose the gain.")
    same_dates: bool = setting(False, text="Both views see the same dates: a control without change over time.")
    identical: bool = setting(False, text="Both views are the same picture: a control without any change.")
    probe_every: int = setting(
        25,
        text="Steps between two looks at the features: alignment, uniformity and, where there are labels, a linear "
        "probe on validation pixels; 0: never.",
        incidental=True,
    )
    compile: Literal["auto", "off"] = setting(
        "auto", text="auto: compile the encoder for a GPU where the training is long enough.", incidental=True
    )
    seed: int = setting(0, text="Seed of the weights and of every draw.")
    device: Literal["auto", "cpu", "cuda"] = setting("auto", text="Where to compute.", incidental=True)

    def __post_init__(self) -> None:
        """Refuse settings that contradict each other."""
        super().__post_init__()
        if self.queue and not (self.momentum and self.objective == "info_nce"):
            msg = f"expected a queue with --momentum and --objective info_nce only, found a queue of {self.queue}"
            raise UsageError(msg)
