"""A running average of weights while they learn (Polyak & Juditsky 1992, doi 10.1137/0330046), exponentially weighted.

It lies among the networks of a training's state, so that an interrupted run takes it up with them.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import nn

    from eearth.models.segmentation import LandCoverModel

AVERAGE = "average"


def average_of(model: LandCoverModel, kept: float) -> dict[str, LandCoverModel]:
    """The network that follows, by its name in a training's state; none if nothing is to be kept at a step."""
    return {AVERAGE: copy.deepcopy(model).requires_grad_(requires_grad=False)} if kept else {}


def learnt_of(modules: nn.ModuleDict) -> LandCoverModel:
    """What a training gives: the average if there is one."""
    learnt: LandCoverModel = modules[AVERAGE if AVERAGE in modules else "model"]  # type: ignore[assignment]
    return learnt


def begin_average(modules: nn.ModuleDict) -> None:
    """Let the average start where the model does."""
    if AVERAGE in modules:
        modules[AVERAGE].load_state_dict(modules["model"].state_dict())


def follow(modules: nn.ModuleDict, kept: float) -> None:
    """After a step: the average keeps this share of itself, and takes the rest from the model."""
    if AVERAGE in modules:
        approach(modules[AVERAGE], modules["model"], kept)


@torch.no_grad()
def approach(follower: nn.Module, leader: nn.Module, kept: float) -> None:
    """A network's weights keep this share of themselves, and take the rest from another network's."""
    for mine, theirs in zip(follower.parameters(), leader.parameters(), strict=True):
        mine.lerp_(theirs, 1 - kept)
