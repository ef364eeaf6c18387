from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
from forked import eearth
from scipy.ndimage import distance_transform_edt

from eearth.errors import LabelError, UsageError, WorkspaceError
from eearth.events import Event, Note, Table, Warned
from eearth.geo.cube import CUBE, Cube
from eearth.geo.labels.legend import read_classes
from eearth.settings import DownloadSettings, RasterizeSettings
from eearth.stages.download import download
from eearth.stages.rasterize import rasterize
from eearth.workspace import Workspace

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

TRAIN, VALIDATION, TEST, BUFFER = 1, 2, 3, 4


def imagery(folder: Path, real_data: Path, site: str, **values: Any) -> Workspace:
    workspace = Workspace(folder)
    settings = DownloadSettings(
        region=real_data / site / "region.geojson", catalog=str(real_data), collection=site, grid="native",
        max_cloud=100, mask_asset="none", **values,
    )  # fmt: skip
    download(workspace, settings)
    return workspace


def slovenia_in(folder: Path, real_data: Path, **values: Any) -> Workspace:
    return imagery(folder, real_data, "slovenia", **{"bands": ("red",), "datetime": "2015-07-11", **values})


@pytest.fixture(scope="module")
def slovenia(tmp_path_factory: pytest.TempPathFactory, real_data: Path) -> Workspace:
    workspace = slovenia_in(tmp_path_factory.mktemp("slovenia"), real_data)
    done = eearth("rasterize", real_data / "slovenia" / "labels.gpkg", "-w", workspace.root)
    assert done.returncode == 0, done.stderr
    assert "cultivated land" in done.stderr
    return workspace


def raster(workspace: Workspace, name: str) -> NDArray[np.uint8]:
    grid = Cube.open(workspace.folder("download") / CUBE).grid
    with rasterio.open(workspace.folder("rasterize") / name) as file:
        assert (file.crs, file.transform, file.shape) == (grid.crs, grid.transform, grid.shape)
        assert (file.nodata, file.dtypes) == (0, ("uint8",))
        values: NDArray[np.uint8] = file.read(1)
    return values


def oracle(path: Path, workspace: Workspace) -> NDArray[np.uint8]:
    """The site's own raster, cut to the imagery's grid."""
    grid = Cube.open(workspace.folder("download") / CUBE).grid
    with rasterio.open(path) as file:
        row = (file.transform.f - grid.transform.f) / grid.resolution[1]
        col = (grid.transform.c - file.transform.c) / grid.resolution[0]
        assert abs(row - round(row)) < 1e-3
        assert abs(col - round(col)) < 1e-3
        values: NDArray[np.uint8] = file.read(1)[round(row) :, round(col) :][: grid.height, : grid.width]
    assert values.shape == grid.shape
    return values


def test_labels_are_those_of_the_site(slovenia: Workspace, real_data: Path) -> None:
    labels = raster(slovenia, "labels.tif")
    np.testing.assert_array_equal(labels, oracle(real_data / "slovenia" / "labels.tif", slovenia))
    classes = read_classes(slovenia.folder("rasterize") / "classes.json")
    assert {entry.code: entry.pixels for entry in classes} == {
        code: int((labels == code).sum()) for code in (1, 2, 3, 4, 8)
    }
    assert [entry.name for entry in classes] == [
        "cultivated land", "forest", "grassland", "shrubland", "artificial surface",
    ]  # fmt: skip


def test_labels_on_the_coarser_of_two_native_grids(tmp_path: Path, real_data: Path) -> None:
    workspace = imagery(tmp_path, real_data, "romania", bands=("red", "nir08"), datetime="2018-08", resolution=20)
    assert Cube.open(workspace.folder("download") / CUBE).grid.resolution == (20, 20)
    manifest = rasterize(workspace, RasterizeSettings(labels=real_data / "romania" / "labels.gpkg"))
    np.testing.assert_array_equal(
        raster(workspace, "labels.tif"), oracle(real_data / "romania" / "labels.tif", workspace)
    )
    assert manifest.figures["classes"] == 2


