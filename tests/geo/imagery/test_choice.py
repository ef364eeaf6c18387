from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenery import make_item, utm_grid
from shapely.geometry import box

from eearth.geo.imagery.choice import Seen, choose
from eearth.geo.imagery.scenes import Acquisition, Scene
from eearth.geo.radiometry import Radiometry
from eearth.settings import DownloadSettings

GRID = utm_grid(8, 8)
SECOND = timedelta(seconds=1)
BEGIN = datetime(2023, 1, 1, tzinfo=UTC)


def acquisition(name: str, *clouds: float | None, day: float = 0) -> Acquisition:
    """One scene for each `eo:cloud_cover`."""
    scenes = []
    for number, cloud in enumerate(clouds or (None,)):
        said = {} if cloud is None else {"eo:cloud_cover": cloud}
        item = make_item(f"{name}{number or ''}", {}, GRID, properties=said)
        moment = BEGIN + timedelta(days=day)
        scenes.append(Scene(item, moment, (), None, Radiometry(None, ""), box(0, 0, 1, 1)))
    return Acquisition(tuple(scenes))


def settings(**asked: Any) -> DownloadSettings:
    return DownloadSettings(region="r.geojson", **asked)


def chosen(groups: list[Acquisition], seen: dict[str, Seen], **asked: Any) -> tuple[list[str], dict[str, str]]:
    kept, removed = choose(groups, seen, settings(**asked))
    return [group.ids for group in kept], removed


def test_clouds_over_the_region_count_and_not_what_the_scene_announces() -> None:
    groups = [acquisition("clear", 100.0), acquisition("cloudy", 0.0)]
    kept, removed = chosen(groups, {"clear": Seen(100, 50, 40), "cloudy": Seen(100, 50, 9)}, max_cloud=80)
    assert kept == ["clear"]
    assert removed == {"cloudy": "cloud (82 % of the region)"}


@pytest.mark.parametrize(("most", "kept"), [(19.9, []), (20, ["a"]), (100, ["a"])])
def test_the_share_may_be_just_as_large(most: float, kept: list[str]) -> None:
    assert chosen([acquisition("a")], {"a": Seen(50, 10, 8)}, max_cloud=most)[0] == kept


def test_what_shows_nothing_of_the_region_is_left_out_whatever_is_allowed() -> None:
    kept, removed = chosen([acquisition("beside", 0.0)], {"beside": Seen(100, 0, 0)}, max_cloud=100)
    assert (kept, removed) == ([], {"beside": "nothing of the region observed"})


def test_without_a_mask_the_best_scene_of_the_pass_announces_the_clouds() -> None:
    groups = [acquisition("a", 90.0, 30.0), acquisition("b", 81.0), acquisition("silent", None)]
    kept, removed = chosen(groups, {}, max_cloud=80)
    assert kept == ["a a1", "silent"]
    assert removed == {"b": "cloud (eo:cloud_cover 81 %, and no mask)"}


def test_the_clearest_of_each_span_and_then_of_the_rest() -> None:
    """Twelve days in three spans of four: none is in the middle one, so that one of the others comes in."""
    days = {"a": 0, "b": 1, "c": 3, "d": 9, "e": 12}
    groups = [acquisition(name, day=day) for name, day in days.items()]
    seen = {name: Seen(100, 100, clear) for name, clear in zip(days, (10, 60, 50, 20, 30), strict=True)}
    kept, removed = chosen(groups, seen, max_dates=3, max_cloud=100)
    assert kept == ["b", "c", "e"]
    assert removed == dict.fromkeys(("a", "d"), "beyond --max-dates 3")


def test_without_masks_the_announced_clouds_order() -> None:
    groups = [acquisition(name, cloud, day=day) for name, cloud, day in [("a", 40, 0), ("b", 10, 1), ("c", 20, 9)]]
    assert chosen(groups, {}, max_dates=2)[0] == ["b", "c"]


def test_one_moment_is_no_span() -> None:
    groups = [acquisition(name, cloud) for name, cloud in [("a", 40), ("b", 10), ("c", 20)]]
    assert chosen(groups, {}, max_dates=2)[0] == ["b", "c"]
    assert chosen([], {}, max_dates=2) == ([], {})


PASSES = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 100)), max_size=25, unique_by=lambda one: one[0])


@given(PASSES, st.integers(1, 12), st.integers(0, 100))
def test_a_few_dates_are_spread_and_each_the_clearest_of_its_span(
    passes: list[tuple[int, int]], most: int, max_cloud: int
) -> None:
    groups = [acquisition(f"d{day}", day=day) for day, _ in sorted(passes)]
    clear = {f"d{day}": percent for day, percent in passes}
    seen = {name: Seen(100, 100, percent) for name, percent in clear.items()}
    kept, removed = chosen(groups, seen, max_dates=most, max_cloud=max_cloud)
    usable = [group for group in groups if 100 - clear[group.ids] <= max_cloud]
    assert len(kept) == min(most, len(usable))
    assert kept == [group.ids for group in usable if group.ids in kept]
    assert kept == [group.ids for group in groups if group.ids not in removed]
    if not usable:
        return
    span = (usable[-1].time - usable[0].time) / most
    for number in range(most):
        begin = usable[0].time + number * span
        offered = [group.ids for group in usable if begin + SECOND < group.time < begin + span - SECOND]
        taken = [group.ids for group in usable if begin - SECOND < group.time < begin + span + SECOND]
        best = max((clear[name] for name in offered), default=None)
        assert best is None or best <= max(clear[name] for name in taken if name in kept)
