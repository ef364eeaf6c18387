from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
from asking import GRID, SIDE, source_of
from loopback.nginx import serve_files
from scenery import UTM33, noise, utm_grid, write_tif
from tiffs import plain, write_form

from eearth.geo.grid import Window
from eearth.geo.remote import files as module
from eearth.geo.remote.files import Files

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


pytestmark = pytest.mark.usefixtures("quick")


@dataclass(frozen=True)
class Request:
    path: str
    start: int
    stop: int


def requests(log: Path) -> list[Request]:
    """What nginx was asked."""
    found = []
    for line in log.read_text().splitlines():
        _, _, path, span = line.split(" ")
        first, last = span.removeprefix("bytes=").split("-")
        found.append(Request(path, int(first), int(last) + 1))
    return found


def tile_requests(log: Path) -> list[Request]:
    return [each for each in requests(log) if each.start > 0]


# --- What is fetched


def test_neighbouring_windows_fetch_their_common_tiles_once(tmp_path: Path, files: Files) -> None:
    """Two threads, two halves of a file, four tiles on the edge between them."""
    values = noise(GRID)
    write_tif(tmp_path / "f.tif", values, GRID)
    halves = Window(0, 0, SIDE, 500), Window(0, 500, SIDE, SIDE - 500)
    with serve_files(tmp_path, access_log=tmp_path / "log") as url, ThreadPoolExecutor(2) as pool:
        source, both = source_of(f"{url}/f.tif"), threading.Barrier(2)

        def read(window: Window) -> NDArray[Any]:
            both.wait()
            found = files.pixels(source, window, keep=True)
            assert found is not None
            return found

        left, right = pool.map(read, halves)
        np.testing.assert_array_equal(np.hstack([left, right]), values)
        header = files._header(source)
    assert header is not None
    asked = sorted((each.start, each.stop) for each in tile_requests(tmp_path / "log"))
    covered = np.zeros(header.size, dtype=int)
    for start, stop in asked:
        covered[start:stop] += 1
    for offset, count in zip(header.offsets.tolist(), header.counts.tolist(), strict=True):
        assert covered[offset : offset + count].max() == covered[offset : offset + count].min() == 1


def test_requests_and_bytes_are_what_the_windows_need(tmp_path: Path, files: Files) -> None:
    """Eight COGs of the same form, a window off the tiles' lattice: a header and the runs of each, no more."""
    form = plain(cog=True, overviews=True, tile=256, height=2048, width=2048)
    grid, window = utm_grid(2048, 2048), Window(300, 400, 1024, 1024)
    for number in range(8):
        with rasterio.open(
            tmp_path / "plain.tif", "w", "GTiff", 2048, 2048, 1, UTM33, grid.transform, "uint16", nodata=0
        ) as file:
            file.write(noise(grid, number), 1)
        rasterio.shutil.copy(
            tmp_path / "plain.tif", tmp_path / f"{number}.tif", driver="COG", COMPRESS="DEFLATE", PREDICTOR="YES",
            BLOCKSIZE=form.tile,
        )  # fmt: skip
    with serve_files(tmp_path, access_log=tmp_path / "log") as url:
        needed, runs = 0, 0
        for number in range(8):
            source = source_of(f"{url}/{number}.tif")
            found = files.pixels(source, window, keep=False)
            np.testing.assert_array_equal(found, noise(grid, number)[window.slices])
            cost = files.needed(source, window)
            assert cost is not None
            runs, needed = runs + cost[0], needed + cost[1]
        asked = requests(tmp_path / "log")
    assert len(asked) == files.traffic.requests <= 8 + 1 + runs  # the first header is read twice
    ratio = files.traffic.received / needed
    print(f"\n8 COGs: {len(asked)} requests ({runs} runs), {ratio:.3f} x the bytes needed")  # noqa: T201
    assert ratio <= 1.05


def test_the_cache_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CACHED_BYTES", 100_000)
    values = noise(GRID)
    write_tif(tmp_path / "f.tif", values, GRID)
    files = Files()
    with serve_files(tmp_path) as url:
        source = source_of(f"{url}/f.tif")
        for row in range(0, SIDE, 100):
            window = Window(row, 30, min(100, SIDE - row), 900)
            np.testing.assert_array_equal(files.pixels(source, window, keep=True), values[window.slices])
            assert 0 < files._tiles._held <= 100_000
    files.close()


def test_nothing_is_kept_that_nobody_will_want(tmp_path: Path, files: Files) -> None:
    write_tif(tmp_path / "f.tif", noise(GRID), GRID)
    with serve_files(tmp_path) as url:
        files.pixels(source_of(f"{url}/f.tif"), Window(10, 10, 300, 300), keep=False)
    assert files._tiles._held == 0


def test_a_tile_that_the_file_leaves_out_is_nodata(tmp_path: Path, files: Files) -> None:
    path = write_form(tmp_path, plain(sparse=True))
    with rasterio.open(path) as file:
        expected = file.read(1)
    assert (expected == 7).mean() > 0.4
    with serve_files(tmp_path) as url:
        found = files.pixels(source_of(f"{url}/{path.name}"), Window(0, 0, 700, 700), keep=False)
    np.testing.assert_array_equal(found, expected)


def test_many_threads_read_while_the_file_is_forgotten(tmp_path: Path, files: Files) -> None:
    values = noise(GRID)
    write_tif(tmp_path / "f.tif", values, GRID)
    with serve_files(tmp_path) as url, ThreadPoolExecutor(8) as pool:
        source = source_of(f"{url}/f.tif")

        def read(number: int) -> bool:
            if number % 3 == 0:
                files.forget(source)
            window = Window(number, 2 * number, 200, 300)
            return bool((files.pixels(source, window, keep=True) == values[window.slices]).all())

        assert all(pool.map(read, range(120)))