def assert_apart(workspace: Workspace, buffer: float) -> None:
    """Of train, validation and test no two pixels lie within the buffer, centre to centre."""
    labels, part = raster(workspace, "labels.tif"), raster(workspace, "split.tif")
    np.testing.assert_array_equal(part > 0, labels > 0)
    assert set(np.unique(part)) <= {0, TRAIN, VALIDATION, TEST, BUFFER}
    width, height = Cube.open(workspace.folder("download") / CUBE).grid.resolution
    for one, other in ((TRAIN, TEST), (VALIDATION, TEST), (TRAIN, VALIDATION)):
        if (part == one).any() and (part == other).any():
            distance = distance_transform_edt(part != other, sampling=(height, width))
            assert distance[part == one].min() > buffer


def test_the_parts_are_apart(slovenia: Workspace) -> None:
    manifest = slovenia.require("rasterize")
    assert manifest.figures["buffer"] == "30 m"
    assert_apart(slovenia, 29.98)
    part = raster(slovenia, "split.tif")
    for code, name in ((TRAIN, "train"), (VALIDATION, "validation"), (TEST, "test")):
        assert manifest.figures[f"{name} pixels"] == (part == code).sum() > 0


@pytest.mark.parametrize("buffer", [0.0, 75.0])
def test_the_buffer_is_the_one_asked_for(tmp_path: Path, real_data: Path, buffer: float) -> None:
    workspace = slovenia_in(tmp_path, real_data)
    settings = RasterizeSettings(labels=real_data / "slovenia" / "labels.gpkg", buffer=buffer, block_size=240)
    rasterize(workspace, settings)
    assert_apart(workspace, buffer)


def test_the_blocks_to_look_at_are_those_of_the_pixels(slovenia: Workspace) -> None:
    grid = Cube.open(slovenia.folder("download") / CUBE).grid
    part = raster(slovenia, "split.tif")
    blocks = gpd.read_file(slovenia.folder("rasterize") / "split.geojson")
    assert blocks.crs.to_epsg() == 4326
    assert set(blocks["part"]) <= {"train", "validation", "test"}
    shown = blocks.to_crs(grid.crs.to_wkt())
    rows, cols = np.nonzero((part > 0) & (part < BUFFER))
    points = gpd.GeoDataFrame(
        {"code": part[rows, cols]}, geometry=gpd.points_from_xy(grid.x()[cols], grid.y()[rows]), crs=grid.crs.to_wkt()
    )
    joined = points.sjoin(shown, predicate="within")
    assert len(joined) == len(points)
    assert (joined["code"].map({TRAIN: "train", VALIDATION: "validation", TEST: "test"}) == joined["part"]).all()


def test_the_same_again_is_up_to_date_and_another_seed_is_not(tmp_path: Path, real_data: Path) -> None:
    workspace = slovenia_in(tmp_path, real_data)
    labels = real_data / "slovenia" / "labels.gpkg"
    heard: list[Event] = []
    first = rasterize(workspace, RasterizeSettings(labels=labels, polygons="cut"), heard.append)
    table = next(event for event in heard if isinstance(event, Table))
    assert table.columns == ("code", "class", "features", "pixels", "train", "validation", "test", "clear (least)")
    assert len(table.rows) == 5
    assert any(isinstance(event, Warned) and "part has no pixel of " in event.text for event in heard)
    again: list[Event] = []
    assert rasterize(workspace, RasterizeSettings(labels=labels, polygons="cut"), again.append) == first
    assert [event.text for event in again if isinstance(event, Note)] == [
        f"{workspace.folder('rasterize')} is up to date"
    ]
    part = raster(workspace, "split.tif")
    other = rasterize(workspace, RasterizeSettings(labels=labels, polygons="cut", seed=1))
    assert other.digest != first.digest
    assert (raster(workspace, "split.tif") != part).any()
    back = rasterize(workspace, RasterizeSettings(labels=labels, polygons="cut"))
    assert back.digest == first.digest


def test_changed_labels_are_burnt_again(tmp_path: Path, real_data: Path) -> None:
    workspace = slovenia_in(tmp_path / "w", real_data)
    frame = gpd.read_file(real_data / "slovenia" / "labels.gpkg", layer="labels")
    path = tmp_path / "labels.gpkg"
    frame.to_file(path, layer="labels")
    rasterize(workspace, RasterizeSettings(labels=path))
    assert 8 in np.unique(raster(workspace, "labels.tif"))
    frame[frame["code"] != 8].to_file(path, layer="labels")
    rasterize(workspace, RasterizeSettings(labels=path))
    assert 8 not in np.unique(raster(workspace, "labels.tif"))


