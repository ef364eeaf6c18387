"""Few labels: the network learns the classes."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict
from itertools import repeat
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eearth.calibration import fit_temperature, reliability, tempered
from eearth.data.described import training_region
from eearth.data.regions import asked_imagery, open_all_labelled
from eearth.evaluation import examine
from eearth.events import Note, Report, Table, Warned, silent
from eearth.geo.products.metadata.item import Asset
from eearth.geo.products.metadata.model_card import write_model_card
from eearth.geo.products.metadata.model_facts import ModelFacts
from eearth.geo.products.metadata.model_item import write_model_item
from eearth.geo.products.metadata.provenance import ITEM
from eearth.geo.splits.blocks import TEST, VALIDATION
from eearth.manifest import write_json
from eearth.models.device import choose_device
from eearth.models.files import LAND_COVER, encoder_of, is_outdated, load_encoder, save_land_cover
from eearth.pictures import draw_confusion, draw_history, draw_reliability, legible
from eearth.settings import PretrainSettings
from eearth.training.familiarity import familiarity_of
from eearth.training.finetune import finetune as train
from eearth.training.history import write_history
from eearth.training.pretrain import at_home, new_encoder
from eearth.workspace import Workspace, file_input, inputs_of_others

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from eearth.data.chips import LabelledSeries
    from eearth.evaluation import Examined
    from eearth.geo.labels.legend import LandCoverClass
    from eearth.geo.products.metadata.model_facts import TrainingRegion
    from eearth.manifest import Manifest
    from eearth.metrics import Accuracy
    from eearth.models.encoder import Encoder
    from eearth.models.segmentation import LandCoverModel
    from eearth.settings import FinetuneSettings
    from eearth.workspace import Input, Run


METRICS = "metrics.json"
CARD = "model_card.md"

CALIBRATED = "Temperature of the validation pixels; expected calibration errors and bins of the test pixels."
NOT_CALIBRATED = "There are no validation labels to calibrate with, or none within the label budget: temperature 1."


def finetune(workspace: Workspace, settings: FinetuneSettings, report: Report = silent) -> Manifest:
    """Fine-tune an encoder on the training labels and measure it on the test blocks, into `finetune/`.

    Writes `model.safetensors`, `model.json`, `item.json` (STAC), `model_card.md`, `history.csv`, `loss.png`,
    `metrics.json`, `metrics.csv`, `confusion.png` and `reliability.png`.

    Args:
        workspace: Where imagery and labels are, and where to write.
        settings: How to train.
        report: Receives progress.

    Raises:
        EearthError: An earlier stage is missing, the workspaces do not fit together, or the encoder does not fit.
    """
    sources = [workspace, *(Workspace(path) for path in settings.also)]
    for source in sources:
        source.require_current("rasterize", made_from="download")
    weights = _encoder_path(workspace, settings, report)
    outdated = is_outdated(workspace.folder("finetune") / LAND_COVER)
    with workspace.stage(settings, _inputs(sources, weights, workspace), again=outdated) as run:
        if run.finished:
            report(Note(text=f"{workspace.folder('finetune')} is up to date"))
            return run.finished
        regions, classes = open_all_labelled(sources)
        device = choose_device(settings.device)
        encoder = _encoder(weights, workspace, regions, settings)
        legend = {entry.name: entry.code for entry in classes}
        model, history = train(
            encoder, regions, settings, legend=legend, device=device, checkpoint=run.scratch, report=report
        )
        model.augment = settings.augment
        model.familiarity = familiarity_of(model.to(device).encoder, regions, device)
        examined = {
            name: examine(model, regions[0], part, device)
            for name, part in (("test", TEST), ("validation", VALIDATION))
        }
        held_out = None if settings.labels_per_class else examined["validation"]  # beyond a label budget
        model.temperature = _temperature(held_out)
        save_land_cover(run.folder, model, asked_imagery(workspace), [asdict(entry) for entry in classes])
        write_history(run.folder / "history.csv", history)
        draw_history(run.folder / "loss.png", history, {"loss": ["loss", "start_loss"], "mIoU": ["validation_miou"]})
        measured = {name: found.accuracy if found else None for name, found in examined.items()}
        calibration = _write_reliability(
            run.folder, examined["test"], model.temperature, calibrated=held_out is not None
        )
        _write_metrics(run.folder, measured, calibration, classes)
        learnt = tuple(map(training_region, sources, regions, repeat(classes)))
        _write_card(run, model, classes, learnt, _pretrained(weights, run.inputs))
        report(_table(measured["test"], classes))
        return run.finish(
            seed=settings.seed,
            figures=_figures(model, history, measured, weights) | _said(calibration),
            records={"device": str(device)},
            to_be_filled=(CARD,),
        )


def _encoder_path(workspace: Workspace, settings: FinetuneSettings, report: Report) -> Path | None:
    """The encoder's file; None for random weights."""
    if settings.encoder == "none":
        return None
    if settings.encoder is not None:
        given = Path(settings.encoder)
        return encoder_of(Workspace(given)) if given.is_dir() else given
    if workspace.folder("pretrain").is_dir():
        return encoder_of(workspace)
    report(Warned(text="no pretrain/ here: starting from random weights; `eearth pretrain` first needs fewer labels"))
    return None


