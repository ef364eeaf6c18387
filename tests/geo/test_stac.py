from __future__ import annotations

import json
import time
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import pystac
import pytest
from loopback.memory import serve_memory
from loopback.nginx import serve_files
from shapely.geometry import box, shape

from eearth.errors import SourceError, UsageError
from eearth.geo import catalog
from eearth.geo.aoi import Region, read_region
from eearth.geo.stac import Found, SceneSearch, TimeRange, moment_of, parse_time

if TYPE_CHECKING:
    from pathlib import Path

Content = tuple[list[dict[str, Any]], list[dict[str, Any]]]
OCEAN = Region(box(-30, 0, -29.9, 0.1), "ocean")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "RETRY", catalog.RETRY.new(total=2, backoff_factor=0.01))
    monkeypatch.setattr(catalog, "FIRST_PAUSE_SECONDS", 0.01)


class Search(NamedTuple):
    catalog: str
    collection: str | None
    region: Region
    time: TimeRange


def search(wanted: Search) -> Found:
    return SceneSearch(wanted.catalog, wanted.collection).search(wanted.region, wanted.time)


def wanted(catalog: str, region: Region, collection: str | None, when: str) -> Search:
    return Search(catalog, collection, region, parse_time(when))


def ids(found: Found) -> list[str]:
    return [item.id for item in found.items]


def message_of(search_for: Search) -> str:
    with pytest.raises(SourceError) as caught:
        search(search_for)
    message = str(caught.value)
    assert "\n" not in message
    return message


# --- Times


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024", "2024-01-01T00:00:00Z/2024-12-31T23:59:59Z"),
        ("2024-02", "2024-02-01T00:00:00Z/2024-02-29T23:59:59Z"),
        ("2023-12", "2023-12-01T00:00:00Z/2023-12-31T23:59:59Z"),
        ("2024-05-17", "2024-05-17T00:00:00Z/2024-05-17T23:59:59Z"),
        ("2023-10-01/2024-09-30", "2023-10-01T00:00:00Z/2024-09-30T23:59:59Z"),
        ("2023/2024-02", "2023-01-01T00:00:00Z/2024-02-29T23:59:59Z"),
        (" 2024-05 / 2024-06 ", "2024-05-01T00:00:00Z/2024-06-30T23:59:59Z"),
        ("2024-05-17T10:00:00Z/2024-05-17T11:00:00+01:00", "2024-05-17T10:00:00Z/2024-05-17T10:00:00Z"),
        ("2024-05-17T10:00:00", "2024-05-17T10:00:00Z/2024-05-17T10:00:00Z"),
    ],
)
def test_times_as_people_write_them(text: str, expected: str) -> None:
    assert parse_time(text).text == expected


