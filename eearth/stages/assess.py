"""Held-out blocks, and a labelled sample of the map → accuracy and areas with intervals."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eearth.accuracy.figures import draw_accuracies, draw_areas
from eearth.accuracy.predictions import assess_workspace
from eearth.accuracy.probability import NOTE, RANDOM, RANDOM_NOTE, assess_drawn, assess_random, training_of
from eearth.accuracy.records import map_record, model_record, write_accuracy, write_areas
from eearth.errors import WorkspaceError
from eearth.events import Note, Report, Table, Warned, silent
from eearth.geo.products.landcover.writer import LANDCOVER
from eearth.geo.sampling.classmap import read_map
from eearth.geo.sampling.design import DESIGN, KIND, Design
from eearth.manifest import file_digest, write_json
from eearth.pictures import draw_confusion, legible
from eearth.workspace import file_input

if TYPE_CHECKING:
    from eearth.accuracy.held_out import ModelAccuracy
    from eearth.accuracy.intervals import Interval
    from eearth.accuracy.map_sample import MapAccuracy
    from eearth.manifest import Manifest
    from eearth.settings import AssessSettings
    from eearth.workspace import Input, Workspace


def assess(workspace: Workspace, settings: AssessSettings, report: Report = silent) -> Manifest:
    """Measure accuracy with intervals, into `assess/`.

    On the test blocks of the labels where there is a model; with `reference`, of the map as a whole, from a probability
    sample. Writes `assessment.json`, `accuracy.csv`, `accuracy.png` and `confusion.png` (of the map if there is a
    sample, of the test blocks otherwise; with both, the latter are called `blocks_accuracy.png` and
    `blocks_confusion.png`), and with a sample `areas.csv` and `areas.png`.

    Args:
        workspace: Where model, labels and map are, and where to write.
        settings: What to measure, and how.
        report: Receives progress, tables and what the formulas do not allow.

    Raises:
        EearthError: There is nothing to assess, or the sample is not what the estimators need.
    """
    if not workspace.root.is_dir():
        msg = f"expected a workspace, found no folder at {workspace.root}: check --workspace"
        raise WorkspaceError(msg)
    design = _design_of(workspace, settings)
    blocks = _has_blocks(workspace, settings)
    if settings.reference is None and not blocks:
        msg = (
            f"expected a fine-tuned model in {workspace.folder('finetune')}, or a labelled sample with --reference, "
            "found neither: run `eearth finetune`, or `eearth sample` and label it"
        )
        raise WorkspaceError(msg)
    with workspace.stage(settings, _inputs(workspace, settings, design)) as run:
        if run.finished:
            report(Note(text=f"{workspace.folder('assess')} is up to date"))
            return run.finished
        sampled = _of_sample(workspace, settings, design, report) if settings.reference else None
        model = assess_workspace(workspace, settings) if blocks else None
        _write(run.folder, model, sampled, settings)
        _tell(model, sampled, report)
        return run.finish(seed=settings.seed, figures=_figures(model, sampled), records={})


def _design_of(workspace: Workspace, settings: AssessSettings) -> Path | None:
    """Where the sample's design lies; None without a sample, and for a simple random one.

    Raises:
        WorkspaceError: It is nowhere.
    """
    if settings.reference is None or settings.simple_random:
        return None
    if settings.design is not None:
        return settings.design
    places = (settings.reference.parent / DESIGN, workspace.folder("sample") / DESIGN)
    for path in places:
        if path.is_file():
            return path
    msg = (
        f"expected the {DESIGN} of the sample beside {settings.reference} or in {workspace.folder('sample')}, found "
        "none: name it with --design; without one only a simple random sample of the map can be used, with "
        "--simple-random"
    )
    raise WorkspaceError(msg)


def _map_of(workspace: Workspace, settings: AssessSettings) -> Path | None:
    """The map that is assessed with a sample: the one that is named, else the workspace's."""
    own = workspace.folder("predict") / LANDCOVER
    return settings.map or (own if own.is_file() else None)


def _has_blocks(workspace: Workspace, settings: AssessSettings) -> bool:
    """Whether there are test blocks and predictions to compare with them."""
    made = ("finetune",) if settings.predictions == "model" else ("finetune", "predict")
    return all(workspace.folder(stage).is_dir() for stage in ("download", "rasterize", *made))


def _inputs(workspace: Workspace, settings: AssessSettings, design: Path | None) -> dict[str, Input]:
    stages = [stage for stage in ("rasterize", "finetune", "predict") if workspace.folder(stage).is_dir()]
    inputs = workspace.given(*stages)
    files = {"reference": settings.reference, "design": design, "raster": settings.map}
    return inputs | {name: file_input(path) for name, path in files.items() if path is not None}


def _of_sample(workspace: Workspace, settings: AssessSettings, design: Path | None, report: Report) -> MapAccuracy:
    """What the labelled sample says of the map."""
    path, training = settings.reference, None
    assert path is not None  # noqa: S101 - for mypy: the caller has asked
    if workspace.folder("rasterize").is_dir():
        training = training_of(workspace.folder("rasterize"))
    chosen = _map_of(workspace, settings)
    how: dict[str, Any] = {"extra": settings.extra_classes, "training": training, "method": settings.interval}
    if design is None:
        if chosen is None:
            msg = "expected a map for --simple-random, found none: run `eearth predict`, or name it with --map"
            raise WorkspaceError(msg)
        return assess_random(path, settings.reference_column, read_map(chosen, None, report), **how)
    drawn = Design.read(design)
    flags = _check_map(drawn, design, chosen)
    return assess_drawn(path, settings.reference_column, drawn, flags=flags, **how)


