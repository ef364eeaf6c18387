"""A model for catalogues and for people: the item against the schemas, the card against the facts."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pystac
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pystac.extensions.mlm import MLMExtension
from shapely.geometry import box, shape
from stac_schemas import validate

from eearth.geo.labels.legend import LandCoverClass
from eearth.geo.products.metadata.item import Asset
from eearth.geo.products.metadata.model_card import write_model_card
from eearth.geo.products.metadata.model_facts import ModelFacts, TrainingRegion
from eearth.geo.products.metadata.model_item import write_model_item
from eearth.metrics import accuracy

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CLASSES = (
    LandCoverClass(4, "crop | maize", "#cc8800", 30, 3),
    LandCoverClass(9, "<b>water</b>", "#0000aa", 20, 2),
    LandCoverClass(7, "rare", "#00aa00", 1, 1),
)
HOME = TrainingRegion(
    name="valley",
    outline=box(14, 45, 15, 46),
    pixel_metres=10.0,
    collection="sentinel-2-l2a",
    first=datetime(2021, 3, 1),  # noqa: DTZ001 (a time without zone is what imagery has)
    last=datetime(2021, 9, 30),  # noqa: DTZ001
    acquisitions=12,
    pixels={4: (15, 5, 10), 9: (10, 4, 6), 7: (1, 0, 0)},
)
ABROAD = replace(HOME, name="abroad", outline=box(179, -17, 181, -16), acquisitions=7, pixels={4: (5, 0, 0), 9: (0, 0, 0), 7: (0, 0, 0)})  # fmt: skip  # noqa: E501
MEASURED = accuracy(np.array([[8, 2, 0], [1, 5, 0]]), (4, 9))
FACTS = ModelFacts(
    network={
        "encoder": {"name": "seasonal-unet", "bands": ["red", "nir"], "mean": [0.1, 0.3], "std": [0.05, 0.1]},
        "classes": [4, 7, 9],
        "temperature": 1.25,
    },
    parameters=37058,
    margin=8,
    classes=CLASSES,
    regions=(HOME, ABROAD),
    pretrained="Self-supervised pre-training",
    settings={"seed": 3, "labels_per_class": None, "class_weights": ["auto"], "learning_rate": 1e-4},
    test=MEASURED.as_dict(),
    calibration={"ece_before": 0.0812, "ece_after": 0.0211},
)


def written(folder: Path, facts: ModelFacts = FACTS) -> dict[str, Any]:
    (folder / "model.safetensors").write_bytes(b"weights")
    write_model_card(folder / "model_card.md", facts)
    card = Asset(folder / "model_card.md", "Model card", "text/markdown", ("metadata",))
    write_model_item(folder / "item.json", facts, folder / "model.safetensors", {"card": card})
    item: dict[str, Any] = json.loads((folder / "item.json").read_text(encoding="utf-8"))
    return item


def test_the_item_is_valid_and_names_the_extension(tmp_path: Path) -> None:
    checked = validate(written(tmp_path))
    assert any("/mlm/v1.4.0/" in address for address in checked)
    for facts in (replace(FACTS, pretrained=None, test=None, calibration=None), replace(FACTS, regions=(HOME,))):
        validate(written(tmp_path, facts))


@pytest.mark.parametrize(
    "change",
    [
        lambda item: item["properties"].pop("mlm:input"),
        lambda item: item["properties"].update({"mlm:tasks": ["mapping"]}),
        lambda item: item["properties"]["mlm:output"][0]["result"].pop("shape"),
        lambda item: item["properties"]["mlm:output"][0]["classification:classes"][0].pop("value"),
        lambda item: item["assets"]["model"].pop("mlm:artifact_type"),
        lambda item: item["assets"]["model"].update({"roles": ["data"]}),
    ],
)
def test_the_schema_refuses_what_is_wrong(tmp_path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    item = written(tmp_path)
    change(item)
    with pytest.raises(pystac.STACValidationError):
        validate(item)


def test_pystac_reads_what_a_program_needs_to_use_the_model(tmp_path: Path) -> None:
    written(tmp_path)
    item = pystac.Item.from_file(str(tmp_path / "item.json"))
    found = MLMExtension.ext(item)
    assert (found.framework, found.total_parameters, found.pretrained) == ("PyTorch", 37058, True)
    assert found.input is not None
    assert found.output is not None
    image, valid, day = found.input
    assert image.input.shape == [-1, -1, 2, -1, -1]
    assert [len(each.input.shape) for each in (valid, day)] == [4, 2]
    assert image.bands == ["red", "nir"]
    assert [band["statistics"] for band in item.assets["model"].extra_fields["bands"]] == [
        {"mean": 0.1, "stddev": 0.05}, {"mean": 0.3, "stddev": 0.1},
    ]  # fmt: skip
    scores = found.output[0]
    assert scores.result.shape == [-1, 3, -1, -1]
    assert [(entry.value, entry.description) for entry in scores.classes] == [  # channel k of the scores
        (4, "crop | maize"), (7, "rare"), (9, "<b>water</b>"),
    ]  # fmt: skip
    assert found.hyperparameters is not None
    assert found.hyperparameters.to_dict() == {"seed": 3, "class_weights": ["auto"], "learning_rate": 1e-4}
    model = item.assets["model"]
    assert model.href == "./model.safetensors"
    assert model.extra_fields["file:checksum"] == "1220" + hashlib.sha256(b"weights").hexdigest()


def test_the_place_is_where_the_labels_are_also_across_180_degrees(tmp_path: Path) -> None:
    item = written(tmp_path)
    place = shape(item["geometry"])
    assert place.is_valid
    assert place.equals(box(14, 45, 15, 46) | box(179, -17, 180, -16) | box(-180, -17, -179, -16))
    assert item["properties"]["start_datetime"] == "2021-03-01T00:00:00Z"
    assert item["properties"]["end_datetime"] == "2021-09-30T00:00:00Z"


@settings(max_examples=20, deadline=None)
@given(st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=12))
def test_any_name_of_a_region_gives_a_valid_item(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    validate(written(tmp_path_factory.mktemp("named"), replace(FACTS, regions=(replace(HOME, name=name),))))


def cells(text: str, first: str) -> list[str]:
    """The cells of the table's row that begins with `first`."""
    row = next(line for line in text.splitlines() if line.startswith(f"| {first} |"))
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]]


