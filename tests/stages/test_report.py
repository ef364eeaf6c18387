"""`eearth report` as a stage: what it reads, when it runs again, and what it refuses."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from forked import eearth
from made_workspace import (
    add_assessment,
    add_imagery,
    add_labels,
    add_map,
    add_model,
    example_assessment,
    legend,
    patches,
    whole_workspace,
)
from scenery import utm_grid

from eearth.errors import WorkspaceError
from eearth.events import Advanced, Event, Note, Started, Warned
from eearth.settings import ReportSettings
from eearth.stages.report import report
from eearth.status import project_status
from eearth.workspace import Workspace

if TYPE_CHECKING:
    from pathlib import Path

GRID = utm_grid(40, 60)
CLASSES = legend(("forest", "meadow", "water"))


def mapped(folder: Path) -> Workspace:
    workspace = Workspace(folder)
    add_imagery(workspace, GRID)
    add_labels(workspace, CLASSES)
    add_model(workspace, CLASSES)
    add_map(workspace, GRID, patches(GRID.shape, 3), CLASSES)
    return workspace


def state_of(workspace: Workspace) -> tuple[str, str]:
    status = next(status for status in project_status(workspace) if status.stage == "report")
    return status.state, status.command


def test_it_writes_the_page_and_the_figures_and_names_what_it_read(tmp_path: Path) -> None:
    workspace = mapped(tmp_path)
    heard: list[Event] = []
    manifest = report(workspace, ReportSettings(title="Valley"), heard.append)
    assert set(manifest.outputs) == {"report.html", "report.json"}
    assert set(manifest.inputs) == {"imagery", "labels", "finetune", "map"}
    assert "<title>Valley</title>" in (workspace.folder("report") / "report.html").read_text(encoding="utf-8")
    tasks = {event.task: event.total for event in heard if isinstance(event, Started)}
    for task, total in tasks.items():
        assert sum(event.steps for event in heard if isinstance(event, Advanced) and event.task == task) == total
    assert any(isinstance(event, Note) and "report.html" in event.text for event in heard)
    assert not [event for event in heard if isinstance(event, Warned)]


def test_it_runs_again_when_there_is_something_new_to_tell(tmp_path: Path) -> None:
    workspace = mapped(tmp_path)
    first = report(workspace, ReportSettings())
    page = workspace.folder("report") / "report.html"
    before = page.stat().st_mtime_ns
    assert report(workspace, ReportSettings()).digest == first.digest
    assert page.stat().st_mtime_ns == before
    assert state_of(workspace) == ("done", "")
    add_assessment(workspace, example_assessment(CLASSES))
    assert set(report(workspace, ReportSettings()).inputs) == {*first.inputs, "assess"}
    assert "random sample" in page.read_text(encoding="utf-8")
    assessment = example_assessment(CLASSES)
    assessment["map"] = None
    add_assessment(workspace, assessment)
    assert state_of(workspace) == ("stale", f"eearth report -w {tmp_path}")


def test_parts_that_do_not_belong_together_are_named_on_the_page(tmp_path: Path) -> None:
    workspace = mapped(tmp_path)
    add_model(workspace, CLASSES, steps=30)  # after the map was made
    heard: list[Event] = []
    report(workspace, ReportSettings(), heard.append)
    warned = [event.text for event in heard if isinstance(event, Warned)]
    assert len(warned) == 1
    assert "map/ was made before the present finetune/" in warned[0]
    assert "run `eearth predict` again" in warned[0]
    assert "map/ was made before the present finetune/" in (workspace.folder("report") / "report.html").read_text()


def test_a_workspace_without_map_and_model_is_refused(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    add_imagery(workspace, GRID)
    with pytest.raises(WorkspaceError, match=r"expected a map or a model in .*: run `eearth finetune` first"):
        report(workspace, ReportSettings())
    assert not workspace.partial("report").exists()


@pytest.mark.parametrize(
    ("stage", "name", "command"),
    [
        ("assess", "assessment.json", "assess"),
        ("finetune", "metrics.json", "finetune"),
        ("rasterize", "quality.json", "rasterize"),
        ("predict", "item.json", "predict"),
        ("predict", "landcover.tif", "predict"),
        ("predict", "confidence.tif", "predict"),
    ],
)
def test_a_damaged_file_is_named_in_one_line(tmp_path: Path, stage: str, name: str, command: str) -> None:
    workspace = whole_workspace(tmp_path, GRID, ("forest", "water"))
    path = workspace.folder(stage) / name
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(WorkspaceError) as error:
        report(workspace, ReportSettings())
    assert name in str(error.value)
    assert f"run `eearth {command}` again" in str(error.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("assessment.json", {"map": {"classes": "none"}, "model": None}),
        ("assessment.json", {"map": {"overall_accuracy": 0.5}}),
        ("assessment.json", []),
        ("assessment.json", {"model": {"classes": [{"code": 1, "name": "forest"}]}}),
    ],
)
def test_a_file_of_another_version_shows_dashes(tmp_path: Path, name: str, content: Any) -> None:
    workspace = mapped(tmp_path)
    add_assessment(workspace, {})
    (workspace.folder("assess") / name).write_text(json.dumps(content), encoding="utf-8")
    report(workspace, ReportSettings())
    assert (workspace.folder("report") / "report.html").stat().st_size > 10_000


def test_the_command_line_says_where_the_page_is(tmp_path: Path) -> None:
    mapped(tmp_path)
    done = eearth("report", "--max-side", "64", "-w", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "report/report.html in a browser" in " ".join(done.stderr.split())


def test_a_class_that_is_not_on_the_map_keeps_its_row(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    codes = np.ones(GRID.shape, dtype=np.uint8)
    add_map(workspace, GRID, codes, CLASSES)
    report(workspace, ReportSettings())
    figures = json.loads((workspace.folder("report") / "report.json").read_text(encoding="utf-8"))["figures"]
    pixels = {figure["of"]: figure["value"] for figure in figures if figure["name"] == "mapped pixels"}
    assert pixels == {"forest": codes.size, "meadow": 0, "water": 0}
