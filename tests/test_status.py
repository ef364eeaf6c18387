from __future__ import annotations

import errno
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import pytest
from forked import eearth
from scenery import noise, utm_grid, write_tif

from eearth import status as status_module
from eearth.config import Settings, resolve
from eearth.events import Advanced, Event, Finished, Started
from eearth.manifest import MANIFEST
from eearth.settings import SETTINGS
from eearth.status import StageStatus, project_status
from eearth.workspace import FOLDERS, Workspace, file_input

if TYPE_CHECKING:
    from collections.abc import Mapping

CHAIN = {"rasterize": ("download",), "pretrain": ("download",), "finetune": ("download", "rasterize", "pretrain")}

# Stages that no other needs, and that no test here runs.
NOT_YET = dict.fromkeys(("predict", "sample", "assess", "report", "embed", "compare"), "missing")


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
    assert states(workspace) == {**expected, **NOT_YET}
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
        "download": "done", "rasterize": "stale", "pretrain": "done", "finetune": "stale", **NOT_YET,
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
        "download": "done", "rasterize": "stale", "pretrain": "stale", "finetune": "stale", **NOT_YET,
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
    assert of(workspace, "download").reason == "resolution is now 20.0 (was None)"
    (workspace.root / "eearth.toml").unlink()
    monkeypatch.setenv("EEARTH_DOWNLOAD_BANDS", "red,nir")
    assert of(workspace, "download").reason == "bands is now ['red', 'nir'] (was None)"
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
    run(odd, "rasterize", {"skip_null": True})
    (tmp_path / "labels.gpkg").write_text("other")
    words = shlex.split(of(odd, "rasterize").command)
    assert words == ["eearth", "rasterize", str(tmp_path / "labels.gpkg"), "--skip-null", "-w", str(odd.root)]


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


# --- Damage


def verified(workspace: Workspace) -> dict[str, StageStatus]:
    return {status.stage: status for status in project_status(workspace, verify=True)}


def run_with_cube(workspace: Workspace) -> None:
    settings = resolve(SETTINGS["download"], {"region": str(workspace.root.parent / "region.geojson")}, workspace.root)
    inputs = {"region": file_input(workspace.root.parent / "region.geojson")}
    with workspace.stage(settings, inputs) as attempt:
        if attempt.finished:
            return
        for number in range(3):
            path = attempt.folder / "cube.zarr" / "c" / str(number)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"chunk {number}")
        (attempt.folder / "items.json").write_text("{}")
        attempt.finish(figures={}, records={})


def test_what_is_whole_is_done(workspace: Workspace) -> None:
    run_with_cube(workspace)
    run(workspace, "rasterize")
    heard: list[Event] = []
    found = project_status(workspace, verify=True, report=heard.append)
    assert found == project_status(workspace)
    assert [status.state for status in found[:2]] == ["done", "done"]
    started = [event for event in heard if isinstance(event, Started)]
    assert [(event.task, event.total) for event in started] == [("verify imagery", 4), ("verify labels", 1)]
    assert [event.task for event in heard if isinstance(event, Finished)] == ["verify imagery", "verify labels"]
    assert sum(event.steps for event in heard if isinstance(event, Advanced)) == 5


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        ("cube.zarr", lambda folder: (folder / "cube.zarr/c/1").write_text("chunk 8")),
        ("cube.zarr", lambda folder: (folder / "cube.zarr/c/1").unlink()),
        ("cube.zarr", lambda folder: (folder / "cube.zarr/c/9").write_text("")),
        ("items.json", lambda folder: (folder / "items.json").write_text("")),
        ("items.json", lambda folder: ((folder / "items.json").unlink(), (folder / "items.json").mkdir())),
    ],
)
def test_a_changed_artifact_is_damaged_and_the_command_mends_it(workspace: Workspace, name: str, harm: Any) -> None:
    run_with_cube(workspace)
    run(workspace, "rasterize")
    harm(workspace.folder("download"))
    assert set(states(workspace).values()) == {"done", "missing"}
    damaged = verified(workspace)["download"]
    assert (damaged.state, damaged.reason) == ("damaged", f"{name} is not what was written")
    first, second = damaged.command.split(" && ")
    assert shlex.split(first) == ["rm", "-r", str(workspace.folder("download"))]
    assert shlex.split(second)[:2] == ["eearth", "download"]
    assert verified(workspace)["rasterize"].reason == "imagery/ is damaged"
    run_with_cube(workspace)  # without the first half nothing is done
    assert verified(workspace)["download"].state == "damaged"
    shutil.rmtree(workspace.folder("download"))
    run_with_cube(workspace)
    assert {status.state for status in verified(workspace).values()} == {"done", "missing"}


