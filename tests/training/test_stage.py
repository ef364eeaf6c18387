from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

import matplotlib.image
import pytest
from fields import field_workspace

from eearth.settings import PretrainSettings
from eearth.stages.pretrain import pretrain
from eearth.status import project_status

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
    assert {"embedding.png", "loss.png", "history.csv", "encoder.safetensors", "model.json"} == set(manifest.outputs)
    picture = matplotlib.image.imread(trained.folder("pretrain") / "embedding.png")
    assert picture.shape[:2] == (480, 480)
    assert str(manifest.timings["data-wait"]).endswith(" %")
    assert manifest.timings["imagery was in"] == "memory"
    assert replace(manifest, timings={}).digest == manifest.digest
    assert "untrained" in manifest.figures["probe mIoU"]
    assert manifest.records["probe"] == trained.require("rasterize").digest
    assert (trained.folder("pretrain") / "logs").is_dir() == (find_spec("tensorboard") is not None)


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
