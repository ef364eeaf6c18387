from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pystac
import pytest
import rasterio
from scenery import make_item, noise, utm_grid, write_tif

from eearth.errors import SourceError
from eearth.geo.grid import Grid, Window
from eearth.geo.providers import COMMON_ENCODING, Encoding, Source, common_encoding
from eearth.geo.scenes import (
    Acquisition,
    Block,
    Scene,
    acquisitions,
    encode,
    prepare_scene,
    read_block,
    sample_grids,
    without_duplicates,
)
from eearth.settings import DownloadSettings

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

GRID = utm_grid(40, 60)
PLAIN = Encoding("uint16", 1e-4, 0.0, 0)
MASK_VALID = (4, 5)


def settings_for(region: Path, bands: tuple[str, ...], **values: Any) -> DownloadSettings:
    return DownloadSettings(region=region, bands=bands, **values)


def granule(
    name: str, when: str = "2023-08-15T10:00:00+00:00", tile: str | None = "A", **properties: Any
) -> pystac.Item:
    tiled = {} if tile is None else {"grid:code": f"MGRS-{tile}"}
    return make_item(name, {}, GRID, time=when, properties={"platform": "sentinel-2a", **tiled, **properties})


def scene(item: pystac.Item, bands: tuple[Source, ...] = (), mask: Source | None = None) -> Scene:
    from eearth.geo.providers import Radiometry
    from eearth.geo.scenes import _footprint

    assert item.datetime is not None
    return Scene(item, item.datetime, bands, mask, Radiometry(None, ""), _footprint(item))


def groups_of(*items: pystac.Item) -> list[list[str]]:
    return [group.ids.split() for group in acquisitions(map(scene, items))]


# --- Duplicates


def test_the_highest_baseline_stands_for_its_granule_then_the_last_update() -> None:
    baseline = "s2:processing_baseline"
    items = [
        granule("old", **{baseline: "04.00", "updated": "2024-01-01T00:00:00Z"}),
        granule("new", **{baseline: "05.10", "updated": "2023-01-01T00:00:00Z"}),
        granule("newest", "2023-08-15T10:00:30+00:00", **{baseline: "05.10", "updated": "2023-02-01T00:00:00Z"}),
        granule("other tile", tile="B", **{baseline: "04.00"}),
        granule("other platform", platform="sentinel-2b", **{baseline: "04.00"}),
        granule("other_day", "2023-08-18T10:00:00+00:00", **{baseline: "04.00"}),
    ]
    kept, replaced = without_duplicates(items)
    assert [item.id for item in kept] == ["newest", "other tile", "other platform", "other_day"]
    assert replaced == {"old": "newest", "new": "newest"}


def test_an_item_that_comes_twice_is_kept_once() -> None:
    kept, replaced = without_duplicates([granule("one"), granule("one"), granule("two", tile="B")])
    assert [item.id for item in kept] == ["one", "two"]
    assert replaced == {}


def test_items_without_a_tile_are_never_duplicates() -> None:
    kept, replaced = without_duplicates([granule("one", tile=None), granule("two", tile=None)])
    assert [item.id for item in kept] == ["one", "two"]
    assert replaced == {}


@pytest.mark.parametrize("field", ["grid:code", "s2:mgrs_tile", "s2:tile_id"])
def test_any_name_of_a_tile_tells_granules_apart(field: str) -> None:
    def named(name: str, tile: str) -> pystac.Item:
        return granule(name, tile=None, **{field: tile})

    kept, _ = without_duplicates([named("one", "33TWL"), named("two", "33TWL"), named("three", "33TWM")])
    assert [item.id for item in kept] == ["two", "three"]


# --- Passes


def test_tiles_of_one_pass_are_one_acquisition() -> None:
    north, south = granule("n", tile="N"), granule("s", "2023-08-15T10:00:14+00:00", tile="S")
    assert groups_of(south, north) == [["n", "s"]]


