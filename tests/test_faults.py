"""Whatever the network does, a cube is right or says what it lacks: `pytest -s` shows the table of it."""

from __future__ import annotations

import struct
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from json import dumps
from typing import TYPE_CHECKING

import numpy as np
import pytest
import rasterio
from loopback.fault_kinds import Faults
from loopback.faults import Tally, read_access_log, serve_faulty, tally_of
from loopback.memory import ALL_EXTENSIONS, python_environment
from loopback.process import answers, free_port, serving
from small_site import (
    BANDS,
    PASSES,
    PROVIDER,
    SHARED,
    TILE,
    Site,
    collection_of,
    differing_pixels,
    download,
    make_site,
)

from eearth.geo.cube import CUBE, Cube
from eearth.manifest import Manifest

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterable, Iterator
    from pathlib import Path

# The patience of a real download, shortened: what is tested is that there is some.
DOWN_SECONDS = 4.0
IMPATIENT = """
from eearth.geo.remote import transport
for name, value in {
    "FIRST_PAUSE_SECONDS": 0.02, "LONGEST_PAUSE_SECONDS": 0.5, "STALL_SECONDS": 0.5, "PATIENCE_SECONDS": 6.0,
}.items():
    assert hasattr(transport, name), name
    setattr(transport, name, value)
"""

LOST = "W_2023-06-11"
CODECS = ("deflate", "none")


@dataclass(frozen=True)
class Cell:
    """One row of the matrix.

    Attributes:
        name: What goes wrong.
        faults: In how many requests.
        codec: Of the site's files; `none` guards no byte.
        lost: Items that the cube cannot have.
        kinds: Faults that must have happened, by default those that `faults` names.
    """

    name: str
    faults: Faults
    codec: str = "deflate"
    lost: tuple[str, ...] = ()
    kinds: frozenset[str] = field(default_factory=frozenset)


# A file's western edge, one tile of it farther east: the pixels are whole, only not where they belong.
ELSEWHERE = struct.pack("<d", 500_000).hex(), struct.pack("<d", 500_000 + 10 * TILE).hex()
EVERYTHING = ("unavailable", "limited", "reset", "stalled", "truncated", "garbage", "zeroed", "flipped")


def at_once(share: float, *kinds: str, **others: float) -> Faults:
    return Faults(**dict.fromkeys(kinds, share / len(kinds)), **others)


def all_at_once(codec: str) -> Cell:
    """A fifth of all requests fails, a few of them with 429: each of those makes everyone wait for a second."""
    kinds = [kind for kind in EVERYTHING if kind != "limited"]
    faults = at_once(0.195, *kinds, limited=0.005, stall_seconds=20, latency_seconds=0.002, bytes_per_second=4e6)
    return Cell(f"all at once at 20 %, {codec}", faults, codec)


CELLS = [
    Cell("30 % 503", Faults(unavailable=0.3)),
    Cell("1 % 429 with Retry-After", Faults(limited=0.01)),
    Cell("30 % reset", Faults(reset=0.3)),
    Cell("3 % stall", Faults(stalled=0.03, stall_seconds=20)),
    Cell("30 % truncated", Faults(truncated=0.3)),
    *(
        Cell(f"20 % {kind}, {codec}", Faults(**{kind: 0.2}), codec)
        for kind in ("garbage", "zeroed", "flipped")
        for codec in CODECS
    ),
    Cell("30 % tell another place", Faults(tampered=0.3, tampering=ELSEWHERE)),
    Cell("404 of one asset", Faults(always={f"{LOST}/nir.tif": "missing"}), lost=(LOST,)),
    Cell("404 of one half of a date", Faults(always={f"W_{SHARED}/scl.tif": "missing"}), lost=(f"W_{SHARED}",)),
    Cell("one asset never whole", Faults(always={f"{LOST}/red.tif": "truncated"}), lost=(LOST,)),
    Cell("one asset always 503", Faults(always={f"{LOST}/red.tif": "unavailable"}), lost=(LOST,)),
    Cell("one asset always garbage", Faults(always={f"{LOST}/red.tif": "garbage"}), "none", lost=(LOST,)),
    Cell(
        f"assets down for {DOWN_SECONDS:g} s in the middle",
        Faults(down_after=100, down_seconds=DOWN_SECONDS, latency_seconds=0.005),
        kinds=frozenset({"down"}),
    ),
    Cell("slow link", Faults(bytes_per_second=400_000, latency_seconds=0.01)),
    *map(all_at_once, CODECS),
]


@dataclass(frozen=True)
class Row:
    name: str
    tally: Tally
    retries: int
    dropped: int
    differing: int
    seconds: float


ROWS: list[Row] = []