def test_the_card_says_what_is_known(tmp_path: Path) -> None:
    written(tmp_path)
    text = (tmp_path / "model_card.md").read_text(encoding="utf-8")
    assert cells(text, "valley") == ["valley", "sentinel-2-l2a", "12", "2021-03-01", "2021-09-30", "10 m"]
    assert cells(text, "4") == ["4", r"crop \| maize", "20", "5", "10"]
    assert cells(text, "rare") == ["rare", "—", "—", "—"]
    water = cells(text, "&lt;b&gt;water&lt;/b&gt;")
    assert water[1:] == ["71.4%", "83.3%", "62.5%"]  # 5 / 7, 5 / 6, 5 / 8
    assert "16 labelled pixels" in text
    assert "81.2%" in text  # 13 / 16
    assert "temperature 1.25" in text
    assert "0.081 before, 0.021 after" in text
    for part in ("Model details", "Intended use", "Training data", "Accuracy", "Limits", "How to cite"):
        assert f"\n## {part}\n" in text
    assert "Licence | Not stated" in text
    assert "\n\n\n" not in text


def test_the_card_claims_nothing_that_was_not_measured(tmp_path: Path) -> None:
    written(tmp_path, replace(FACTS, test=None, calibration=None, pretrained=None))
    text = (tmp_path / "model_card.md").read_text(encoding="utf-8")
    assert "Not measured" in text
    assert "not calibrated" in text
    assert "not pre-trained" in text
    assert "before, " not in text
