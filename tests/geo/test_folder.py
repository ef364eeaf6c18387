from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning
from scenery import noise, utm_grid, write_tif
from shapely.geometry import box, shape

from eearth.errors import SourceError
from eearth.events import Event, Warned
from eearth.geo.aoi import Region
from eearth.geo.cube import CUBE, Cube
from eearth.geo.folder import Name, items_of, name_of
from eearth.geo.stac import SceneSearch, moment_of, parse_time
from eearth.settings import DownloadSettings
from eearth.stages.download import download
from eearth.workspace import Workspace

if TYPE_CHECKING:
    import pystac

GRID = utm_grid(64, 64)
NOISE = noise(GRID)


def put(folder: Path, name: str, *, grid: Any = GRID, bands: int = 1, **how: Any) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    write_tif(path, np.stack([noise(grid)] * bands), grid, nodata=how.pop("nodata", 0))
    if how:
        with rasterio.open(path, "r+") as file:
            for key, value in how.items():
                setattr(file, key, value)
    return path


def assets(items: list[pystac.Item]) -> dict[str, list[str]]:
    return {item.id: sorted(item.assets) for item in items}


# --- Names

words = st.from_regex(r"[abcXYZ079]{1,5}", fullmatch=True)  # a longer number might be a date
moments = st.datetimes(datetime(1972, 1, 1), datetime(2099, 12, 31), timezones=st.just(UTC)).map(  # noqa: DTZ001
    lambda moment: moment.replace(microsecond=0)
)
styles = st.sampled_from(["%Y%m%d", "%Y-%m-%d", "%Y%m%dT%H%M%S", "%Y-%m-%dT%H%M%S"])


@given(st.lists(words, min_size=1, max_size=4), moments, styles, st.sampled_from("_-. "), st.integers(0, 4))
def test_a_name_gives_back_what_it_was_made_of(
    parts: list[str], moment: datetime, style: str, joint: str, place: int
) -> None:
    written = list(parts)
    written.insert(place, moment.strftime(style))
    expected = moment if "T" in style else moment.replace(hour=0, minute=0, second=0)
    name = name_of(Path("folder", joint.join(written) + ".tif"))
    assert name == Name(expected, (), tuple(parts))
    assert name.band == parts[-1]


@pytest.mark.parametrize(
    ("path", "moment", "band"),
    [
        ("T33TVM_20230815T100559_B02_10m.jp2", "2023-08-15T10:05:59", "B02"),
        ("S2A_MSIL2A_20230815T100559_N0509_R022_T33TVM_20230815T143000_SCL_20m.tif", "2023-08-15T10:05:59", "SCL"),
        ("2023-08-15.red.tif", "2023-08-15", "red"),
        ("red_20230815.tif", "2023-08-15", "red"),
        ("20230815.tif", "2023-08-15", None),
        ("T33TVM_20230815.tif", "2023-08-15", None),
        ("20230815Z_nir.tif", "2023-08-15", "nir"),
        ("20230815T33TVM_nir.tif", "2023-08-15", "nir"),
        ("x_20231345_20230815_nir.tif", "2023-08-15", "nir"),
        ("32633000_2023-08-15_nir.tif", "2023-08-15", "nir"),
        ("2023-08-15/nir.tif", "2023-08-15", "nir"),
        ("S2_20230815T100559/a/nir.tif", "2023-08-15T10:05:59", "nir"),
        ("20220101/x_20230815_nir.tif", "2023-08-15", "nir"),
        ("19651224_nir.tif", None, None),
        ("202308151_nir.tif", None, None),
        ("120230815_nir.tif", None, None),
        ("2023-0815_nir.tif", None, None),
        ("2023_nir.tif", None, None),
        ("nir.tif", None, None),
    ],
)
def test_names_as_people_give_them(path: str, moment: str | None, band: str | None) -> None:
    name = name_of(Path("folder") / path)
    assert (name and name.time.isoformat().removesuffix("+00:00").removesuffix("T00:00:00")) == moment
    assert (name and name.band) == band


def test_the_folders_own_name_may_hold_the_date(tmp_path: Path) -> None:
    put(tmp_path / "S2_2023-08-15", "B02.tif")
    assert assets(items_of(tmp_path / "S2_2023-08-15")) == {"20230815": ["B02"]}


