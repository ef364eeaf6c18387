"""A download across the antimeridian: Taveuni, Fiji, from tiles of the UTM zones 60 and 1."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import shapely
from loopback.memory import serve_memory
from loopback.pgstac import serve_pgstac
from pyproj import Transformer
from rasterio.crs import CRS
from scenery import utm_grid, write_tif
from shapely.geometry import MultiPolygon, box, mapping

from eearth.errors import SourceError
from eearth.geo.aoi import read_region
from eearth.geo.cube import CUBE, Cube
from eearth.geo.stac import SceneSearch, parse_time
from eearth.settings import DownloadSettings
from eearth.stages.download import download
from eearth.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from eearth.geo.grid import Grid

# Longitudes here go on beyond 180.
REGION = box(179.95, -16.93, 180.05, -16.86)
TILES = {"60": (32760, box(179.9, -16.98, 180.02, -16.81)), "01": (32701, box(179.98, -16.98, 180.1, -16.81))}
SIDE = 20

COLLECTION = {
    "type": "Collection",
    "stac_version": "1.0.0",
    "id": "fiji",
    "description": "A slope",
    "license": "CC0-1.0",
    "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [["2023-01-01T00:00:00Z", None]]}},
    "links": [],
}


def truth(longitude: NDArray[np.float64], latitude: NDArray[np.float64], band: str) -> NDArray[np.float64]:
    """A plane that rises by 4 from one pixel to the next; the bands rise to different sides."""
    east = (longitude - 180 + 180) % 360 - 180
    return 6000 + 20_000 * (east if band == "red" else -east) + 20_000 * (latitude + 16.9)


def lonlat(grid: Grid) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    to_lonlat = Transformer.from_crs(grid.crs.to_wkt(), 4326, always_xy=True)
    found: tuple[NDArray[np.float64], NDArray[np.float64]] = to_lonlat.transform(*np.meshgrid(grid.x(), grid.y()))
    return found


def shift(shape: Any, degrees: float) -> Any:
    return shapely.transform(shape, lambda xy: xy + (degrees, 0))  # noqa: RUF005


def forms(outline: Any) -> dict[str, Any]:
    """One outline as providers write it."""
    west, east = outline.intersection(box(0, -90, 180, 90)), shift(outline.intersection(box(180, -90, 360, 90)), -360)
    ring = shapely.transform(outline, lambda xy: np.column_stack([(xy[:, 0] + 180) % 360 - 180, xy[:, 1]]))
    return {"cut": MultiPolygon([west, east]), "ring": ring, "past": outline, "past -180": shift(outline, -360)}


def item(name: str, geometry: Any, assets: dict[str, Path]) -> dict[str, Any]:
    facts = [{"nodata": 0, "data_type": "uint16", "scale": 1e-4}]
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": [],
        "id": name,
        "collection": "fiji",
        "geometry": mapping(geometry),
        "bbox": list(geometry.bounds),
        "properties": {"datetime": f"2023-06-0{name[-1]}T22:00:00Z", "platform": "sentinel-2a", "eo:cloud_cover": 1},
        "links": [],
        "assets": {
            band: {"href": str(path), "type": "image/tiff; application=geotiff", "raster:bands": facts}
            for band, path in assets.items()
        },
    }


def write_tile(folder: Path, zone: str) -> dict[str, Path]:
    epsg, outline = TILES[zone]
    to_utm = Transformer.from_crs(4326, epsg, always_xy=True)
    left, bottom, right, top = to_utm.transform_bounds(*outline.bounds)
    left, top = round(left / SIDE) * SIDE, round(top / SIDE) * SIDE
    height, width = int((top - bottom) / SIDE), int((right - left) / SIDE)
    grid = utm_grid(height, width, left=left, top=top, side=SIDE, crs=CRS.from_epsg(epsg))
    folder.mkdir()
    return {
        band: write_tif(folder / f"{band}.tif", np.rint(truth(*lonlat(grid), band)).astype(np.uint16), grid)
        for band in ("red", "nir")
    }


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Both tiles on two days, in every form; and items that touch neither the region nor one of its boxes alone."""
    root = tmp_path_factory.mktemp("fiji")
    files = {zone: write_tile(root / zone, zone) for zone in TILES}
    west, east = forms(TILES["60"][1]), forms(TILES["01"][1])
    beyond = forms(shift(box(179.9, -16.8, 180.1, -16.7), 0))
    return [
        item("west-1", west["ring"], files["60"]),
        item("east-1", east["cut"], files["01"]),
        item("west-2", west["past"], files["60"]),
        item("east-2", east["past -180"], files["01"]),
        item("north-1", beyond["cut"], files["60"]),
        item("north-2", beyond["ring"], files["60"]),
        item("greenwich-1", box(-0.1, -17, 0.1, -16.8), files["60"]),
        item("beside-1", box(179.8, -17, 179.9, -16.8), files["60"]),
    ]


EXPECTED = ["east-1", "west-1", "east-2", "west-2"]


