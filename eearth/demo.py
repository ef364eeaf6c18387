"""The whole program on a simulated region: five stages, and an honest comparison with training from scratch."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from eearth.data.regions import open_labelled
from eearth.errors import LabelError
from eearth.evaluation import measure
from eearth.events import Advanced, Finished, Note, Report, Started, Table, silent
from eearth.geo.blocks import TEST
from eearth.manifest import write_json
from eearth.models.files import ENCODER, load_encoder
from eearth.settings import (
    DownloadSettings,
    FinetuneSettings,
    PredictSettings,
    PretrainSettings,
    RasterizeSettings,
)
from eearth.stages.download import download
from eearth.stages.finetune import finetune
from eearth.stages.predict import predict
from eearth.stages.pretrain import pretrain
from eearth.stages.rasterize import rasterize
from eearth.synthetic.region import SimulatedRegion, simulate
from eearth.training.finetune import finetune as train
from eearth.training.loop import choose_device
from eearth.training.pretrain import new_encoder
from eearth.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from eearth.data.chips import LabelledSeries
    from eearth.models.encoder import Encoder

YEAR = "2022"
LABELS_PER_CLASS = 1

STARTS = ("pre-trained", "scratch")


@dataclass(frozen=True)
class Comparison:
    """Test mIoU of the same network from two starts, on the same labels.

    Attributes:
        scores: Start → mIoU of each seed.
    """

    scores: dict[str, list[float]]

    @property
    def gain(self) -> tuple[float, float]:
        """(mean, half width of the 95 % interval) of the paired difference; the width is NaN for one seed."""
        differences = np.subtract(self.scores["pre-trained"], self.scores["scratch"])
        if len(differences) == 1:
            return float(differences[0]), float("nan")
        spread = stats.sem(differences) * stats.t.ppf(0.975, len(differences) - 1)
        return float(differences.mean()), float(spread)


def run_demo(folder: Path, *, seeds: int = 5, report: Report = silent) -> Comparison:
    """Simulate a region, run all stages on it, and compare pre-training with none.

    Args:
        folder: Where to work; a second run continues or finds everything done.
        seeds: Repetitions of the comparison, each with other labels.
        report: Receives progress.
    """
    provider = simulated_provider(folder / "provider", report)
    workspace = Workspace(folder / "workspace")
    run_stages(workspace, provider, report)
    comparison = compare(workspace, seeds, folder / "comparison.json", report)
    _show(comparison, workspace, report)
    return comparison


def simulated_provider(folder: Path, report: Report) -> SimulatedRegion:
    """The simulated region; simulated only once."""
    remembered = folder / "simulated.json"
    if remembered.is_file():
        paths = json.loads(remembered.read_text(encoding="utf-8"))
        return SimulatedRegion(**{name: folder / path for name, path in paths.items()})
    region = simulate(folder, report=report)
    names = ("catalog", "region", "labels", "truth")
    write_json(remembered, {name: getattr(region, name).relative_to(folder).as_posix() for name in names})
    return region


def run_stages(workspace: Workspace, provider: SimulatedRegion, report: Report) -> None:
    """download, rasterize, pretrain, finetune with few labels, predict."""
    download(workspace, DownloadSettings(region=provider.region, catalog=str(provider.catalog), datetime=YEAR), report)
    rasterize(workspace, RasterizeSettings(labels=provider.labels), report)
    pretrain(workspace, PretrainSettings(), report)
    finetune(workspace, FinetuneSettings(labels_per_class=LABELS_PER_CLASS), report)
    predict(workspace, PredictSettings(region=provider.region), report)


def compare(workspace: Workspace, seeds: int, path: Path, report: Report) -> Comparison:
    """Fine-tune from both starts with the labels of each seed; what is done is remembered in `path`."""
    settings = FinetuneSettings(labels_per_class=LABELS_PER_CLASS)
    key = {
        "imagery": workspace.require("download").digest,
        "labels": workspace.require("rasterize").digest,
        "encoder": workspace.require("pretrain").outputs[ENCODER],
        "settings": settings.what(),
    }
    done = _remembered(path, key)
    region, _ = open_labelled(workspace)
    encoder = load_encoder(workspace.folder("pretrain") / ENCODER)
    report(Started(task="compare", total=2 * seeds, unit="models", done=2 * min(seeds, len(done))))
    for seed in range(len(done), seeds):
        done.append({start: _score(start, encoder, region, replace(settings, seed=seed), report) for start in STARTS})
        write_json(path, {"key": key, "scores": done})
    report(Finished(task="compare"))
    return Comparison({start: [scores[start] for scores in done[:seeds]] for start in STARTS})


def _remembered(path: Path, key: dict[str, Any]) -> list[dict[str, float]]:
    if not path.is_file():
        return []
    kept = json.loads(path.read_text(encoding="utf-8"))
    scores: list[dict[str, float]] = kept["scores"] if kept["key"] == key else []
    return scores


def _score(start: str, encoder: Encoder, region: LabelledSeries, settings: FinetuneSettings, report: Report) -> float:
    device = choose_device(settings.device)
    if start == "scratch":
        encoder = new_encoder([region.series], PretrainSettings(seed=settings.seed))
    model, _ = train(encoder, [region], settings, device=device)
    measured = measure(model, region, TEST, device)
    if measured is None:
        msg = "expected test pixels in the simulated region, found none: remove the demo's folder and run it again"
        raise LabelError(msg)
    report(Advanced(task="compare", detail=f"{start} mIoU {measured.mean_iou:.3f}"))
    return measured.mean_iou


def _show(comparison: Comparison, workspace: Workspace, report: Report) -> None:
    mean, width = comparison.gain
    rows = [(start, *_described(comparison.scores[start])) for start in STARTS]
    report(
        Table(
            title=f"test mIoU with {LABELS_PER_CLASS} labelled pixel of each class",
            columns=("start", "mean", "standard deviation", "each seed"),
            rows=tuple(rows),
        )
    )
    interval = f" ± {100 * width:.1f}" if np.isfinite(width) else ""
    report(Note(text=f"gain of pre-training: {100 * mean:+.1f}{interval} points of mIoU (paired by seed, 95 %)"))
    report(Note(text=f"the map:     {workspace.folder('predict') / 'landcover.tif'} (and preview.png beside it)"))
    report(Note(text=f"the imagery: {workspace.folder('download') / 'quicklook.png'}"))
    report(Note(text=f"accuracy:    {workspace.folder('finetune') / 'metrics.json'}, confusion.png"))
    report(Note(text=f"what next:   eearth status -w {workspace.root}"))


def _described(scores: Sequence[float]) -> tuple[str, str, str]:
    spread = f"{100 * np.std(scores, ddof=1):.1f}" if len(scores) > 1 else ""
    return f"{100 * np.mean(scores):.1f}", spread, " ".join(f"{100 * score:.1f}" for score in scores)
