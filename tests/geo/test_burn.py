from __future__ import annotations

import csv
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.features import rasterize
from rasterio.transform import Affine
from shapely.geometry import MultiPoint, Point, box

from eearth.errors import LabelError
from eearth.events import Advanced, Event, Note, Started
from eearth.geo.grid import Grid
from eearth.geo.labels import overlaps, strips
from eearth.geo.labels.burn import Burnt, Rules, burn
from eearth.geo.labels.coverage import least_share
from eearth.geo.labels.file import read_labels
from eearth.geo.labels.overlaps import Policy, write_conflicts

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SIDE = 10
GRID = Grid(CRS.from_epsg(32633), Affine(SIDE, 0, 500_000, 0, -SIDE, 5_000_000), 20, 30)


def on_grid(shape: Any) -> Any:
    """A shape drawn in pixels, x to the right and y down, as it lies on the ground."""
    return shapely.transform(shape, lambda xy: xy * (SIDE, -SIDE) + (500_000, 5_000_000))


def frame(shapes: list[Any], classes: list[str], crs: Any = 32633) -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame({"class": classes}, geometry=[on_grid(shape) for shape in shapes], crs=crs)


def burnt(
    shapes: list[Any],
    classes: list[str],
    overlap: Policy = "last",
    *,
    coverage: str = "centre",
    inner_buffer: float = 0.0,
    heard: list[Event] | None = None,
) -> Burnt:
    rules = Rules(least=least_share(coverage), inner_buffer=inner_buffer, overlap=overlap)
    return burn(frame(shapes, classes), GRID, rules, (heard if heard is not None else []).append)


# Three features of two classes: of the pixel in row 2, column 3 the first covers all, the second 0.7, the third 0.6.
# In row 2, column 4 the second and the third meet, which have one class.
OVER = [box(1, 1, 4, 5), box(3, 1, 6, 2.7), box(3.4, 2, 6, 5)]
NAMES = ["a", "b", "b"]


@pytest.mark.parametrize(("overlap", "owner"), [("last", 3), ("first", 1), ("largest", 1), ("drop", 0)])
def test_each_policy_gives_a_contested_pixel_to_another_feature(overlap: Policy, owner: int) -> None:
    found = burnt(OVER, NAMES, overlap)
    assert found.features[2, 3] == owner
    assert found.codes[2, 3] == (0, 1, 2, 2)[owner]
    assert found.features[1, 3] == {"last": 2, "first": 1, "largest": 2, "drop": 0}[overlap]  # covered whole by both
    assert (found.features[2, 1], found.features[4, 5]) == (1, 3)
    assert found.features[2, 4] == (2 if overlap == "first" else 3)  # no conflict: one class


def test_the_largest_share_decides_whatever_the_order() -> None:
    shapes = [box(0, 0, 3.6, 5), box(3.3, 0, 8, 5), box(3.2, 0, 8, 5)]
    for order in ([0, 1, 2], [2, 1, 0], [1, 0, 2]):
        found = burnt([shapes[i] for i in order], [f"c{i}" for i in order], "largest", coverage="0.3")
        assert found.features[2, 3] == order.index(2) + 1
        assert found.features[2, 2] == order.index(0) + 1


def test_an_overlap_can_be_an_error_that_names_two_features_and_the_place() -> None:
    place = r"features 1 \(`a`\) and 3 \(`b`\) at longitude 15\.0\d+, latitude 45\.1\d+: .*--overlap"
    with pytest.raises(LabelError, match="found 4 pixels that several claim, such as those of " + place) as caught:
        burnt(OVER, NAMES, "error")
    assert "\n" not in str(caught.value)
    assert burnt([*OVER[1:], box(10, 10, 15, 15)], ["b", "b", "a"], "error").conflicts.pixels == 0


def test_labels_of_one_class_may_overlap_and_touching_ones_of_two_do_not() -> None:
    found = burnt([box(0, 0, 5, 5), box(3, 3, 8, 8), box(8, 0, 12, 8)], ["a", "a", "b"], "error", coverage="touched")
    assert found.conflicts == overlaps.Conflicts(0, 0, 0, ())
    assert found.features[4, 4] == 2


def test_a_pixel_between_two_of_the_same_class_is_contested() -> None:
    """The first and the last feature agree, and the one between them does not."""
    found = burnt([box(0, 0, 4, 4), box(1, 1, 3, 3), box(0, 0, 4, 4), box(9, 9, 12, 12)], [*"abab"], "drop")
    assert found.conflicts.pixels == 4
    assert (found.codes == 0)[1:3, 1:3].all()


