from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import geopandas as gpd
import pytest
from shapely.geometry import box

from eearth.errors import WorkspaceError
from eearth.manifest import MANIFEST, Manifest
from eearth.settings import DownloadSettings, RasterizeSettings
from eearth.workspace import Input, Run, Workspace, file_input

if TYPE_CHECKING:
    from collections.abc import Mapping

REGION = {"region": Input("ab" * 32, Path("/somewhere/r.geojson"))}


def settings(**values: int) -> DownloadSettings:
    return DownloadSettings(region=Path("r.geojson"), **values)


def work(run: Run, text: str = "pixels") -> Manifest:
    (run.folder / "cube.zarr").mkdir(exist_ok=True)
    (run.folder / "cube.zarr" / "0").write_text(text)
    return run.finish(figures={"scenes": 1}, records={})


def made(workspace: Workspace, text: str = "pixels", inputs: Mapping[str, Input] = REGION, **values: int) -> Manifest:
    with workspace.stage(settings(**values), inputs) as run:
        return run.finished or work(run, text)


def labels_from(workspace: Workspace) -> Manifest:
    with workspace.stage(RasterizeSettings(labels=Path("l.gpkg")), workspace.given("download")) as run:
        if run.finished:
            return run.finished
        (run.folder / "labels.tif").write_text("labels")
        return run.finish(figures={}, records={})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_finished_stage_has_its_final_name_and_nothing_else(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "new" / "project")
    assert workspace.manifest("download") is None
    with workspace.stage(settings(), REGION) as run:
        (run.scratch / "log").write_text("x")
        assert not workspace.folder("download").exists()
        manifest = work(run)
        assert not workspace.folder("download").exists()
    assert names(workspace.root) == ["imagery"]
    assert names(workspace.folder("download")) == ["cube.zarr", MANIFEST]
    assert workspace.manifest("download") == workspace.require("download") == manifest
    assert manifest.paths == {"region": "/somewhere/r.geojson"}


