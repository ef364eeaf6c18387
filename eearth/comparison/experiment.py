"""One run of a comparison: everything random in it follows from its seed, so that contenders are compared in pairs."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from eearth.classifiers import forest, probe
from eearth.comparison.contenders import FOREST, PROBE, Contender, Outcome, Task, pixels_of
from eearth.comparison.features import encoded, monthly_medians
from eearth.data.chips import LabelledSeries, choose_labels
from eearth.data.regions import open_labelled
from eearth.errors import LabelError
from eearth.evaluation import measure
from eearth.geo.blocks import TEST, TRAIN
from eearth.geo.cube import CUBE, Cube
from eearth.geo.grid import tiles_of
from eearth.geo.split import split_blocks
from eearth.inference import EVALUATION_TILE
from eearth.metrics import Accuracy, accuracy, confusion_matrix
from eearth.models.files import load_encoder
from eearth.models.registry import build
from eearth.settings import FinetuneSettings
from eearth.training.finetune import finetune
from eearth.workspace import Workspace

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from eearth.models.encoder import Encoder


@dataclass(frozen=True)
class Plan:
    """What every process of a comparison knows.

    Attributes:
        workspace: Folder with imagery and labels.
        contenders: Who takes part.
        split: Arguments of `split_blocks` beside the seed, as the labels were split.
        network: Description of the network from scratch: that of the encoders, with this region's band statistics.
        training: How networks are trained; budget, seed and learning rate are the run's.
        device: Where networks run.
        kept: Folder for what is computed once for all runs.
    """

    workspace: Path
    contenders: tuple[Contender, ...]
    split: dict[str, float | None]
    network: dict[str, Any]
    training: FinetuneSettings
    device: str
    kept: Path


class Experiment:
    """A region under the split of each seed, and everyone who learns on it.

    Args:
        plan: See there.
    """

    def __init__(self, plan: Plan) -> None:
        """Hold the imagery in memory where it is small enough."""
        self.plan = plan
        region, _ = open_labelled(Workspace(plan.workspace))
        self.series, self.labels = region.series.in_memory(), region.labels
        self.contenders = {one.name: one for one in plan.contenders}
        self.region = cache(self._region)
        self.encoder = cache(load_encoder)

    def run(self, task: Task) -> Outcome:
        """Learn from the pixels of one seed and budget, and measure on that seed's test pixels.

        Raises:
            LabelError: There are fewer than two classes to learn from.
        """
        begun = time.perf_counter()
        region, contender = self.region(task.seed), self.contenders[task.contender]
        chosen = choose_labels(region.labels, region.split, pixels_of(task.budget), task.seed)
        learn = self._classify if contender.kind in (FOREST, PROBE) else self._train
        result = learn(contender, region, chosen, task)
        held = region.labels[(region.split == TEST) & (region.labels > 0)]
        return Outcome(
            task=task,
            train_pixels=int((region.split == TRAIN).sum()),
            test_pixels=held.size,
            test_classes=np.unique(held).size,
            labels=int(chosen.sum()),
            classes=np.unique(region.labels[chosen]).size,
            miou=result.mean_iou,
            overall=result.overall_accuracy,
            seconds=time.perf_counter() - begun,
        )

    def prepare(self, name: str) -> None:
        """Compute what all runs of a forest or probe look at, unless an interrupted command did."""
        path = self._features_of(name)
        if path.is_file():
            return
        contender = self.contenders[name]
        if contender.encoder is None:
            features = monthly_medians(self.series, self.labels > 0)
        else:
            features = encoded(self.series, load_encoder(contender.encoder.path), self.labels > 0, self.plan.device)
        fresh = path.with_suffix(f".{os.getpid()}")
        with fresh.open("wb") as file:
            np.save(file, features)
        fresh.replace(path)

    def _region(self, seed: int) -> LabelledSeries:
        grid = Cube.open(Workspace(self.plan.workspace).folder("download") / CUBE).grid
        split = split_blocks(self.labels, grid, seed=seed, **self.plan.split)  # type: ignore[arg-type]
        return LabelledSeries(self.series, self.labels, split.part)

    def _train(self, contender: Contender, region: LabelledSeries, _chosen: NDArray[np.bool_], task: Task) -> Accuracy:
        """Fine-tune a network; it chooses the same pixels by the same seed."""
        settings = replace(self.plan.training, labels_per_class=pixels_of(task.budget), seed=task.seed)
        if contender.rate is not None:
            settings = replace(settings, learning_rate=contender.rate)
        device = torch.device(self.plan.device)
        start = self.encoder(contender.encoder.path) if contender.encoder else self._fresh(task.seed)
        model, _ = finetune(start, [region], settings, device=device)
        result = measure(model, region, TEST, device)
        assert result is not None  # noqa: S101 - `split_blocks` gives no split without test pixels
        return result

    def _fresh(self, seed: int) -> Encoder:
        """The network with random weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return build(**self.plan.network)

    def _classify(
        self, contender: Contender, region: LabelledSeries, chosen: NDArray[np.bool_], task: Task
    ) -> Accuracy:
        """Fit a classifier to the features of the chosen pixels.

        A pixel that was never seen clearly teaches nothing, and is an error where it is tested, as with networks.
        """
        place = self.labels > 0
        codes, part = self.labels[place], region.split[place]
        features = np.load(self._features_of(contender.name), mmap_mode="r")
        learnt, held = chosen[place] & self.seen, part == TEST
        if np.unique(codes[learnt]).size < 2:  # noqa: PLR2004 (one class is no choice)
            msg = (
                "expected at least 2 classes with clearly seen pixels among the training labels, found fewer with seed "
                f"{task.seed}: see `eearth rasterize`"
            )
            raise LabelError(msg)
        if contender.kind == FOREST:
            model = forest(features[learnt], codes[learnt], task.seed)
        else:
            model = probe(features[learnt], codes[learnt], features[part == TRAIN])
        mapped = np.where(self.seen[held], model(features[held]), 0)
        known = sorted({*codes[learnt].tolist(), *codes[held].tolist()})
        return accuracy(confusion_matrix(codes[held], mapped, known), known)

    @cached_property
    def seen(self) -> NDArray[np.bool_]:
        """For each labelled pixel, whether it was ever seen clearly."""
        found = np.zeros(self.labels.shape, bool)
        for tile in tiles_of(self.labels.shape, EVALUATION_TILE):
            found[tile.slices] = np.asarray(self.series.valid[:, *tile.slices]).any(axis=0)
        return found[self.labels > 0]

    def _features_of(self, name: str) -> Path:
        return self.plan.kept / f"features-{list(self.contenders).index(name)}.npy"
