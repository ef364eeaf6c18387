"""The stage as a whole: calibration in its artifacts, in the model's file and in the map's confidence."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import matplotlib.image
import numpy as np
import pytest
import torch
from fields import field_workspace
from rasterio.warp import transform_geom
from shapely.geometry import box, shape
from stac_schemas import validate
from torchmetrics.functional.classification import multiclass_calibration_error

from eearth.calibration import fit_temperature, tempered
from eearth.data.regions import open_labelled
from eearth.errors import UsageError
from eearth.evaluation import examine
from eearth.geo.cube import CUBE, Cube
from eearth.geo.grid import Window
from eearth.geo.splits.blocks import TEST, VALIDATION
from eearth.inference.classify import classify
from eearth.inference.tiles import predict_tile
from eearth.models.files import LAND_COVER, load_land_cover
from eearth.settings import FinetuneSettings
from eearth.stages.finetune import finetune

if TYPE_CHECKING:
    from pathlib import Path

    from eearth.workspace import Workspace

SETTINGS = FinetuneSettings(steps=4, batch_size=4, window_size=12, validate_every=2)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = field_workspace(tmp_path_factory.mktemp("fields"))
    finetune(workspace, SETTINGS)
    return workspace


def calibration(workspace: Workspace) -> dict[str, Any]:
    text = (workspace.folder("finetune") / "metrics.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)["calibration"]
    return found


def test_the_temperature_is_that_of_the_validation_pixels_and_lies_in_the_models_file(trained: Workspace) -> None:
    model, saved = load_land_cover(trained.folder("finetune") / LAND_COVER)
    region, _ = open_labelled(trained)
    found = examine(model, region, VALIDATION, "cpu")
    assert found is not None
    assert model.temperature == fit_temperature(found.probabilities, found.truth, found.patches) != 1
    assert saved.network["temperature"] == calibration(trained)["temperature"] == model.temperature
    described = json.loads((trained.folder("finetune") / "model.json").read_text(encoding="utf-8"))
    assert described["network"]["temperature"] == model.temperature


def test_errors_and_bins_are_those_of_the_test_pixels(trained: Workspace) -> None:
    told, (region, _) = calibration(trained), open_labelled(trained)
    model, _ = load_land_cover(trained.folder("finetune") / LAND_COVER)
    held = (region.split == TEST) & (region.labels > 0) & region.series.valid[:].any(axis=0)
    probabilities, _ = predict_tile(
        model, region.series, Window(0, 0, 48, 48), size=64, margin=0, device="cpu", batch=1
    )
    truth = torch.from_numpy((region.labels[held] == 9).astype(np.int64))
    for name, temperature in (("ece_before", 1.0), ("ece_after", model.temperature)):
        given = torch.from_numpy(tempered(probabilities[:, held].T, temperature))
        expected = multiclass_calibration_error(given, truth, num_classes=2, n_bins=15)
        assert told[name] == pytest.approx(expected.item(), abs=1e-5)
    assert sum(each["pixels"] for each in told["bins"]) == np.count_nonzero(held)
    assert [each["low"] for each in told["bins"]] == pytest.approx(np.arange(15) / 15)
    picture = matplotlib.image.imread(trained.folder("finetune") / "reliability.png")
    assert min(picture.shape[:2]) > 200
    assert "calibration error" in trained.require("finetune").figures


def test_the_model_is_described_for_catalogues_and_for_people(trained: Workspace) -> None:
    """The item is valid, lies where the imagery lies, and says of the network what torch says of it."""
    folder = trained.folder("finetune")
    item = json.loads((folder / "item.json").read_text(encoding="utf-8"))
    validate(item)
    model, saved = load_land_cover(folder / LAND_COVER)
    said = item["properties"]
    assert said["mlm:total_parameters"] == sum(weights.numel() for weights in model.parameters())
    assert [entry["value"] for entry in said["mlm:output"][0]["classification:classes"]] == list(model.classes)
    assert said["mlm:hyperparameters"]["window_size"] == SETTINGS.window_size
    assert (said["mlm:pretrained"], said["mlm:pretrained_source"]) == (False, None)
    cube = Cube.open(trained.folder("download") / CUBE)
    assert said["start_datetime"] == f"{np.datetime_as_string(cube.times[0], unit='s')}Z"
    outline = shape(transform_geom("EPSG:4326", cube.grid.crs, item["geometry"]))
    assert outline.symmetric_difference(box(*cube.grid.bounds)).area < 10  # of 230,400 m²: a centimetre along the edge
    card = (folder / "model_card.md").read_text(encoding="utf-8")
    region, _ = open_labelled(trained)
    assert "model_card.md" not in trained.require("finetune").outputs  # filling it in is no damage
    assert "file:checksum" not in item["assets"]["card"]
    for entry in saved.classes:
        parts = [np.count_nonzero((region.labels == entry["code"]) & (region.split == part)) for part in (1, 2, 3)]
        assert f"| {entry['code']} | {entry['name']} | {' | '.join(map(str, parts))} |" in card


def test_with_a_label_budget_there_is_nothing_to_calibrate_with_and_it_says_so(tmp_path: Path) -> None:
    workspace = field_workspace(tmp_path)
    done = finetune(workspace, FinetuneSettings(labels_per_class=5))
    told = calibration(workspace)
    assert told["temperature"] == 1
    assert told["ece_before"] == told["ece_after"]
    assert "no validation labels" in told["note"]
    assert "calibration error" not in done.figures


def test_a_temperature_changes_the_confidence_and_no_class() -> None:
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.ones(4), (30, 20)).transpose(2, 0, 1).astype(np.float32)
    seen, inside = np.ones((30, 20), np.int32), np.ones((30, 20), bool)
    plain, hot, cold = (classify(probabilities, seen, inside, (1, 2, 5, 9), t) for t in (1.0, 2.0, 0.5))
    assert (plain.landcover == hot.landcover).all()
    assert (plain.landcover == cold.landcover).all()
    assert (hot.confidence <= plain.confidence).all()
    assert (plain.confidence <= cold.confidence).all()
    expected = np.rint(100 * tempered(probabilities, 2.0, axis=0).max(axis=0))
    np.testing.assert_array_equal(hot.confidence, expected)


def test_examining_from_all_sides_is_asked_for_by_a_setting(trained: Workspace, tmp_path: Path) -> None:
    workspace = field_workspace(tmp_path)
    finetune(workspace, FinetuneSettings(steps=4, batch_size=4, window_size=12, validate_every=2, augment=True))
    weights = [one.folder("finetune") / LAND_COVER for one in (workspace, trained)]
    one, other = (load_land_cover(path)[0] for path in weights)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert calibration(workspace)["ece_before"] != calibration(trained)["ece_before"]
    assert (one.augment, other.augment) == (True, False)  # and so do those that map with them
    region = open_labelled(workspace)[0]
    other.temperature, maps = one.temperature, []
    for turned in (False, True):
        other.augment = turned
        maps.append(examine(other, region, TEST, "cpu"))
    assert not np.array_equal(maps[0].probabilities, maps[1].probabilities)


def test_class_weights_are_given_by_the_names_of_the_legend(tmp_path: Path) -> None:
    workspace = field_workspace(tmp_path)
    finetune(workspace, FinetuneSettings(steps=0, class_weights=("early=4", "late=1")))
    with pytest.raises(UsageError, match=r"'erly'; did you mean early\?"):
        finetune(workspace, FinetuneSettings(steps=0, class_weights=("erly=4",)))