def _check_map(design: Design, path: Path, chosen: Path | None) -> list[str]:
    """Refuse the sample of another map; flag where the map is not there to be compared."""
    sampled = chosen or Path(design.map_path)
    if not sampled.is_file():
        return [f"the map that was sampled is not at {sampled}: whether it has changed since could not be checked"]
    if file_digest(sampled) != design.map_digest:
        msg = (
            f"expected the sample of {sampled}, found that {path} was drawn from another map or an earlier version of "
            f"it ({design.map_path}): name that one with --map, or draw a sample of this one with `eearth sample`"
        )
        raise WorkspaceError(msg)
    return []


def _write(folder: Path, model: ModelAccuracy | None, sampled: MapAccuracy | None, settings: AssessSettings) -> None:
    note = RANDOM_NOTE if settings.simple_random else NOTE
    kind = RANDOM if settings.simple_random else KIND
    record = {
        "model": model_record(model) if model else None,
        "map": map_record(sampled, kind, note) if sampled else None,
    }
    write_json(folder / "assessment.json", record)
    write_accuracy(folder / "accuracy.csv", model, sampled)
    if sampled:
        write_areas(folder / "areas.csv", sampled)
        draw_areas(folder / "areas.png", sampled)
        _draw_sample(folder, sampled)
    if model:
        _draw_blocks(folder, model, "blocks_" if sampled else "")


def _draw_sample(folder: Path, sampled: MapAccuracy) -> None:
    names = legible({entry.code: entry.name for entry in sampled.classes})
    found, counts = sampled.accuracy, sampled.sample.counts.T
    draw_confusion(folder / "confusion.png", counts, names, counted="points", proportions=found.proportions.T)
    measures = {"user's accuracy": found.users_accuracy, "producer's accuracy": found.producers_accuracy}
    note = f"Accuracy of the map, from {int(sampled.sample.counts.sum())} points of a probability sample"
    draw_accuracies(folder / "accuracy.png", names, measures, found.overall_accuracy, note)


def _draw_blocks(folder: Path, model: ModelAccuracy, prefix: str) -> None:
    names = legible({entry.code: entry.name for entry in model.classes})
    draw_confusion(folder / f"{prefix}confusion.png", model.confusion, names)
    found = model.measured
    measures = {"user's accuracy": found.users_accuracy, "producer's accuracy": found.producers_accuracy}
    note = f"Accuracy on {model.groups} test groups of labels (no probability sample of the map)"
    draw_accuracies(folder / f"{prefix}accuracy.png", names, measures, found.overall_accuracy, note)


def _tell(model: ModelAccuracy | None, sampled: MapAccuracy | None, report: Report) -> None:
    if model is not None:
        report(_blocks_table(model))
        for flag in model.flags:
            report(Warned(text=f"test blocks: {flag}"))
    if sampled is not None:
        report(_sample_table(sampled))
        for flag in sampled.flags:
            report(Warned(text=f"sample: {flag}"))


def _blocks_table(model: ModelAccuracy) -> Table:
    found, pixels = model.measured, model.confusion.sum(axis=1).tolist()
    rows = tuple(
        (
            str(entry.code),
            entry.name,
            str(pixels[k]),
            *(_shown(part[k]) for part in (found.users_accuracy, found.producers_accuracy, found.f1, found.iou)),
        )
        for k, entry in enumerate(model.classes)
    )
    columns = ("code", "class", "test pixels", "user's", "producer's", "F1", "IoU")
    return Table(title="test blocks (no probability sample)", columns=columns, rows=rows)


def _sample_table(sampled: MapAccuracy) -> Table:
    found, area = sampled.accuracy, float(sampled.sample.areas.sum())
    rows = tuple(
        (
            str(entry.code),
            entry.name,
            str(int(sampled.sample.points[k])),
            _shown(found.users_accuracy[k]),
            _shown(found.producers_accuracy[k]),
            f"{entry.area_km2:.4g}",
            _shown(found.area_shares[k].times(area), digits=4),
        )
        for k, entry in enumerate(sampled.classes)
    )
    columns = ("code", "class", "points", "user's", "producer's", "mapped km²", "km²")
    return Table(title="the map, from its sample", columns=columns, rows=rows)


def _shown(found: Interval, digits: int = 3) -> str:
    """An estimate with its interval, as in "0.88 (0.79 to 0.94)"; empty where there is none."""
    if np.isnan(found.estimate):
        return ""
    ends = "" if np.isnan(found.low) else f" ({found.low:.{digits}g} to {found.high:.{digits}g})"
    return f"{found.estimate:.{digits}g}{ends}"


def _figures(model: ModelAccuracy | None, sampled: MapAccuracy | None) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    if sampled is not None:
        figures["points"] = int(sampled.sample.counts.sum())
        figures["map overall accuracy"] = _shown(sampled.accuracy.overall_accuracy)
    if model is not None:
        figures["test blocks overall accuracy"] = _shown(model.measured.overall_accuracy)
        figures["test blocks mIoU"] = _shown(model.measured.mean_iou)
    return figures
