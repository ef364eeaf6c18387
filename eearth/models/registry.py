"""Encoders by name, and networks back from their description."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eearth.errors import ModelError
from eearth.models.convlstm_unet import ConvLSTMUNet
from eearth.models.familiarity import Familiarity
from eearth.models.seasonal_unet import SeasonalUNet
from eearth.models.segmentation import LandCoverModel
from eearth.models.temporal_attention_unet import TemporalAttentionUNet
from eearth.models.tsvit import TSViT
from eearth.models.unet3d import UNet3D

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eearth.models.encoder import Encoder

MODELS: dict[str, type[Encoder]] = {
    model.name: model for model in (SeasonalUNet, TemporalAttentionUNet, UNet3D, ConvLSTMUNet, TSViT)
}


def build(name: str, **config: Any) -> Encoder:
    """A fresh encoder.

    Args:
        name: A key of `MODELS`.
        **config: What the encoder's constructor takes.

    Raises:
        ModelError: There is no such encoder, or it does not take these settings.
    """
    if name not in MODELS:
        msg = f"expected one of the encoders {', '.join(MODELS)}, found {name!r}"
        raise ModelError(msg)
    try:
        return MODELS[name](**config)
    except TypeError as error:
        msg = f"expected a description of the encoder {name}, found {sorted(config)}: {error}"
        raise ModelError(msg) from error


def build_land_cover(config: Mapping[str, Any]) -> LandCoverModel:
    """A fresh land cover model from what `LandCoverModel.config` wrote; earlier versions wrote less of it.

    Raises:
        ModelError: The description is not one of a land cover model.
    """
    if not {"encoder", "classes"} <= set(config):
        msg = f"expected the description of a land cover model, found {sorted(config)}"
        raise ModelError(msg)
    shown = {name: config[name] for name in ("temperature", "augment") if name in config}
    encoder, known = build(**config["encoder"]), config.get("familiarity")
    familiarity = Familiarity(features=encoder.features, **known) if known else None
    return LandCoverModel(encoder, config["classes"], **shown, familiarity=familiarity)
