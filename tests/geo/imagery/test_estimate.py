from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from loopback.nginx import serve_files
from runs import catalog_of, run
from small_site import BANDS, COLLECTION, make_site

from eearth.events import Event, Table
from eearth.geo.cube import CUBE
from eearth.geo.imagery import fetch
from eearth.geo.remote.files import close_files
from eearth.settings import DownloadSettings
from eearth.stages.download import download
from eearth.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from small_site import Site

UNITS = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}


def number(text: str) -> float:
    """Bytes or requests."""
    value, unit = re.fullmatch(r"([\d.,]+)(?: (\w+))?", text).groups()  # type: ignore[union-attr]
    return float(value.replace(",", "")) * UNITS[unit or "B"]


@contextmanager
def logged(site: Site, folder: Path) -> Iterator[tuple[Path, Path]]:
    """(catalog, access log) of the site behind an nginx."""
    log = folder / "access.log"
    with serve_files(site.root, access_log=log) as url:
        yield site.catalog(folder / "catalog", url), log


def estimated(site: Site, catalog: Path, folder: Path, **asked: Any) -> dict[str, str]:
    heard: list[Event] = []
    settings = DownloadSettings(
        region=site.region, catalog=str(catalog), collection=COLLECTION, bands=BANDS, datetime="2023",
        max_cloud=100.0, workers=4, estimate=True, **asked,
    )  # fmt: skip
    assert download(Workspace(folder), settings, heard.append) is None
    assert not folder.exists() or list(folder.iterdir()) == []
    (table,) = (event for event in heard if isinstance(event, Table))
    return dict(table.rows)


def asked_of(log: Path) -> tuple[int, int]:
    """(requests, bytes) in the access log; bytes by the ranges, which lie inside the files."""
    lines = [line.split() for line in log.read_text().splitlines()]
    spans = [re.fullmatch(r"bytes=(\d+)-(\d+)", line[3]).groups() for line in lines]  # type: ignore[union-attr]
    return len(lines), sum(int(last) - int(first) + 1 for first, last in spans)


@pytest.fixture(scope="module")
def cogs(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """The site with each file's directory at its beginning, as in every COG."""
    return make_site(tmp_path_factory.mktemp("cogs") / "deflate", "deflate", late=False)


@pytest.mark.parametrize("block", [256, 320, 1024])
def test_what_is_estimated_is_what_is_fetched(
    tmp_path: Path, cogs: Site, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    """And it is found out with little of it, and nothing is written."""
    monkeypatch.setattr(fetch, "BLOCK", block)
    with logged(cogs, tmp_path) as (catalog, log):
        said = estimated(cogs, catalog, tmp_path / "w", rate=2.0)
        assert asked_of(log)[1] < number(said["to fetch"]) / 10
        log.write_text("")
        close_files()  # or the download would find headers in memory
        run(cogs, catalog, tmp_path / "w")
        requests, received = asked_of(log)
    assert said["scenes"] == "7 in 6 acquisitions"
    assert number(said["requests"]) == pytest.approx(requests, rel=0.1)
    assert number(said["to fetch"]) == pytest.approx(received, rel=0.1)
    cube = sum(path.stat().st_size for path in (tmp_path / "w" / "imagery" / CUBE).rglob("*"))
    least, most = (number(size) for size in said["on the disk"].split(",")[0].split(" to "))
    assert least <= cube <= most
    assert said["time"] == f"{received / 2e6 / 60:.1f} min at 2 MB/s"


def test_the_rate_is_measured_where_none_is_given(tmp_path: Path, cogs: Site) -> None:
    with logged(cogs, tmp_path) as (catalog, log):
        said = estimated(cogs, catalog, tmp_path / "w")
        assert asked_of(log)[1] > 500_000
    assert float(said["time"].split(" at ")[1].removesuffix(" MB/s")) > 0


def test_files_on_the_disk_are_estimated_too(tmp_path: Path, cogs: Site) -> None:
    said = estimated(cogs, catalog_of(cogs, tmp_path / "catalog"), tmp_path / "w")
    assert said["time"].endswith(" at 200 MB/s")