boxes = st.tuples(st.integers(0, 28), st.integers(0, 18), st.integers(1, 9), st.integers(1, 9)).map(
    lambda b: box(b[0], b[1], b[0] + b[2], b[1] + b[3])
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(boxes, st.sampled_from("abc")), min_size=2, max_size=12), st.integers(20, 400))
def test_conflicts_are_those_of_a_loop_over_pixels(drawn: list[tuple[Any, str]], strip: int) -> None:
    shapes, names = [shape for shape, _ in drawn], [name for _, name in drawn]
    shapes, names = [*shapes, Point(0.5, 0.5), Point(29.5, 19.5)], [*names, "a", "b"]
    masks = [rasterize([on_grid(shape)], GRID.shape, transform=GRID.transform) > 0 for shape in shapes]
    pairs: dict[tuple[int, int], int] = {}
    disputed = np.zeros(GRID.shape, dtype=bool)
    last = np.zeros(GRID.shape, dtype=int)
    for second, own in enumerate(masks):
        last[own] = second + 1
        for first in range(second):
            both = own & masks[first]
            if names[first] != names[second] and both.any():
                pairs[first + 1, second + 1] = int(both.sum())
                disputed |= both
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(strips, "STRIP_PIXELS", strip)
        found = burnt(shapes, names).conflicts, burnt(shapes, names).features
        dropped = (
            burnt(shapes, names, "drop").codes if not disputed.all() and _two_left(masks, names, disputed) else None
        )
    assert {(pair.first, pair.second): pair.pixels for pair in found[0].listed} == pairs
    assert (found[0].pixels, found[0].pairs) == (disputed.sum(), len(pairs))
    assert found[0].features == len({number for pair in pairs for number in pair})
    np.testing.assert_array_equal(found[1], last)
    if dropped is not None:
        np.testing.assert_array_equal(dropped > 0, (last > 0) & ~disputed)
    for pair in found[0].listed:
        here = gpd.GeoSeries([Point(pair.lon, pair.lat)], crs=4326).to_crs(32633).iloc[0]
        for number in (pair.first, pair.second):
            assert on_grid(shapes[number - 1]).distance(here) < 1e-3 or shapes[number - 1].geom_type == "Point"
        assert (pair.first_class, pair.second_class) == (names[pair.first - 1], names[pair.second - 1])


def _two_left(masks: list[NDArray[np.bool_]], names: list[str], disputed: NDArray[np.bool_]) -> bool:
    left = {name for mask, name in zip(masks, names, strict=True) if (mask & ~disputed).any()}
    return len(left) > 1


