"""Splits as `eearth rasterize` makes them: whole features, folds, a column of the user's; checked when learnt from."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from forked import eearth

from eearth.config import resolve
from eearth.data.regions import open_labelled
from eearth.errors import LabelError, UsageError
from eearth.geo.cube import CUBE, Cube
from eearth.geo.raster import write_raster
from eearth.settings import DownloadSettings, RasterizeSettings
from eearth.stages.download import download
from eearth.stages.rasterize import rasterize
from eearth.workspace import Workspace

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

TRAIN, VALIDATION, TEST, DROPPED = 1, 2, 3, 4


@pytest.fixture(scope="module")
def imagery(tmp_path_factory: pytest.TempPathFactory, real_data: Path) -> Path:
    folder = tmp_path_factory.mktemp("slovenia")
    settings = DownloadSettings(
        region=real_data / "slovenia" / "region.geojson", catalog=str(real_data), collection="slovenia",
        grid="native", max_cloud=100, mask_asset="none", bands=("red",), datetime="2015-07-11",
    )  # fmt: skip
    download(Workspace(folder), settings)
    return folder


def burnt(imagery: Path, tmp_path: Path, labels: Path, **settings: Any) -> Workspace:
    shutil.copytree(imagery, tmp_path / "w")
    rasterize(Workspace(tmp_path / "w"), RasterizeSettings(labels=labels, **settings))
    return Workspace(tmp_path / "w")


def read(workspace: Workspace, name: str) -> np.ndarray:
    with rasterio.open(workspace.folder("rasterize") / name) as file:
        values: np.ndarray = file.read(1)
    return values


def parts_of(part: np.ndarray, features: np.ndarray) -> dict[int, set[int]]:
    return {int(number): set(part[features == number].tolist()) - {DROPPED} for number in np.unique(features[part > 0])}


def test_features_are_whole_but_for_those_that_the_manifest_names(
    imagery: Path, tmp_path: Path, real_data: Path
) -> None:
    workspace = burnt(imagery, tmp_path, real_data / "slovenia" / "labels.gpkg")
    promised = workspace.require("rasterize").records["split"]
    held = parts_of(read(workspace, "split.tif"), read(workspace, "features.tif"))
    assert sorted(number for number, parts in held.items() if len(parts) > 1) == promised["divided_features"] != []
    assert promised["min_distance_m"] > promised["buffer_m"] == pytest.approx(29.99, abs=0.01)
    open_labelled(workspace)


def test_a_split_that_was_edited_is_not_learnt_from(imagery: Path, tmp_path: Path, real_data: Path) -> None:
    workspace = burnt(imagery, tmp_path, real_data / "slovenia" / "labels.gpkg")
    part, grid = read(workspace, "split.tif"), Cube.open(workspace.folder("download") / CUBE).grid
    part[part == DROPPED] = TRAIN
    write_raster(workspace.folder("rasterize") / "split.tif", part, grid, nodata=0)
    with pytest.raises(LabelError, match=r"train pixels at most 29\.99 m from test pixels: run `eearth"):
        open_labelled(workspace)


def test_folds_are_files_of_their_own(imagery: Path, tmp_path: Path, real_data: Path) -> None:
    workspace = burnt(imagery, tmp_path, real_data / "slovenia" / "labels.gpkg", folds=3, fold=2)
    part, folds = read(workspace, "split.tif"), read(workspace, "folds.tif")
    np.testing.assert_array_equal(part == TEST, folds == 2)
    assert set(np.unique(folds[part > 0])) == {1, 2, 3}
    outlines = gpd.read_file(workspace.folder("rasterize") / "split.geojson")
    assert set(outlines["fold"][outlines["part"] == "test"]) == {2}
    assert set(outlines["fold"][outlines["part"] != "test"]) == {1, 3}


def run(workspace: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return eearth("rasterize", *words, "-w", workspace)


def test_a_column_of_ones_own_is_honoured_or_refused_in_one_line(
    imagery: Path, tmp_path: Path, real_data: Path
) -> None:
    frame = gpd.read_file(real_data / "slovenia" / "labels.gpkg", layer="labels")
    east = frame.geometry.centroid.x.rank(pct=True)
    frame["use"] = np.where(east > 0.6, "Test", np.where(east > 0.4, "val", "training"))
    labels = tmp_path / "labels.gpkg"
    frame.to_file(labels, layer="labels", driver="GPKG")
    shutil.copytree(imagery, tmp_path / "w")
    refused = run(tmp_path / "w", str(labels), "--split-column", "use")
    assert refused.returncode == 1
    last = refused.stderr.strip().splitlines()[-1]
    assert last.startswith(f"Error: expected parts more than 29.99 m apart in the column `use` of {labels}, found ")
    assert "--drop-near" in last
    assert not (tmp_path / "w" / "labels").exists()
    done = run(tmp_path / "w", str(labels), "--split-column", "use", "--drop-near")
    assert done.returncode == 0, done.stderr
    workspace = Workspace(tmp_path / "w")
    held = parts_of(read(workspace, "split.tif"), read(workspace, "features.tif"))
    code = {"Test": {TEST}, "val": {VALIDATION}, "training": {TRAIN}}
    assert all(parts <= code[frame["use"][number - 1]] for number, parts in held.items())
    assert {part for parts in held.values() for part in parts} == {TRAIN, VALIDATION, TEST}
    open_labelled(workspace)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"fold": 2}, "expected no --fold without --folds"),
        ({"folds": 3, "test_fraction": 0.3}, "expected no --test-fraction with --folds"),
        ({"split_column": "use", "polygons": "cut"}, "expected no --polygons with --split-column"),
        ({"drop_near": True}, "expected no --drop-near without --split-column"),
        ({"folds": 3, "fold": 4}, "expected a fold of 1 to 3"),
    ],
)
def test_settings_without_effect_are_refused(
    imagery: Path, real_data: Path, settings: dict[str, Any], said: str
) -> None:
    chosen = resolve(RasterizeSettings, {"labels": real_data / "slovenia" / "labels.gpkg", **settings}, imagery)
    with pytest.raises(UsageError, match=said):
        rasterize(Workspace(imagery), chosen)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("fold = 3", "expected no fold in eearth.toml without --folds"),
        ("drop_near = true", "expected no drop_near in eearth.toml without --split-column"),
        ("resampling = 'nearest'", "expected a raster for resampling in eearth.toml, found a vector file"),
    ],
)
def test_settings_without_effect_are_refused_from_the_file_too(
    imagery: Path, tmp_path: Path, real_data: Path, lines: str, said: str
) -> None:
    (tmp_path / "eearth.toml").write_text(f"[rasterize]\n{lines}\n", encoding="utf-8")
    chosen = resolve(RasterizeSettings, {"labels": real_data / "slovenia" / "labels.gpkg"}, tmp_path)
    with pytest.raises(UsageError, match=said):
        rasterize(Workspace(imagery), chosen)


def test_a_map_cannot_be_kept_whole_and_does_not_say_so(imagery: Path, tmp_path: Path) -> None:
    grid = Cube.open(Workspace(imagery).folder("download") / CUBE).grid
    codes = np.random.default_rng(0).integers(1, 4, grid.shape).astype(np.uint8)
    write_raster(tmp_path / "map.tif", codes, grid, nodata=0)
    with pytest.raises(UsageError, match="expected features for --polygons whole, found none"):
        burnt(imagery, tmp_path / "refused", tmp_path / "map.tif", polygons="whole")
    workspace = burnt(imagery, tmp_path / "done", tmp_path / "map.tif")
    assert workspace.require("rasterize").records["split"]["features_whole"] is False