# --- Items


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (
            ["20230815_B02.tif", "20230815_B04.TIF", "20230815_SCL.tiff", "20230816_B02.tif"],
            {"20230815": ["B02", "B04", "SCL"], "20230816": ["B02"]},
        ),
        (
            ["T33TVM_20230815_red.tif", "T33TVM_20230815_nir.tif", "T33TWM_20230815_red.tif"],
            {"T33TVM_20230815": ["nir", "red"], "T33TWM_20230815": ["red"]},
        ),
        (
            ["20230815T100559_red.tif", "20230815T100614_red.tif"],
            {"20230815T100559": ["red"], "20230815T100614": ["red"]},
        ),
        (["red/20230815_red.tif", "nir/20230815_nir.tif"], {"20230815": ["nir", "red"]}),
        (["a/20230815_red.tif", "b/20230815_red.tif"], {"a_20230815": ["red"], "b_20230815": ["red"]}),
        (["20230815/a_red.tif", "20230815/a_nir.tif", "20230816/a_red.tif"],
         {"a_20230815": ["nir", "red"], "a_20230816": ["red"]}),
        (["R10m/20230815_B02_10m.tif", "R20m/20230815_B11_20m.tif"], {"20230815": ["B02", "B11"]}),
        ([".hidden/20230815_red.tif", "20230815_nir.tif", "._20230815_red.tif"], {"20230815": ["nir"]}),
    ],
)  # fmt: skip
def test_files_of_one_tile_and_time_are_one_item(
    tmp_path: Path, names: list[str], expected: dict[str, list[str]]
) -> None:
    for name in names:
        put(tmp_path, name)
    items = items_of(tmp_path)
    assert assets(items) == expected
    assert [item.datetime for item in items] == sorted(item.datetime for item in items if item.datetime)
    hrefs = {asset.href for item in items for asset in item.assets.values()}
    assert hrefs <= {str(tmp_path.resolve() / name) for name in names}
    assert len(hrefs) == sum(map(len, expected.values()))


@pytest.mark.parametrize("mask", ["T1_20230815_SCL.tif", None])
def test_a_stack_keeps_its_bands_and_finds_its_mask(tmp_path: Path, mask: str | None) -> None:
    put(tmp_path, "T1_20230815_stack.tif", bands=3, descriptions=("red", "nir", None))
    if mask:
        put(tmp_path, mask)
    (item,) = items_of(tmp_path)
    assert item.id == ("T1_20230815" if mask else "T1_stack_20230815")
    assert sorted(item.assets) == (["SCL", "stack"] if mask else ["stack"])
    assert [band["name"] for band in item.assets["stack"].extra_fields["eo:bands"]] == ["red", "nir", "B3"]


def test_bands_without_names_are_numbered(tmp_path: Path) -> None:
    put(tmp_path, "20230815.tif", bands=2)
    put(tmp_path, "20230816.tif", descriptions=("ndvi",))
    put(tmp_path, "20230817.tif", bands=2, descriptions=("red", "red"))
    first, second, third = items_of(tmp_path)
    assert [band["name"] for band in first.assets["data"].extra_fields["eo:bands"]] == ["B1", "B2"]
    assert list(second.assets) == ["ndvi"]
    assert [band["name"] for band in third.assets["data"].extra_fields["eo:bands"]] == ["B1", "B2"]


def test_of_two_pixel_sizes_the_smaller_counts(tmp_path: Path) -> None:
    fine = put(tmp_path, "20230815_B02_10m.tif")
    put(tmp_path, "20230815_B02_20m.tif", grid=utm_grid(32, 32, side=20))
    (item,) = items_of(tmp_path)
    assert item.assets["B02"].href == str(fine.resolve())