def test_two_orbits_two_platforms_and_two_days_are_apart() -> None:
    items = [
        granule("a"),
        granule("next_orbit", "2023-08-15T11:40:00+00:00", tile="B"),
        granule("other_platform", "2023-08-15T10:00:05+00:00", tile="B", platform="sentinel-2b"),
        granule("other_day", "2023-08-18T10:00:00+00:00"),
    ]
    assert groups_of(*items) == [["a"], ["other_platform"], ["next_orbit"], ["other_day"]]


def test_the_same_tile_again_is_another_acquisition() -> None:
    assert groups_of(granule("a"), granule("b", "2023-08-15T10:05:00+00:00")) == [["a"], ["b"]]


def test_a_long_pass_stays_together() -> None:
    start = datetime.fromisoformat("2023-08-15T10:00:00+00:00")
    items = [granule(str(n), (start + n * timedelta(minutes=6)).isoformat(), tile=f"T{n}") for n in range(5)]
    assert groups_of(*items) == [["0", "1", "2", "3", "4"]]


def test_real_tiles_of_one_pass(real_data: Path) -> None:
    paths = sorted((real_data / "austria" / "items").glob("*.json"))
    items = [pystac.Item.from_file(str(path)) for path in paths]
    kept, replaced = without_duplicates(items)
    assert (len(kept), replaced) == (10, {})
    groups = groups_of(*kept)
    assert len(groups) == 5
    for members in groups:
        assert sorted(name[4:9] for name in members) == ["33TWL", "33TWM"]
        assert len({name[10:18] for name in members}) == 1


# --- Pixels


def looked_up(source: Source, grid: Grid) -> NDArray[Any]:
    """The file's pixel under each pixel centre of a grid in the same CRS, 0 beside the file."""
    with rasterio.open(source.href) as file:
        values, bounds, (width, height) = file.read(1), file.bounds, file.res
    rows = np.floor((bounds.top - grid.y()) / height).astype(int)[:, None]
    cols = np.floor((grid.x() - bounds.left) / width).astype(int)[None, :]
    inside = (rows >= 0) & (rows < values.shape[0]) & (cols >= 0) & (cols < values.shape[1])
    return np.where(inside, values[rows.clip(0, values.shape[0] - 1), cols.clip(0, values.shape[1] - 1)], 0)


def naive_block(
    group: Acquisition, grid: Grid, classes: tuple[int, ...]
) -> tuple[NDArray[Any], NDArray[np.bool_], dict[str, tuple[int, int]]]:
    """Pixel by pixel: the first scene with all bands; without one, the first value of each band."""
    shown = [np.stack([looked_up(source, grid) for source in one.bands]) for one in group.scenes]
    masks = [np.full(grid.shape, classes[0]) if one.mask is None else looked_up(one.mask, grid) for one in group.scenes]
    values, valid = np.zeros_like(shown[0]), np.zeros(grid.shape, dtype=bool)
    counts = {one.item.id: [0, 0] for one in group.scenes}
    for row, col in np.ndindex(grid.shape):
        pixels = [stack[:, row, col] for stack in shown]
        whole = next((number for number, pixel in enumerate(pixels) if pixel.all()), None)
        if whole is None:
            values[:, row, col] = [next((v for v in column if v), 0) for column in zip(*pixels, strict=True)]
            continue
        values[:, row, col] = pixels[whole]
        valid[row, col] = masks[whole][row, col] in classes
        counts[group.scenes[whole].item.id][0] += 1
        counts[group.scenes[whole].item.id][1] += int(valid[row, col])
    return values, valid, {name: (seen, clear) for name, (seen, clear) in counts.items()}


def made_scene(folder: Path, name: str, grid: Grid, seed: int, *, mask: bool = True, tile: str = "A") -> Scene:
    """Two bands with holes of their own, and a mask."""
    random = np.random.default_rng(seed)
    files = {}
    for band in ("blue", "red"):
        values = noise(grid, int(random.integers(1e6)))
        values[random.random(grid.shape) < 0.3] = 0
        files[band] = write_tif(folder / f"{name}-{band}.tif", values, grid)
    classes = random.integers(0, 7, grid.shape).astype(np.uint8)
    files["scl"] = write_tif(folder / f"{name}-scl.tif", classes, grid)
    item = make_item(name, files, grid, properties={"platform": "x", "grid:code": tile})
    settings = settings_for(folder, ("blue", "red"), mask_asset=None if mask else "none", mask_valid=MASK_VALID)
    return prepare_scene(item, settings, sample_grids(grid))


