"""Which layers of a land cover model learn at a step of fine-tuning, and how fast."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from eearth.models.encoder import Encoder
    from eearth.models.segmentation import LandCoverModel
    from eearth.settings import FinetuneSettings


def optimizer_of(model: LandCoverModel, settings: FinetuneSettings) -> torch.optim.Optimizer:
    """AdamW over all weights that will ever learn, each with its peak learning rate.

    The last layer has a rate of its own. Of the encoder's layers the topmost has `learning_rate`, and each further one
    `layer_decay` times that of the one above it (Howard & Ruder 2018, "ULMFiT", arXiv 1801.06146, section 3.2): what
    lies near the imagery is the most general.
    """
    groups = [{"params": list(model.head.parameters()), "peak": settings.head_learning_rate}]
    if settings.mode == "frozen":
        model.encoder.requires_grad_(requires_grad=False)
    else:
        peaks = _peaks(model.encoder, settings)
        # In the encoder's own order, so that with one rate for all the gradients' norm is the same bit by bit.
        groups += [
            {"params": list(weights), "peak": peak}
            for peak, weights in groupby(model.encoder.parameters(), peaks.__getitem__)
        ]
    return torch.optim.AdamW(groups, weight_decay=settings.weight_decay)


def _peaks(encoder: Encoder, settings: FinetuneSettings) -> dict[torch.nn.Parameter, float]:
    """Each weight's learning rate."""
    return {
        weight: settings.learning_rate * settings.layer_decay**depth
        for depth, layer in enumerate(reversed(encoder.layers()))
        for weight in layer.parameters()
    }


def thaw(model: LandCoverModel, settings: FinetuneSettings, step: int, steps: int) -> None:
    """With gradual unfreezing: let those layers learn whose turn it is; a function of the step alone.

    The steps are divided into equal parts. In the first one the last layer learns alone, and with each further part the
    next layer of the encoder joins, from the features down to the imagery (Howard & Ruder 2018, section 3.3).

    Args:
        model: Its encoder's weights are told whether they learn.
        settings: Of the training; with any other mode nothing is done.
        step: The step that comes next, from 0.
        steps: Of the whole training.
    """
    if settings.mode != "gradual":
        return
    layers = model.encoder.layers()
    learning = step * (len(layers) + 1) // steps
    for depth, layer in enumerate(reversed(layers)):
        layer.requires_grad_(depth < learning)
