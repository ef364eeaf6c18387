from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pystac
import pytest
import rasterio
from pystac.extensions.classification import ClassificationExtension
from pystac.extensions.file import FileExtension
from pystac.extensions.projection import ProjectionExtension
from pystac.extensions.raster import RasterExtension
from rasterio.crs import CRS
from rasterio.transform import Affine
from rasterio.warp import transform_geom
from shapely.geometry import box, mapping, shape

from eearth.geo.grid import Grid
from eearth.geo.products.item import Asset, confidence_asset, landcover_asset, write_item
from eearth.geo.products.prediction import Prediction
from eearth.geo.products.writer import LandCoverWriter

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Legend:
    code: int
    name: str
    colour: str


CLASSES = (
    Legend(1, "Maize & corn", "#ff8800"),
    Legend(4, "Forêt", "#006400"),
    Legend(7, "maize/corn", "#ffff00"),
    Legend(9, "No data", "#123456"),
    Legend(200, "水", "#0064c8"),
)
GRID = Grid(CRS.from_epsg(32633), Affine(10, 0, 500_000, 0, -10, 5_000_000), 40, 60)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("map")
    (folder / "scratch").mkdir()
    out = LandCoverWriter(folder, folder / "scratch", GRID, CLASSES, {})
    ones = np.ones((40, 60), np.uint8)
    out.write(0, GRID.window, Prediction(ones, ones, ones))
    landcover, confidence = out.finish()
    (folder / "landcover.qml").write_text("style")
    assets = {
        "landcover": landcover_asset(landcover, GRID, CLASSES),
        "confidence": confidence_asset(confidence, GRID),
        "style": Asset(folder / "landcover.qml", "QGIS style", "application/xml", ("metadata",)),
    }
    write_item(
        folder / "item.json",
        id="site-2023",
        grid=GRID,
        region=shape(transform_geom(GRID.crs, "EPSG:4326", mapping(box(*GRID.bounds)))),
        start=datetime(2023, 3, 1),  # noqa: DTZ001 (a time without zone is what imagery has)
        end=datetime(2023, 10, 31, 12, tzinfo=UTC),
        assets=assets,
        properties={"title": "Land cover", "license": "CC-BY-4.0"},
    )
    return folder


@pytest.fixture
def item(folder: Path) -> pystac.Item:
    return pystac.Item.from_file(str(folder / "item.json"))


def test_item_is_read_back_unchanged(folder: Path, item: pystac.Item) -> None:
    data = json.loads((folder / "item.json").read_text(encoding="utf-8"))
    again = item.to_dict(include_self_link=False, transform_hrefs=False)
    assert again == data
    assert item.common_metadata.start_datetime == datetime(2023, 3, 1, tzinfo=UTC)
    assert item.common_metadata.end_datetime == datetime(2023, 10, 31, 12, tzinfo=UTC)
    assert item.geometry is not None
    assert shape(item.geometry).is_valid
    assert tuple(item.bbox or ()) == shape(item.geometry).bounds


def test_item_places_the_map(folder: Path, item: pystac.Item) -> None:
    projection = ProjectionExtension.ext(item)
    with rasterio.open(folder / "landcover.tif") as file:
        assert projection.code == file.crs.to_string()
        assert projection.shape == list(file.shape)
        assert projection.transform == list(file.transform)[:6]
        assert projection.bbox == list(file.bounds)


def test_assets_are_the_files_beside_the_item(folder: Path, item: pystac.Item) -> None:
    assert item.assets["landcover"].roles == ["data"]
    for asset in item.assets.values():
        path = folder / asset.href
        assert asset.href.startswith("./")
        assert asset.get_absolute_href() == str(folder / path.name)
        file = FileExtension.ext(asset)
        assert file.size == path.stat().st_size
        assert file.checksum == "1220" + hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("key", ["landcover", "confidence"])
def test_bands_are_those_of_the_file(folder: Path, item: pystac.Item, key: str) -> None:
    bands = RasterExtension.ext(item.assets[key]).bands or []
    common: list[dict[str, Any]] = item.assets[key].extra_fields["bands"]
    with rasterio.open(folder / f"{key}.tif") as file:
        assert [str(band.data_type) for band in bands] == list(file.dtypes)
        assert [band.nodata for band in bands] == [band["nodata"] for band in common] == list(file.nodatavals)
        assert {band.spatial_resolution for band in bands} == {10.0}


def test_legend_is_that_of_the_map(item: pystac.Item) -> None:
    found = ClassificationExtension.ext(item.assets["landcover"]).classes or []
    assert [(entry.value, entry.title, entry.color_hint) for entry in found[1:]] == [
        (entry.code, entry.name, entry.colour[1:].upper()) for entry in CLASSES
    ]
    names = [entry.name for entry in found]
    assert names == ["no_data", "maize_corn", "foret", "maize_corn_7", "no_data_9", "class_200"]
    assert [entry.nodata for entry in found] == [True, *[None] * len(CLASSES)]


def test_grid_without_code_is_described(tmp_path: Path) -> None:
    crs = CRS.from_proj4("+proj=laea +lat_0=10 +lon_0=20 +datum=WGS84 +units=m")
    grid = Grid(crs, Affine(20, 0, 0, 0, -20, 0), 5, 5)
    write_item(
        tmp_path / "item.json",
        id="x",
        grid=grid,
        region=box(20, 9, 21, 10),
        start=datetime(2023, 1, 1, tzinfo=UTC),
        end=datetime(2023, 1, 1, tzinfo=UTC),
        assets={},
        properties={},
    )
    properties = json.loads((tmp_path / "item.json").read_text(encoding="utf-8"))["properties"]
    assert properties["proj:code"] is None
    assert CRS.from_wkt(properties["proj:wkt2"]) == crs
