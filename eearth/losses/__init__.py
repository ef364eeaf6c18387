"""Losses of pre-training and segmentation, and what tells how good features are: pure functions."""

from eearth.losses.contrastive import info_nce
from eearth.losses.diagnostics import alignment, uniformity
from eearth.losses.redundancy import barlow_twins, vicreg
from eearth.losses.segmentation import dice, focal, summed, weighted_cross_entropy

__all__ = [
    "alignment",
    "barlow_twins",
    "dice",
    "focal",
    "info_nce",
    "summed",
    "uniformity",
    "vicreg",
    "weighted_cross_entropy",
]