def test_the_facts_are_the_files_own(tmp_path: Path) -> None:
    put(tmp_path, "20230815_red.tif", nodata=7, scales=(1e-4,), offsets=(-0.1,))
    put(tmp_path, "20230815_nir.tif", nodata=None)
    write_tif(tmp_path / "20230815_dem.tif", NOISE.astype(np.float32), GRID, nodata=np.nan)
    (item,) = items_of(tmp_path)
    facts = {key: asset.extra_fields["raster:bands"] for key, asset in item.assets.items()}
    assert facts == {
        "red": [{"data_type": "uint16", "nodata": 7.0, "scale": 1e-4, "offset": -0.1}],
        "nir": [{"data_type": "uint16"}],
        "dem": [{"data_type": "float32", "nodata": "nan"}],
    }
    said = item.assets["red"].extra_fields
    assert said["proj:code"] == "EPSG:32633"
    assert said["proj:shape"] == [64, 64]
    assert said["proj:transform"] == list(GRID.transform)[:6]
    assert said["proj:bbox"] == list(GRID.bounds)
    assert item.to_dict()["stac_version"].startswith("1.")


def test_the_footprint_holds_all_files(tmp_path: Path) -> None:
    put(tmp_path, "20230815_red.tif")
    put(tmp_path, "20230815_nir.tif", grid=utm_grid(64, 64, left=500_640))
    (item,) = items_of(tmp_path)
    west, south, east, north = shape(item.geometry).bounds
    assert item.bbox == [west, south, east, north]
    assert (west, north) == pytest.approx((15, 45.1535), abs=2e-3)
    assert (east - west) * 111_320 * np.cos(np.radians(north)) == pytest.approx(1280, rel=0.01)
    assert (north - south) * 111_150 == pytest.approx(640, rel=0.01)


def test_across_180_degrees_the_footprint_is_cut(tmp_path: Path) -> None:
    grid = utm_grid(64, 64, left=819_300, top=8_120_400, crs=CRS.from_epsg(32760))
    put(tmp_path, "20230815_red.tif", grid=grid)
    (item,) = items_of(tmp_path)
    footprint = shape(item.geometry)
    assert footprint.geom_type == "MultiPolygon"
    assert footprint.bounds[0] == -180
    assert footprint.bounds[2] == 180
    assert item.bbox is not None
    assert 179.9 < item.bbox[0] < 180
    assert -180 < item.bbox[2] < -179.9
    region = Region(box(-180.0005, -16.98, -179.9995, -16.979), "r")
    found = SceneSearch(str(tmp_path), None).search(region, parse_time("2023"))
    assert len(found.items) == 1


# --- Searches


def test_a_search_in_a_folder(tmp_path: Path) -> None:
    site = tmp_path / "site"
    for name in ("a_20230815_red.tif", "a_20230816_red.tif", "a_20240101_red.tif"):
        put(site, name)
    put(site, "b_20230815_red.tif", grid=utm_grid(64, 64, left=600_000))
    region = Region(box(15.001, 45.149, 15.002, 45.15), "r")
    found = SceneSearch(str(site), None).search(region, parse_time("2023"))
    assert [item.id for item in found.items] == ["a_20230815", "a_20230816"]
    assert (found.collection, found.matched) == ("site", 4)
    assert SceneSearch(str(site), "site").search(region, parse_time("2023")).items[0].id == "a_20230815"
    with pytest.raises(SourceError, match=r"expected the collection 'other' in .*site, found a folder of files: site"):
        SceneSearch(str(site), "other").search(region, parse_time("2023"))


def test_a_folder_with_a_collection_is_a_catalog(real_data: Path) -> None:
    region = Region(shape_of(real_data / "slovenia"), "r")
    assert len(SceneSearch(str(real_data / "slovenia"), None).search(region, parse_time("2015")).items) == 5


def shape_of(site: Path) -> Any:
    return gpd.read_file(site / "region.geojson").union_all()


def test_a_real_folder_without_its_catalog_gives_the_same_bands(real_data: Path, tmp_path: Path) -> None:
    """The files of a real catalog, renamed: the same dates, grids and assets come out."""
    region = Region(shape_of(real_data / "slovenia"), "r")
    told = SceneSearch(str(real_data / "slovenia"), None).search(region, parse_time("2015")).items
    for item in told:
        for key, asset in item.assets.items():
            href = asset.get_absolute_href() or ""
            if href.endswith(".tif"):
                shutil.copy(href, tmp_path / f"{item.datetime:%Y%m%dT%H%M%S}_{key}.tif")
    found = SceneSearch(str(tmp_path), None).search(region, parse_time("2015")).items
    assert [moment_of(item) for item in found] == [moment_of(item).replace(microsecond=0) for item in told]
    for mine, theirs in zip(found, told, strict=True):
        rasters = {key for key, asset in theirs.assets.items() if asset.href.endswith(".tif")}
        assert set(mine.assets) == rasters
        assert shape(mine.geometry).buffer(1e-4).covers(shape(theirs.geometry).intersection(shape(mine.geometry)))


