from __future__ import annotations

import http.client
import json
import subprocess
import sys
import tempfile
import time
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pystac_client
import pytest
import rasterio
from loopback.memory import python_environment, serve_memory
from loopback.nginx import serve_files
from loopback.pgstac import empty_database
from loopback.process import accepts, find_program, serving
from loopback.sites import read_site

BOTH_APIS = pytest.mark.parametrize("stac_api", ["memory", "pgstac"], indirect=True)
COG = "romania/assets/S2_RO_20180830/red.tif"
Content = tuple[list[dict[str, Any]], list[dict[str, Any]]]


def get(url: str, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    connection.request("GET", f"{parts.path or '/'}?{parts.query}", headers=headers or {})
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, body


def port_of(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port


def raw_items(real_data: Path) -> list[dict[str, Any]]:
    sites = ("slovenia", "romania", "austria")
    return [json.loads(path.read_text()) for site in sites for path in (real_data / site / "items").glob("*.json")]


def locally(items: list[dict[str, Any]], bbox: tuple[float, float, float, float], days: str, below: float) -> set[str]:
    """The oracle: ids of items whose bounding box meets `bbox`, within the days, with cloud cover under `below`."""
    start, end = days.split("/")
    west, south, east, north = bbox
    return {
        item["id"]
        for item in items
        if item["bbox"][0] <= east and item["bbox"][2] >= west and item["bbox"][1] <= north and item["bbox"][3] >= south
        if start <= item["properties"]["datetime"][:10] <= end and item["properties"]["eo:cloud_cover"] < below
    }


@BOTH_APIS
@pytest.mark.parametrize(
    ("bbox", "days", "below", "count"),
    [
        ((22.0, 45.0, 22.5, 45.5), "2018-03-01/2018-09-30", 18.8, 12),
        ((22.0, 45.0, 22.5, 45.5), "2018-08-25/2018-08-25", 100, 1),
        ((14.0, 45.0, 17.0, 47.0), "2015-01-01/2023-12-31", 5, 8),
        ((15.5, 45.6, 15.6, 45.7), "2023-08-01/2023-08-31", 50, 4),
        ((14.0, 45.0, 23.0, 47.0), "2014-01-01/2024-01-01", 9, 97),
        ((-10.0, 0.0, -5.0, 5.0), "2014-01-01/2024-01-01", 101, 0),
    ],
)
def test_search_equals_a_local_filter(
    real_data: Path, stac_api: str, bbox: tuple[float, float, float, float], days: str, *, below: float, count: int
) -> None:
    client = pystac_client.Client.open(stac_api)
    search = client.search(bbox=bbox, datetime=days, query={"eo:cloud_cover": {"lt": below}}, limit=100)
    found = [item.id for item in search.items()]
    assert len(found) == len(set(found)) == count
    assert set(found) == locally(raw_items(real_data), bbox, days, below)


@BOTH_APIS
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("limit", [1, 7, 10, 200])
def test_pages_hold_every_item_once_newest_first(real_data: Path, stac_api: str, method: str, limit: int) -> None:
    client = pystac_client.Client.open(stac_api)
    search = client.search(collections=["slovenia", "austria"], method=method, limit=limit)
    pages = [[item.id for item in page] for page in search.pages()]
    found = [name for page in pages for name in page]
    when = {i["id"]: i["properties"]["datetime"] for i in raw_items(real_data) if i["collection"] != "romania"}
    assert [len(page) for page in pages] == [min(limit, 15 - done) for done in range(0, 15, limit)]
    assert sorted(found) == sorted(when)
    times = [when[name] for name in found]
    assert times == sorted(times, reverse=True)


# pystac-client does not recognise the sort class that stac-fastapi-pgstac claims, warns, and asks for it all the same
@pytest.mark.filterwarnings("ignore:Server does not conform to SORT")
@pytest.mark.parametrize(("stac_api", "recognised"), [("memory", True), ("pgstac", False)], indirect=["stac_api"])
def test_filter_sort_and_fields(real_data: Path, stac_api: str, *, recognised: bool) -> None:
    client = pystac_client.Client.open(stac_api)
    assert all(map(client.conforms_to, ("QUERY", "FILTER", "FIELDS")))
    assert client.conforms_to("SORT") == recognised
    cql2 = {
        "op": "and",
        "args": [
            {"op": "=", "args": [{"property": "collection"}, "austria"]},
            {"op": "<", "args": [{"property": "eo:cloud_cover"}, 10]},
        ],
    }
    search = client.search(filter=cql2, sortby="+properties.eo:cloud_cover", fields=["id", "properties.eo:cloud_cover"])
    found = list(search.items_as_dicts())
    clouds = {i["id"]: i["properties"]["eo:cloud_cover"] for i in raw_items(real_data) if i["collection"] == "austria"}
    assert [item["id"] for item in found] == sorted((i for i in clouds if clouds[i] < 10), key=lambda i: clouds[i])
    assert all(item["properties"] == {"eo:cloud_cover": clouds[item["id"]]} for item in found)
    assert not any(item.get("assets") for item in found)


@BOTH_APIS
def test_a_full_last_page_names_no_next_one(stac_api: str) -> None:
    for limit, more in ((4, True), (5, False)):
        status, body = get(f"{stac_api}/search?collections=slovenia&limit={limit}")
        assert (status, len(json.loads(body)["features"])) == (HTTPStatus.OK, limit)
        assert ("next" in {link["rel"] for link in json.loads(body)["links"]}) == more


@BOTH_APIS
def test_items_come_back_as_they_were_loaded(api_content: Content, stac_api: str) -> None:
    client = pystac_client.Client.open(stac_api)
    collections, items = api_content
    assert {c.id: c.title for c in client.get_collections()} == {c["id"]: c.get("title") for c in collections}
    found = {item["id"]: item for item in client.search(limit=1000).items_as_dicts()}
    assert len(found) == len(items) == 155
    for item in items:
        answer = found[item["id"]]
        assert {name: answer[name] for name in item if name != "links"} == {n: item[n] for n in item if n != "links"}
        assert [link for link in item["links"] if link not in answer["links"]] == []
        assert {"self", "root", "parent", "collection"} <= {link["rel"] for link in answer["links"]}


@pytest.mark.parametrize(("stac_api", "wrong"), [("memory", True), ("pgstac", False)], indirect=["stac_api"])
def test_a_bound_sent_as_a_string_is_compared_as_text_where_the_server_knows_no_type(
    stac_api: str, *, wrong: bool
) -> None:
    client = pystac_client.Client.open(stac_api)
    number = client.search(collections=["romania"], query={"eo:cloud_cover": {"lt": 20}}, limit=200)
    text = client.search(collections=["romania"], query=["eo:cloud_cover<20"], limit=200)
    assert ({item.id for item in text.items()} != {item.id for item in number.items()}) == wrong


def test_an_api_without_the_query_extension_ignores_the_query(api_content: Content) -> None:
    with serve_memory(*api_content, extensions=()) as url:
        status, body = get(f"{url}/conformance")
        assert status == HTTPStatus.OK
        assert "query" not in body.decode()
        client = pystac_client.Client.open(url)
        with pytest.warns(UserWarning, match="QUERY"):
            search = client.search(collections=["slovenia"], query={"eo:cloud_cover": {"lt": 20}})
        assert len(list(search.items())) == 5


def test_an_asset_of_a_found_item_opens_over_http_and_equals_the_file(real_data: Path, memory_api: str) -> None:
    item = next(pystac_client.Client.open(memory_api).search(ids=["S2_RO_20180830"]).items())
    with (
        rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"),
        rasterio.open(f"/vsicurl/{item.assets['red'].href}") as remote,
        rasterio.open(real_data / COG) as local,
    ):
        assert remote.profile == local.profile
        assert np.array_equal(remote.read(), local.read())
        assert local.read().any()


def test_a_range_request_is_answered_with_those_bytes(real_data: Path, asset_server: str) -> None:
    content = (real_data / COG).read_bytes()
    for wanted, expected in (("0-15", content[:16]), ("100-299", content[100:300]), ("-10", content[-10:])):
        status, body = get(f"{asset_server}/{COG}", {"Range": f"bytes={wanted}"})
        assert (status, body) == (HTTPStatus.PARTIAL_CONTENT, expected)
    assert get(f"{asset_server}/{COG}") == (HTTPStatus.OK, content)
    assert get(f"{asset_server}/{COG}", {"Range": "bytes=99999999-"})[0] == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
    assert get(f"{asset_server}/none.tif")[0] == HTTPStatus.NOT_FOUND


@pytest.mark.parametrize(("rate", "least", "most"), [(0.0, 0, 0), (0.3, 35, 90), (1.0, 200, 200)])
def test_the_asked_share_of_requests_fails_and_every_request_is_logged(
    tmp_path: Path, rate: float, least: int, most: int
) -> None:
    (tmp_path / "a.txt").write_text("a")
    log = tmp_path / "access.log"
    with serve_files(tmp_path, error_rate=rate, access_log=log) as url:
        answers = [get(f"{url}/a.txt", {"Range": "bytes=0-0"})[0] for _ in range(200)]
    failed = answers.count(HTTPStatus.SERVICE_UNAVAILABLE)
    assert least <= failed <= most  # at 0.3 the bounds lie over 3.8 standard deviations (6.5) from 60
    assert failed + answers.count(HTTPStatus.PARTIAL_CONTENT) == 200
    assert log.read_text().splitlines() == [f"{status:d} GET /a.txt bytes=0-0" for status in answers]


def test_too_many_requests_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    with serve_files(tmp_path, requests_per_second=5) as url:
        answers = [get(f"{url}/a.txt")[0] for _ in range(30)]
    assert answers[:5] == [HTTPStatus.OK] * 5
    assert HTTPStatus.TOO_MANY_REQUESTS in answers


def test_a_site_is_read_with_absolute_assets_and_outward_links_only(real_data: Path) -> None:
    (collection,), items = read_site(real_data / "austria", "http://127.0.0.1:1/austria/")
    assert collection["assets"]["region"]["href"] == "http://127.0.0.1:1/austria/region.geojson"
    assert len(items) == 10
    red = items[0]["assets"]["red"]["href"]
    assert red == f"http://127.0.0.1:1/austria/assets/{items[0]['id']}/red.tif"
    assert {link["rel"] for item in items for link in item["links"]} == {"canonical", "license", "derived_from"}
    assert (real_data / "austria" / red.removeprefix("http://127.0.0.1:1/austria/")).is_file()


def test_links_that_hold_only_inside_the_static_site_are_dropped(tmp_path: Path) -> None:
    links = [
        {"rel": "self", "href": "https://example.org/collection.json"},
        {"rel": "item", "href": "./items/a.json"},
        {"rel": "license", "href": "./LICENSE"},
        {"rel": "about", "href": "https://example.org/about"},
    ]
    assets = {"near": {"href": "data/a.tif"}, "far": {"href": "s3://bucket/a.tif"}}
    (tmp_path / "collection.json").write_text(json.dumps({"id": "c", "links": links, "assets": assets}))
    (collection,), items = read_site(tmp_path, "http://127.0.0.1:1/c")
    assert collection["links"] == links[3:]
    assert collection["assets"] == {"near": {"href": "http://127.0.0.1:1/c/data/a.tif"}, "far": assets["far"]}
    assert items == []


def test_no_server_and_no_folder_outlives_an_interrupted_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as scratch:  # not tmp_path: account postgres may not enter pytest's folders
        Path(scratch).chmod(0o755)
        monkeypatch.setattr(tempfile, "tempdir", scratch)
        ports: list[int] = []

        def interrupted() -> None:
            with serve_files(tmp_path) as files, empty_database() as account:
                ports.extend([port_of(files), int(account["PGPORT"])])
                assert all(map(accepts, ports))
                assert len(list(Path(scratch).iterdir())) == 2
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert not any(map(accepts, ports))
        assert list(Path(scratch).iterdir()) == []


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no such thing')"]
    with pytest.raises(RuntimeError, match="no such thing"), serving(command, ready=bool, folder=tmp_path, name="it"):
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_a_killed_test_run_takes_its_servers_along(tmp_path: Path) -> None:
    find_program("nginx", "nginx-light")
    script = (
        "import sys, time, pathlib, tempfile\n"
        "from loopback.nginx import serve_files\n"
        "tempfile.tempdir = sys.argv[1]\n"
        "with serve_files(pathlib.Path(sys.argv[1])) as url:\n"
        "    print(url, flush=True)\n"
        "    time.sleep(60)\n"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], env=python_environment(), stdout=subprocess.PIPE, text=True
    )
    assert run.stdout is not None
    port = port_of(run.stdout.readline().strip())
    assert accepts(port)
    run.kill()
    run.communicate()
    deadline = time.monotonic() + 10
    while accepts(port) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not accepts(port)


def test_a_missing_program_skips_on_a_laptop_and_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no such-program here"):
        find_program("such-program", "such-package")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="such-package"):
        find_program("such-program", "such-package")
