"""The page: all parts of a workspace put together, as HTML and as the list of its figures."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from eearth.geo.products.landcover.unfamiliar import TOO_MUCH, UNFAMILIAR
from eearth.report.accuracy import map_accuracy, model_accuracy
from eearth.report.chain import chain_of, mismatches
from eearth.report.curves import Reliability, reliability, training_charts
from eearth.report.imagery import read_imagery
from eearth.report.labels import read_labels
from eearth.report.landcover import read_landcover
from eearth.report.sources import Figure
from eearth.report.viewer import make_viewer
from eearth.report.words import FILTERS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eearth.events import Report
    from eearth.report.accuracy import Accuracies
    from eearth.report.landcover import Entry, Landcover
    from eearth.report.sources import Held

LANDCOVER_FILE, CONFIDENCE_FILE = "map/landcover.tif", "map/confidence.tif"

PARTS = (
    ("map-part", "Map"),
    ("classes-part", "Classes"),
    ("accuracy-part", "Accuracy"),
    ("training-part", "Training"),
    ("labels-part", "Labels"),
    ("imagery-part", "Imagery"),
    ("made-part", "How it was made"),
    ("limits-part", "Limits"),
    ("cite-part", "Cite"),
)

# Nothing is fetched from anywhere, and no script or style runs but the two whose digests are named.
POLICY = (
    "default-src 'none'; img-src data:; style-src {style}; script-src {script}; base-uri 'none'; form-action 'none'"
)


@dataclass(frozen=True)
class ClassRow:
    """A class of the map and its figures."""

    code: int
    name: str
    colour: str
    pixels: Figure
    share: Figure
    km2: Figure
    estimated: Figure | None


@dataclass(frozen=True)
class Calibration:
    """What `finetune` measured of the model's probabilities, what it says of that, and whether it scaled them."""

    figures: tuple[Figure, ...]
    diagram: Reliability | None
    note: str
    scaled: bool


@dataclass(frozen=True)
class Card:
    """A figure of the summary, and what must be known to read it."""

    figure: Figure
    remark: str = ""


def compose(held: Held, *, title: str | None, max_side: int, report: Report) -> tuple[str, dict[str, Any]]:
    """(HTML, JSON-ready figures with their sources) of what the workspace holds.

    Args:
        held: The workspace.
        title: Heading; None for the map's own.
        max_side: Most pixels of the map's longer side on the page.
        report: Receives progress.

    Raises:
        WorkspaceError: A file cannot be read.
    """
    landcover = read_landcover(held, max_side, report)
    sample = map_accuracy(held)
    colours = {entry.code: entry.colour for entry in landcover.classes} if landcover else {}
    model = model_accuracy(held, colours)
    content = {
        "cards": _cards(held, landcover, sample, model),
        "classes": _class_rows(landcover, sample),
        "unfamiliar": _unfamiliar(landcover),
        "sample": sample,
        "model": model,
        "calibration": _calibration(held),
        "labels": read_labels(held),
        "imagery": read_imagery(held),
    }
    page: dict[str, Any] = {
        "title": title or _title(held),
        "lead": _lead(held, landcover),
        "version": version("eearth"),
        "warnings": mismatches(held),
        "too_unfamiliar": TOO_MUCH,
        "charts": training_charts(held.rows("finetune", "history.csv")),
        "pretraining": training_charts(held.rows("pretrain", "history.csv")),
        "chain": chain_of(held),
        "label_file": _label_file(held),
        "fetched": _fetched(held),
        "viewer": None if landcover is None else make_viewer(held, landcover, report),
    }
    listed = {
        "title": page["title"],
        "eearth": page["version"],
        "warnings": page["warnings"],
        "stages": {link.folder: link.digest for link in page["chain"]},
        "figures": [{"part": part, **asdict(figure)} for part, of in content.items() for figure in figures_in(of)],
    }
    return _rendered(content | page), listed


def _rendered(content: dict[str, Any]) -> str:
    environment = Environment(
        loader=PackageLoader("eearth.report"), autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True
    )
    environment.filters |= FILTERS
    digests = {
        kind: _csp_digest(Path(__file__).parent / "templates" / name)
        for kind, name in (("style", "report.css"), ("script", "report.js"))
    }
    parts = [
        (anchor, name)
        for anchor, name in PARTS
        if {
            "classes-part": content["classes"],
            "training-part": content["calibration"] or content["charts"] or content["pretraining"],
        }.get(anchor, True)
    ]
    return environment.get_template("report.html").render(content, policy=POLICY.format(**digests), parts=parts)


