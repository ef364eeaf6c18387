from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
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
from stac_schemas import validate

from eearth.geo.grid import Grid
from eearth.geo.products.landcover.prediction import WHOLE, Prediction, Reason
from eearth.geo.products.landcover.writer import LandCoverWriter
from eearth.geo.products.metadata.item import write_item
from eearth.geo.products.metadata.map_item import SIDE_FILES, map_assets
from eearth.geo.products.metadata.provenance import MOST_LINKS, model_link, processing_fields, source_links
from eearth.settings import PredictSettings

if TYPE_CHECKING:
    from collections.abc import Callable


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
SETTINGS = PredictSettings(region=Path("secret/region.gpkg"), window_size=96)
GRID = Grid(CRS.from_epsg(32633), Affine(10, 0, 500_000, 0, -10, 5_000_000), 40, 60)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("map")
    (folder / "scratch").mkdir()
    out = LandCoverWriter(folder, folder / "scratch", GRID, CLASSES, {}, probabilities=True)
    ones = np.ones((40, 60), np.uint8)
    out.write(0, GRID.window, Prediction(ones, ones, ones, ones, ones, ones, np.stack([ones] * len(CLASSES))))
    out.finish()
    for name, *_ in SIDE_FILES.values():
        (folder / name).write_text(name)
    tags = {"MODEL": "ab12", "ENCODER": "seasonal-unet", "BANDS": "red,nir", "COLLECTION": "sentinel-2-l2a"}
    dates = ("S2A_1 S2A_2", "S2B_3")
    write_item(
        folder / "item.json",
        id="site-2023",
        grid=GRID,
        region=shape(transform_geom(GRID.crs, "EPSG:4326", mapping(box(*GRID.bounds)))),
        start=datetime(2023, 3, 1),  # noqa: DTZ001 (a time without zone is what imagery has)
        end=datetime(2023, 10, 31, 12, tzinfo=UTC),
        assets=map_assets(folder, GRID, CLASSES),
        properties={"title": "Land cover", **processing_fields("Land cover", tags, dates, SETTINGS)},
        links=[model_link("finetune"), *source_links("https://user:pass@a.org/v1/?key=1", "s2", dates)],
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


def test_item_is_valid(item: pystac.Item) -> None:
    """Against the schemas of STAC 1.1 and of all extensions that it names."""
    checked = validate(item.to_dict(include_self_link=False, transform_hrefs=False))
    assert {"/".join(address.split("/")[3:5]) for address in checked[1:]} == {
        "projection/v2.0.0", "raster/v1.1.0", "classification/v2.0.0", "file/v2.1.0", "processing/v1.1.0",
    }  # fmt: skip
    assert len(item.assets) == 3 + len(SIDE_FILES)


@pytest.mark.parametrize(
    "change",
    [
        lambda item: item["properties"].update({"processing:software": ["eearth"]}),
        lambda item: item["properties"].update({"proj:shape": [1]}),
        lambda item: item["assets"]["landcover"]["classification:classes"][1].update({"name": "Maize & corn"}),
        lambda item: item["assets"]["confidence"]["raster:bands"][3]["classification:classes"][0].pop("value"),
        lambda item: item["assets"]["preview"].update({"file:checksum": "no digits"}),
        lambda item: item.pop("geometry"),
    ],
)
def test_the_schemas_refuse_what_is_wrong(item: pystac.Item, change: Callable[[dict[str, Any]], Any]) -> None:
    wrong = item.to_dict(include_self_link=False, transform_hrefs=False)
    change(wrong)
    with pytest.raises(pystac.STACValidationError):
        validate(wrong)


def test_item_says_what_it_was_made_from(item: pystac.Item) -> None:
    found = item.properties
    assert found["processing:software"]["eearth"] == version("eearth")
    assert found["processing:software"]["torch"] == version("torch")
    assert found["processing:level"] == "L4"
    assert found["processing:expression"]["expression"]["settings"]["window_size"] == 96
    assert "secret" not in json.dumps(found)
    assert "2 acquisitions of sentinel-2-l2a" in found["processing:lineage"]
    assert (found["eearth:model"], found["eearth:acquisitions"], found["gsd"]) == ("ab12", 2, 10)
    assert found["eearth:imagery"] == hashlib.sha256(b"S2A_1 S2A_2\nS2B_3").hexdigest()
    assert [link.href for link in item.get_links("derived_from")] == [
        "../finetune/item.json",
        *(f"https://a.org/v1/collections/s2/items/{name}" for name in ("S2A_1", "S2A_2", "S2B_3")),
    ]


def test_only_few_sources_that_have_an_address_are_linked() -> None:
    many = [f"S2_{number}" for number in range(MOST_LINKS + 1)]
    assert source_links("https://a.org", "s2", many) == []
    assert len(source_links("https://a.org", "s2", many[1:])) == MOST_LINKS
    assert source_links("/data/site/collection.json", "s2", many[:1]) == []
    assert source_links("https://a.org/catalog.json", "s2", many[:1]) == []
    assert source_links("https://a.org", None, many[:1]) == []


def test_every_band_of_a_map_is_described(folder: Path, item: pystac.Item) -> None:
    """In the order of the file; a band of codes says what they mean."""
    bands = item.assets["confidence"].extra_fields["bands"]
    with rasterio.open(folder / "confidence.tif") as file:
        assert tuple(band["name"] for band in bands) == file.descriptions
        assert [band.get("unit") for band in bands] == [unit or None for unit in file.units]
    assert all(band["description"] != band["name"] for band in bands)
    codes = {band["name"]: band["classification:classes"] for band in bands if "classification:classes" in band}
    assert {name: [entry["value"] for entry in classes] for name, classes in codes.items()} == {"reason": list(Reason)}
    probabilities = RasterExtension.ext(item.assets["probabilities"]).bands or []
    assert [band.scale for band in probabilities] == [1 / WHOLE] * len(CLASSES)


@pytest.mark.parametrize("key", ["landcover", "confidence", "probabilities"])
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
