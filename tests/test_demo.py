"""The demo as a user runs it, and its claim: pre-training gains, and a broken one does not."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from eearth.demo import run_demo
from eearth.events import Event, Note, Table
from eearth.settings import CompareSettings, PretrainSettings
from eearth.stages.compare import compare
from eearth.stages.pretrain import pretrain
from eearth.workspace import FOLDERS, Workspace

if TYPE_CHECKING:
    from pathlib import Path

SEEDS = 6


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Event]]:
    folder = tmp_path_factory.mktemp("demo")
    heard: list[Event] = []
    run_demo(folder, seeds=2, report=heard.append)
    return folder, heard


def test_it_makes_every_stage_and_shows_the_comparison(demo: tuple[Path, list[Event]]) -> None:
    folder, heard = demo
    for stage in ("download", "rasterize", "pretrain", "finetune", "predict", "assess", "report", "compare"):
        assert (folder / "workspace" / FOLDERS[stage] / "manifest.json").is_file()
    tables = [event for event in heard if isinstance(event, Table)]
    assert any("pre-trained" in str(row[0]) for table in tables for row in table.rows)
    assert any(isinstance(event, Note) and "landcover.tif" in event.text for event in heard)


def test_a_second_run_does_nothing_again(demo: tuple[Path, list[Event]]) -> None:
    folder, _ = demo
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    run_demo(folder, seeds=2)
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_both_offsets_of_the_provider_were_met(demo: tuple[Path, list[Event]]) -> None:
    """Scenes before and after baseline 04.00 are there, and their numbers were told apart."""
    folder, _ = demo
    manifest = json.loads((folder / "workspace" / "imagery" / "manifest.json").read_text())
    reasons = " ".join(scene["radiometry"] for scene in manifest["records"]["scenes"])
    assert "no offset before baseline 04.00" in reasons
    assert "already in the numbers" in reasons
    assert "offset -0.1: tested" in reasons


def test_pretraining_gains_and_with_identical_views_it_does_not(demo: tuple[Path, list[Event]]) -> None:
    """Both encoders on the same splits and labels, without a step of fine-tuning."""
    workspace = Workspace(demo[0] / "workspace")
    broken = Workspace(demo[0] / "broken")
    broken.root.mkdir()
    broken.folder("download").symlink_to(workspace.folder("download").resolve())
    pretrain(broken, PretrainSettings(identical=True))
    compare(
        workspace,
        CompareSettings(
            budgets=("5",),
            seeds=SEEDS,
            contenders=("pretrained", "scratch"),
            encoder=(broken.root,),
            rates=(0.0,),
        ),
    )
    with (workspace.folder("compare") / "runs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))

    def scores(contender: str) -> np.ndarray:
        found = {int(row["seed"]): 100 * float(row["miou"]) for row in rows if row["contender"] == contender}
        return np.array([found[seed] for seed in sorted(found)])

    names = sorted({row["contender"] for row in rows})
    own, other = (
        next(name for name in names if name.startswith("pre-trained") and ("broken" in name) == is_other)
        for is_other in (False, True)
    )
    scratch = next(name for name in names if name.startswith("scratch"))
    gain = (scores(own) - scores(scratch)).mean()
    without = (scores(other) - scores(scratch)).mean()
    assert gain > 4
    assert without < gain / 2
