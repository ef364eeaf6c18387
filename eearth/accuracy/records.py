"""The files of an assessment: JSON for programs, CSV for people."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

import numpy as np

from eearth.accuracy.held_out import KIND, NOTE
from eearth.accuracy.intervals import Z

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from eearth.accuracy.held_out import ModelAccuracy
    from eearth.accuracy.intervals import Interval
    from eearth.accuracy.map_sample import MapAccuracy

Row = dict[str, Any]


def model_record(found: ModelAccuracy) -> dict[str, Any]:
    """The part `model` of assessment.json."""
    measured, pixels = found.measured, found.confusion.sum(axis=1).tolist()
    return {
        "kind": KIND,
        "note": NOTE,
        "groups": found.groups,
        "overall_accuracy": measured.overall_accuracy.as_dict(),
        "mean_iou": measured.mean_iou.as_dict(),
        "classes": [
            {
                "code": entry.code,
                "name": entry.name,
                "colour": entry.colour,
                "pixels": pixels[k],
                "users_accuracy": measured.users_accuracy[k].as_dict(),
                "producers_accuracy": measured.producers_accuracy[k].as_dict(),
                "f1": measured.f1[k].as_dict(),
                "iou": measured.iou[k].as_dict(),
            }
            for k, entry in enumerate(found.classes)
        ],
        "confusion": {"codes": [entry.code for entry in found.classes], "counts": found.confusion.tolist()},
        "flags": list(found.flags),
    }


def map_record(found: MapAccuracy, kind: str, note: str) -> dict[str, Any]:
    """The part `map` of assessment.json."""
    accuracy, area = found.accuracy, float(found.sample.areas.sum())
    away = found.away
    return {
        "kind": kind,
        "note": note,
        "points": int(found.sample.counts.sum()),
        "mapped_km2": area,
        "overall_accuracy": accuracy.overall_accuracy.as_dict(),
        "overall_accuracy_away_from_training": away[0].as_dict() | {"points": away[1]} if away else None,
        "classes": [
            {
                "code": entry.code,
                "name": entry.name,
                "colour": entry.colour,
                "points": int(found.sample.points[k]),
                "users_accuracy": accuracy.users_accuracy[k].as_dict(),
                "producers_accuracy": accuracy.producers_accuracy[k].as_dict(),
                "area_km2": accuracy.area_shares[k].times(area).as_dict(),
                "mapped_km2": entry.area_km2,
            }
            for k, entry in enumerate(found.classes)
        ],
        "confusion": {
            "codes": list(accuracy.codes),
            "counts": found.sample.counts.tolist(),
            "proportions": accuracy.proportions.tolist(),
        },
        "flags": list(found.flags),
    }


def write_accuracy(path: Path, model: ModelAccuracy | None, sampled: MapAccuracy | None) -> None:
    """Write every measure with its interval, one a row."""
    rows: list[Row] = []
    if sampled is not None:
        of_map = sampled.accuracy
        rows += [_row("map", "", "overall accuracy", of_map.overall_accuracy)]
        for k, entry in enumerate(sampled.classes):
            rows.append(_row("map", entry.name, "user's accuracy", of_map.users_accuracy[k]))
            rows.append(_row("map", entry.name, "producer's accuracy", of_map.producers_accuracy[k]))
    if model is not None:
        rows += _model_rows(model)
    _write(path, rows)


def _model_rows(model: ModelAccuracy) -> Iterator[Row]:
    measured = model.measured
    yield _row("test blocks", "", "overall accuracy", measured.overall_accuracy)
    yield _row("test blocks", "", "mean IoU", measured.mean_iou)
    for k, entry in enumerate(model.classes):
        yield _row("test blocks", entry.name, "user's accuracy", measured.users_accuracy[k])
        yield _row("test blocks", entry.name, "producer's accuracy", measured.producers_accuracy[k])
        yield _row("test blocks", entry.name, "F1", measured.f1[k])
        yield _row("test blocks", entry.name, "IoU", measured.iou[k])


def write_areas(path: Path, found: MapAccuracy) -> None:
    """Write the area of each class, as mapped and as estimated, in square kilometres."""
    total = float(found.sample.areas.sum())
    areas = [share.times(total) for share in found.accuracy.area_shares]
    rows = [
        {
            "code": entry.code,
            "class": entry.name,
            "mapped_km2": _cell(entry.area_km2),
            "area_km2": _cell(area.estimate),
            "low": _cell(area.low),
            "high": _cell(area.high),
            "plus_minus": _cell(Z * area.standard_error),
        }
        for entry, area in zip(found.classes, areas, strict=True)
    ]
    _write(path, rows)


def _row(what: str, name: str, measure: str, found: Interval) -> Row:
    return {
        "of": what,
        "class": name,
        "measure": measure,
        "estimate": _cell(found.estimate),
        "low": _cell(found.low),
        "high": _cell(found.high),
        "plus_minus": _cell(Z * found.standard_error),
    }


def _cell(value: float) -> str:
    """Six significant figures; nothing where there is no value."""
    return "" if np.isnan(value) else f"{value:.6g}"


def _write(path: Path, rows: list[Row]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