class Scenery:
    """The sites, and what they give when nothing goes wrong, made when first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sites = {codec: make_site(folder / codec, codec) for codec in CODECS}
        self._references: dict[tuple[str, ...], Path] = {}
        self._requests: dict[str, int] = {}

    def reference(self, codec: str, lost: Iterable[str] = ()) -> Path:
        """A workspace made from the local files: no byte of it came over the network."""
        key = codec, *sorted(lost)
        if key not in self._references:
            folder, site = self.folder / "-".join(("ref", *key)), self.sites[codec]
            done = download(site, site.catalog(folder / "catalog", str(site.root), key[1:]), folder / "w")
            assert done.returncode == 0, done.stderr
            self._references[key] = folder / "w"
        return self._references[key]

    def requests(self, codec: str) -> int:
        """Requests of a download over a network without faults."""
        if codec not in self._requests:
            folder, site = self.folder / f"calm-{codec}", self.sites[codec]
            with serve_faulty(site.root) as url:
                done = download(site, site.catalog(folder / "catalog", url), folder / "w", IMPATIENT)
                tally = tally_of(url)
            assert done.returncode == 0, done.stderr
            assert differing_pixels(folder / "w", self.reference(codec)) == 0
            self._requests[codec] = tally.requests
            ROWS.append(Row(f"no faults, {codec}", tally, 0, 0, 0, 0.0))
        return self._requests[codec]


@pytest.fixture(scope="module")
def scenery(tmp_path_factory: pytest.TempPathFactory) -> Scenery:
    return Scenery(tmp_path_factory.mktemp("faults"))


def judge(scenery: Scenery, cell: Cell, done: subprocess.CompletedProcess[str], folder: Path, url: str) -> Row:
    """The row of a download that ended; fails unless its cube is the one of the scenes that it does not call lost."""
    tally = tally_of(url)
    assert done.returncode == 0, done.stderr
    manifest = Manifest.read(folder / "imagery")
    dropped = manifest.records["dropped"] | manifest.records["incomplete"]
    assert all(isinstance(reason, str) and reason.strip() for reason in dropped.values()), dropped
    differing = differing_pixels(folder, scenery.reference(cell.codec, dropped))
    row = Row(
        cell.name, tally, tally.requests - scenery.requests(cell.codec), len(dropped), differing, manifest.seconds
    )
    ROWS.append(row)
    assert differing == 0
    assert tuple(dropped) == cell.lost, dropped
    for name, reason in dropped.items():
        assert name in done.stderr or reason in done.stderr, done.stderr
    return row


def leaks(folder: Path, done: subprocess.CompletedProcess[str]) -> list[str]:
    """Where a signature of the server's shows."""
    files = [str(path) for path in folder.rglob("*") if path.is_file() and b"hush" in path.read_bytes()]
    return files + ["output"] * ("hush" in done.stderr + done.stdout)


# --- The reference itself


def test_the_reference_is_what_was_written(scenery: Scenery) -> None:
    site, cube = scenery.sites["deflate"], Cube.open(scenery.reference("deflate") / "imagery" / CUBE)
    assert [ids.split()[0] for ids in cube.items] == [f"W_{day}" for day in PASSES]
    assert [len(ids.split()) for ids in cube.items] == [1, 1, 1, 2, 1, 1]
    row, col = round((5_000_000 - cube.grid.transform.f) / 10), round((cube.grid.transform.c - 500_000) / 10)
    part = slice(row, row + cube.grid.height), slice(col, col + cube.grid.width)
    for index, ids in enumerate(cube.items):
        for band in ("red", "nir"):
            with rasterio.open(site.root / ids.split()[0] / f"{band}.tif") as file:
                own = file.read(1)[part]
            found = np.asarray(cube.reflectance[index, BANDS.index(band)])
            np.testing.assert_array_equal(found[own > 0], own[own > 0])
            assert (found > 0).mean() == pytest.approx(1, abs=0.01)  # the eastern tile goes on where the western ends
    assert len({int(np.asarray(cube.reflectance[index]).sum()) for index in range(6)}) == 6


# --- The matrix


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_a_cube_is_right_or_says_what_it_lacks(scenery: Scenery, tmp_path: Path, cell: Cell) -> None:
    site = scenery.sites[cell.codec]
    with serve_faulty(site.root, cell.faults, access_log=tmp_path / "log") as url:
        done = download(site, site.catalog(tmp_path / "catalog", url), tmp_path / "w", IMPATIENT)
        row = judge(scenery, cell, done, tmp_path / "w", url)
    drawn = {kind for kind in EVERYTHING if getattr(cell.faults, kind)}
    assert row.tally.faults.keys() >= drawn | set(cell.faults.always.values()) | cell.kinds
    assert row.tally.impatient == 0
    asked = {line.path for line in read_access_log(tmp_path / "log")}
    assert asked >= {f"/{name}/{key}.tif" for name in site.ids for key in (*BANDS, "scl") if name not in cell.lost}


