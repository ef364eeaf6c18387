"""Supervised fine-tuning of an encoder on few labels."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from eearth.data.chips import LabelledChips, LabelledPixels, choose_together
from eearth.data.radiometry import Radiometry, change_radiometry
from eearth.data.series import IN_MEMORY
from eearth.errors import LabelError
from eearth.events import Advanced, Finished, Report, Started, silent
from eearth.losses import summed
from eearth.models.segmentation import LandCoverModel
from eearth.training.averaging import average_of, begin_average, follow, learnt_of
from eearth.training.head import start_head
from eearth.training.loop import TrainingState, half_precision, learning_rate_factor, prefetched, update
from eearth.training.unfreezing import optimizer_of, thaw
from eearth.training.validation import exhausted, validate, validation_windows
from eearth.training.weighting import class_weights

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from eearth.data.chips import LabelledSeries
    from eearth.geo.grid import Window
    from eearth.losses.segmentation import SegmentationLoss
    from eearth.models.encoder import Encoder
    from eearth.settings import FinetuneSettings

TASK = "Fine-tuning"

# Steps without a label budget, at most.
MOST_STEPS = 300


def finetune(
    start: Encoder,
    regions: Sequence[LabelledSeries],
    settings: FinetuneSettings,
    *,
    legend: Mapping[str, int] | None = None,
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
        legend: Name → code of the classes, where class weights are given by name.
        device: Where to train.
        checkpoint: Folder for the state that a resumed run takes up; None to keep none.
        report: Receives progress.

    Returns:
        The model on the CPU, and for each step its loss, with the validation mIoU where there was one. Step 0 has a
        `start_loss` of its own kind: of the very pixels that the linear start was fitted to, in whole windows; the
        steps' `loss` is of a few windows, turned and with their radiometry changed.

    Raises:
        UsageError: Class weights are given for a class that is not there.
        LabelError: There are fewer than two classes to learn.
        ModelError: A region lacks a band of the encoder.
    """
    device = torch.device(device)
    steps = planned_steps(settings)
    regions = [replace(one, series=one.series.in_memory(IN_MEMORY // len(regions))) for one in regions]
    chosen = choose_together(regions, settings.labels_per_class, settings.seed)
    model = _model(start, regions, chosen).to(device)
    lesson = _lesson(model, regions, chosen, settings, legend or {})
    modules = torch.nn.ModuleDict({"model": model, **average_of(model, settings.ema)})
    state = TrainingState(modules, optimizer_of(model, settings), checkpoint)
    if not state.restore():
        loss = start_head(model, regions, chosen, lesson.weight, settings.seed, loss=lesson.loss)
        state.history.append({"step": 0, "start_loss": loss})
        begin_average(modules)
        _validate(state, lesson)
    _train(state, lesson, steps, report if steps else silent)  # the start alone is no progress to watch
    learnt = learnt_of(modules)
    if "weights" in state.best:
        learnt.load_state_dict(state.best["weights"])
    return learnt.cpu().eval(), state.history


class _Lesson(NamedTuple):
    """What a training learns from, and how.

    Attributes:
        model: What learns, on its device.
        regions: Imagery with labels and split.
        pixels: Those to learn from.
        weight: (class,) how much a pixel of each class counts.
        loss: What the training makes small.
        held_out: (region, window) of the validations; none with a label budget.
        settings: Of the training.
    """

    model: LandCoverModel
    regions: Sequence[LabelledSeries]
    pixels: LabelledPixels
    weight: torch.Tensor
    loss: SegmentationLoss
    held_out: Sequence[tuple[int, Window]]
    settings: FinetuneSettings

    @property
    def device(self) -> torch.device:
        """Where it trains."""
        return self.weight.device


def _lesson(
    model: LandCoverModel,
    regions: Sequence[LabelledSeries],
    chosen: Sequence[NDArray[np.bool_]],
    settings: FinetuneSettings,
    legend: Mapping[str, int],
) -> _Lesson:
    pixels = LabelledPixels(regions, chosen, model.classes)
    weight = torch.from_numpy(class_weights(pixels.counts, model.classes, settings, legend))
    return _Lesson(
        model=model,
        regions=regions,
        pixels=pixels,
        weight=weight.to(model.head.weight.device),
        loss=summed(settings.losses, settings.focal_gamma),
        held_out=[] if settings.labels_per_class else validation_windows(regions),
        settings=settings,
    )


def _train(state: TrainingState, lesson: _Lesson, steps: int, report: Report) -> None:
    """Take the steps that are left, until there is nothing to gain."""
    model, settings = lesson.model, lesson.settings
    report(Started(task=TASK, total=steps, unit="step", done=state.step))
    for step, batch in prefetched(lambda step: _batch(lesson.pixels, model, settings, step), state.step, steps):
        if exhausted(state, settings):
            break
        thaw(model, settings, step, steps)
        loss = _loss(lesson, batch)
        update(state.optimizer, loss, learning_rate_factor(step, steps))
        follow(state.modules, settings.ema)
        state.step = step + 1
        state.history.append({"step": step + 1, "loss": loss.item()})
        if state.step % settings.validate_every == 0 or state.step == steps:
            _validate(state, lesson)
        state.keep()
        report(Advanced(task=TASK, detail=f"loss {loss.item():.3f}"))
    report(Finished(task=TASK))


def _validate(state: TrainingState, lesson: _Lesson) -> None:
    """Look at the validation labels, if there are any to look at."""
    if lesson.held_out:
        validate(state, learnt_of(state.modules), lesson.regions, lesson.held_out, lesson.device)


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


def _batch(pixels: LabelledPixels, model: LandCoverModel, settings: FinetuneSettings, step: int) -> LabelledChips:
    random = np.random.default_rng([settings.seed, 2, step])
    batch = pixels.draw(
        random,
        bands=model.bands,
        chips=settings.batch_size,
        size=settings.window_size,
        dates=settings.dates,
        balanced=settings.sampling == "balanced",
    )
    radiometry = Radiometry(
        gain=settings.gain, offset=settings.offset, noise=settings.noise, drop_band=settings.drop_band
    )
    mean, std = model.encoder.mean.cpu(), model.encoder.std.cpu()
    randoms = random.spawn(settings.batch_size)
    return batch._replace(chips=change_radiometry(batch.chips, radiometry, mean, std, randoms))


def _loss(lesson: _Lesson, batch: LabelledChips) -> torch.Tensor:
    with half_precision(lesson.device):
        scores = lesson.model(batch.chips.to(lesson.device))
    target = batch.target.to(lesson.device)
    return lesson.loss(scores.movedim(1, -1).flatten(0, -2), target.flatten(), lesson.weight)