def test_other_imagery_makes_the_labels_stale(tmp_path: Path, real_data: Path) -> None:
    workspace = slovenia_in(tmp_path, real_data)
    settings = RasterizeSettings(labels=real_data / "slovenia" / "labels.gpkg")
    first = rasterize(workspace, settings)
    assert workspace.require_current("rasterize", made_from="download") == first
    slovenia_in(tmp_path, real_data, datetime="2015-08-30")
    with pytest.raises(WorkspaceError, match=r"labels is stale: imagery/ has changed .* `eearth rasterize` again"):
        workspace.require_current("rasterize", made_from="download")
    second = rasterize(workspace, settings)
    assert second.inputs["imagery"] != first.inputs["imagery"]
    assert second.outputs == first.outputs
    assert workspace.require_current("rasterize", made_from="download") == second


def test_features_are_those_that_label_each_pixel(slovenia: Workspace, real_data: Path) -> None:
    with rasterio.open(slovenia.folder("rasterize") / "features.tif") as file:
        assert (file.dtypes, file.nodata) == (("uint32",), 0)
        numbers = file.read(1)
    frame = gpd.read_file(real_data / "slovenia" / "labels.gpkg", layer="labels")
    code = np.append(0, frame["code"].to_numpy())
    np.testing.assert_array_equal(code[numbers], raster(slovenia, "labels.tif"))
    assert len(np.unique(numbers)) > 20


def test_how_polygons_become_pixels_is_up_to_the_user(tmp_path: Path, real_data: Path) -> None:
    workspace, labels = slovenia_in(tmp_path / "w", real_data), real_data / "slovenia" / "labels.gpkg"
    pixels = {}
    for coverage in ("0.9", "centre", "touched"):
        pixels[coverage] = rasterize(workspace, RasterizeSettings(labels=labels, coverage=coverage)).figures
    assert pixels["0.9"]["labelled pixels"] < pixels["centre"]["labelled pixels"] < pixels["touched"]["labelled pixels"]
    less = rasterize(workspace, RasterizeSettings(labels=labels, inner_buffer=10)).figures["labelled pixels"]
    assert 0 < less < pixels["centre"]["labelled pixels"]
    with pytest.raises(UsageError, match="expected --coverage centre, touched, or a share"):
        rasterize(workspace, RasterizeSettings(labels=labels, coverage="most"))


def test_conflicts_are_listed_or_refused(tmp_path: Path, real_data: Path) -> None:
    workspace, path = slovenia_in(tmp_path / "w", real_data), tmp_path / "labels.gpkg"
    frame = gpd.read_file(real_data / "slovenia" / "labels.gpkg", layer="labels")
    again = frame.iloc[[0]].assign(**{"class": "forest" if frame["class"].iloc[0] != "forest" else "grassland"})
    pd.concat([frame, again]).drop(columns="code").to_file(path, layer="labels")
    manifest = rasterize(workspace, RasterizeSettings(labels=path))
    listed = pd.read_csv(workspace.folder("rasterize") / "conflicts.csv")
    assert listed[["first", "second"]].to_numpy().tolist() == [[1, len(frame) + 1]]
    assert manifest.records["conflicts"] == {
        "pixels": int(listed["pixels"].iloc[0]), "features": 2, "pairs": 1, "listed": 1,
    }  # fmt: skip
    with pytest.raises(LabelError, match=rf"features 1 \(.*\) and {len(frame) + 1} \("):
        rasterize(workspace, RasterizeSettings(labels=path, overlap="error"))
    dropped = rasterize(workspace, RasterizeSettings(labels=path, overlap="drop"))
    gone = manifest.figures["labelled pixels"] - dropped.figures["labelled pixels"]
    assert gone == manifest.records["conflicts"]["pixels"]


def test_without_imagery(tmp_path: Path, real_data: Path) -> None:
    with pytest.raises(WorkspaceError, match="imagery, which is missing: run `eearth download` first"):
        rasterize(Workspace(tmp_path), RasterizeSettings(labels=real_data / "slovenia" / "labels.gpkg"))
    assert list(tmp_path.iterdir()) == []


def test_labels_elsewhere(slovenia: Workspace, real_data: Path) -> None:
    before = json.loads((slovenia.folder("rasterize") / "manifest.json").read_text())
    with pytest.raises(LabelError, match="expected labels on the imagery"):
        rasterize(slovenia, RasterizeSettings(labels=real_data / "romania" / "labels.gpkg"))
    assert json.loads((slovenia.folder("rasterize") / "manifest.json").read_text()) == before
