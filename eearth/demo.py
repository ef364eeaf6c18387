"""The whole program on a simulated region: every stage to the report, then an honest comparison."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from eearth.events import Note, Report, silent
from eearth.manifest import write_json
from eearth.settings import (
    AssessSettings,
    CompareSettings,
    DownloadSettings,
    FinetuneSettings,
    PredictSettings,
    PretrainSettings,
    RasterizeSettings,
    ReportSettings,
)
from eearth.stages.assess import assess
from eearth.stages.compare import compare
from eearth.stages.download import download
from eearth.stages.finetune import finetune
from eearth.stages.predict import predict
from eearth.stages.pretrain import pretrain
from eearth.stages.rasterize import rasterize
from eearth.stages.report import report as make_page
from eearth.synthetic.region import SimulatedRegion, simulate
from eearth.workspace import Workspace

if TYPE_CHECKING:
    from pathlib import Path

    from eearth.manifest import Manifest

YEAR = "2022"
LABELS_PER_CLASS = 5


def run_demo(folder: Path, *, seeds: int = 5, report: Report = silent) -> Manifest:
    """Simulate a region, run all stages on it, and compare pre-training with none.

    Args:
        folder: Where to work; a second run continues or finds everything done.
        seeds: Repetitions of the comparison, each with another split and other labels.
        report: Receives progress.

    Returns:
        What the comparison found.
    """
    provider = simulated_provider(folder / "provider", report)
    workspace = Workspace(folder / "workspace")
    run_stages(workspace, provider, report)
    settings = CompareSettings(budgets=(str(LABELS_PER_CLASS),), seeds=seeds)
    compared = compare(workspace, settings, report)
    _show(workspace, report)
    return compared


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
    """download, rasterize, pretrain, finetune with few labels, predict, assess on the test blocks, report."""
    download(workspace, DownloadSettings(region=provider.region, catalog=str(provider.catalog), datetime=YEAR), report)
    rasterize(workspace, RasterizeSettings(labels=provider.labels), report)
    pretrain(workspace, PretrainSettings(), report)
    finetune(workspace, FinetuneSettings(labels_per_class=LABELS_PER_CLASS), report)
    predict(workspace, PredictSettings(region=provider.region), report)
    assess(workspace, AssessSettings(), report)
    make_page(workspace, ReportSettings(), report)


def _show(workspace: Workspace, report: Report) -> None:
    report(Note(text=f"the report:  {workspace.folder('report') / 'report.html'}, to open in a browser"))
    report(Note(text=f"the map:     {workspace.folder('predict') / 'landcover.tif'} (and preview.png beside it)"))
    report(Note(text=f"the imagery: {workspace.folder('download') / 'quicklook.png'}"))
    report(Note(text=f"accuracy:    {workspace.folder('finetune') / 'metrics.json'}, confusion.png"))
    report(Note(text=f"comparison:  {workspace.folder('compare') / 'table.md'}, figure.png"))
    report(Note(text=f"what next:   eearth status -w {workspace.root}"))
