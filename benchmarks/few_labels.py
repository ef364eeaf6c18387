"""Few-label accuracy of a workspace: pre-trained, from scratch, a control, and a random forest on the same pixels.

    python benchmarks/few_labels.py WORKSPACE [--budgets 1 5 20] [--seeds 5] [--contenders NAME ...] [--output FILE]

The workspace needs `imagery/` and `labels/` (`eearth download`, `eearth rasterize`). Seed s makes the spatial split and
picks the labelled pixels, the weights and every draw, the same for every contender. The figure is the mean intersection
over union over the classes present in the test reference, on the split's test pixels, in percent; `paired` is the mean
difference to training from scratch with its 95 % interval over seeds.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import stats
from sklearn.ensemble import RandomForestClassifier

from eearth.data.chips import LabelledSeries, choose_labels
from eearth.data.regions import open_labelled
from eearth.evaluation import measure
from eearth.geo.blocks import TEST
from eearth.geo.cube import CUBE, Cube
from eearth.geo.split import split_blocks
from eearth.metrics import accuracy, confusion_matrix
from eearth.settings import FinetuneSettings, PretrainSettings, RasterizeSettings
from eearth.training.finetune import finetune
from eearth.training.pretrain import new_encoder, pretrain
from eearth.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from eearth.data.series import Series
    from eearth.models.encoder import Encoder

CPU = torch.device("cpu")

# The trees of the forest that few-label studies compare with; more change nothing.
TREES = 500

# From scratch there is nothing to preserve, so the whole network learns: each rate is tried and the best mean counts.
SCRATCH_LEARNING_RATES = (3e-4, 1e-3)

Score = float


def monthly_medians(series: Series) -> NDArray[np.float32]:
    """Median of each month's clear observations, shape (month * band, y, x); a gap holds the year's median."""
    values, valid = np.asarray(series.reflectance[:]), np.asarray(series.valid[:])
    clear = np.where(valid[:, None], values * np.float32(series.scale) + np.float32(series.offset), np.nan)
    month = series.times.astype("datetime64[M]").astype(int) % 12
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)
        whole = np.nan_to_num(np.nanmedian(clear, axis=0))
        medians = [np.nanmedian(clear[month == m], axis=0) for m in np.unique(month)]
    return np.concatenate([np.where(np.isnan(one), whole, one) for one in medians]).astype(np.float32)


class Splits:
    """One region under the split of each seed, made with the default settings of `eearth rasterize`."""

    def __init__(self, workspace: Workspace) -> None:
        """Hold the imagery in memory."""
        region, _ = open_labelled(workspace)
        self.grid = Cube.open(workspace.folder("download") / CUBE).grid
        self.series, self.labels = region.series.in_memory(), region.labels
        self.kept: dict[int, LabelledSeries] = {}

    def __getitem__(self, seed: int) -> LabelledSeries:
        """The region with the split of a seed."""
        if seed not in self.kept:
            usual = {item.name: item.default for item in fields(RasterizeSettings)}
            names = ("block_size", "buffer", "test_fraction", "validation_fraction")
            split = split_blocks(self.labels, self.grid, seed=seed, **{name: usual[name] for name in names})
            self.kept[seed] = LabelledSeries(self.series, self.labels, split.part)
        return self.kept[seed]


def forest(splits: Splits, features: NDArray[np.float32], per_class: int, seed: int) -> Score:
    """Test mIoU of a random forest on the chosen pixels."""
    region = splits[seed]
    chosen = choose_labels(region.labels, region.split, per_class, seed)
    held = (region.split == TEST) & (region.labels > 0) & np.asarray(region.series.valid[:]).any(axis=0)
    model = RandomForestClassifier(TREES, random_state=seed, n_jobs=2)
    model.fit(features[:, chosen].T, region.labels[chosen])
    mapped = model.predict(features[:, held].T)
    codes = sorted({*np.unique(region.labels[held]).tolist(), *model.classes_.tolist()})
    return 100 * float(accuracy(confusion_matrix(region.labels[held], mapped, codes), codes).mean_iou)


def network(
    splits: Splits, start: Callable[[int], Encoder], per_class: int, seed: int, settings: FinetuneSettings
) -> Score:
    """Test mIoU of a network fine-tuned from `start(seed)` on the chosen pixels."""
    region = splits[seed]
    model, _ = finetune(start(seed), [region], replace(settings, labels_per_class=per_class, seed=seed))
    result = measure(model, region, TEST, CPU)
    if result is None:
        message = "expected labelled test pixels, found none: run `eearth rasterize` with a larger --test-fraction"
        raise SystemExit(message)
    return 100 * float(result.mean_iou)


class Starts:
    """Encoders to start from; a pre-trained one is made once for each seed."""

    def __init__(self, series: Series, encoder_seeds: int) -> None:
        """Pre-train on nothing yet."""
        self.series = series
        self.encoder_seeds = encoder_seeds
        self.kept: dict[tuple[PretrainSettings, int], Encoder] = {}

    def scratch(self, seed: int) -> Encoder:
        """Fresh weights."""
        return new_encoder([self.series], PretrainSettings(seed=seed))

    def pretrained(self, settings: PretrainSettings, seed: int) -> Encoder:
        """Weights pre-trained on the whole region's unlabelled imagery."""
        key = settings, seed % self.encoder_seeds
        if key not in self.kept:
            begun = time.perf_counter()
            self.kept[key], _ = pretrain([self.series], replace(settings, seed=key[1]))
            print(f"pre-trained in {time.perf_counter() - begun:.0f} s", flush=True)
        return self.kept[key]


