"""Supervised fine-tuning of an encoder on few labels."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from eearth.data.chips import LabelledChips, LabelledPixels, choose_together
from eearth.data.radiometry import Radiometry, change_radiometry
from eearth.data.series import IN_MEMORY
from eearth.errors import LabelError
from eearth.events import Advanced, Finished, Report, Started, silent
from eearth.geo.blocks import VALIDATION
from eearth.geo.grid import Window
from eearth.losses import weighted_cross_entropy
from eearth.metrics import accuracy, confusion_matrix
from eearth.models.segmentation import LandCoverModel
from eearth.training.head import start_head
from eearth.training.loop import TrainingState, half_precision, learning_rate_factor, prefetched, update

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from eearth.data.chips import LabelledSeries
    from eearth.models.encoder import Encoder
    from eearth.settings import FinetuneSettings

TASK = "Fine-tuning"

# Steps without a label budget, at most.
MOST_STEPS = 300

# A validation looks at this many windows of this side at most: enough for a stable mIoU, and seconds on a CPU.
VALIDATION_WINDOWS = 32
VALIDATION_WINDOW_SIZE = 64


def finetune(
    start: Encoder,
    regions: Sequence[LabelledSeries],
    settings: FinetuneSettings,
    *,
    device: torch.device | str = "cpu",
    checkpoint: Path | None = None,
    report: Report = silent,
) -> tuple[LandCoverModel, list[dict[str, float]]]:
    """Train a land cover model on the training pixels.

    The last layer starts as the best linear classifier of the encoder's features (`start_head`): that is step 0. With
    a label budget (`labels_per_class`) it then takes exactly `steps` steps and never looks at a validation label, for
    these would be labels beyond the budget. Without, it keeps the weights of the best validation, the start's too.

    Args:
        start: Encoder; left unchanged.
        regions: Imagery with labels and split.
        settings: See there.
        device: Where to train.
        checkpoint: Folder for the state that a resumed run takes up; None to keep none.
        report: Receives progress.

    Returns:
        The model on the CPU, and for the start and each step its loss, with the validation mIoU where there was one.

    Raises:
        LabelError: There are fewer than two classes to learn.
        ModelError: A region lacks a band of the encoder.
    """
    device = torch.device(device)
    steps = planned_steps(settings)
    regions = [replace(one, series=one.series.in_memory(IN_MEMORY // len(regions))) for one in regions]
    chosen = choose_together(regions, settings.labels_per_class, settings.seed)
    model = _model(start, regions, chosen).to(device)
    pixels = LabelledPixels(regions, chosen, model.classes)
    weight = torch.from_numpy(class_weights(pixels.counts, settings.class_balance)).to(device)
    state = TrainingState(torch.nn.ModuleDict({"model": model}), _optimizer(model, settings), checkpoint)
    held_out = [] if settings.labels_per_class else validation_windows(regions)
    if not state.restore():
        state.history.append({"step": 0, "loss": start_head(model, regions, chosen, weight, settings.seed)})
        if held_out:
            _validate(state, regions, held_out, device)
    report = report if steps else silent  # the start alone is no progress to watch
    report(Started(task=TASK, total=steps, unit="step", done=state.step))
    for step, batch in prefetched(lambda step: _batch(pixels, model, settings, step), state.step, steps):
        if _exhausted(state, settings):
            break
        loss = _loss(model, batch, weight, device)
        update(state.optimizer, loss, learning_rate_factor(step, steps))
        state.step = step + 1
        state.history.append({"step": step + 1, "loss": loss.item()})
        if held_out and (state.step % settings.validate_every == 0 or state.step == steps):
            _validate(state, regions, held_out, device)
        state.keep()
        report(Advanced(task=TASK, detail=f"loss {loss.item():.3f}"))
    report(Finished(task=TASK))
    if "weights" in state.best:
        model.load_state_dict(state.best["weights"])
    return model.cpu().eval(), state.history


def planned_steps(settings: FinetuneSettings) -> int:
    """Training steps: none for a label budget, for what a handful of pixels says the linear start has learnt already.

    Measured with 20 labelled pixels a class, 100 steps at learning rates from 1e-5 to 1e-3 (mIoU, start → end):
    Slovenia 37.6 → 37.8 at best, 36.5 at 1e-4; Ethiopia 48.5 → 48.5 at best, 47.7 at 1e-4.
    """
    if settings.steps is not None:
        return settings.steps
    return 0 if settings.labels_per_class else MOST_STEPS


def _model(start: Encoder, regions: Sequence[LabelledSeries], chosen: Sequence[NDArray[np.bool_]]) -> LandCoverModel:
    codes = sorted(
        {int(code) for one, mask in zip(regions, chosen, strict=True) for code in np.unique(one.labels[mask])}
    )
    if len(codes) < 2:  # noqa: PLR2004 (one class is no choice)
        msg = f"expected at least 2 classes among the training labels, found {len(codes)}: see `eearth rasterize`"
        raise LabelError(msg)
    return LandCoverModel(copy.deepcopy(start), codes)


def class_weights(counts: NDArray[np.int64], balance: float) -> NDArray[np.float32]:
    """Weight of each class: its pixel count to the power of −`balance`, averaging 1; 0 for a class without pixels."""
    weight = np.where(counts > 0, np.maximum(counts, 1).astype(np.float64) ** -balance, 0.0)
    scaled: NDArray[np.float32] = (weight * (counts > 0).sum() / weight.sum()).astype(np.float32)
    return scaled


def _optimizer(model: LandCoverModel, settings: FinetuneSettings) -> torch.optim.Optimizer:
    groups = [{"params": list(model.head.parameters()), "peak": settings.head_learning_rate}]
    if settings.mode == "full":
        groups.append({"params": list(model.encoder.parameters()), "peak": settings.learning_rate})
    else:
        model.encoder.requires_grad_(requires_grad=False)
    return torch.optim.AdamW(groups, weight_decay=settings.weight_decay)


def _batch(pixels: LabelledPixels, model: LandCoverModel, settings: FinetuneSettings, step: int) -> LabelledChips:
    random = np.random.default_rng([settings.seed, 2, step])
    batch = pixels.draw(
        random, bands=model.bands, chips=settings.batch_size, size=settings.window_size, dates=settings.dates
    )
    radiometry = Radiometry(
        gain=settings.gain, offset=settings.offset, noise=settings.noise, drop_band=settings.drop_band
    )
    mean, std = model.encoder.mean.cpu(), model.encoder.std.cpu()
    randoms = random.spawn(settings.batch_size)
    return batch._replace(chips=change_radiometry(batch.chips, radiometry, mean, std, randoms))


def _loss(model: LandCoverModel, batch: LabelledChips, weight: torch.Tensor, device: torch.device) -> torch.Tensor:
    target = batch.target.to(device)
    with half_precision(device):
        scores = model(batch.chips.to(device))
    known = target >= 0
    return weighted_cross_entropy(scores.movedim(1, -1)[known], target[known], weight)


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


def _validate(
    state: TrainingState, regions: Sequence[LabelledSeries], windows: Sequence[tuple[int, Window]], device: torch.device
) -> None:
    model: LandCoverModel = state.modules["model"]  # type: ignore[assignment]
    score = mean_iou(model, regions, windows, device)
    state.history[-1]["validation_miou"] = score
    if score > state.best.get("score", -1.0):
        weights = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
        state.best = {"score": score, "step": state.step, "weights": weights}


def _exhausted(state: TrainingState, settings: FinetuneSettings) -> bool:
    patience = settings.patience * settings.validate_every
    return "step" in state.best and state.step - state.best["step"] >= patience