@pytest.fixture(scope="module")
def catalog(items: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("catalog")
    for entry in items:
        (folder / f"{entry['id']}.json").write_text(json.dumps(entry))
    links = [{"rel": "item", "href": f"./{entry['id']}.json", "type": "application/geo+json"} for entry in items]
    (folder / "collection.json").write_text(json.dumps({**COLLECTION, "links": links}))
    return folder


@pytest.fixture(scope="module")
def memory(items: list[dict[str, Any]]) -> Iterator[str]:
    with serve_memory([COLLECTION], items) as url:
        yield url


@pytest.fixture(scope="module")
def pgstac(items: list[dict[str, Any]]) -> Iterator[str]:
    with serve_pgstac([COLLECTION], items) as url:
        yield url


def region_file(folder: Path, shape: Any = REGION) -> Path:
    path = folder / "taveuni.geojson"
    path.write_text(json.dumps({"type": "Feature", "properties": {}, "geometry": mapping(shape)}))
    return path


@pytest.mark.parametrize("form", ["cut", "past", "past -180"])
@pytest.mark.parametrize("source", ["catalog", "memory", "pgstac"])
def test_a_search_brings_each_item_of_both_sides_once(
    request: pytest.FixtureRequest, tmp_path: Path, source: str, form: str
) -> None:
    region = read_region(region_file(tmp_path, forms(REGION)[form]))
    address = str(request.getfixturevalue(source))
    found = SceneSearch(address, "fiji").search(region, parse_time("2023"))
    assert [entry.id for entry in found.items] == EXPECTED
    assert found.matched == len(EXPECTED) + sum(found.removed.values())


@pytest.mark.parametrize("side", [-1, 1])
def test_a_box_on_each_side_is_asked_for(items: list[dict[str, Any]], tmp_path: Path, side: int) -> None:
    """An item that touches 180 degrees from one side only."""
    near = box(179.96, -16.9, 180, -16.89) if side < 0 else box(-180, -16.9, -179.96, -16.89)
    region = read_region(region_file(tmp_path))
    with serve_memory([COLLECTION], [item("only-1", near, {}), *items[4:]]) as url:
        found = SceneSearch(url, "fiji").search(region, parse_time("2023"))
        assert [entry.id for entry in found.items] == ["only-1"]
        with pytest.raises(SourceError, match=r"for instance by only-1\) but has none in 1999"):
            SceneSearch(url, "fiji").search(region, parse_time("1999"))


def test_nothing_on_either_side_names_both(tmp_path: Path) -> None:
    region = read_region(region_file(tmp_path, forms(REGION)["cut"]))
    with (
        serve_memory([COLLECTION], []) as url,
        pytest.raises(SourceError, match=r"at 179\.950\.\.180\.000 E, .* and -180\.000\.\.-179\.950 E, .* at any time"),
    ):
        SceneSearch(url, "fiji").search(region, parse_time("2023"))


@pytest.mark.parametrize("form", ["cut", "past", "past -180"])
@pytest.mark.parametrize(
    ("crs", "resolution", "epsg"), [(None, 20, 32701), ("EPSG:32760", 20, 32760), ("EPSG:3832", 20, 3832)]
)
def test_both_sides_land_on_one_grid(
    tmp_path: Path, catalog: Path, form: str, crs: str | None, *, resolution: float, epsg: int
) -> None:
    cube = downloaded(tmp_path, catalog, form, crs, resolution)
    assert cube.grid.crs.to_epsg() == epsg
    assert_true(cube, step=4 * (1.1 if epsg == 3832 else 1))


def test_a_grid_in_degrees_goes_on_beyond_180(tmp_path: Path, catalog: Path) -> None:
    cube = downloaded(tmp_path, catalog, "cut", "EPSG:4326", 0.0002)
    assert cube.grid.shape == (350, 500)
    assert cube.grid.bounds == pytest.approx((-180.05, -16.93, -179.95, -16.86))
    assert_true(cube, step=4)


def downloaded(folder: Path, catalog: Path, form: str, crs: str | None, resolution: float) -> Cube:
    region = region_file(folder, forms(REGION)[form])
    settings = DownloadSettings(
        region=region, catalog=str(catalog), datetime="2023", bands=("red", "nir"), crs=crs, resolution=resolution,
        mask_asset="none", resampling="bilinear",
    )  # fmt: skip
    workspace = Workspace(folder / "w")
    download(workspace, settings)
    return Cube.open(workspace.folder("download") / CUBE)


def assert_true(cube: Cube, step: float) -> None:
    """Every pixel of both days is seen, and shows the plane at its place."""
    assert list(cube.items) == ["east-1 west-1", "east-2 west-2"]
    longitude, latitude = lonlat(cube.grid)
    for date in range(2):
        assert cube.valid[date].all()
        for band, values in zip(cube.bands, np.asarray(cube.reflectance[date]), strict=True):
            assert np.abs(values - truth(longitude, latitude, band)).max() < step