def contenders(splits: Splits, starts: Starts) -> dict[str, Callable[[int, int], Score]]:
    """Name → (labels per class, seed) → test mIoU."""
    plain = FinetuneSettings()
    own, control = PretrainSettings(), PretrainSettings(shuffle=True)
    learn = partial(network, splits)
    found: dict[str, Callable[[int, int], Score]] = {
        "random forest": partial(forest, splits, monthly_medians(splits.series)),
        "pre-trained": lambda count, seed: learn(partial(starts.pretrained, own), count, seed, plain),
        "pre-trained, frozen": lambda count, seed: learn(
            partial(starts.pretrained, own), count, seed, replace(plain, mode="frozen")
        ),
        "control: shuffled pairs": lambda count, seed: learn(partial(starts.pretrained, control), count, seed, plain),
    }
    for rate in SCRATCH_LEARNING_RATES:
        settings = replace(plain, learning_rate=rate)
        found[f"scratch, rate {rate:g}"] = lambda count, seed, settings=settings: learn(  # type: ignore[misc]
            starts.scratch, count, seed, settings
        )
    return found


def summary(scores: list[Score], reference: list[Score] | None) -> dict[str, Any]:
    """Mean and standard deviation over seeds, and the paired difference to the reference."""
    row: dict[str, Any] = {"scores": scores, "mean": float(np.mean(scores)), "sd": float(np.std(scores, ddof=1))}
    if reference is not None:
        gap = np.subtract(scores, reference)
        half = float(stats.t.ppf(0.975, len(gap) - 1) * stats.sem(gap))
        row["paired"] = [float(gap.mean()), half]
    return row


def table(budget: int, scores: dict[str, list[Score]]) -> dict[str, Any]:
    """Summaries of one budget, printed as they are made."""
    scratch = [name for name in scores if name.startswith("scratch")]
    best = max(scratch, key=lambda name: float(np.mean(scores[name])), default=None)
    rows = {name: summary(values, scores[best] if best and name != best else None) for name, values in scores.items()}
    for name, row in rows.items():
        gap = "   paired {:+.1f} ± {:.1f}".format(*row["paired"]) if "paired" in row else ""
        print(f"{budget:4d}  {name:26s} {row['mean']:5.1f} ± {row['sd']:4.1f}{gap}", flush=True)
    return rows


def main() -> None:
    """Run what was asked for and print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--budgets", type=int, nargs="+", default=[1, 5, 20])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--encoder-seeds", type=int, default=2, help="pre-trainings, shared by the seeds in turn")
    parser.add_argument("--contenders", nargs="+", help="parts of the contenders' names; default: all")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(2)
    splits = Splits(Workspace(given.workspace))
    everyone = contenders(splits, Starts(splits.series, given.encoder_seeds))
    wanted = given.contenders or [""]
    chosen = {name: score for name, score in everyone.items() if any(part in name for part in wanted)}
    results: dict[str, Any] = {}
    for budget in given.budgets:
        scores = {name: [score(budget, seed) for seed in range(given.seeds)] for name, score in chosen.items()}
        results[str(budget)] = table(budget, scores)
    if given.output:
        given.output.write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
