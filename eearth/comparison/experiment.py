"""One run of a comparison: everything random in it follows from its seed, so that contenders are compared in pairs."""

from __future__ import annotations

import copy
import os
import time
from functools import cache, cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from eearth.classifiers import forest, probe
from eearth.comparison.contenders import FOREST, PROBE, Outcome, Task, pixels_of
from eearth.comparison.features import encoded
from eearth.comparison.splits import Ground, split_regions
from eearth.data.chips import LabelledSeries, choose_together
from eearth.data.medians import medians_of_all
from eearth.data.regions import open_all_labelled
from eearth.data.series import IN_MEMORY
from eearth.geo.cube import CUBE, Cube
from eearth.geo.grid import tiles_of
from eearth.geo.splits.blocks import TEST, TRAIN
from eearth.inference.tiles import EVALUATION_TILE
from eearth.metrics import Accuracy, accuracy, confusion_matrix
from eearth.models.files import load_encoder
from eearth.training.finetune import finetune
from eearth.training.pretrain import at_home, untrained
from eearth.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from eearth.comparison.contenders import Contender, Pretrained
    from eearth.comparison.plan import Plan
    from eearth.data.series import Series
    from eearth.models.encoder import Encoder
    from eearth.models.segmentation import LandCoverModel


# Pixels that a forest or a probe learns from at most, drawn at random: 300,000 take a forest minutes, and neighbours
# say the same. The last part of the seed that draws them.
MOST_PIXELS, DRAW_PIXELS = 20_000, 9