@pytest.mark.parametrize("mask", [True, False])
def test_a_mosaic_is_the_naive_one(tmp_path: Path, *, mask: bool) -> None:
    left = made_scene(tmp_path, "left", GRID.crop(Window(0, 0, 30, 35)), 1, mask=mask)
    right = made_scene(tmp_path, "right", GRID.crop(Window(5, 20, 30, 35)), 2, mask=mask, tile="B")
    group = Acquisition((left, right))
    block = read_block(group, GRID, PLAIN, mask_valid=MASK_VALID, resampling="nearest")
    values, valid, contributed = naive_block(group, GRID, MASK_VALID)
    np.testing.assert_array_equal(block.values, values)
    np.testing.assert_array_equal(block.valid, valid)
    assert block.contributed == contributed


def test_the_mosaic_of_real_tiles(real_data: Path) -> None:
    """North and south tile of one pass, on a grid over their common border."""
    names = ("S2A_33TWM_20230815_0_L2A", "S2A_33TWL_20230815_0_L2A")
    items = [pystac.Item.from_file(str(real_data / "austria" / "items" / f"{name}.json")) for name in names]
    settings = settings_for(real_data, ("blue", "red"))
    grid = utm_grid(300, 200, left=555_000, top=5_099_040, side=60)
    scenes = [prepare_scene(item, settings, sample_grids(grid)) for item in items]
    (group,) = acquisitions(scenes)
    assert [one.item.id for one in group.scenes] == list(names)
    encoding = common_encoding([source for one in scenes for source in one.bands])
    assert encoding == PLAIN
    block = read_block(group, grid, encoding, mask_valid=settings.mask_valid, resampling="nearest")
    values, valid, contributed = naive_block(group, grid, settings.mask_valid)
    np.testing.assert_array_equal(block.values, values)
    np.testing.assert_array_equal(block.valid, valid)
    assert block.contributed == contributed
    assert all(seen > 10_000 for seen, _ in contributed.values())


def test_a_block_beside_the_scenes_is_empty(tmp_path: Path) -> None:
    group = Acquisition((made_scene(tmp_path, "a", GRID.crop(Window(0, 0, 8, 8)), 1),))
    far = utm_grid(5, 5, left=700_000)
    block: Block = read_block(group, far, PLAIN, mask_valid=MASK_VALID, resampling="nearest")
    assert not block.values.any()
    assert not block.valid.any()
    assert block.contributed == {}


# --- Radiometry


def dated(
    folder: Path, blue: NDArray[np.uint16], *, baseline: str = "05.09", scl: int = 4, **facts: Any
) -> pystac.Item:
    grid = utm_grid(*blue.shape)
    files = {
        "blue": write_tif(folder / "blue.tif", blue, grid),
        "nir": write_tif(folder / "nir.tif", np.full(blue.shape, 3000, np.uint16), grid),
        "scl": write_tif(folder / "scl.tif", np.full(blue.shape, scl, np.uint8), grid),
    }
    band = {"nodata": 0, "data_type": "uint16", "scale": 1e-4, **facts}
    return make_item("it", files, grid, properties={"s2:processing_baseline": baseline}, band_facts=[band])


@pytest.mark.parametrize(("level", "offset"), [(1100, -0.1), (300, 0.0)])
@pytest.mark.parametrize("bands", [("blue", "nir"), ("nir",)])
def test_the_thousand_is_looked_for_in_the_blue_band(
    tmp_path: Path, bands: tuple[str, ...], level: int, offset: float
) -> None:
    """Whichever bands are wanted: near infrared is above 1000 over any meadow."""
    item = dated(tmp_path, np.full((50, 50), level, np.uint16))
    one = prepare_scene(item, settings_for(tmp_path, bands), sample_grids(utm_grid(50, 50)))
    assert {source.offset for source in one.bands} == {offset}


