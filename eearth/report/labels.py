"""The labels as a report shows them: how many, what was dropped, what looks wrong, and how they were split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eearth.report.images import address
from eearth.report.sources import Figure

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from eearth.report.sources import Document, Held

# Suspects that the page lists; the file has all of them.
MOST_SUSPECTS = 20

# Bytes of the labels' own picture up to which the page carries it.
LARGEST_PICTURE = 300_000


@dataclass(frozen=True)
class LabelledClass:
    """A class and its figures, in the order of `Labels.columns`."""

    name: str
    colour: str
    cells: tuple[Figure, ...]


@dataclass(frozen=True)
class Suspect:
    """A label that looks like another class."""

    feature: int
    of: str
    looks_like: str
    confidence: Figure
    pixels: Figure
    place: str


@dataclass(frozen=True)
class Labels:
    """The labels of the workspace.

    Attributes:
        columns: Headings of the classes' figures.
        classes: Class by class.
        dropped: (reason, features, pixels) of what was left out.
        conflicts: Pixels and features on which labels disagreed.
        suspects: Labels that look like another class, the first `MOST_SUSPECTS` of them.
        more_suspects: How many more the file has.
        split: The split's figures.
        checked: The quality of the labels was looked at.
        picture: A map of the labels, as a data address; empty where there is none that is small enough.
    """

    columns: tuple[str, ...]
    classes: tuple[LabelledClass, ...]
    dropped: tuple[tuple[str, Figure, Figure], ...]
    conflicts: tuple[Figure, ...]
    suspects: tuple[Suspect, ...]
    more_suspects: int
    split: tuple[Figure, ...]
    checked: bool
    picture: str


# Field of a class in `quality.json` → heading, unit.
QUALITY = {
    "features": ("features", "features"),
    "pixels": ("pixels", "pixels"),
    "train": ("training", "pixels"),
    "validation": ("validation", "pixels"),
    "test": ("test", "pixels"),
    "clear_observations/least": ("clear observations, least", "observations"),
    "clear_observations/median": ("clear observations, median", "observations"),
}
# The same of `classes.json`, which knows less.
LEGEND = {"polygons": ("features", "features"), "pixels": ("pixels", "pixels")}

# Field of the split in `quality.json` → what it is, unit.
SPLIT = {
    "block_size_m": ("side of a block", "m"),
    "buffer_m": ("buffer that was asked for", "m"),
    "min_distance_m": ("least distance found from test to training", "m"),
    "divided_features": ("features divided between parts", "features"),
}
# The same among the figures of the manifest of labels whose quality was not looked at.
SPLIT_FIGURES = {
    "block size": "side of a block",
    "buffer": "buffer that was asked for",
    "least distance test to training": "least distance found from test to training",
}


def read_labels(held: Held) -> Labels | None:
    """The labels of the workspace; None where there are none."""
    if "rasterize" not in held:
        return None
    quality = held.document("rasterize", "quality.json")
    if quality is not None:
        return _checked(quality, _picture(held.path("rasterize", "quality.png")))
    legend = held.document("rasterize", "classes.json")
    manifest = held.manifest_document("rasterize")
    return Labels(
        columns=tuple(heading for heading, _ in LEGEND.values()),
        classes=_classes(legend, "", LEGEND) if legend else (),
        dropped=(),
        conflicts=(),
        suspects=(),
        more_suspects=0,
        split=_present(manifest.figure(f"/figures/{key}", name) for key, name in SPLIT_FIGURES.items()),
        checked=False,
        picture="",
    )


def _picture(path: Path | None) -> str:
    if path is None or path.stat().st_size > LARGEST_PICTURE:
        return ""
    return address("image/png", path.read_bytes())


def _checked(quality: Document, picture: str) -> Labels:
    suspects = quality.entries("/suspects")
    return Labels(
        columns=tuple(heading for heading, _ in QUALITY.values()),
        classes=_classes(quality, "/classes", QUALITY),
        dropped=tuple(_dropped(quality, number, entry) for number, entry in enumerate(quality.entries("/dropped"))),
        conflicts=_present(
            quality.figure(f"/conflicts/{unit}", f"{unit} on which labels disagree", unit=unit)
            for unit in ("pixels", "features")
        ),
        suspects=tuple(_suspect(quality, number, entry) for number, entry in enumerate(suspects[:MOST_SUSPECTS])),
        more_suspects=max(0, len(suspects) - MOST_SUSPECTS),
        split=_present(quality.figure(f"/split/{key}", name, unit=unit) for key, (name, unit) in SPLIT.items()),
        checked=True,
        picture=picture,
    )


def _classes(document: Document, place: str, columns: Mapping[str, tuple[str, str]]) -> tuple[LabelledClass, ...]:
    return tuple(
        LabelledClass(
            str(entry["name"]),
            str(entry["colour"]),
            tuple(
                document.figure(f"{place}/{number}/{field}", f"labels: {heading}", unit=unit, of=str(entry["name"]))
                for field, (heading, unit) in columns.items()
            ),
        )
        for number, entry in enumerate(document.entries(place))
    )


def _dropped(quality: Document, number: int, entry: Mapping[str, Any]) -> tuple[str, Figure, Figure]:
    reason = str(entry.get("reason"))
    features, pixels = (
        quality.figure(f"/dropped/{number}/{unit}", f"dropped: {reason}", unit=unit) for unit in ("features", "pixels")
    )
    return reason, features, pixels


def _suspect(quality: Document, number: int, entry: Mapping[str, Any]) -> Suspect:
    longitude, latitude = entry.get("lon"), entry.get("lat")
    place = "" if longitude is None or latitude is None else f"{latitude:.5f}, {longitude:.5f}"
    name = f"label {entry.get('feature')}"
    return Suspect(
        feature=int(entry.get("feature") or 0),
        of=str(entry.get("class")),
        looks_like=str(entry.get("looks_like")),
        confidence=quality.figure(f"/suspects/{number}/confidence", f"{name}: confidence", unit="share"),
        pixels=quality.figure(f"/suspects/{number}/pixels", f"{name}: pixels", unit="pixels"),
        place=place,
    )


def _present(figures: Any) -> tuple[Figure, ...]:
    return tuple(figure for figure in figures if figure.value is not None)