def test_the_same_again_is_up_to_date(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    first = made(workspace)
    with workspace.stage(settings(), REGION) as run:
        assert run.finished == first
    moved = {"region": Input("ab" * 32, Path("/elsewhere/r.geojson"))}
    with workspace.stage(DownloadSettings(region=Path("other.geojson")), moved) as run:
        assert run.finished == first


def test_how_to_work_changes_nothing(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    first = made(workspace)
    with workspace.stage(settings(workers=1), REGION) as run:
        assert run.finished == first
    interrupted(workspace, max_cloud=30)
    with workspace.stage(settings(max_cloud=30, workers=1), REGION) as run:
        assert run.resumed


@pytest.mark.parametrize("why", ["settings", "input", "artifact gone"])
def test_something_else_is_made_again(tmp_path: Path, why: str) -> None:
    workspace = Workspace(tmp_path)
    made(workspace, "old")
    if why == "artifact gone":
        (workspace.folder("download") / "cube.zarr" / "0").unlink()
        (workspace.folder("download") / "cube.zarr").rmdir()
    inputs = {"region": replace(REGION["region"], digest="cd" * 32)} if why == "input" else REGION
    values = {"max_cloud": 30} if why == "settings" else {}
    with workspace.stage(settings(**values), inputs) as run:
        assert run.finished is None
        assert not run.resumed
        assert workspace.folder("download").is_dir()
        work(run, "new")
    assert (workspace.folder("download") / "cube.zarr" / "0").read_text() == "new"
    assert names(tmp_path) == ["imagery"]


def interrupted(workspace: Workspace, **values: int) -> None:
    with pytest.raises(ZeroDivisionError), workspace.stage(settings(**values), REGION) as run:  # noqa: PT012
        (run.scratch / "half").write_text("done so far")
        (run.folder / "cube.zarr").mkdir()
        _ = 1 / 0


def test_what_a_kill_tore_is_no_artifact(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    with workspace.stage(settings(), REGION) as run:
        (run.folder / "items.json").write_text("{}")
        (run.folder / f"{MANIFEST}.writing").write_text("{")
    assert set(made(workspace).outputs) == {"items.json", "cube.zarr"}
    assert not list(workspace.folder("download").glob("*.writing"))


def test_an_interrupted_run_is_taken_up(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    interrupted(workspace)
    assert names(tmp_path) == ["imagery.partial"]
    with pytest.raises(WorkspaceError, match="which was interrupted: run `eearth download` first"):
        workspace.require("download")
    with workspace.stage(settings(), REGION) as run:
        assert run.resumed
        assert (run.scratch / "half").read_text() == "done so far"
        work(run)
    assert names(workspace.folder("download")) == ["cube.zarr", MANIFEST]


def test_an_interrupted_run_of_something_else_is_cleared_away(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    interrupted(workspace)
    with workspace.stage(settings(max_cloud=30), REGION) as run:
        assert not run.resumed
        assert names(run.folder) == ["plan.json"]


def test_work_of_unknown_purpose_is_cleared_away(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    interrupted(workspace)
    (workspace.partial("download") / "plan.json").write_text("{half")
    with workspace.stage(settings(), REGION) as run:
        assert not run.resumed
        assert names(run.folder) == ["plan.json"]


def test_a_run_that_made_nothing_leaves_nothing(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    with pytest.raises(ZeroDivisionError), workspace.stage(settings(), REGION):
        _ = 1 / 0
    assert names(tmp_path) == []


def test_a_failed_second_run_leaves_the_first_result(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    first = made(workspace)
    interrupted(workspace, max_cloud=30)
    assert Workspace(tmp_path).require("download") == first


# --- Killed between the renames


def killed_while(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, rename: int) -> None:
    """Finish a second run of which the `rename`-th rename of the publication is the last thing that happened."""
    done = 0
    real = Path.rename

    def counted(self: Path, target: Path) -> Path:
        nonlocal done
        if done == rename:
            raise KeyboardInterrupt
        done += 1
        return real(self, target)

    with pytest.raises(KeyboardInterrupt), workspace.stage(settings(max_cloud=30), REGION) as run:  # noqa: PT012
        work(run, "new")
        monkeypatch.setattr(Path, "rename", counted)
    monkeypatch.undo()


@pytest.mark.parametrize("rename", [0, 1])
def test_a_kill_between_the_renames_is_made_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rename: int) -> None:
    made(Workspace(tmp_path), "old")
    killed_while(Workspace(tmp_path), monkeypatch, rename)
    assert names(tmp_path) == [["imagery", "imagery.partial"], ["imagery.partial", "imagery.replaced"]][rename]
    workspace = Workspace(tmp_path)
    assert names(tmp_path) == ["imagery"]
    assert workspace.require("download").settings["max_cloud"] == 30
    assert (workspace.folder("download") / "cube.zarr" / "0").read_text() == "new"


def test_a_kill_before_anything_was_published_brings_the_old_back(tmp_path: Path) -> None:
    """The old folder was moved away by a version that crashed, and no finished one is there."""
    first = made(Workspace(tmp_path))
    (tmp_path / "imagery").rename(tmp_path / "imagery.replaced")
    assert Workspace(tmp_path).require("download") == first


# --- Two processes

HOLDER = """
    import sys
    from pathlib import Path
    from eearth.settings import DownloadSettings
    from eearth.workspace import Input, Workspace
    with Workspace(sys.argv[1]).stage(
        DownloadSettings(region=Path("r.geojson")), {"region": Input("ab" * 32, Path("/somewhere/r.geojson"))}
    ) as run:
        (run.scratch / "half").write_text("of the other")
        print("holding", flush=True)
        sys.stdin.read()
"""


def test_a_second_process_is_kept_out_until_the_first_ends_however(tmp_path: Path) -> None:
    command = [sys.executable, "-c", textwrap.dedent(HOLDER), str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "holding\n"
        workspace = Workspace(tmp_path)
        with (
            pytest.raises(WorkspaceError, match=r"another process is working in .*imagery.partial: wait for it"),
            workspace.stage(settings(max_cloud=30), REGION),
        ):
            pytest.fail("two processes in one folder")
        assert (workspace.partial("download") / "scratch" / "half").exists()
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with Workspace(tmp_path).stage(settings(), REGION) as run:
        assert run.resumed
        assert (run.scratch / "half").read_text() == "of the other"


def test_a_workspace_opened_beside_a_publishing_process_touches_nothing(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    with workspace.stage(settings(), REGION) as run:
        work(run)
        assert (run.folder / MANIFEST).exists()
        Workspace(tmp_path)
        assert names(tmp_path) == ["imagery.partial"]
    assert names(tmp_path) == ["imagery"]


# --- The chain


def test_a_later_stage_names_the_earlier_one_by_its_digest(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    with pytest.raises(WorkspaceError, match=r"imagery, which is missing: run `eearth download` first"):
        workspace.given("download")
    imagery = made(workspace)
    labels = labels_from(workspace)
    assert labels.inputs == {"imagery": imagery.digest}
    assert workspace.require_current("rasterize", made_from="download") == labels
    made(workspace, "new", max_cloud=30)
    with pytest.raises(WorkspaceError, match=r"labels is stale: imagery/ has changed .* run `eearth rasterize` again"):
        workspace.require_current("rasterize", made_from="download")
    again = labels_from(workspace)
    assert again.digest != labels.digest
    assert workspace.require_current("rasterize", made_from="download") == again


def test_the_same_made_again_leaves_later_stages_current(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    made(workspace)
    labels_from(workspace)
    (workspace.folder("download") / "cube.zarr" / "0").unlink()
    (workspace.folder("download") / "cube.zarr").rmdir()
    with pytest.raises(WorkspaceError, match=r"expected cube.zarr in .*imagery, found nothing: run `eearth download`"):
        workspace.require("download")
    made(workspace)
    assert workspace.require_current("rasterize", made_from="download")


# --- Files of the user's


def test_a_file_is_its_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    (tmp_path / "b").write_text("x")
    assert file_input(tmp_path / "a").digest == file_input(tmp_path / "b").digest
    assert file_input(tmp_path / "a").path == (tmp_path / "a").resolve()
    (tmp_path / "b").write_text("y")
    assert file_input(tmp_path / "a").digest != file_input(tmp_path / "b").digest
    with pytest.raises(WorkspaceError, match=r"expected a file at .*/c, found nothing"):
        file_input(tmp_path / "c")


@pytest.mark.parametrize("end", [".dbf", ".prj", ".shp"])
def test_a_shapefile_is_all_its_files(tmp_path: Path, end: str) -> None:
    path = tmp_path / "r.shp"
    gpd.GeoDataFrame({"a": [1]}, geometry=[box(0, 0, 1, 1)], crs=4326).to_file(path)
    before = file_input(path).digest
    with path.with_suffix(end).open("ab") as file:
        file.write(b" ")
    assert file_input(path).digest != before


def test_a_folder_is_all_its_files(tmp_path: Path) -> None:
    (tmp_path / "a.gdb").mkdir()
    (tmp_path / "a.gdb" / "x").write_text("1")
    before = file_input(tmp_path / "a.gdb").digest
    (tmp_path / "a.gdb" / "x").write_text("2")
    assert file_input(tmp_path / "a.gdb").digest != before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError), Workspace(tmp_path).stage(settings(), REGION):
        pass


def test_an_interruption_while_digesting_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashing a large cube takes minutes: a run stopped there goes on with all that it had."""
    from eearth import workspace as module

    project = Workspace(tmp_path / "project")
    settings = RasterizeSettings(labels=tmp_path / "labels.gpkg")

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(module, "output_digests", interrupted)
        with project.stage(settings, {}) as run:
            (run.folder / "artifact").write_text("made")
            (run.scratch / "state").write_text("kept")
            with pytest.raises(KeyboardInterrupt):
                run.finish(figures={}, records={})
    with project.stage(settings, {}) as again:
        assert again.resumed
        assert (again.folder / "artifact").read_text() == "made"
        assert (again.scratch / "state").read_text() == "kept"


def test_a_stage_made_again_meanwhile_is_noticed(tmp_path: Path) -> None:
    project = Workspace(tmp_path / "project")

    def make(text: str) -> None:
        with project.stage(DownloadSettings(region=tmp_path / "r", collection=text), {}) as run:
            (run.folder / "artifact").write_text(text)
            run.finish(figures={}, records={})

    make("one")
    settings = RasterizeSettings(labels=tmp_path / "labels.gpkg")
    inputs = project.given("download")
    with project.stage(settings, inputs) as run:
        make("two")
        with pytest.raises(WorkspaceError, match="imagery was made again"):
            run.finish(figures={}, records={})
    assert not project.folder("rasterize").exists()


def test_changes_in_side_files_are_changes(tmp_path: Path) -> None:
    path = tmp_path / "labels.gpkg"
    path.write_bytes(b"pages")
    before = file_input(path).digest
    (tmp_path / "labels.gpkg-wal").write_bytes(b"an edit that is not in the pages yet")
    assert file_input(path).digest != before
    shape = tmp_path / "a.shp"
    shape.write_bytes(b"shapes")
    (tmp_path / "A.DBF").write_bytes(b"classes")
    before = file_input(shape).digest
    (tmp_path / "A.DBF").write_bytes(b"other classes")
    assert file_input(shape).digest != before