class Experiment:
    """Some regions under the split of each seed, and everyone who learns on them.

    Labelled pixels of all regions stand in one row, region by region.

    Args:
        plan: See there.
    """

    def __init__(self, plan: Plan) -> None:
        """Hold the imagery in memory where it is small enough."""
        self.plan = plan
        workspaces = [Workspace(source.workspace) for source in plan.sources]
        opened, _ = open_all_labelled(workspaces)
        self.series = [one.series.in_memory(IN_MEMORY // len(opened)) for one in opened]
        self.labels = [one.labels for one in opened]
        self.grids = [Cube.open(workspace.folder("download") / CUBE).grid for workspace in workspaces]
        self.codes = self._row(self.labels)
        self.contenders = {one.name: one for one in plan.contenders}
        self.regions = cache(self._regions)
        self.encoder = cache(self._encoder)
        self.fresh = lru_cache(maxsize=1)(self._fresh)
        self.fresh_features = lru_cache(maxsize=1)(self._fresh_features)

    def run(self, tasks: Sequence[Task]) -> list[Outcome]:
        """Several runs, one after the other; those that share features should come together.

        Raises:
            LabelError: A network finds fewer than two classes to learn from.
        """
        return [self._run(task) for task in tasks]

    def _run(self, task: Task) -> Outcome:
        """Learn from the pixels of one seed and budget, and measure on that seed's test pixels."""
        begun = time.perf_counter()
        regions, contender = self.regions(task.seed), self.contenders[task.contender]
        part = self._row([one.split for one in regions])
        chosen = self._row(choose_together(regions, pixels_of(task.budget), task.seed))
        learn = self._classify if contender.kind in (FOREST, PROBE) else self._train
        held = part == TEST
        result = _accuracy(self.codes[held], learn(contender, part, chosen, task))
        return Outcome(
            task=task,
            train_pixels=int((part == TRAIN).sum()),
            test_pixels=int(held.sum()),
            test_classes=np.unique(self.codes[held]).size,
            labels=int(chosen.sum()),
            classes=np.unique(self.codes[chosen]).size,
            miou=result.mean_iou,
            overall=result.overall_accuracy,
            seconds=time.perf_counter() - begun,
        )

    def prepare(self, encoder: Pretrained | None) -> None:
        """Compute what all runs with an encoder, or with none a forest, look at, unless an earlier command did."""
        path = self._kept(encoder)
        if path.is_file():
            return
        wanted = [labels > 0 for labels in self.labels]
        features = self._encoded(self.encoder(encoder), wanted) if encoder else medians_of_all(self.series, wanted)
        fresh = path.with_suffix(f".{os.getpid()}")
        with fresh.open("wb") as file:
            np.save(file, features)
        fresh.replace(path)

    def _regions(self, seed: int) -> list[LabelledSeries]:
        grounds = [
            Ground(labels, grid, source.split)
            for labels, grid, source in zip(self.labels, self.grids, self.plan.sources, strict=True)
        ]
        parts = split_regions(grounds, seed)
        return [LabelledSeries(*one) for one in zip(self.series, self.labels, parts, strict=True)]

    def _train(
        self, contender: Contender, part: NDArray[np.uint8], _chosen: NDArray[np.bool_], task: Task
    ) -> NDArray[np.uint8]:
        """Fine-tune a network, which chooses the same pixels by the same seed; the classes of the test pixels.

        An encoder that takes no step gives the same features to all budgets, so they are computed once. A pixel that
        was never seen clearly has no class.
        """
        start = self.encoder(contender.encoder) if contender.encoder else self.fresh(task.seed)
        settings = self.plan.schedule(contender, task.budget, task.seed)
        model, _ = finetune(start, self.regions(task.seed), settings, device=self.plan.device)
        held = part == TEST
        if not self.plan.frozen(contender, task.budget):
            features = self._encoded(model.encoder, self._held(task.seed))
        elif contender.encoder:
            features = self._features(contender)[held]
        else:
            features = self.fresh_features(task.seed)
        return np.where(self.seen[held], _highest(model, features), 0)

    def _classify(
        self, contender: Contender, part: NDArray[np.uint8], chosen: NDArray[np.bool_], task: Task
    ) -> NDArray[np.uint8]:
        """Fit a classifier to the features of the chosen pixels; the classes of the test pixels.

        A pixel that was never seen clearly teaches nothing, and is an error where it is tested, as with networks; so a
        single class may be all that is mapped, and with none at all nothing is.
        """
        features = self._features(contender)
        learnt, held = chosen & self.seen, part == TEST
        if not learnt.any():
            return np.zeros(held.sum(), np.uint8)
        drawn = np.random.default_rng([task.seed, DRAW_PIXELS]).permutation(np.flatnonzero(learnt))
        learnt = np.sort(drawn[:MOST_PIXELS])
        if contender.kind == FOREST:
            model = forest(features[learnt], self.codes[learnt], task.seed)
        else:
            model = probe(features[learnt], self.codes[learnt], features[(part == TRAIN) & self.seen])
        return np.where(self.seen[held], model(features[held]), 0)

    @cached_property
    def seen(self) -> NDArray[np.bool_]:
        """For each labelled pixel, whether it was ever seen clearly."""
        return self._row([_seen(series) for series in self.series])

    def _row(self, images: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """What images of all regions say of each labelled pixel."""
        return np.concatenate([image[labels > 0] for image, labels in zip(images, self.labels, strict=True)])

    def _held(self, seed: int) -> list[NDArray[np.bool_]]:
        """For each region (y, x), True = a test pixel."""
        return [(one.split == TEST) & (one.labels > 0) for one in self.regions(seed)]

    def _encoder(self, pretrained: Pretrained) -> Encoder:
        """A pre-trained encoder; one of another region gets used to these."""
        encoder = load_encoder(pretrained.path)
        return at_home(encoder, self.series) if pretrained.source else encoder

    def _fresh(self, seed: int) -> Encoder:
        """The network with random weights."""
        return untrained(self.series, self.plan.network, seed)

    def _fresh_features(self, seed: int) -> NDArray[np.float32]:
        """Features of a seed's test pixels by its network with random weights, (pixel, feature)."""
        return self._encoded(self.fresh(seed), self._held(seed))

    def _encoded(self, encoder: Encoder, wanted: Sequence[NDArray[np.bool_]]) -> NDArray[np.float32]:
        """Features of the wanted pixels of all regions; the encoder stays where it is."""
        mover = copy.deepcopy(encoder)
        parts = [
            encoded(series, mover, place, self.plan.device)
            for series, place in zip(self.series, wanted, strict=True)
            if place.any()
        ]
        return np.concatenate(parts)

    def _features(self, contender: Contender) -> NDArray[np.float32]:
        """Features of all labelled pixels, (pixel, feature), as `prepare` left them."""
        features: NDArray[np.float32] = np.load(self._kept(contender.encoder), mmap_mode="r")
        return features

    def _kept(self, encoder: Pretrained | None) -> Path:
        name = "medians" if encoder is None else f"encoder {encoder.source}"
        return self.plan.kept / f"{name}.npy"


def _seen(series: Series) -> NDArray[np.bool_]:
    """(y, x), whether a pixel was ever seen clearly."""
    found = np.zeros(series.shape, bool)
    for tile in tiles_of(series.shape, EVALUATION_TILE):
        found[tile.slices] = np.asarray(series.valid[:, *tile.slices]).any(axis=0)
    return found


def _highest(model: LandCoverModel, features: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The class with the highest score of each pixel by the last layer alone."""
    with torch.inference_mode():
        scores = model.score(torch.from_numpy(features))
    highest: NDArray[np.uint8] = np.asarray(model.classes, np.uint8)[scores.argmax(dim=1).numpy()]
    return highest


def _accuracy(truth: NDArray[np.uint8], mapped: NDArray[np.uint8]) -> Accuracy:
    """Of test pixels; a class that could not be learnt counts in full as an error."""
    codes = sorted({*np.unique(truth).tolist(), *np.unique(mapped[mapped > 0]).tolist()})
    return accuracy(confusion_matrix(truth, mapped, codes), codes)