def test_the_list_of_conflicts_is_a_table_that_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ['crop, "dry"', "<b>wood</b>", "c", "d"]
    shapes = [box(0, 0, 8, 8), box(4, 4, 12, 12), box(11, 11, 14, 14), box(7, 0, 9, 1)]
    monkeypatch.setattr(overlaps, "LISTED", 2)
    found = burnt(shapes, names).conflicts
    assert (found.pairs, len(found.listed), found.pixels, found.features) == (3, 2, 18, 4)
    write_conflicts(tmp_path / "conflicts.csv", found)
    with (tmp_path / "conflicts.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["first", "second", "first_class", "second_class", "pixels", "lon", "lat"]
    assert rows[1][:5] == ["1", "2", names[0], names[1], "16"]
    assert [row[4] for row in rows[1:]] == ["16", "1"]


def test_many_labels_of_one_pixel_take_neither_time_nor_room() -> None:
    shapes = [Point(5.5, 5.5)] * 20_000 + [box(0, 0, 2, 2), box(3, 0, 5, 2)]
    found = burnt(shapes, ["a", "b"] * 10_000 + ["a", "b"])
    assert found.conflicts.pixels == 1
    assert found.conflicts.features == 20_000
    assert found.features[5, 5] == 20_000


def test_numbers_are_those_of_the_file() -> None:
    table = frame([box(0, 0, 5, 5), box(6, 6, 9, 9), box(12, 3, 15, 5)], ["a", "b", "c"])
    table.index = [4, 9, 70_000]
    rules = Rules(least=None, inner_buffer=0, overlap="last")
    features = burn(table, GRID, rules).features
    assert features.dtype == np.uint32
    assert np.unique(features).tolist() == [0, 5, 10, 70_001]
    assert features[4, 13] == 70_001


def test_points_take_part_in_file_order_and_cover_nothing() -> None:
    field, dot, rest = box(0, 0, 5, 5), MultiPoint([(2.5, 2.5), (2.7, 2.2), (40, 40)]), box(10, 10, 15, 15)
    assert burnt([field, dot, rest], ["a", "b", "b"]).features[2, 2] == 2
    assert burnt([dot, field, rest], ["b", "a", "b"]).features[2, 2] == 2
    assert burnt([dot, field, rest], ["b", "a", "b"], "first").features[2, 2] == 1
    assert burnt([field, dot, rest], ["a", "b", "b"], "largest").features[2, 2] == 1
    assert burnt([field, dot, rest], ["a", "b", "b"], "drop").features[2, 2] == 0
    assert burnt([field, dot, rest], ["a", "b", "b"], coverage="1").features[2, 2] == 2


def test_the_inner_buffer_drops_edge_pixels_and_names_what_vanishes() -> None:
    shapes = [box(2, 2, 9, 9), box(12, 2, 20, 10), box(22, 2, 23.9, 12), Point(25.5, 15.5)]
    heard: list[Event] = []
    found = burnt(shapes, ["a", "b", "a", "a"], inner_buffer=10, heard=heard)
    inside = np.zeros(GRID.shape, dtype=int)
    inside[3:8, 3:8], inside[3:9, 13:19], inside[15, 25] = 1, 2, 4
    np.testing.assert_array_equal(found.features, inside)
    assert found.vanished == (3,)
    assert Note(text="1 polygons vanish within the inner buffer of 10 m: features 3") in heard


def test_the_inner_buffer_is_in_metres_on_any_grid() -> None:
    for epsg, unit in ((2263, 0.3048006096), (32633, 1.0)):  # New York in US survey feet, UTM in metres
        left, top = (980_000, 200_000) if epsg == 2263 else (500_000, 5_000_000)
        grid = Grid(CRS.from_epsg(epsg), Affine(1 / unit, 0, left, 0, -1 / unit, top), 60, 60)
        west, east = (
            box(left + a / unit, top - 40 / unit, left + b / unit, top - 5 / unit) for a, b in ((5, 25), (28, 55))
        )
        table = gpd.GeoDataFrame({"class": ["a", "b"]}, geometry=[west, east], crs=epsg)
        codes = burn(table, grid, Rules(least=None, inner_buffer=4, overlap="last")).codes
        assert np.argwhere(codes == 1).min(axis=0).tolist() == [9, 9]
        assert np.argwhere(codes == 1).max(axis=0).tolist() == [35, 20]


def test_the_inner_buffer_is_even_on_a_grid_in_degrees() -> None:
    step = 1e-4  # at 60° N twice as high as wide
    grid = Grid(CRS.from_epsg(4326), Affine(step, 0, 10, 0, -step, 60), 100, 200)
    shapes = [box(10.001, 59.992, 10.009, 59.999), box(10.011, 59.992, 10.019, 59.999)]
    table = gpd.GeoDataFrame({"class": ["a", "b"]}, geometry=shapes, crs=4326)
    metres = 111_195.08 * step * 10
    codes = burn(table, grid, Rules(least=None, inner_buffer=metres, overlap="last")).codes
    assert np.argwhere(codes == 1).min(axis=0).tolist() == [20, 30]


def test_what_leaves_one_class_says_what_to_change() -> None:
    shapes = [box(0, 0, 9, 9), box(12, 0, 13, 9)]
    with pytest.raises(
        LabelError, match=r"only `a`: label more of the region, or run again with a smaller --inner-buf"
    ):
        burnt(shapes, ["a", "b"], inner_buffer=20)
    with pytest.raises(LabelError, match=r"run again with another --overlap, or where polygons are smaller"):
        burnt([box(0, 0, 9, 9), box(2, 2, 4, 4)], ["a", "b"], "drop")
    with pytest.raises(LabelError, match=r"found only `a`: label more of the region$"):
        burnt([box(0, 0, 9, 9), box(40, 40, 41, 41)], ["a", "b"], coverage="touched")


def test_a_filter_that_leaves_one_class_is_named(tmp_path: Path) -> None:
    table = gpd.GeoDataFrame({"class": ["a", "b"]}, geometry=[box(0, 0, 9, 9), box(10, 0, 19, 9)], crs=32633)
    table.to_file(tmp_path / "l.gpkg")
    labels = read_labels(tmp_path / "l.gpkg", where="class = 'a'")
    grid = Grid(CRS.from_epsg(32633), Affine(1, 0, 0, 0, -1, 20), 20, 20)
    with pytest.raises(LabelError, match=r"only `a`: run again with a --where that keeps more than `class = 'a'`, or"):
        burn(labels, grid, Rules(least=None, inner_buffer=0, overlap="last"))


def test_strips_give_what_the_whole_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    shapes = [Point(*rng.uniform((0, 0), (30, 20))).buffer(rng.uniform(0.2, 6)) for _ in range(60)]
    names = [str(name) for name in rng.choice(list("abcd"), 60)]
    for overlap in ("last", "first", "largest", "drop"):
        for coverage in ("centre", "0.4"):
            monkeypatch.setattr(strips, "STRIP_PIXELS", 10**7)
            whole = burnt(shapes, names, overlap, coverage=coverage)
            monkeypatch.setattr(strips, "STRIP_PIXELS", 50)
            heard: list[Event] = []
            parts = burnt(shapes, names, overlap, coverage=coverage, heard=heard)
            np.testing.assert_array_equal(parts.features, whole.features)
            assert parts.conflicts.pairs == whole.conflicts.pairs > 10
            assert sum(isinstance(event, Advanced) and event.task == strips.TASK for event in heard) > 10


def test_progress_adds_up() -> None:
    heard: list[Event] = []
    burnt(OVER, NAMES, heard=heard)
    for started in [event for event in heard if isinstance(event, Started)]:
        steps = [event.steps for event in heard if isinstance(event, Advanced) and event.task == started.task]
        assert sum(steps) == started.total
    assert all(one != other for one, other in pairwise(heard))


def test_features_beside_the_imagery_are_counted() -> None:
    heard: list[Event] = []
    found = burnt([*OVER, box(100, 100, 104, 104), Point(-50, 3)], [*NAMES, "a", "b"], heard=heard)
    assert found.left_out == {"outside the imagery": 2}
    assert Note(text="2 of 5 features lie outside the imagery") in heard
