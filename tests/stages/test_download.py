from __future__ import annotations

import json
import os
import re
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from forked import Running, eearth
from loopback.nginx import serve_files
from rasterio.enums import Resampling
from rasterio.features import geometry_mask
from rasterio.warp import reproject
from shapely.geometry import box

from eearth.errors import SourceError, UnreachableError
from eearth.events import Event, Note, Warned
from eearth.geo.cube import CUBE, Cube
from eearth.geo.grid import Grid
from eearth.manifest import Manifest
from eearth.settings import DownloadSettings
from eearth.stages.download import download
from eearth.workspace import Workspace

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from eearth.geo.imagery.pieces import Job

MASK_VALID = (4, 5, 6, 7, 11)
SENTINEL_2_BANDS = (
    "blue", "green", "red", "rededge1", "rededge2", "rededge3", "nir", "nir08", "swir16", "swir22",
)  # fmt: skip
ROMANIAN = ("blue", "green", "red", "nir", "nir08", "swir16")
# The command line, with blocks of one chunk: a small region then has several, as a large one has.
IN_SMALL_BLOCKS = "import eearth.geo.imagery.fetch as f; f.BLOCK = 64"


def succeed(*words: str | Path, prelude: str = "") -> subprocess.CompletedProcess[str]:
    done = eearth("download", *words, prelude=prelude)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def slovenia(stac_api: str, real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slovenia")
    succeed(
        real_data / "slovenia" / "region.geojson", "--catalog", stac_api, "--collection", "slovenia",
        "--mask-asset", "clm", "--mask-valid", "0", "--max-cloud", "100", "--datetime", "2015", "--grid", "native",
        "-w", folder,
    )  # fmt: skip
    return folder


def romanian_words(region: Path, catalog: str, folder: Path, when: str = "2018") -> list[str | Path]:
    return [
        region, "--catalog", catalog, "--collection", "romania", "--bands", ",".join(ROMANIAN), "--datetime", when,
        "--grid", "native", "-w", folder,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def romania(stac_api: str, real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("romania")
    succeed(*romanian_words(real_data / "romania" / "region.geojson", stac_api, folder))
    return folder


@pytest.fixture(scope="module")
def austria(stac_api: str, real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("austria")
    settings = DownloadSettings(
        region=real_data / "austria" / "region.geojson", catalog=stac_api, collection="austria", resolution=120,
        bands=("blue", "green", "red", "nir"), datetime="2023-08", max_cloud=60.0,
    )  # fmt: skip
    download(Workspace(folder), settings)
    return folder


def cube_of(folder: Path) -> tuple[Cube, NDArray[Any], NDArray[np.bool_]]:
    cube = Cube.open(folder / "imagery" / CUBE)
    return cube, np.asarray(cube.reflectance[...]), np.asarray(cube.valid[...])


def expected_items(real_data: Path, site: str, year: str) -> list[str]:
    items = [json.loads(path.read_text()) for path in (real_data / site / "items").glob("*.json")]
    kept = [i for i in items if i["properties"]["datetime"].startswith(year)]
    return [item["id"] for item in sorted(kept, key=lambda item: item["properties"]["datetime"])]


def cloud_share(classes: NDArray[Any], region: Path, grid: Grid) -> float:
    """Percent of the region's observed pixels that the scene classification does not call clear."""
    shapes = gpd.read_file(region).to_crs(grid.crs.to_wkt()).geometry
    observed = geometry_mask(shapes, grid.shape, grid.transform, invert=True) & (classes != 0)
    return float(100 * (1 - np.isin(classes[observed], MASK_VALID).mean()))


def cut_out(path: Path, grid: Grid) -> NDArray[Any]:
    """The pixels of a file on the same lattice, by rasterio alone."""
    with rasterio.open(path) as file:
        row = round((file.transform.f - grid.transform.f) / grid.resolution[1])
        col = round((grid.transform.c - file.transform.c) / grid.resolution[0])
        values: NDArray[Any] = file.read(1)[row : row + grid.height, col : col + grid.width]
    assert values.shape == grid.shape
    return values


def warped(path: Path, grid: Grid, resampling: Resampling, **scale: float) -> NDArray[Any]:
    with rasterio.open(path) as file:
        values: NDArray[Any] = np.zeros(grid.shape, dtype=file.dtypes[0])
        reproject(
            rasterio.band(file, 1), values, dst_transform=grid.transform, dst_crs=grid.crs, dst_nodata=0,
            resampling=resampling, **scale,
        )  # fmt: skip
    return values


# --- Pixels


def test_native_pixels_are_those_of_the_source(slovenia: Path, real_data: Path) -> None:
    cube, values, valid = cube_of(slovenia)
    names = expected_items(real_data, "slovenia", "2015")
    assert (cube.items, cube.bands) == (tuple(names), SENTINEL_2_BANDS)
    assert (cube.encoding.dtype, cube.scale, cube.offset, cube.encoding.fill) == ("uint16", 1e-4, 0.0, 0)
    for time_index, name in enumerate(names):
        assets = real_data / "slovenia" / "assets" / name
        for band_index, band in enumerate(cube.bands):
            np.testing.assert_array_equal(values[time_index, band_index], cut_out(assets / f"{band}.tif", cube.grid))
        clear = (cut_out(assets / "clm.tif", cube.grid) == 0) & (values[time_index] != 0).all(axis=0)
        np.testing.assert_array_equal(valid[time_index], clear)
    assert valid.any(axis=(1, 2)).sum() == 3  # two dates are masked as all cloud


def test_the_native_grid_is_the_bounding_box_of_the_region(slovenia: Path, real_data: Path) -> None:
    cube, _, _ = cube_of(slovenia)
    region = gpd.read_file(real_data / "slovenia" / "region.geojson").to_crs(cube.grid.crs.to_wkt())
    left, bottom, right, top = region.total_bounds
    width, height = cube.grid.resolution
    found = cube.grid.bounds
    margins = (
        (left - found[0]) / width,
        (bottom - found[1]) / height,
        (found[2] - right) / width,
        (found[3] - top) / height,
    )
    assert all(-1e-3 <= margin < 1 for margin in margins)


def test_coarser_bands_are_warped_once_and_masks_are_nearest(romania: Path, real_data: Path) -> None:
    cube, values, valid = cube_of(romania)
    region = real_data / "romania" / "region.geojson"
    folder = real_data / "romania" / "assets"
    masks = {
        name: warped(folder / name / "scl.tif", cube.grid, Resampling.nearest)
        for name in expected_items(real_data, "romania", "2018")
    }
    names = [name for name, classes in masks.items() if cloud_share(classes, region, cube.grid) <= 80]
    assert (cube.items, cube.bands) == (tuple(names), ROMANIAN)
    assert 0 < len(names) < len(masks)
    assert cube.grid.resolution == (10, 10)
    for time_index, name in enumerate(names):
        assets = folder / name
        for band_index, band in enumerate(cube.bands):
            path = assets / f"{band}.tif"
            fine = band not in ("nir08", "swir16")
            expected = cut_out(path, cube.grid) if fine else warped(path, cube.grid, Resampling.bilinear)
            np.testing.assert_array_equal(values[time_index, band_index], expected)
        clear = np.isin(masks[name], MASK_VALID) & (values[time_index] != 0).all(axis=0)
        np.testing.assert_array_equal(valid[time_index], clear)


def test_tiles_of_a_pass_are_one_date_and_the_offset_is_not_applied_twice(austria: Path, real_data: Path) -> None:
    cube, values, valid = cube_of(austria)
    assert [len(ids.split()) for ids in cube.items] == [2, 2, 2, 2]
    assert [str(moment)[:10] for moment in cube.times] == ["2023-08-13", "2023-08-15", "2023-08-18", "2023-08-20"]
    assert (cube.encoding.dtype, cube.scale, cube.offset) == ("uint16", 1e-4, 0.0)
    assert all(edge / 120 == round(edge / 120) for edge in cube.grid.bounds)
    for time_index, ids in enumerate(cube.items):
        missing = np.ones(cube.grid.shape, dtype=bool)
        for name in sorted(ids.split(), reverse=True):  # 33TWM was sensed first
            assets = real_data / "austria" / "assets" / name
            layers = np.stack([warped(assets / f"{b}.tif", cube.grid, Resampling.bilinear) for b in cube.bands])
            clear = np.isin(warped(assets / "scl.tif", cube.grid, Resampling.nearest), MASK_VALID)
            fresh = missing & (layers != 0).all(axis=0)
            difference = abs(values[time_index].astype(int) - layers)[:, fresh]
            assert difference.max() <= 1
            assert (difference > 0).mean() < 1e-3
            np.testing.assert_array_equal(valid[time_index][fresh], clear[fresh])
            missing &= ~fresh
        assert not valid[time_index][missing].any()
    dark = np.percentile(values[:, 0][valid], 1) * cube.scale
    assert 0 < dark < 0.06  # blue of forest and water; once more -0.1 would leave it below zero


# --- Records


def test_the_manifest_tells_what_each_scene_gave(austria: Path) -> None:
    manifest = Manifest.read(austria / "imagery")
    cube, values, valid = cube_of(austria)
    scenes = {scene["id"]: scene for scene in manifest.records["scenes"]}
    assert set(scenes) == {name for ids in cube.items for name in ids.split()}
    for time_index, ids in enumerate(cube.items):
        own = [scenes[name] for name in ids.split()]
        patched = (values[time_index] != 0).all(axis=0).sum() - sum(one["observed_pixels"] for one in own)
        assert 0 <= patched < 50  # along the border of the tiles each band may come from another one
        assert sum(one["valid_pixels"] for one in own) == valid[time_index].sum()
        assert all("already in the numbers" in one["radiometry"] and one["masked"] for one in own)
    left_out = [one["left_out"] for one in manifest.records["acquisitions"] if one["left_out"]]
    assert len(left_out) == 1
    assert re.fullmatch(r"cloud \(\d+ % of the region\)", left_out[0])
    assert manifest.figures["acquisitions"] == 4
    assert manifest.figures["scenes"] == 8
    assert manifest.figures["clear observations (least)"] == valid.sum(axis=0).min()
    assert Grid.from_dict(manifest.records["grid"]) == cube.grid


def test_beside_the_cube_lie_its_items_and_a_picture(slovenia: Path) -> None:
    assert sorted(path.name for path in (slovenia / "imagery").iterdir()) == [
        CUBE, "items.json", "manifest.json", "quicklook.png",
    ]  # fmt: skip
    assert [path.name for path in slovenia.iterdir()] == ["imagery"]
    items = gpd.read_file(slovenia / "imagery" / "items.json")
    assert len(items) == 5
    cube, _, _ = cube_of(slovenia)
    region = gpd.GeoSeries([cube.grid.footprint], crs=cube.grid.crs.to_wkt()).to_crs(4326).iloc[0]
    assert items.geometry.intersects(region).all()


# --- Again


def in_process(folder: Path, region: Path, catalog: str, **values: Any) -> tuple[Manifest, list[Event]]:
    heard: list[Event] = []
    settings = DownloadSettings(
        **{"region": region, "catalog": catalog, "collection": "slovenia", "bands": ("red", "nir"), "datetime": "2015",
           "max_cloud": 100.0, "grid": "native", "mask_asset": "clm", "mask_valid": (0,), **values},
    )  # fmt: skip
    return download(Workspace(folder), settings, heard.append), heard


def test_the_same_again_is_up_to_date(slovenia: Path, stac_api: str, real_data: Path) -> None:
    """Whether from the command line or from Python."""
    before = (slovenia / "imagery" / "manifest.json").read_bytes()
    region = real_data / "slovenia" / "region.geojson"
    made, heard = in_process(slovenia, region, stac_api, bands=None)
    assert made == Manifest.read(slovenia / "imagery")
    assert heard == [Note(text=f"{slovenia / 'imagery'} is up to date")]
    assert (slovenia / "imagery" / "manifest.json").read_bytes() == before


def part_of(real_data: Path, path: Path, share: float) -> Path:
    west, south, east, north = gpd.read_file(real_data / "slovenia" / "region.geojson").total_bounds
    shape = box(west, south, west + share * (east - west), north)
    gpd.GeoDataFrame(geometry=[shape], crs=4326).to_file(path, driver="GeoJSON")
    return path


def test_another_region_is_made_again(tmp_path: Path, real_data: Path) -> None:
    region = part_of(real_data, tmp_path / "r.geojson", 0.5)
    first, _ = in_process(tmp_path / "w", region, str(real_data))
    again, heard = in_process(tmp_path / "w", region, str(real_data))
    assert again == first
    assert [event.text for event in heard if isinstance(event, Note)][-1].endswith("is up to date")
    part_of(real_data, region, 0.25)
    second, _ = in_process(tmp_path / "w", region, str(real_data))
    assert second.digest != first.digest
    widths = [Grid.from_dict(manifest.records["grid"]).width for manifest in (first, second)]
    assert widths[1] < widths[0]
    assert Cube.open(tmp_path / "w" / "imagery" / CUBE).grid.width == widths[1]


@pytest.mark.parametrize("catalog", ["path", "url", "api"])
def test_any_catalog_gives_the_same_cube(
    tmp_path: Path, real_data: Path, asset_server: str, memory_api: str, catalog: str
) -> None:
    place = {"path": str(real_data), "url": f"{asset_server}/catalog.json", "api": memory_api}[catalog]
    manifest, _ = in_process(tmp_path, real_data / "slovenia" / "region.geojson", place)
    expected = in_process(tmp_path / "again", real_data / "slovenia" / "region.geojson", str(real_data))[0]
    assert manifest.outputs[CUBE] == expected.outputs[CUBE]
    assert manifest.records["scenes"] == expected.records["scenes"]


# --- Interruptions


def pieces_here(folder: Path) -> int:
    return len(
        [
            path
            for path in (folder / "imagery.partial" / "scratch" / "pieces").glob("*.piece")
            if "look" not in path.name
        ]
    )


def kill_when(process: Running, moment: Callable[[], bool]) -> bool:
    """True if the process was killed at the moment, False if it ended before."""
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if moment():
            with suppress(ProcessLookupError):  # it may have ended since
                os.killpg(process.pid, signal.SIGKILL)
                return True
        time.sleep(0.005)
    return False


def test_a_killed_download_goes_on_where_it_stopped(stac_api: str, real_data: Path, tmp_path: Path) -> None:
    region, when = real_data / "romania" / "region.geojson", "2018-06"
    download(
        Workspace(tmp_path / "whole"),
        DownloadSettings(
            region=region, catalog=stac_api, collection="romania", bands=ROMANIAN, datetime=when, grid="native"
        ),
    )
    words = romanian_words(region, stac_api, tmp_path / "killed", when)
    moments: list[Callable[[], bool]] = [
        lambda: pieces_here(tmp_path / "killed") >= 2,
        (tmp_path / "killed" / "imagery.partial" / CUBE).exists,
    ]
    for moment in moments:
        with Running("download", *words, prelude=IN_SMALL_BLOCKS) as process:
            killed = kill_when(process, moment)
        if not killed:
            break
        assert not (tmp_path / "killed" / "imagery").exists()
    succeed(*words, prelude=IN_SMALL_BLOCKS)
    whole, made = Manifest.read(tmp_path / "whole" / "imagery"), Manifest.read(tmp_path / "killed" / "imagery")
    assert made.outputs == whole.outputs
    assert made.digest == whole.digest
    assert [path.name for path in (tmp_path / "killed").iterdir()] == ["imagery"]


def test_finished_blocks_are_not_read_again(tmp_path: Path, real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The provider's server dies after 11 of 20 pieces; the next run reads the other nine."""
    from eearth.geo.imagery import fetch

    monkeypatch.setattr(fetch, "BLOCK", 64)
    region = real_data / "slovenia" / "region.geojson"
    expected, _ = in_process(tmp_path / "whole", region, str(real_data))
    read: Callable[[Job], bytes] = fetch.read_piece
    pieces: list[Job] = []

    def dying(job: Job) -> bytes:
        if len(pieces) == 11:
            msg = "the server is gone"
            raise UnreachableError(msg)
        pieces.append(job)
        return read(job)

    monkeypatch.setattr(fetch, "read_piece", dying)
    with pytest.raises(UnreachableError, match="gone"):
        in_process(tmp_path / "w", region, str(real_data), workers=1)
    assert pieces_here(tmp_path / "w") == 11
    monkeypatch.setattr(fetch, "read_piece", lambda job: (pieces.append(job), read(job))[1])
    pieces.clear()
    made, _ = in_process(tmp_path / "w", region, str(real_data), workers=1)
    assert len(pieces) == 9
    assert made.outputs == expected.outputs


def test_a_provider_that_often_fails(tmp_path: Path, real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from eearth.geo import catalog
    from eearth.geo.remote import transport

    monkeypatch.setattr(transport, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(catalog, "RETRY", catalog.RETRY.new(backoff_factor=0.01))
    region = real_data / "slovenia" / "region.geojson"
    expected, _ = in_process(tmp_path / "whole", region, str(real_data))
    with serve_files(real_data, error_rate=0.3) as url:
        made, _ = in_process(tmp_path / "w", region, f"{url}/slovenia/collection.json")
    assert made.outputs[CUBE] == expected.outputs[CUBE]


# --- What cannot be


def test_a_region_that_cannot_fit_the_disk_is_refused_at_once(tmp_path: Path) -> None:
    """Before the provider is asked: the catalog's address leads nowhere."""
    region = tmp_path / "r.geojson"
    gpd.GeoDataFrame(geometry=[box(14, 45, 15, 46)], crs=4326).to_file(region, driver="GeoJSON")
    started = time.monotonic()
    done = eearth("download", region, "--resolution", "0.01", "--catalog", "http://127.0.0.1:9/", "-w", tmp_path / "w")
    assert time.monotonic() - started < 15
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "MB free at" in done.stderr
    assert "take a smaller region" in done.stderr
    assert not (tmp_path / "w" / "imagery").exists()


def test_dates_that_cannot_fit_the_disk_are_refused(
    tmp_path: Path, real_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from eearth.errors import DiskError
    from eearth.geo.imagery import plan

    class Usage:
        free = 97 * 96 * 5 * (2 * 2 + 1) // 2 - 1

    monkeypatch.setattr(plan.shutil, "disk_usage", lambda _: Usage)
    region = real_data / "slovenia" / "region.geojson"
    with pytest.raises(DiskError, match=r"97 x 96 pixels x 5 date\(s\) x 2 band\(s\)"):
        in_process(tmp_path, region, str(real_data))
    Usage.free += 1
    assert in_process(tmp_path, region, str(real_data))[0].figures["acquisitions"] == 5


def test_scenes_without_a_mask_are_warned_of(tmp_path: Path, real_data: Path) -> None:
    region = real_data / "slovenia" / "region.geojson"
    _, heard = in_process(tmp_path / "a", region, str(real_data), mask_asset=None)
    warnings = [event.text for event in heard if isinstance(event, Warned)]
    assert len(warnings) == 1
    assert "5 of 5 scenes have no mask asset" in warnings[0]
    _, heard = in_process(tmp_path / "b", region, str(real_data), mask_asset="none")
    assert not [event for event in heard if isinstance(event, Warned)]
    _, values, valid = cube_of(tmp_path / "b")
    np.testing.assert_array_equal(valid, (values != 0).all(axis=1))


def test_pixels_never_seen_are_warned_of(tmp_path: Path, real_data: Path) -> None:
    region = real_data / "slovenia" / "region.geojson"
    with pytest.raises(SourceError, match=r"expected clear observations of 50 % .* found 0.0 %"):
        in_process(tmp_path, region, str(real_data), datetime="2015-08-20")
    _, heard = in_process(tmp_path, region, str(real_data), datetime="2015-08-20", min_coverage=0.0)
    texts = [event.text for event in heard if isinstance(event, Warned)]
    told = "9312 of 9312 pixels of the region have no clear observation at all; a map will show no data there"
    assert texts == [told]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"bands": ("red", "green9")}, "expected the band 'green9' in the item S2A_L1C_20150711"),
        ({"mask_asset": "qa"}, "expected the mask asset 'qa'"),
        ({"collection": "nowhere"}, "expected the collection 'nowhere'"),
        ({"datetime": "2016"}, "no scenes left of 5 in slovenia; removed: 5 by time"),
        ({"crs": "EPSG:3035"}, "expected either --grid native, which takes the source's CRS, or --crs, found both"),
        ({"grid": "snap", "crs": "EPSG:4326"}, "expected a --resolution in degrees for EPSG:4326, found none"),
        ({"grid": "snap", "crs": "nonsense"}, "for --crs, found 'nonsense'"),
        ({"catalog": "/nowhere"}, "found nothing at /nowhere"),
    ],
)
def test_what_a_user_can_mend(tmp_path: Path, real_data: Path, values: dict[str, Any], message: str) -> None:
    from eearth.errors import EearthError

    with pytest.raises(EearthError) as caught:
        in_process(
            tmp_path / "w", real_data / "slovenia" / "region.geojson", values.pop("catalog", str(real_data)), **values
        )
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "w" / "imagery").exists()


def test_a_grid_in_degrees(tmp_path: Path, real_data: Path) -> None:
    region = real_data / "slovenia" / "region.geojson"
    manifest, _ = in_process(tmp_path, region, str(real_data), grid="snap", crs="EPSG:4326", resolution=1e-4)
    cube, values, _ = cube_of(tmp_path)
    assert cube.grid.crs.to_epsg() == 4326
    assert manifest.figures["grid"] == f"{cube.grid.height} x {cube.grid.width}"
    with rasterio.open(real_data / "slovenia" / "assets" / cube.items[0] / "red.tif") as file:
        lon, lat = cube.grid.x()[20:-20], cube.grid.y()[20:-20]
        middle = float(np.median(file.read(1)))
    assert lon.size > 50
    assert lat.size > 40
    assert float(np.median(values[0, 0][values[0, 0] > 0])) == pytest.approx(middle, rel=0.1)


def test_secrets_of_the_address_stay_out_of_everything_written(tmp_path: Path, real_data: Path) -> None:
    with serve_files(real_data) as url:
        in_process(tmp_path, real_data / "slovenia" / "region.geojson", f"{url}/slovenia/collection.json?token=hush")
    for path in (tmp_path / "imagery").rglob("*"):
        assert path.is_dir() or b"hush" not in path.read_bytes()
