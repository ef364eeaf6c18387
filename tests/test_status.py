from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

import pytest

from eearth.config import Settings, resolve
from eearth.manifest import MANIFEST
from eearth.settings import SETTINGS
from eearth.status import StageStatus, project_status
from eearth.workspace import FOLDERS, Workspace, file_input

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

CHAIN = {"rasterize": ("download",), "pretrain": ("download",), "finetune": ("download", "rasterize", "pretrain")}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "region.geojson").write_text("region")
    (tmp_path / "labels.gpkg").write_text("labels")
    return Workspace(tmp_path / "project")


def run(workspace: Workspace, stage: str, flags: Mapping[str, Any] | None = None, *, fail: bool = False) -> None:
    """Run a stage as the command line would, with a file for an artifact."""
    cls: type[Settings] = SETTINGS[stage]
    files = {"download": {"region": "region.geojson"}, "rasterize": {"labels": "labels.gpkg"}}.get(stage, {})
    paths = {name: workspace.root.parent / file for name, file in files.items()}
    settings = resolve(cls, {**{name: str(path) for name, path in paths.items()}, **(flags or {})}, workspace.root)
    inputs = {name: file_input(path) for name, path in paths.items()} | workspace.given(*CHAIN.get(stage, ()))
    with workspace.stage(settings, inputs) as attempt:
        (attempt.folder / "artifact").write_text("made")
        if fail:
            return
        attempt.finish(figures={"scenes": 4}, records={})


def states(workspace: Workspace) -> dict[str, str]:
    return {status.stage: status.state for status in project_status(workspace)}


def of(workspace: Workspace, stage: str) -> StageStatus:
    return next(status for status in project_status(workspace) if status.stage == stage)


def test_a_new_project_says_how_to_begin(workspace: Workspace) -> None:
    assert list(states(workspace)) == list(FOLDERS)
    assert set(states(workspace).values()) == {"missing"}
    assert of(workspace, "download").command == f"eearth download REGION -w {workspace.root}"
    assert of(workspace, "rasterize").command == f"eearth rasterize LABELS -w {workspace.root}"
    assert of(workspace, "pretrain").command == f"eearth pretrain -w {workspace.root}"
    assert of(Workspace(), "pretrain").command == "eearth pretrain"


def test_what_is_finished_is_done_with_its_figures(workspace: Workspace) -> None:
    for stage in ("download", "rasterize", "pretrain", "finetune"):
        run(workspace, stage)
    expected = dict.fromkeys(("download", "rasterize", "pretrain", "finetune"), "done")
    assert states(workspace) == {**expected, "predict": "missing"}
    done = of(workspace, "download")
    assert (done.reason, done.command, done.figures) == ("", "", {"scenes": 4})


def test_an_interrupted_stage_is_partial(workspace: Workspace) -> None:
    run(workspace, "download", fail=True)
    status = of(workspace, "download")
    command = f"eearth download {workspace.root.parent / 'region.geojson'} -w {workspace.root}"
    assert (status.state, status.command) == ("partial", command)
    assert "the same command continues" in status.reason


def test_a_changed_file_makes_its_stage_and_all_after_it_stale(workspace: Workspace) -> None:
    for stage in ("download", "rasterize", "pretrain", "finetune"):
        run(workspace, stage)
    (workspace.root.parent / "labels.gpkg").write_text("other labels")
    assert states(workspace) == {
        "download": "done", "rasterize": "stale", "pretrain": "done", "finetune": "stale", "predict": "missing",
    }  # fmt: skip
    assert of(workspace, "rasterize").reason == "labels (labels.gpkg) has changed"
    assert of(workspace, "finetune").reason == "labels/ is stale"
    (workspace.root.parent / "labels.gpkg").unlink()
    assert states(workspace)["rasterize"] == "done"


def test_a_stage_made_again_makes_those_after_it_stale(workspace: Workspace) -> None:
    for stage in ("download", "rasterize", "pretrain", "finetune"):
        run(workspace, stage)
    run(workspace, "download", {"max_cloud": "20"})
    assert states(workspace) == {
        "download": "done", "rasterize": "stale", "pretrain": "stale", "finetune": "stale", "predict": "missing",
    }  # fmt: skip
    assert of(workspace, "rasterize").reason == "imagery/ was made again since"
    run(workspace, "rasterize")
    run(workspace, "pretrain")
    assert states(workspace)["rasterize"] == "done"
    assert of(workspace, "finetune").reason.count("was made again since") == 3
    run(workspace, "finetune")
    assert states(workspace)["finetune"] == "done"


def test_a_changed_setting_makes_its_stage_stale_unless_a_flag_settled_it(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(workspace, "download", {"max_cloud": "20"})
    (workspace.root / "eearth.toml").write_text("[download]\nmax_cloud = 30\n")
    assert of(workspace, "download").state == "done"
    (workspace.root / "eearth.toml").write_text("[download]\nresolution = 20\n")
    assert of(workspace, "download").reason == "resolution is now 20.0 (was 10.0)"
    (workspace.root / "eearth.toml").unlink()
    monkeypatch.setenv("EEARTH_DOWNLOAD_BANDS", "red,nir")
    assert of(workspace, "download").reason.startswith("bands is now ['red', 'nir'] (was ['blue'")
    monkeypatch.setenv("EEARTH_DOWNLOAD_BANDZ", "red")
    assert "did you mean EEARTH_DOWNLOAD_BANDS?" in of(workspace, "download").reason


def test_the_command_that_mends_is_the_one_that_was_run(workspace: Workspace) -> None:
    flags = {"max_cloud": "20.5", "bands": "red,nir", "grid": "native"}
    run(workspace, "download", flags)
    (workspace.root.parent / "region.geojson").write_text("another region")
    words = shlex.split(of(workspace, "download").command)
    region = str(workspace.root.parent / "region.geojson")
    assert words[:3] == ["eearth", "download", region]
    assert words[-2:] == ["-w", str(workspace.root)]
    options = dict(zip(words[3:-2:2], words[4:-2:2], strict=True))
    assert options == {"--max-cloud": "20.5", "--bands": "red,nir", "--grid": "native"}


def test_switches_and_odd_paths_come_back_as_typed(tmp_path: Path) -> None:
    odd = Workspace(tmp_path / "my project")
    (tmp_path / "region.geojson").write_text("region")
    (tmp_path / "labels.gpkg").write_text("labels")
    run(odd, "download")
    run(odd, "rasterize", {"all_touched": True})
    (tmp_path / "labels.gpkg").write_text("other")
    words = shlex.split(of(odd, "rasterize").command)
    assert words == ["eearth", "rasterize", str(tmp_path / "labels.gpkg"), "--all-touched", "-w", str(odd.root)]


def test_what_is_broken_is_named_and_the_rest_still_shown(workspace: Workspace) -> None:
    run(workspace, "download")
    run(workspace, "rasterize")
    path = workspace.folder("download") / MANIFEST
    data = json.loads(path.read_text())
    data["figures"] = {"scenes": 99}
    path.write_text(json.dumps(data))
    status = of(workspace, "download")
    assert status.state == "broken"
    assert "it was edited" in status.reason
    assert of(workspace, "rasterize").reason == "imagery/ is broken"


def test_an_artifact_that_is_gone_breaks_its_stage(workspace: Workspace) -> None:
    run(workspace, "download")
    (workspace.folder("download") / "artifact").unlink()
    assert of(workspace, "download").state == "broken"
    assert "expected artifact in" in of(workspace, "download").reason
