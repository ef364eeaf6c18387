from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pystac
import pytest
from hypothesis import given
from hypothesis import strategies as st
from passes import prepared, wanted
from scenery import make_item, noise, utm_grid, write_tif
from shapely.geometry import box

from eearth.errors import SourceError
from eearth.geo.grid import Window
from eearth.geo.imagery.scenes import Scene, acquisitions, prepare_scenes, sample_grids, without_duplicates
from eearth.geo.radiometry import Radiometry

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

GRID = utm_grid(40, 60)
BASELINE = "s2:processing_baseline"


def granule(
    name: str, when: str = "2023-08-15T10:00:00+00:00", tile: str | None = "A", **properties: Any
) -> pystac.Item:
    tiled = {} if tile is None else {"grid:code": f"MGRS-{tile}"}
    return make_item(name, {}, GRID, time=when, properties={"platform": "sentinel-2a", **tiled, **properties})


def scene(item: pystac.Item) -> Scene:
    assert item.datetime is not None
    return Scene(item, item.datetime, (), None, Radiometry(None, ""), box(0, 0, 1, 1))


def groups_of(*items: pystac.Item) -> list[list[str]]:
    return [group.ids.split() for group in acquisitions(map(scene, items))]


# --- Duplicates


def test_the_highest_baseline_stands_for_its_granule_then_the_last_update() -> None:
    items = [
        granule("old", **{BASELINE: "04.00", "updated": "2024-01-01T00:00:00Z"}),
        granule("new", **{BASELINE: "05.10", "updated": "2023-01-01T00:00:00Z"}),
        granule("newest", "2023-08-15T10:00:30+00:00", **{BASELINE: "05.10", "updated": "2023-02-01T00:00:00Z"}),
        granule("other tile", tile="B", **{BASELINE: "04.00"}),
        granule("other platform", platform="sentinel-2b", **{BASELINE: "04.00"}),
        granule("other_day", "2023-08-18T10:00:00+00:00", **{BASELINE: "04.00"}),
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


def halves() -> dict[str, pystac.Item]:
    """A granule in two parts, west and east, and in one: each in two baselines."""
    parts = {"west": Window(0, 0, 40, 30), "east": Window(0, 30, 40, 30), "whole": Window(0, 0, 40, 60)}
    return {
        f"{part}-{baseline}": make_item(
            f"{part}-{baseline}", {}, GRID.crop(window),
            properties={"platform": "s", "grid:code": "A", BASELINE: baseline},
        )
        for part, window in parts.items()
        for baseline in ("04.00", "05.10")
    }  # fmt: skip


def test_each_part_of_a_granule_is_kept_in_its_highest_baseline() -> None:
    items = halves()
    kept, replaced = without_duplicates([items[f"{part}-{b}"] for b in ("04.00", "05.10") for part in ("west", "east")])
    assert sorted(item.id for item in kept) == ["east-05.10", "west-05.10"]
    assert replaced == {"east-04.00": "east-05.10", "west-04.00": "west-05.10"}
    kept, replaced = without_duplicates([items["whole-04.00"], items["west-05.10"], items["west-04.00"]])
    assert [item.id for item in kept] == ["west-05.10", "whole-04.00"]
    assert replaced == {"west-04.00": "west-05.10"}


BASELINES = st.sampled_from(["02.14", "05.00", "05.10"])
MOMENTS = st.sampled_from(["10:00:00", "10:00:40", "10:05:00"])
ITEMS = st.lists(
    st.one_of(
        st.sampled_from(sorted(halves())).map(halves().__getitem__),
        st.builds(
            lambda number, tile, moment, baseline: granule(
                f"g{number}", f"2023-08-15T{moment}+00:00", tile, **{BASELINE: baseline}
            ),
            st.integers(0, 50), st.sampled_from(["A", "B", None]), MOMENTS, BASELINES,
        ),
    ),
    max_size=12, unique_by=lambda item: item.id,
)  # fmt: skip


@given(ITEMS, st.randoms(use_true_random=False))
def test_what_is_left_does_not_depend_on_the_order_and_stands_for_all(items: list[pystac.Item], random: Any) -> None:
    kept, replaced = without_duplicates(items)
    names = {item.id for item in kept}
    assert names | replaced.keys() == {item.id for item in items}
    assert not names & replaced.keys()
    by_name = {item.id: item for item in items}
    for name, better in replaced.items():
        one, other = by_name[name], by_name[better]
        assert better in names
        assert one.properties["grid:code"] == other.properties["grid:code"]
        assert str(one.datetime)[:16] == str(other.datetime)[:16]
        assert one.properties[BASELINE] <= other.properties[BASELINE]
    again, nothing = without_duplicates(kept)
    assert [item.id for item in again] == [item.id for item in kept]
    assert nothing == {}
    random.shuffle(items)
    shuffled, same = without_duplicates(items)
    assert ({item.id for item in shuffled}, same) == (names, replaced)


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
    (one,) = prepared([item], utm_grid(50, 50), wanted(bands))
    assert {source.offset for source in one.bands} == {offset}


def test_a_cloud_in_the_middle_does_not_decide(tmp_path: Path) -> None:
    """Bright cloud over the centre, dark ground without the thousand around it."""
    blue = np.full((900, 900), 400, np.uint16)
    blue[300:600, 300:600] = 6000
    item = dated(tmp_path, blue)
    classes = np.where(blue > 1000, 9, 4).astype(np.uint8)
    write_tif(tmp_path / "scl.tif", classes, utm_grid(900, 900))
    (one,) = prepared([item], utm_grid(900, 900), wanted(("nir",)))
    assert one.bands[0].offset == 0.0
    assert one.radiometry.reason.endswith("DN 400")


def test_a_scene_under_cloud_takes_its_offset_from_the_baseline(tmp_path: Path) -> None:
    item = dated(tmp_path, np.full((50, 50), 6000, np.uint16), scl=9)
    (one,) = prepared([item], utm_grid(50, 50), wanted(("blue",)))
    assert one.radiometry.reason == "offset -0.1 by its baseline; no clear pixel to test"


def test_samples_are_the_centre_and_then_the_whole() -> None:
    grid = utm_grid(1000, 600)
    centre, whole = sample_grids(grid)
    assert grid.offset_of(centre) == (372, 172)
    assert centre.shape == whole.shape == (256, 256)
    assert whole.bounds == pytest.approx(grid.bounds)


def test_number_type_and_nodata_are_asked_of_the_file_where_the_metadata_are_silent(tmp_path: Path) -> None:
    path = write_tif(tmp_path / "blue.tif", noise(GRID), GRID, nodata=7)
    item = make_item("it", {"blue": path}, GRID, band_facts=None)
    ((blue,),) = (one.bands for one in prepared([item], GRID, wanted(("blue",))))
    assert (blue.dtype, blue.nodata, blue.scale) == ("uint16", 7, 1.0)


def test_a_missing_band_or_mask_is_named(tmp_path: Path) -> None:
    item = dated(tmp_path, np.full((50, 50), 400, np.uint16))
    with pytest.raises(SourceError, match="expected the band 'swir16'"):
        wanted(("blue", "swir16")).sources(item)
    with pytest.raises(SourceError, match="expected the mask asset 'qa'"):
        wanted(("blue",), "qa").mask(item)


def test_a_scene_whose_header_cannot_be_read_is_left_out_by_name(tmp_path: Path) -> None:
    """Only where the header is needed: the metadata may tell all that it holds."""
    path = write_tif(tmp_path / "blue.tif", noise(GRID), GRID)
    items = [
        make_item("whole", {"blue": path}, GRID, band_facts=None),
        make_item("gone", {"blue": tmp_path / "nowhere.tif"}, GRID, band_facts=None),
        make_item("told", {"blue": tmp_path / "nowhere.tif"}, GRID),
    ]
    scenes, failed = prepare_scenes(items, wanted(("blue",)), GRID, longitude=15.0, workers=2)
    assert [one.item.id for one in scenes] == ["whole", "told"]
    assert list(failed) == ["gone"]
    assert "nowhere.tif cannot be read" in failed["gone"]
