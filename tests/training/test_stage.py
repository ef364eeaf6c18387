from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

import matplotlib.image
import pytest
import torch
from fields import field_workspace

from eearth.data.regions import open_series
from eearth.models.files import ENCODER, load_encoder
from eearth.models.registry import build
from eearth.settings import PretrainSettings
from eearth.stages.pretrain import pretrain
from eearth.status import project_status
from eearth.training.directions import planned_steps
from eearth.training.pretrain import new_encoder

if TYPE_CHECKING:
    from pathlib import Path

    from eearth.workspace import Workspace

SETTINGS = PretrainSettings(steps=6, batch_size=4, window_size=12, pixels=20, dates=4, features=16, probe_every=3)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = field_workspace(tmp_path_factory.mktemp("fields"))
    pretrain(workspace, SETTINGS)
    return workspace


def rows(workspace: Workspace) -> list[dict[str, str]]:
    with (workspace.folder("pretrain") / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_history_has_the_loss_of_each_step_and_looks_in_between(trained: Workspace) -> None:
    history = rows(trained)
    assert list(history[0]) == ["step", "loss", "alignment", "uniformity", "probe_miou"]
    assert [row["step"] for row in history] == [str(step) for step in range(7)]
    assert [row["step"] for row in history if row["probe_miou"]] == ["0", "3", "6"]
    assert [row["step"] for row in history if row["uniformity"]] == ["3", "6"]
    assert [row["step"] for row in history if not row["loss"]] == ["0"]


def test_the_pictures_and_figures_are_there(trained: Workspace) -> None:
    manifest = trained.require("pretrain")
    drawn = {"embedding.png", "directions.png", "loss.png"}
    assert {*drawn, "history.csv", "encoder.safetensors", "model.json"} == set(manifest.outputs)
    picture = matplotlib.image.imread(trained.folder("pretrain") / "embedding.png")
    assert picture.shape[:2] == (480, 480)
    assert str(manifest.timings["data-wait"]).endswith(" %")
    assert manifest.timings["imagery was in"] == "memory"
    assert replace(manifest, timings={}).digest == manifest.digest
    told = manifest.figures["probe mIoU"]
    assert [part.split(" ", 1)[1] for part in told.split(", ")] == [
        "with random weights",
        "with learnt directions",
        "at the end",
    ]
    assert manifest.records["probe"] == trained.require("rasterize").digest
    assert (trained.folder("pretrain") / "logs").is_dir() == (find_spec("tensorboard") is not None)


def test_without_steps_the_directions_of_neighbours_are_what_is_learnt(tmp_path: Path) -> None:
    workspace = field_workspace(tmp_path)
    done = pretrain(workspace, PretrainSettings(features=16))
    assert done.figures["steps"] == 0
    assert done.figures["probe mIoU"].endswith("with learnt directions")
    assert "loss.png" not in done.outputs
    assert [row["step"] for row in rows(workspace)] == ["0"]
    learnt = load_encoder(workspace.folder("pretrain") / ENCODER)
    fresh = new_encoder([open_series(workspace)], PretrainSettings(features=16))
    changed = {name for name, value in learnt.state_dict().items() if not torch.equal(value, fresh.state_dict()[name])}
    assert changed == {"metric", "project.weight", "project.bias"}
    assert planned_steps(learnt, PretrainSettings(evening=0.0, agreement=0.0)) == 150
    assert planned_steps(build("tsvit", bands=("a",), mean=[0.0], std=[1.0]), PretrainSettings(model="tsvit")) == 150


def test_labels_are_watched_and_not_an_input(trained: Workspace, tmp_path: Path) -> None:
    workspace = field_workspace(tmp_path / "plain", labels=False)
    pretrain(workspace, SETTINGS)
    assert not any(row.get("probe_miou") for row in rows(workspace))
    plain, watched = (one.require("pretrain") for one in (workspace, trained))
    assert plain.outputs["encoder.safetensors"] == watched.outputs["encoder.safetensors"]
    assert plain.records["probe"] is None
    assert plain.inputs == watched.inputs
    shutil.rmtree(trained.folder("rasterize"))
    states = {status.stage: status.state for status in project_status(trained)}
    assert (states["rasterize"], states["pretrain"]) == ("missing", "done")


def test_how_it_is_watched_and_timed_changes_nothing(trained: Workspace) -> None:
    before = trained.require("pretrain")
    assert pretrain(trained, PretrainSettings(**{**before.settings, "probe_every": 1, "compile": "off"})) == before


def test_tensorboard_shows_every_row(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    workspace = field_workspace(tmp_path)
    pretrain(workspace, SETTINGS)
    events = EventAccumulator(str(workspace.folder("pretrain") / "logs"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == list(range(1, 7))
    assert [event.step for event in events.Scalars("probe_miou")] == [0, 3, 6]
