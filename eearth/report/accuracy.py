"""Accuracy as a report shows it: of the map by a probability sample, of the model on test blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eearth.report.confusion import Confusion, read_confusion
from eearth.report.sources import Figure

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eearth.report.sources import Document, Held

UNNAMED_COLOUR = "#7f7f7f"


@dataclass(frozen=True, kw_only=True)
class ClassAccuracy:
    """One class; None for what the file does not have."""

    code: int
    name: str
    colour: str
    count: Figure
    users: Figure
    producers: Figure
    f1: Figure | None = None
    iou: Figure | None = None
    area: Figure | None = None
    mapped: Figure | None = None


@dataclass(frozen=True, kw_only=True)
class Accuracies:
    """One assessment.

    Attributes:
        kind: Of the sample, as the file calls it.
        note: What the file itself says of it.
        flags: What its formulas do not allow, if anything.
        intervals: Its figures have 95 % intervals.
        overall: Overall accuracy.
        mean_iou: Of test blocks.
        points: Of a sample.
        away: Overall accuracy of a sample's points that lie away from training labels.
        classes: Class by class.
        confusion: None where the file has none.
    """

    kind: str
    note: str
    flags: tuple[str, ...]
    intervals: bool
    overall: Figure
    mean_iou: Figure | None
    points: Figure | None
    away: Figure | None
    classes: tuple[ClassAccuracy, ...]
    confusion: Confusion | None


def map_accuracy(held: Held) -> Accuracies | None:
    """Of the map, by a stratified random sample; None where there is none."""
    document = held.document("assess", "assessment.json")
    if document is None or not document.at("/map"):
        return None
    entries = document.entries("/map/classes")
    names = {int(entry["code"]): str(entry["name"]) for entry in entries}
    confusion = read_confusion(
        document, "/map/confusion/counts", "/map/confusion/codes", names, rows="map", columns="reference", unit="points"
    )
    return Accuracies(
        kind=str(document.at("/map/kind") or "random sample"),
        note=str(document.at("/map/note") or ""),
        flags=tuple(str(flag) for flag in document.entries("/map/flags")),
        intervals=True,
        overall=document.figure("/map/overall_accuracy", "overall accuracy of the map", unit="share"),
        mean_iou=None,
        points=document.figure("/map/points", "sample points", unit="points"),
        away=_away(document),
        classes=tuple(_of_map(document, number, entry) for number, entry in enumerate(entries)),
        confusion=confusion,
    )


def _away(document: Document) -> Figure | None:
    place = "/map/overall_accuracy_away_from_training"
    name = "overall accuracy of the map away from training labels"
    return document.figure(place, name, unit="share") if document.at(place) else None


def _of_map(document: Document, number: int, entry: Mapping[str, Any]) -> ClassAccuracy:
    place, name = f"/map/classes/{number}", str(entry["name"])
    return ClassAccuracy(
        code=int(entry["code"]),
        name=name,
        colour=_colour(entry),
        count=document.figure(f"{place}/points", "sample points", unit="points", of=name),
        users=document.figure(f"{place}/users_accuracy", "user's accuracy", unit="share", of=name),
        producers=document.figure(f"{place}/producers_accuracy", "producer's accuracy", unit="share", of=name),
        area=document.figure(f"{place}/area_km2", "estimated area", unit="km2", of=name),
        mapped=document.figure(f"{place}/mapped_km2", "mapped area", unit="km2", of=name),
    )


def model_accuracy(held: Held, colours: Mapping[int, str]) -> Accuracies | None:
    """Of the model on test blocks: with intervals from `assess`, otherwise what `finetune` measured; or None.

    Args:
        held: The workspace.
        colours: Code → colour, for files that hold none.
    """
    document = held.document("assess", "assessment.json")
    if document is not None and document.at("/model"):
        return _assessed(document)
    document = held.document("finetune", "metrics.json")
    return _measured(document, colours) if document is not None and document.at("/test") else None


def _assessed(document: Document) -> Accuracies:
    entries = document.entries("/model/classes")
    names = {int(entry["code"]): str(entry["name"]) for entry in entries}
    classes = tuple(
        _of_model(
            document,
            entry,
            {
                key: f"/model/classes/{number}/{key}"
                for key in ("pixels", "users_accuracy", "producers_accuracy", "f1", "iou")
            },
        )
        for number, entry in enumerate(entries)
    )
    return _of_blocks(document, "/model", classes, names, ("/model/confusion/counts", "/model/confusion/codes"))


def _measured(document: Document, colours: Mapping[int, str]) -> Accuracies:
    codes = [int(code) for code in document.entries("/test/codes")]
    names = {code: str(document.at(f"/classes/{code}") or f"code {code}") for code in codes}
    classes = tuple(
        _of_model(
            document,
            {"code": code, "name": names[code], "colour": colours.get(code)},
            {
                "pixels": f"/test/support/{number}",
                **{key: f"/test/{key}/{number}" for key in ("users_accuracy", "producers_accuracy", "f1", "iou")},
            },
        )
        for number, code in enumerate(codes)
    )
    return _of_blocks(document, "/test", classes, names, ("/test/confusion", "/test/codes"))


def _of_model(document: Document, entry: Mapping[str, Any], places: Mapping[str, str]) -> ClassAccuracy:
    name = str(entry["name"])
    return ClassAccuracy(
        code=int(entry["code"]),
        name=name,
        colour=_colour(entry),
        count=document.figure(places["pixels"], "test pixels", unit="pixels", of=name),
        users=document.figure(places["users_accuracy"], "user's accuracy on test blocks", unit="share", of=name),
        producers=document.figure(
            places["producers_accuracy"], "producer's accuracy on test blocks", unit="share", of=name
        ),
        f1=document.figure(places["f1"], "F1 on test blocks", unit="share", of=name),
        iou=document.figure(places["iou"], "IoU on test blocks", unit="share", of=name),
    )


def _of_blocks(
    document: Document, place: str, classes: tuple[ClassAccuracy, ...], names: dict[int, str], matrix: tuple[str, str]
) -> Accuracies:
    overall = document.figure(f"{place}/overall_accuracy", "overall accuracy on test blocks", unit="share")
    return Accuracies(
        kind="test blocks",
        note="",  # the page says itself what these figures are not
        flags=tuple(str(flag) for flag in document.entries(f"{place}/flags")),
        intervals=overall.low is not None,
        overall=overall,
        mean_iou=document.figure(f"{place}/mean_iou", "mean IoU on test blocks", unit="share"),
        points=None,
        away=None,
        classes=classes,
        confusion=read_confusion(document, *matrix, names, rows="reference", columns="map", unit="pixels"),
    )


def _colour(entry: Mapping[str, Any]) -> str:
    return str(entry.get("colour") or UNNAMED_COLOUR)
