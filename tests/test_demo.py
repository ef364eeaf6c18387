"""The demo as a user runs it, and its claim: pre-training gains, and a broken one does not."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from eearth.data.regions import open_labelled
from eearth.demo import Comparison, run_demo
from eearth.evaluation import measure
from eearth.events import Event, Note, Table
from eearth.geo.blocks import TEST
from eearth.models.files import ENCODER, load_encoder
from eearth.settings import FinetuneSettings, PretrainSettings
from eearth.training.finetune import finetune
from eearth.training.pretrain import new_encoder, pretrain
from eearth.workspace import FOLDERS, Workspace

if TYPE_CHECKING:
    from pathlib import Path

    from eearth.models.encoder import Encoder

FEW_LABELS = FinetuneSettings(mode="frozen", labels_per_class=2, steps=100)
SEEDS = range(4)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Event]]:
    folder = tmp_path_factory.mktemp("demo")
    heard: list[Event] = []
    run_demo(folder, seeds=1, report=heard.append)
    return folder, heard


def test_it_makes_every_stage_and_shows_the_comparison(demo: tuple[Path, list[Event]]) -> None:
    folder, heard = demo
    for stage in ("download", "rasterize", "pretrain", "finetune", "predict"):
        assert (folder / "workspace" / FOLDERS[stage] / "manifest.json").is_file()
    tables = [event for event in heard if isinstance(event, Table)]
    assert [row[0] for row in tables[-1].rows] == ["pre-trained", "scratch"]
    assert any(isinstance(event, Note) and "landcover.tif" in event.text for event in heard)


def test_a_second_run_does_nothing_again(demo: tuple[Path, list[Event]]) -> None:
    folder, _ = demo
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    run_demo(folder, seeds=1)
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_both_offsets_of_the_provider_were_met(demo: tuple[Path, list[Event]]) -> None:
    """Scenes before and after baseline 04.00 are there, and their numbers were told apart."""
    folder, _ = demo
    manifest = json.loads((folder / "workspace" / "imagery" / "manifest.json").read_text())
    reasons = " ".join(scene["radiometry"] for scene in manifest["records"]["scenes"])
    assert "no offset before baseline 04.00" in reasons
    assert "already in the numbers" in reasons
    assert "offset -0.1: tested" in reasons


def test_pretraining_gains_and_shuffled_pairs_do_not(demo: tuple[Path, list[Event]]) -> None:
    """On frozen features, where nothing but the pre-training can make the difference."""
    workspace = Workspace(demo[0] / "workspace")
    region, _ = open_labelled(workspace)
    region = replace(region, series=region.series.in_memory())
    broken, _ = pretrain([region.series], PretrainSettings(shuffle=True))

    def scores(encoder: Encoder) -> np.ndarray:
        found = []
        for seed in SEEDS:
            model, _ = finetune(encoder, [region], replace(FEW_LABELS, seed=seed))
            result = measure(model, region, TEST, torch.device("cpu"))
            assert result is not None
            found.append(100 * result.mean_iou)
        return np.array(found)

    scratch = scores(new_encoder([region.series], PretrainSettings()))
    gain = (scores(load_encoder(workspace.folder("pretrain") / ENCODER)) - scratch).mean()
    without = (scores(broken) - scratch).mean()
    assert gain > 4
    assert without < gain / 2


def test_the_interval_is_students() -> None:
    """Differences 1, 2, 3, 4, 5: mean 3, standard error sqrt(2.5 / 5), t(0.975, 4) = 2.776."""
    comparison = Comparison({"pre-trained": [1.0, 2.0, 3.0, 4.0, 5.0], "scratch": [0.0] * 5})
    assert comparison.gain == pytest.approx((3.0, 2.776445 * np.sqrt(0.5)), abs=1e-5)
    mean, width = Comparison({"pre-trained": [0.5], "scratch": [0.25]}).gain
    assert mean == 0.25
    assert np.isnan(width)
