"""How well a model does on the validation part while it trains, and the best weights so far."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from eearth.geo.grid import Window
from eearth.geo.splits.blocks import VALIDATION
from eearth.metrics import accuracy, confusion_matrix
from eearth.training.loop import TrainingState, half_precision

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eearth.data.chips import LabelledSeries
    from eearth.models.segmentation import LandCoverModel
    from eearth.settings import FinetuneSettings

# A validation looks at this many windows of this side at most: enough for a stable mIoU, and seconds on a CPU.
VALIDATION_WINDOWS = 32
VALIDATION_WINDOW_SIZE = 64


def validation_windows(regions: Sequence[LabelledSeries]) -> list[tuple[int, Window]]:
    """(region, window) of some windows with validation labels, spread over the regions."""
    found = []
    for number, region in enumerate(regions):
        held = (region.split == VALIDATION) & (region.labels > 0)
        for row in range(0, held.shape[0], VALIDATION_WINDOW_SIZE):
            for col in range(0, held.shape[1], VALIDATION_WINDOW_SIZE):
                part = held[row : row + VALIDATION_WINDOW_SIZE, col : col + VALIDATION_WINDOW_SIZE]
                if part.any():
                    found.append((number, Window(row, col, *part.shape)))
    step = max(1, -(-len(found) // VALIDATION_WINDOWS))
    return found[::step]


@torch.no_grad()
def mean_iou(
    model: LandCoverModel,
    regions: Sequence[LabelledSeries],
    windows: Sequence[tuple[int, Window]],
    device: torch.device,
    part: int = VALIDATION,
) -> float:
    """Intersection over union on the pixels of one part, averaged over the classes present in the reference."""
    classes = np.array(model.classes)
    truths, maps = [], []
    model.eval()
    for number, window in windows:
        region = regions[number]
        chips = region.series.chips([window], None, model.bands)
        with half_precision(device):
            mapped = classes[model(chips.to(device)).argmax(dim=1)[0].cpu().numpy()]
        truth = region.labels[window.slices]
        held = (region.split[window.slices] == part) & (truth > 0) & chips.valid.any(dim=1)[0].numpy()
        truths.append(truth[held])
        maps.append(mapped[held])
    model.train()
    reference = np.concatenate(truths)
    codes = sorted({*model.classes, *(int(code) for code in np.unique(reference))})
    return accuracy(confusion_matrix(reference, np.concatenate(maps), codes), codes).mean_iou if len(reference) else 0.0


def validate(
    state: TrainingState,
    model: LandCoverModel,
    regions: Sequence[LabelledSeries],
    windows: Sequence[tuple[int, Window]],
    device: torch.device,
) -> None:
    """Add the validation mIoU to the last row of the history, and keep the weights if it is the best so far."""
    score = mean_iou(model, regions, windows, device)
    state.history[-1]["validation_miou"] = score
    if score > state.best.get("score", -1.0):
        weights = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
        state.best = {"score": score, "step": state.step, "weights": weights}


def exhausted(state: TrainingState, settings: FinetuneSettings) -> bool:
    """Whether the last validations brought nothing better for too long."""
    patience = settings.patience * settings.validate_every
    return "step" in state.best and state.step - state.best["step"] >= patience
