"""How well a model does on held-out ground truth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eearth.inference import map_pixels
from eearth.metrics import Accuracy, accuracy, confusion_matrix

if TYPE_CHECKING:
    import torch

    from eearth.data.chips import LabelledSeries
    from eearth.models.segmentation import LandCoverModel


def measure(model: LandCoverModel, region: LabelledSeries, part: int, device: torch.device) -> Accuracy | None:
    """Accuracy on one part of a region's split; None where that part has no labelled pixel.

    A class of the reference that the model does not know counts in full as its error.
    """
    held = (region.split == part) & (region.labels > 0)
    if not held.any():
        return None
    mapped = map_pixels(model, region.series, held, device=device)
    codes = sorted({*model.classes, *(int(code) for code in np.unique(region.labels[held]))})
    return accuracy(confusion_matrix(np.where(held, region.labels, 0), mapped, codes), codes)