def test_a_cloud_in_the_middle_does_not_decide(tmp_path: Path) -> None:
    """Bright cloud over the centre, dark ground without the thousand around it."""
    blue = np.full((900, 900), 400, np.uint16)
    blue[300:600, 300:600] = 6000
    item = dated(tmp_path, blue)
    classes = np.where(blue > 1000, 9, 4).astype(np.uint8)
    write_tif(tmp_path / "scl.tif", classes, utm_grid(900, 900))
    one = prepare_scene(item, settings_for(tmp_path, ("nir",)), sample_grids(utm_grid(900, 900)))
    assert one.bands[0].offset == 0.0
    assert one.radiometry.reason.endswith("DN 400")


def test_a_scene_under_cloud_takes_its_offset_from_the_baseline(tmp_path: Path) -> None:
    item = dated(tmp_path, np.full((50, 50), 6000, np.uint16), scl=9)
    one = prepare_scene(item, settings_for(tmp_path, ("blue",)), sample_grids(utm_grid(50, 50)))
    assert one.radiometry.reason == "offset -0.1 by baseline 05.09; no valid pixel to test"


def test_samples_are_the_centre_and_then_the_whole() -> None:
    grid = utm_grid(1000, 600)
    centre, whole = sample_grids(grid)
    assert grid.offset_of(centre) == (372, 172)
    assert centre.shape == whole.shape == (256, 256)
    assert whole.bounds == pytest.approx(grid.bounds)


def test_number_type_and_nodata_are_asked_of_the_file_where_the_metadata_are_silent(tmp_path: Path) -> None:
    path = write_tif(tmp_path / "blue.tif", noise(GRID), GRID, nodata=7)
    item = make_item("it", {"blue": path}, GRID, band_facts=None)
    (blue,) = prepare_scene(item, settings_for(tmp_path, ("blue",)), sample_grids(GRID)).bands
    assert (blue.dtype, blue.nodata, blue.scale) == ("uint16", 7, 1.0)


def test_a_missing_band_or_mask_is_named(tmp_path: Path) -> None:
    item = dated(tmp_path, np.full((50, 50), 400, np.uint16))
    samples = sample_grids(utm_grid(50, 50))
    with pytest.raises(SourceError, match="expected the band 'swir16'"):
        prepare_scene(item, settings_for(tmp_path, ("blue", "swir16")), samples)
    with pytest.raises(SourceError, match="expected the mask asset 'qa'"):
        prepare_scene(item, settings_for(tmp_path, ("blue",), mask_asset="qa"), samples)


# --- Encoding


def test_numbers_of_the_cubes_own_form_pass_untouched() -> None:
    values = np.array([[1, 65535]], dtype=np.uint16)
    assert encode(values, Source("", 1, 1e-4, 0.0, 0, "uint16"), PLAIN) is values


@pytest.mark.parametrize(
    ("values", "source", "expected"),
    [
        (np.array([1000, 1, 11000], np.uint16), Source("", 1, 1e-4, -0.1, 0, "uint16"), [0, -999, 10000]),
        (np.array([7273, 43636], np.uint16), Source("", 1, 2.75e-5, -0.2, 0, "uint16"), [0, 10000]),
        (np.array([0.123456, -0.05], np.float32), Source("", 1, 1.0, 0.0, None, "float32"), [1235, -500]),
        (np.array([9.9, -9.9], np.float32), Source("", 1, 1.0, 0.0, None, "float32"), [32767, -32767]),
    ],
)
def test_other_numbers_become_ten_thousandths(values: NDArray[Any], source: Source, expected: list[int]) -> None:
    stored = encode(values, source, COMMON_ENCODING)
    assert stored.dtype == np.int16
    assert stored.tolist() == expected
