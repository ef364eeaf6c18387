"""`eearth rasterize` with filters, legends, dates and rasters, on a small made-up cube and on a real one."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pyogrio
import pytest
import rasterio
from forked import eearth
from rasterio.crs import CRS
from rasterio.transform import Affine
from shapely.geometry import box

from eearth.errors import LabelError, UsageError
from eearth.events import Event, Note
from eearth.geo.cube import CUBE, Cube
from eearth.geo.grid import Grid
from eearth.geo.labels.legend import LandCoverClass, read_classes
from eearth.geo.products.landcover.legend import write_category_names, write_qml
from eearth.geo.products.metadata.item import landcover_asset
from eearth.geo.providers import Encoding
from eearth.manifest import Manifest
from eearth.pictures import draw_confusion
from eearth.settings import DownloadSettings, RasterizeSettings
from eearth.stages.download import download
from eearth.stages.rasterize import rasterize
from eearth.status import project_status
from eearth.workspace import Workspace

if TYPE_CHECKING:
    from numpy.typing import NDArray

GRID = Grid(CRS.from_epsg(32633), Affine(10, 0, 500_000, 0, -10, 5_000_000), 64, 64)
FIELDS = [
    box(500_000 + 80 * column, 5_000_000 - 80 * row - 60, 500_060 + 80 * column, 5_000_000 - 80 * row)
    for row in range(8)
    for column in range(8)
]
KINDS = ["meadow", "pasture", "oak", "pine"]


def workspace_at(folder: Path) -> Workspace:
    """A finished download of two dates, with nothing in it."""
    cube_at = folder / "imagery"
    cube_at.mkdir(parents=True)
    times = [datetime(2019, 3, 1, tzinfo=UTC), datetime(2019, 9, 30, tzinfo=UTC)]
    Cube.create(
        cube_at / CUBE, grid=GRID, bands=["red"], times=times, items=["a", "b"], encoding=Encoding("uint16", 1e-4, 0, 0)
    )
    settings = DownloadSettings(region=Path("region.geojson"))
    Manifest(
        stage="download", eearth="0", settings=settings.what(), how={}, origins={}, inputs={}, paths={}, outputs={},
        seed=None, seconds=0, timings={}, figures={}, records={},
    ).write(cube_at)  # fmt: skip
    return Workspace(folder)


def fields(folder: Path, **columns: Any) -> Path:
    classes = [KINDS[number % 4] for number in range(64)]
    table = gpd.GeoDataFrame({"class": classes, **columns}, geometry=FIELDS, crs=32633)
    pyogrio.write_dataframe(table, folder / "l.gpkg")
    return folder / "l.gpkg"


def read(workspace: Workspace, name: str) -> NDArray[Any]:
    with rasterio.open(workspace.folder("rasterize") / name) as file:
        values: NDArray[Any] = file.read(1)
    return values


def test_filters_legends_and_dates_together(tmp_path: Path) -> None:
    workspace = workspace_at(tmp_path)
    months = ["2018-07" if number < 16 else "2019-07" for number in range(64)]
    path = fields(tmp_path, month=months, quality=[number % 3 for number in range(64)])
    legend = tmp_path / "legend.toml"
    legend.write_text(
        '[[class]]\nname = "Grass <b>"\ncode = 9\ncolour = "#123456"\nvalues = ["meadow", "pasture"]\n'
        '[[class]]\nname = "Wood"\nvalues = ["oak", "pine"]\n',
        encoding="utf-8",
    )
    heard: list[Event] = []
    settings = RasterizeSettings(
        labels=path, where="quality > 0", legend=str(legend), start_column="month", end_column="month"
    )
    rasterize(workspace, settings, heard.append)
    expected = np.zeros(GRID.shape, np.uint8)
    number_of = np.zeros(GRID.shape, np.uint32)
    for number in range(16, 64):
        if number % 3:
            rows, columns = (slice(8 * place, 8 * place + 6) for place in divmod(number, 8))
            expected[rows, columns] = 9 if number % 4 < 2 else 1
            number_of[rows, columns] = number + 1
    np.testing.assert_array_equal(read(workspace, "labels.tif"), expected)
    np.testing.assert_array_equal(read(workspace, "features.tif"), number_of)
    classes = read_classes(workspace.folder("rasterize") / "classes.json")
    assert [(entry.code, entry.name) for entry in classes] == [(1, "Wood"), (9, "Grass <b>")]
    assert classes[1].colour == "#123456"
    assert any(isinstance(event, Note) and "do not hold for the imagery's dates" in event.text for event in heard)
    rasterize(workspace, settings, heard.append)
    assert heard[-1] == Note(text=f"{workspace.folder('rasterize')} is up to date")
    legend.write_text(legend.read_text(encoding="utf-8").replace("9", "8"), encoding="utf-8")
    status = {entry.stage: entry for entry in project_status(workspace)}["rasterize"]
    assert status.state == "stale"
    assert "legend (legend.toml) has changed" in status.reason
    rasterize(workspace, settings)
    assert set(np.unique(read(workspace, "labels.tif"))) == {0, 1, 8}


def codes_at(path: Path, codes: NDArray[np.uint8]) -> Path:
    with rasterio.open(
        path, "w", driver="GTiff", dtype="uint8", count=1, height=64, width=64, crs=GRID.crs, transform=GRID.transform
    ) as file:
        file.write(codes, 1)
    return path


def test_a_raster_gives_the_labels_of_its_polygons(tmp_path: Path) -> None:
    workspace = workspace_at(tmp_path)
    rasterize(workspace, RasterizeSettings(labels=fields(tmp_path), inner_buffer=20))
    by_polygons, numbers = read(workspace, "labels.tif"), read(workspace, "features.tif")
    path = codes_at(tmp_path / "codes.tif", by_polygons)
    rasterize(workspace, RasterizeSettings(labels=path))
    np.testing.assert_array_equal(read(workspace, "labels.tif"), by_polygons)
    patches = read(workspace, "features.tif")
    assert len({*zip(numbers[numbers > 0], patches[numbers > 0], strict=True)}) == 64
    assert [entry.polygons for entry in read_classes(workspace.folder("rasterize") / "classes.json")] == [16] * 4
    names = [LandCoverClass(code, f"kind {code}", "#000000", 1, 1) for code in range(1, 5)]
    write_category_names(path, names)
    rasterize(workspace, RasterizeSettings(labels=path))
    assert [entry.name for entry in read_classes(workspace.folder("rasterize") / "classes.json")] == [
        "kind 1", "kind 2", "kind 3", "kind 4"
    ]  # fmt: skip


def test_settings_of_features_are_refused_with_a_raster_and_the_other_way_round(tmp_path: Path) -> None:
    workspace = workspace_at(tmp_path)
    path = codes_at(tmp_path / "codes.tif", np.ones(GRID.shape, np.uint8))
    with pytest.raises(UsageError, match="expected a vector file for --where, --overlap, found a raster"):
        rasterize(workspace, RasterizeSettings(labels=path, where="x > 1", overlap="drop"))
    with pytest.raises(UsageError, match="expected a raster for --resampling, found a vector file"):
        rasterize(workspace, RasterizeSettings(labels=fields(tmp_path), resampling="nearest"))


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--where", "nope = 1"], "no such column: nope"),
        (["--legend", "none.csv"], "found no file at none.csv"),
    ],
)
def test_each_fault_is_one_line_on_the_command_line(tmp_path: Path, words: list[str], line: str) -> None:
    workspace = workspace_at(tmp_path)
    done = eearth("rasterize", fields(tmp_path), *words, "-w", workspace.root)
    assert done.returncode == 1
    assert line in done.stderr
    assert done.stderr.count("\n") == 1


def test_crop_years_of_real_points(tmp_path: Path, real_data: Path) -> None:
    """The imagery of one crop year, and the points of all: those of other years are left out."""
    workspace = Workspace(tmp_path)
    settings = DownloadSettings(
        region=real_data / "brazil" / "region.geojson", catalog=str(real_data), collection="brazil", grid="native",
        bands=("red",), datetime="2010-09-01/2011-08-31", max_cloud=100, mask_asset="none",
    )  # fmt: skip
    download(workspace, settings)
    points = real_data / "brazil" / "points.geojson"
    rasterize(workspace, RasterizeSettings(labels=points, start_column="start", end_column="end"))
    labels, grid = read(workspace, "labels.tif"), Cube.open(workspace.folder("download") / CUBE).grid
    every = pyogrio.read_dataframe(points)
    own = every[every["start"] == "2010-09-01"].to_crs(grid.crs.to_wkt())
    expected = np.zeros(grid.shape, np.uint8)
    for point, code in zip(own.geometry, own["code"], strict=True):
        column, row = ~grid.transform @ (point.x, point.y)
        expected[int(np.floor(row)), int(np.floor(column))] = code
    np.testing.assert_array_equal(labels, expected)
    assert (labels > 0).sum() == 232


NASTY = [
    'crop, "dry"; rain-fed',
    "<script>alert('x')</script> & <b>bold</b>",
    "🌲 forêt 森林",
    "=1+1",
    "x" * 200,
    "$\\alpha$",
]


def test_names_with_every_kind_of_letter_survive_what_is_written(tmp_path: Path) -> None:
    from xml.etree import ElementTree as ET

    workspace = workspace_at(tmp_path)
    table = gpd.GeoDataFrame({"class": [NASTY[n % 6] for n in range(64)]}, geometry=FIELDS, crs=32633)
    pyogrio.write_dataframe(table, tmp_path / "l.gpkg")
    rasterize(workspace, RasterizeSettings(labels=tmp_path / "l.gpkg"))
    classes = read_classes(workspace.folder("rasterize") / "classes.json")
    assert sorted(entry.name for entry in classes) == sorted(NASTY)
    raster = tmp_path / "landcover.tif"
    shutil.copy(workspace.folder("rasterize") / "labels.tif", raster)
    write_qml(tmp_path / "landcover.qml", classes)
    text = (tmp_path / "landcover.qml").read_text(encoding="utf-8")
    shown = [entry.get("label") for entry in ET.fromstring(text.split("\n", 1)[1]).iter("paletteEntry")]  # noqa: S314
    assert shown == [entry.name for entry in classes]
    names = ET.parse(write_category_names(raster, classes)).findall(".//Category")  # noqa: S314
    assert [name.text for name in names[1:]] == [entry.name for entry in classes]
    legend = json.loads(json.dumps(landcover_asset(raster, GRID, classes).fields))["classification:classes"]
    assert [entry["title"] for entry in legend if entry["value"]] == [entry.name for entry in classes]
    assert all(set(entry["name"]) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-") for entry in legend)
    draw_confusion(tmp_path / "confusion.png", np.eye(6, dtype=int), [entry.name for entry in classes])
    assert (tmp_path / "confusion.png").stat().st_size < 300_000


def test_labels_beside_the_imagery_are_refused(tmp_path: Path) -> None:
    workspace = workspace_at(tmp_path)
    table = gpd.GeoDataFrame({"class": ["a", "b"]}, geometry=[box(45.1, 15, 45.2, 15.1)] * 2, crs=4326)
    pyogrio.write_dataframe(table, tmp_path / "swapped.gpkg")
    with pytest.raises(LabelError, match=r"are the coordinates swapped\?"):
        rasterize(workspace, RasterizeSettings(labels=tmp_path / "swapped.gpkg"))