# --- What cannot be used


def test_files_that_cannot_be_used_are_named_in_one_warning(tmp_path: Path) -> None:
    put(tmp_path, "20230815_red.tif")
    put(tmp_path, "sub/mask.tif")
    (tmp_path / "20230816_red.tif").write_text("no image")
    (tmp_path / "20230817_red.tif").write_bytes(b"")
    with (
        pytest.warns(NotGeoreferencedWarning),
        rasterio.open(tmp_path / "20230818_red.tif", "w", driver="GTiff", width=8, height=8, count=1, dtype="uint8"),
    ):
        pass
    (tmp_path / "notes.txt").write_text("20230815")
    heard: list[Event] = []
    assert assets(items_of(tmp_path, heard.append)) == {"20230815": ["red"]}
    (warned,) = heard
    assert isinstance(warned, Warned)
    assert "\n" not in warned.text
    assert warned.text.startswith(f"4 of 5 files in {tmp_path} are left out: 20230816_red.tif (no raster (")
    assert "20230818_red.tif (no coordinate reference system)" in warned.text
    assert "sub/mask.tif (no date in its name)" in warned.text
    assert "notes.txt" not in warned.text


def test_a_message_names_some_and_counts_the_rest(tmp_path: Path) -> None:
    for number in range(8):
        (tmp_path / f"{number}.tif").write_text("")
    with pytest.raises(SourceError, match=r"0\.tif \(no date in its name\), .*4\.tif \([a-z ]*\) and 3 more$"):
        items_of(tmp_path)


def test_a_folder_without_files_says_what_was_expected(tmp_path: Path) -> None:
    (tmp_path / "20230815_red.nc").write_text("")
    words = r"expected a catalog\.json, or GeoTIFFs with a date such as 20230815 in their names, in .*, found no \.tif"
    with pytest.raises(SourceError, match=words):
        SceneSearch(str(tmp_path), None).search(Region(box(0, 0, 1, 1), "r"), parse_time("2023"))


def test_a_download_from_a_folder_has_its_very_pixels(tmp_path: Path) -> None:
    site = tmp_path / "site"
    for day in ("20230601", "20230611"):
        for seed, band in enumerate(("B04", "B08")):
            put(site, f"T33TVM_{day}_{band}.tif", scales=(1e-4,))
            with rasterio.open(site / f"T33TVM_{day}_{band}.tif", "r+") as file:
                file.write(noise(GRID, seed=int(day) + seed), 1)
        put(site, f"T33TVM_{day}_SCL.tif")
        with rasterio.open(site / f"T33TVM_{day}_SCL.tif", "r+") as file:
            file.write(np.random.default_rng(0).choice([4, 9], GRID.shape).astype(np.uint16), 1)
    region = tmp_path / "region.geojson"
    gpd.GeoDataFrame(geometry=[GRID.footprint], crs=32633).to_crs(4326).to_file(region, driver="GeoJSON")
    settings = DownloadSettings(
        region=region, catalog=str(site), datetime="2023", bands=("red", "nir"), grid="native", min_coverage=0
    )
    done = download(Workspace(tmp_path / "w"), settings)
    assert done is not None
    assert done.records["collection"] == "site"
    cube = Cube.open(tmp_path / "w" / "imagery" / CUBE)
    assert cube.items == ("T33TVM_20230601", "T33TVM_20230611")
    row, col = cube.grid.offset_of(GRID) or (0, 0)
    for number, day in enumerate(("20230601", "20230611")):
        shown = np.asarray(cube.reflectance[number])[:, row : row + 64, col : col + 64]
        clear = np.random.default_rng(0).choice([4, 9], GRID.shape) == 4
        for seed in (0, 1):
            assert (shown[seed] == noise(GRID, seed=int(day) + seed)).all()
        assert (np.asarray(cube.valid[number])[row : row + 64, col : col + 64] == clear).all()
    assert (cube.encoding.dtype, cube.encoding.scale) == ("uint16", 1e-4)