def _inputs(sources: list[Workspace], weights: Path | None, workspace: Workspace) -> dict[str, Input]:
    inputs = workspace.given("download", "rasterize") | inputs_of_others(sources, "rasterize", "labels")
    if weights is not None and weights.parent == workspace.folder("pretrain"):
        return inputs | workspace.given("pretrain")
    return inputs | ({"encoder": file_input(weights)} if weights else {})


def _encoder(
    weights: Path | None, workspace: Workspace, regions: Sequence[LabelledSeries], settings: FinetuneSettings
) -> Encoder:
    """Where training starts; an encoder of another region gets used to these."""
    if weights is None:
        return _fresh_encoder(workspace, regions, settings)
    encoder = load_encoder(weights)
    own = weights.resolve().parent == workspace.folder("pretrain").resolve()
    return encoder if own else at_home(encoder, [region.series for region in regions])


def _fresh_encoder(workspace: Workspace, regions: Sequence[LabelledSeries], settings: FinetuneSettings) -> Encoder:
    """Random weights in the shape of the workspace's pre-trained encoder, if it has one, so that the two compare."""
    done = workspace.manifest("pretrain")
    shape = {name: done.settings[name] for name in ("model", "features", "depth")} if done else {}
    return new_encoder([region.series for region in regions], PretrainSettings(seed=settings.seed, **shape))


def _temperature(held_out: Examined | None) -> float:
    """By the validation labels; without any the probabilities stay as they are."""
    return fit_temperature(held_out.probabilities, held_out.truth, held_out.patches) if held_out else 1.0


def _write_reliability(
    folder: Path, test: Examined | None, temperature: float, *, calibrated: bool
) -> dict[str, Any] | None:
    """How far the test pixels' probabilities can be believed, as they come and calibrated."""
    if test is None or not len(test.truth):
        return None
    before = reliability(test.probabilities, test.truth)
    after = reliability(tempered(test.probabilities, temperature), test.truth)
    curves = {"as it comes": before.as_list()} | ({"calibrated": after.as_list()} if calibrated else {})
    draw_reliability(folder / "reliability.png", curves)
    return {
        "note": CALIBRATED if calibrated else NOT_CALIBRATED,
        "temperature": temperature,
        "ece_before": before.error,
        "ece_after": after.error,
        "bins": after.as_list(),
    }