@pytest.mark.parametrize(
    ("name", "faults"),
    [
        ("signatures that expire", Faults(signature_seconds=1, latency_seconds=0.05)),
        ("signatures refused after 15 requests", Faults(signature_uses=15)),
    ],
)
def test_a_signature_is_renewed_and_shows_nowhere(scenery: Scenery, tmp_path: Path, name: str, faults: Faults) -> None:
    cell = Cell(name, faults)
    site = scenery.sites[cell.codec]
    (tmp_path / "w").mkdir()
    with serve_faulty(site.root, faults) as url:
        (tmp_path / "w" / "eearth.toml").write_text(PROVIDER.format(url=url))
        done = download(site, site.catalog(tmp_path / "catalog", url), tmp_path / "w", IMPATIENT)
        row = judge(scenery, cell, done, tmp_path / "w", url)
    assert row.tally.signed >= 2
    if faults.signature_uses:
        assert row.tally.signed >= row.tally.requests // faults.signature_uses
        assert row.tally.faults["expired"] >= 1
    assert leaks(tmp_path / "w", done) == []


def test_a_catalog_over_a_bad_network(scenery: Scenery, tmp_path: Path) -> None:
    cell = Cell("catalog: 40 % 503, reset, truncated", at_once(0.4, "unavailable", "reset", "truncated"))
    site = scenery.sites[cell.codec]
    with serve_faulty(site.root) as assets:
        catalog = site.catalog(tmp_path / "catalog", assets)
        with serve_faulty(catalog.parent, cell.faults) as url:
            done = download(site, f"{url}/collection.json", tmp_path / "w", IMPATIENT)
            row = judge(scenery, cell, done, tmp_path / "w", assets)
            ROWS[-1] = Row(cell.name, tally_of(url), 0, 0, row.differing, row.seconds)
            assert tally_of(url).injected >= 3


@contextmanager
def api_that_starts_late(site: Site, assets: str, folder: Path, seconds: float) -> Iterator[str]:
    """The address of a STAC API behind which nobody listens at first."""
    port, items = free_port(), site.at(assets)
    given = folder / "api.json"
    given.write_text(dumps({"collections": [collection_of(items)], "items": items}), encoding="utf-8")
    command = [sys.executable, "-m", "loopback.memory_app", str(given), str(port), *ALL_EXTENSIONS]
    over = threading.Event()

    def serve() -> None:
        time.sleep(seconds)
        ready = lambda: answers(port, "/_mgmt/ping")  # noqa: E731
        with serving(command, ready=ready, folder=folder, name="api", env=python_environment()):
            over.wait()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        over.set()
        thread.join()


def test_an_api_that_is_down_at_first(scenery: Scenery, tmp_path: Path) -> None:
    cell = Cell(f"API down for {DOWN_SECONDS:g} s at first", Faults())
    site = scenery.sites[cell.codec]
    begun = time.monotonic()
    with serve_faulty(site.root) as assets, api_that_starts_late(site, assets, tmp_path, DOWN_SECONDS) as api:
        done = download(site, api, tmp_path / "w", IMPATIENT)
        judge(scenery, cell, done, tmp_path / "w", assets)
    assert time.monotonic() - begun > DOWN_SECONDS


# --- What cannot be mended


def test_a_server_that_does_not_come_back_ends_in_one_line(scenery: Scenery, tmp_path: Path) -> None:
    site, port = scenery.sites["deflate"], free_port()
    catalog = site.catalog(tmp_path / "catalog", f"http://127.0.0.1:{port}")
    done = download(site, catalog, tmp_path / "w", IMPATIENT.replace("6.0", "1.5"))
    assert done.returncode == 1
    assert [line for line in done.stderr.splitlines() if line.startswith("Error: ")] == done.stderr.splitlines()[-1:]
    assert f"127.0.0.1:{port}" in done.stderr.splitlines()[-1]
    assert "run the same command again" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "w" / "imagery").exists()


def test_a_thousand_faults_were_injected(capsys: pytest.CaptureFixture[str]) -> None:
    if len({row.name for row in ROWS}) < len(CELLS) + 5:
        pytest.skip("only the whole file has them all")
    with capsys.disabled():
        print(table())  # noqa: T201
    assert sum(row.tally.injected for row in ROWS) >= 1000
    assert sum(row.differing for row in ROWS) == 0


def table() -> str:
    head = f"\n{'cell':42} {'requests':>8} {'faults':>7} {'retries':>8} {'dropped':>8} {'differing':>10} {'s':>6}"
    lines = [
        f"{r.name:42} {r.tally.requests:8} {r.tally.injected:7} {r.retries:8} {r.dropped:8} {r.differing:10} "
        f"{r.seconds:6.1f}"
        for r in ROWS
    ]
    total = f"{'':42} {sum(r.tally.requests for r in ROWS):8} {sum(r.tally.injected for r in ROWS):7}"
    return "\n".join([head, *lines, total])
