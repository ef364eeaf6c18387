"""Class-balanced sampling and class weights against plain fine-tuning, on real sites: the table of docs/method.md.

    python benchmarks/class_balance.py WORKSPACE ... [--seeds 5] [--runs runs.csv] [--seconds 170]

Each workspace has `imagery/`, `labels/` and `pretrain/`. A seed stands for a spatial split, drawn as `eearth compare`
draws it, for the pixels of a label budget and for every draw. What is done is kept in the table of runs, so that the
same command goes on where it stopped, after `--seconds` or for any other reason; the last one prints the figures.

Settings are the defaults but for sampling and class weights. With all labels that is the linear start and up to 300
steps, of which the best validation counts; with 20 pixels of each class the start alone, and 100 steps after it.
"""

from __future__ import annotations

import argparse
import csv
import time
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

import torch

from eearth.comparison.splits import Ground, split_regions
from eearth.data.chips import LabelledSeries
from eearth.data.regions import open_all_labelled
from eearth.data.series import IN_MEMORY
from eearth.evaluation import examine
from eearth.geo.cube import CUBE, Cube
from eearth.geo.splits.blocks import TEST
from eearth.models.encoder import Encoder
from eearth.models.files import encoder_of, load_encoder
from eearth.settings import FinetuneSettings
from eearth.training.finetune import finetune
from eearth.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Iterable

# What is compared; the first is the default, the others are told as differences from it.
WAYS: dict[str, dict[str, Any]] = {
    "balanced, ^-1/4": {"sampling": "balanced", "class_balance": 0.25},
    "plain": {"sampling": "plain", "class_weights": ("none",)},
    "balanced, ^-1/2": {"sampling": "balanced", "class_balance": 0.5},
    "balanced alone": {"sampling": "balanced", "class_weights": ("none",)},
}

BUDGETS: dict[str, dict[str, Any]] = {
    "all labels": {},
    "20 a class, start": {"labels_per_class": 20},
    "20 a class, 100 steps": {"labels_per_class": 20, "steps": 100},
}

# Of a mean of five to twenty differences: Student's t would be wider by a quarter at five.
NORMAL_95 = 1.96


@dataclass(frozen=True)
class Run:
    """One fine-tuning.

    Attributes:
        site: Name of the workspace.
        budget: A key of `BUDGETS`.
        way: A key of `WAYS`.
        seed: Of split, pixels and draws.
    """

    site: str
    budget: str
    way: str
    seed: int


@dataclass(frozen=True)
class Site:
    """A workspace, opened once: its labels with how they are split, the imagery, and where training starts."""

    ground: Ground
    whole: LabelledSeries
    encoder: Encoder

    @classmethod
    def open(cls, folder: Path) -> Site:
        """Labels and imagery, split as `eearth rasterize` splits by default."""
        workspace = Workspace(folder)
        (found,), _ = open_all_labelled([workspace])
        defaults = {"block_size": None, "buffer": None, "test_fraction": 0.25, "validation_fraction": 0.15}
        ground = Ground(found.labels, Cube.open(workspace.folder("download") / CUBE).grid, defaults)
        whole = LabelledSeries(found.series.in_memory(IN_MEMORY), found.labels, found.split)
        return cls(ground, whole, load_encoder(encoder_of(workspace)))

    def split(self, seed: int) -> LabelledSeries:
        """Its labels under the split of a seed."""
        return LabelledSeries(self.whole.series, self.whole.labels, split_regions([self.ground], seed)[0])

    def measure(self, run: Run) -> tuple[float, float]:
        """Test mIoU and overall accuracy of one run."""
        region = self.split(run.seed)
        settings = FinetuneSettings(seed=run.seed, **BUDGETS[run.budget], **WAYS[run.way])
        model, _ = finetune(self.encoder, [region], settings)
        found = examine(model, region, TEST, "cpu")
        if found is None:
            msg = f"expected test pixels of {run.site} under seed {run.seed}, found none"
            raise RuntimeError(msg)
        return found.accuracy.mean_iou, found.accuracy.overall_accuracy


def read(path: Path) -> dict[Run, tuple[float, float]]:
    """The runs that are done."""
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {
        Run(row["site"], row["budget"], row["way"], int(row["seed"])): (float(row["miou"]), float(row["overall"]))
        for row in rows
    }


def keep(path: Path, run: Run, miou: float, overall: float) -> None:
    """Add a run to the table."""
    begun = path.is_file()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        if not begun:
            writer.writerow(("site", "budget", "way", "seed", "miou", "overall"))
        writer.writerow((run.site, run.budget, run.way, run.seed, f"{miou:.6f}", f"{overall:.6f}"))


def wanted(folders: Iterable[Path], budgets: Iterable[str], ways: Iterable[str], seeds: int) -> list[Run]:
    """Every run, seed by seed, so that what is stopped is balanced."""
    names = [folder.name for folder in folders]
    found = product(range(seeds), names, budgets, ways)
    return [Run(site, budget, way, seed) for seed, site, budget, way in found]


def table(done: dict[Run, tuple[float, float]]) -> str:
    """Mean mIoU in percent of the first way, and the other ways' paired differences from it."""
    first, *others = WAYS
    lines = [f"| site | labels | seeds | {first} | {' | '.join(others)} |", "|" + "---|" * (4 + len(others))]
    for site, budget in dict.fromkeys((run.site, run.budget) for run in done):
        cells = {way: scores(done, site, budget, way) for way in WAYS}
        base = cells[first]
        told = [difference([100 * (cells[way][s] - base[s]) for s in cells[way] if s in base]) for way in others]
        if base:
            lines.append(f"| {site} | {budget} | {len(base)} | {100 * fmean(base.values()):.1f} | {' | '.join(told)} |")
    return "\n".join(lines)


def scores(done: dict[Run, tuple[float, float]], site: str, budget: str, way: str) -> dict[int, float]:
    """Seed → test mIoU."""
    return {run.seed: found[0] for run, found in done.items() if (run.site, run.budget, run.way) == (site, budget, way)}


def difference(points: list[float], digits: int = 1) -> str:
    """A mean with its 95 % interval."""
    if len(points) < 2:  # noqa: PLR2004 - one has no spread
        return "-"
    return f"{fmean(points):+.{digits}f} ± {NORMAL_95 * stdev(points) / len(points) ** 0.5:.{digits}f}"


def main() -> None:
    """Run what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path, nargs="+")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--budgets", nargs="+", choices=BUDGETS, default=list(BUDGETS))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--runs", type=Path, default=Path("class-balance.csv"))
    parser.add_argument("--seconds", type=float, default=float("inf"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    begun, done, sites = time.monotonic(), read(given.runs), {}
    folders = {folder.name: folder for folder in given.workspace}
    for run in wanted(given.workspace, given.budgets, given.ways, given.seeds):
        if run in done:
            continue
        if time.monotonic() - begun > given.seconds:
            print("more to do: run the same command again")
            break
        if run.site not in sites:
            sites[run.site] = Site.open(folders[run.site])
        done[run] = sites[run.site].measure(run)
        keep(given.runs, run, *done[run])
    print(table(done))


if __name__ == "__main__":
    main()