def test_damage_comes_before_staleness_and_every_artifact_is_named(workspace: Workspace) -> None:
    run_with_cube(workspace)
    (workspace.root.parent / "region.geojson").write_text("another region")
    (workspace.folder("download") / "items.json").write_text("[]")
    (workspace.folder("download") / "cube.zarr" / "c" / "0").write_text("")
    (workspace.folder("download") / "mine.txt").write_text("a file that eearth did not write")
    damaged = verified(workspace)["download"]
    assert damaged.state == "damaged"
    assert damaged.reason == "cube.zarr is not what was written; items.json is not what was written"
    assert states(workspace)["download"] == "stale"


def test_what_the_disk_does_not_give_back_is_damaged(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    run(workspace, "download")

    def unreadable(path: Path) -> str:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    monkeypatch.setattr(status_module, "file_digest", unreadable)
    assert verified(workspace)["download"].reason == "artifact cannot be read: Input/output error"


def test_the_command_line_finds_damage_in_a_real_cube_and_says_how_to_mend_it(tmp_path: Path) -> None:
    grid = utm_grid(40, 40)
    (tmp_path / "site").mkdir()
    for band in ("red", "nir"):
        write_tif(tmp_path / "site" / f"20230601_{band}.tif", noise(grid), grid)
    outline = gpd.GeoDataFrame(geometry=[grid.footprint.buffer(-50)], crs=32633).to_crs(4326)
    outline.to_file(tmp_path / "r.geojson", driver="GeoJSON")
    options = "--catalog site --datetime 2023 --bands red,nir --mask-asset none"
    assert eearth("download", "r.geojson", *options.split(), "-w", "w", cwd=tmp_path).returncode == 0
    whole = eearth("status", "--verify", "-w", "w", cwd=tmp_path)
    assert (whole.returncode, "damaged" in whole.stdout) == (0, False)
    assert re.search(r"^verify imagery: \d+ files in ", whole.stderr, re.MULTILINE)
    chunk = max((tmp_path / "w/imagery/cube.zarr").rglob("*"), key=lambda path: path.is_file() * path.stat().st_size)
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 1
    chunk.write_bytes(content)
    assert eearth("status", "-w", "w", cwd=tmp_path).returncode == 0
    damaged = eearth("status", "--verify", "-w", "w", cwd=tmp_path)
    assert (damaged.returncode, damaged.stderr.count("Error")) == (1, 0)
    assert "cube.zarr is not what was written" in damaged.stdout
    (mending,) = (s.command for s in verified(Workspace(tmp_path / "w")).values() if s.state == "damaged")
    assert shell(mending, tmp_path).returncode == 0
    assert eearth("status", "--verify", "-w", "w", cwd=tmp_path).returncode == 0


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-c", command], cwd=folder, env={**os.environ, "PATH": path}, check=False, capture_output=True,
        text=True, timeout=120,
    )  # fmt: skip


def test_a_stage_that_is_broken_fails_a_verification_too(workspace: Workspace) -> None:
    run(workspace, "download")
    (workspace.folder("download") / "artifact").unlink()
    assert eearth("status", "-w", workspace.root).returncode == 0
    assert eearth("status", "--verify", "-w", workspace.root).returncode == 1