@pytest.mark.parametrize(
    "text", ["", "last year", "24", "2024-13", "2024-02-30", "2024-5", "2024/", "/", "2024/2025/2026"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    if text == "2024/":  # an open end is read as the start alone
        assert parse_time(text).text.startswith("2024-01-01")
        return
    with pytest.raises(UsageError, match=r"expected a year, a month, a day or START/END for --datetime, found"):
        parse_time(text)


def test_a_range_that_ends_before_it_starts_is_refused() -> None:
    with pytest.raises(UsageError, match="in rising order, found '2024/2023'"):
        parse_time("2024/2023")


@pytest.mark.parametrize(
    ("moment", "span", "expected"),
    [
        ("2023-08-15T10:00:00Z", None, datetime(2023, 8, 15, 10, tzinfo=UTC)),
        (None, ("2022-01-01T00:00:00Z", "2022-01-03T00:00:00Z"), datetime(2022, 1, 2, tzinfo=UTC)),
        ("2023-08-15T10:00:00Z", ("2022-01-01T00:00:00Z", "2022-01-03T00:00:00Z"),
         datetime(2023, 8, 15, 10, tzinfo=UTC)),
    ],
)  # fmt: skip
def test_the_moment_of_an_item(moment: str | None, span: tuple[str, str] | None, expected: datetime) -> None:
    properties = {} if span is None else {"start_datetime": span[0], "end_datetime": span[1]}
    when = None if moment is None else datetime.fromisoformat(moment)
    assert moment_of(pystac.Item("it", None, None, when, properties)) == expected


def test_an_item_without_any_time_is_refused() -> None:
    item = pystac.Item("it", None, None, datetime(2023, 1, 1, tzinfo=UTC), {})
    item.datetime = None
    with pytest.raises(SourceError, match="expected a datetime in the item it"):
        moment_of(item)


# --- Searches


def expected_ids(real_data: Path, site: str, region: Region, when: str) -> list[str]:
    """The oracle: the item files, read without any STAC library."""
    start, end = parse_time(when).start.isoformat(), parse_time(when).end.isoformat()
    items = [json.loads(path.read_text()) for path in (real_data / site / "items").glob("*.json")]
    times = {
        item["id"]: item["properties"]["datetime"].replace("Z", "+00:00")
        for item in items
        if shape(item["geometry"]).intersects(region.geometry)
    }
    return sorted(
        (name for name, moment in times.items() if start <= moment <= end), key=lambda name: (times[name], name)
    )


@pytest.mark.parametrize("source", ["path", "folder", "url", "memory", "pgstac"])
@pytest.mark.parametrize(
    ("site", "when", "count"),
    [("romania", "2018", 34), ("slovenia", "2015", 5), ("austria", "2023-08-10/2023-08-15", 6)],
)
def test_every_kind_of_catalog_gives_the_same_items(
    request: pytest.FixtureRequest, real_data: Path, source: str, site: str, *, when: str, count: int
) -> None:
    places = {
        "path": lambda: str(real_data / "catalog.json"),
        "folder": lambda: str(real_data),
        "url": lambda: f"{request.getfixturevalue('asset_server')}/catalog.json",
        "memory": lambda: request.getfixturevalue("memory_api"),
        "pgstac": lambda: request.getfixturevalue("pgstac_api"),
    }
    region = read_region(real_data / site / "region.geojson")
    found = search(wanted(places[source](), region, site, when))
    expected = expected_ids(real_data, site, region, when)
    assert ids(found) == expected
    assert len(found.items) > 0
    assert found.collection == site
    assert found.matched == len(found.items) + sum(found.removed.values())
    assert len(expected) == count


def test_the_report_says_which_filter_removed_how_many(real_data: Path) -> None:
    region = read_region(real_data / "romania" / "region.geojson")
    found = search(wanted(str(real_data / "catalog.json"), region, "romania", "2018"))
    assert found.matched == 140
    assert found.removed == {"time (outside 2018-01-01T00:00:00Z/2018-12-31T23:59:59Z)": 140 - len(found.items)}


def test_a_server_without_extensions_gives_the_same_items(real_data: Path, api_content: Content) -> None:
    region = read_region(real_data / "romania" / "region.geojson")
    with serve_memory(*api_content, extensions=()) as url:
        assert ids(search(wanted(url, region, "romania", "2018"))) == expected_ids(real_data, "romania", region, "2018")


def test_items_without_a_moment(real_data: Path) -> None:
    """The Indian items have a span of five months; they count in its middle."""
    region = read_region(real_data / "india" / "region.geojson")
    found = search(wanted(str(real_data / "catalog.json"), region, "india", "2022"))
    assert len(found.items) == 60
    assert {moment_of(item).date() for item in found.items} == {date(2022, 3, 17)}
    message = message_of(wanted(str(real_data / "catalog.json"), region, "india", "2022-01"))
    assert message == (
        "no scenes left of 60 in india; removed: 60 by time (outside 2022-01-01T00:00:00Z/2022-01-31T23:59:59Z); "
        "give another --datetime"
    )


def test_the_only_collection_of_a_static_catalog_needs_no_name(real_data: Path) -> None:
    region = read_region(real_data / "slovenia" / "region.geojson")
    found = search(wanted(str(real_data / "slovenia" / "collection.json"), region, None, "2015"))
    assert (found.collection, len(found.items)) == ("slovenia", 5)


def test_a_collection_by_url(real_data: Path, asset_server: str) -> None:
    region = read_region(real_data / "slovenia" / "region.geojson")
    found = search(wanted(f"{asset_server}/slovenia/collection.json", region, None, "2015"))
    assert (found.collection, len(found.items)) == ("slovenia", 5)


# --- What is not there


@pytest.mark.parametrize("source", ["path", "memory"])
def test_an_unknown_collection_names_the_known(request: pytest.FixtureRequest, real_data: Path, source: str) -> None:
    catalog = str(real_data) if source == "path" else request.getfixturevalue("memory_api")
    message = message_of(wanted(catalog, OCEAN, "sentinel-2", "2015"))
    assert "expected the collection 'sentinel-2'" in message
    assert all(site in message for site in ("austria", "romania", "slovenia"))


def test_the_default_collection_is_asked_for(memory_api: str) -> None:
    assert "expected the collection 'sentinel-2-l2a'" in message_of(wanted(memory_api, OCEAN, None, "2015"))


def test_nothing_at_this_place(memory_api: str) -> None:
    message = message_of(wanted(memory_api, OCEAN, "romania", "2018"))
    assert "romania has nothing at -30.000..-29.900 E, 0.000..0.100 N at any time" in message
    assert "longitude and latitude swapped?" in message


def test_nothing_at_this_time(real_data: Path, memory_api: str) -> None:
    message = message_of(wanted(memory_api, read_region(real_data / "romania" / "region.geojson"), "romania", "1999"))
    assert "romania covers the region (for instance by S2_RO_" in message
    assert "none in 1999-01-01T00:00:00Z/1999-12-31T23:59:59Z: give another --datetime" in message


def test_inside_the_bounding_box_but_outside_the_region(real_data: Path, memory_api: str) -> None:
    around = read_region(real_data / "slovenia" / "region.geojson").geometry
    ring = Region(around.buffer(1).difference(around.buffer(0.5)), "ring")
    message = message_of(wanted(memory_api, ring, "slovenia", "2015"))
    assert message.startswith(
        "no scenes left of 5 in slovenia; removed: 5 by place (outside the region); is the region"
    )


@pytest.mark.usefixtures("impatient")
def test_a_dead_server(tmp_path: Path) -> None:
    with serve_files(tmp_path) as url:
        pass
    started = time.monotonic()
    message = message_of(wanted(f"{url}/?token=hush", OCEAN, None, "2015"))
    assert message.startswith(f"expected a STAC catalog at {url}/, found: ")
    assert "refused" in message
    assert "hush" not in message
    assert time.monotonic() - started < 10


@pytest.mark.usefixtures("impatient")
def test_a_server_that_only_answers_503(tmp_path: Path) -> None:
    with serve_files(tmp_path, error_rate=1) as url:
        assert "expected a STAC catalog at" in message_of(wanted(url, OCEAN, None, "2015"))


def test_a_server_that_often_answers_503(real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A walk of a dozen requests, a third of which fail at first."""
    monkeypatch.setattr(catalog, "RETRY", catalog.RETRY.new(backoff_factor=0.01))
    region = read_region(real_data / "slovenia" / "region.geojson")
    with serve_files(real_data, error_rate=0.3) as url:
        assert len(search(wanted(f"{url}/catalog.json", region, "slovenia", "2015")).items) == 5


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("content", ["<html>hello</html>", '{"a": 1}', "[]", '{"type": "Feature", "id": "x"}'])
@pytest.mark.parametrize("kind", ["url", "path"])
def test_what_is_no_catalog(tmp_path: Path, content: str, kind: str) -> None:
    (tmp_path / "catalog.json").write_text(content)
    with serve_files(tmp_path) as url:
        place = f"{url}/catalog.json" if kind == "url" else str(tmp_path / "catalog.json")
        assert "expected a STAC catalog" in message_of(wanted(place, OCEAN, None, "2015"))


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    message = message_of(wanted(str(tmp_path / "nowhere"), OCEAN, None, "2015"))
    assert "found nothing at" in message
    assert "give a URL, or the path of a catalog.json" in message


def test_a_catalog_that_links_into_the_void(real_data: Path, tmp_path: Path) -> None:
    for name in ("catalog.json", "slovenia/collection.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((real_data / name).read_bytes())
    region = read_region(real_data / "slovenia" / "region.geojson")
    message = message_of(wanted(str(tmp_path / "slovenia" / "collection.json"), region, "slovenia", "2015"))
    assert "cannot be walked" in message