def _csp_digest(path: Path) -> str:
    """How a content security policy names an inline script or style: by its sha256 (CSP Level 3, 2.3.1)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(path.read_bytes()).digest()).decode('ascii')}'"


def figures_in(part: Any) -> Iterator[Figure]:
    """Every figure that a part of the page holds, in its order."""
    if isinstance(part, Figure):
        yield part
    elif isinstance(part, list | tuple):
        for entry in part:
            yield from figures_in(entry)
    elif is_dataclass(part):
        for item in fields(part):
            yield from figures_in(getattr(part, item.name))


def _title(held: Held) -> str:
    item = held.document("predict", "item.json")
    return str((item and item.at("/properties/title")) or "Land cover model")


def _lead(held: Held, landcover: Landcover | None) -> str:
    """One line on what the page shows."""
    made = f"Made by eearth {version('eearth')}"
    if "download" in held:
        figures = held.manifests["download"].figures
        made += f" from {figures.get('acquisitions')} dates of imagery, {figures.get('first')} to {figures.get('last')}"
    if landcover is None:
        return f"{made}. There is no map yet."
    return (
        f"{made}. {landcover.grid.height} \u00d7 {landcover.grid.width} pixels of {landcover.grid.pixel_metres:.4g} m."
    )


def _unfamiliar(landcover: Landcover | None) -> Figure | None:
    if landcover is None or landcover.unfamiliar is None:
        return None
    where = "pixels of unfamiliarity above 100 / those that have one"
    return Figure(name=UNFAMILIAR, value=landcover.unfamiliar, unit="share", artifact=CONFIDENCE_FILE, field=where)


def _class_rows(landcover: Landcover | None, sample: Accuracies | None) -> list[ClassRow]:
    if landcover is None:
        return []
    estimated = {entry.code: entry.area for entry in sample.classes} if sample else {}
    return [_class_row(entry, landcover, estimated.get(entry.code)) for entry in landcover.classes]


def _class_row(entry: Entry, landcover: Landcover, estimated: Figure | None) -> ClassRow:
    def counted(name: str, value: float, unit: str, field: str) -> Figure:
        return Figure(name=name, value=value, unit=unit, of=entry.name, artifact=LANDCOVER_FILE, field=field)

    where = f"pixels of the value {entry.code}"
    share = entry.pixels / landcover.pixels if landcover.pixels else 0.0
    return ClassRow(
        entry.code,
        entry.name,
        entry.colour,
        counted("mapped pixels", entry.pixels, "pixels", where),
        counted("share of the mapped pixels", share, "share", f"{where} / pixels that are not 0"),
        counted("mapped area", entry.km2, "km2", f"{where}, each with its size on the ground"),
        estimated,
    )


def _cards(held: Held, landcover: Landcover | None, sample: Accuracies | None, model: Accuracies | None) -> list[Card]:
    """The figures that most readers want first."""
    cards = []
    if landcover is not None:
        where = "pixels that are not 0, each with its size on the ground"
        area = Figure(name="mapped area", value=landcover.km2, unit="km2", artifact=LANDCOVER_FILE, field=where)
        cards.append(Card(area, f"{len(landcover.classes)} classes"))
    if sample is not None:
        cards.append(Card(sample.overall, "95 %, random sample"))
    if model is not None:
        note = "95 %, no probability sample" if model.intervals else "no probability sample"
        cards.append(Card(replace(model.overall, name="accuracy on test blocks"), note))
        if model.mean_iou is not None:
            cards.append(Card(model.mean_iou, "mean over classes"))
    if "download" in held:
        manifest = held.manifest_document("download")
        period = f"{manifest.at('/figures/first')} to {manifest.at('/figures/last')}"
        cards.append(Card(manifest.figure("/figures/acquisitions", "dates of imagery"), period))
    return cards


def _calibration(held: Held) -> Calibration | None:
    metrics = held.document("finetune", "metrics.json")
    if metrics is None or not metrics.at("/calibration"):
        return None
    figures = (
        metrics.figure("/calibration/temperature", "temperature"),
        metrics.figure("/calibration/ece_before", "expected calibration error before", unit="share"),
        metrics.figure("/calibration/ece_after", "expected calibration error after", unit="share"),
    )
    note = str(metrics.at("/calibration/note") or "")
    return Calibration(figures, reliability(metrics), note, scaled=figures[0].value not in (None, 1))


def _label_file(held: Held) -> str:
    """The name of the user's file of labels, without its folder."""
    path = held.manifests["rasterize"].paths.get("labels") if "rasterize" in held else None
    return Path(path).name if path else ""


def _fetched(held: Held) -> str:
    """What imagery the map was made of, where that is not the workspace's."""
    manifest = held.manifests.get("predict")
    tags = manifest.records.get("provenance", {}) if manifest else {}
    if not tags or manifest is None or not str(manifest.figures.get("imagery", "")).startswith("fetched"):
        return ""
    period = " to ".join(str(tags.get(f"{end}_ACQUISITION", ""))[:10] for end in ("FIRST", "LAST"))
    return f"{tags.get('ACQUISITIONS')} dates of {tags.get('COLLECTION') or 'the same source'}, {period}."