def _write_metrics(
    folder: Path,
    measured: dict[str, Accuracy | None],
    calibration: dict[str, Any] | None,
    classes: Sequence[LandCoverClass],
) -> None:
    names = {entry.code: entry.name for entry in classes}
    write_json(
        folder / METRICS,
        {
            "note": "Accuracy on held-out blocks of the labels: not a probability sample, so no confidence intervals.",
            "classes": names,
            **{part: result.as_dict() if result else None for part, result in measured.items()},
            "calibration": calibration,
        },
    )
    test = measured["test"]
    if test is None:
        return
    with (folder / "metrics.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("code", "class", "pixels", "iou", "f1", "producers_accuracy", "users_accuracy"))
        writer.writerows(_rows(test, names))
    draw_confusion(folder / "confusion.png", test.confusion, legible({code: names[code] for code in test.codes}))


def _write_card(
    run: Run,
    model: LandCoverModel,
    classes: tuple[LandCoverClass, ...],
    learnt: tuple[TrainingRegion, ...],
    pretrained: str | None,
) -> None:
    """The model for people, and for catalogues, with the figures of `metrics.json`."""
    figures = json.loads((run.folder / METRICS).read_text(encoding="utf-8"))
    facts = ModelFacts(
        network=model.config(),
        parameters=sum(weights.numel() for weights in model.parameters()),
        margin=model.margin,
        classes=classes,
        regions=learnt,
        pretrained=pretrained,
        settings=run.settings.what(),
        test=figures["test"],
        calibration=figures["calibration"],
    )
    write_model_card(run.folder / CARD, facts)
    files = {
        "card": Asset(run.folder / CARD, "Model card", "text/markdown", ("metadata",), edited=True),
        "metrics": Asset(run.folder / METRICS, "Accuracy and calibration", "application/json", ("metadata",)),
    }
    write_model_item(run.folder / ITEM, facts, run.folder / LAND_COVER, files)


def _pretrained(weights: Path | None, inputs: Mapping[str, Input]) -> str | None:
    """What the encoder learnt from before; None for random weights."""
    if weights is None:
        return None
    if "pretrain" in inputs:
        return "Self-supervised pre-training on the imagery of the same region, without labels"
    return f"The encoder in the file with sha256 {inputs['encoder'].digest}"


def _rows(result: Accuracy, names: dict[int, str]) -> list[tuple[Any, ...]]:
    figures = zip(
        result.codes,
        result.support,
        result.iou,
        result.f1,
        result.producers_accuracy,
        result.users_accuracy,
        strict=True,
    )
    return [
        (code, names[code], int(support), *("" if np.isnan(value) else f"{value:.4f}" for value in values))
        for code, support, *values in figures
    ]


def _table(test: Accuracy | None, classes: Sequence[LandCoverClass]) -> Table:
    names = {entry.code: entry.name for entry in classes}
    rows = _rows(test, names) if test else []
    columns = ("code", "class", "test pixels", "IoU", "F1", "producer's", "user's")
    return Table(title="test blocks", columns=columns, rows=tuple(tuple(str(cell) for cell in row) for row in rows))


def _said(calibration: dict[str, Any] | None) -> dict[str, str]:
    if calibration is None or calibration["temperature"] == 1:
        return {}
    before, after, temperature = (calibration[name] for name in ("ece_before", "ece_after", "temperature"))
    return {"calibration error": f"{before:.3f}, with temperature {temperature:.2f}: {after:.3f}"}


def _figures(
    model: LandCoverModel,
    history: list[dict[str, float]],
    measured: dict[str, Accuracy | None],
    weights: Path | None,
) -> dict[str, Any]:
    test, last = measured["test"], history[-1]
    kept = max((row for row in history if "validation_miou" in row), key=itemgetter("validation_miou"), default=last)
    return {
        "start": "pre-trained" if weights else "random weights",
        "steps": int(last["step"]),
        "weights of step": int(kept["step"]),
        "classes": len(model.classes),
        "test mIoU": round(test.mean_iou, 4) if test else "no test pixels",
        "test overall accuracy": round(test.overall_accuracy, 4) if test else "no test pixels",
    }
