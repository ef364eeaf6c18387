from __future__ import annotations

import struct
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest
import rasterio
from asking import GRID, SIDE, source_of
from loopback.faults import Faults, serve_faulty, tally_of
from loopback.nginx import serve_files
from rasterio.transform import Affine
from scenery import UTM33, noise, utm_grid, write_tif
from scripted import Handler, good, serve_scripted, status
from tiffs import plain, write_form

from eearth.errors import EearthError, SourceError
from eearth.geo.grid import Grid, Window
from eearth.geo.raster import read_onto
from eearth.geo.remote import files as module
from eearth.geo.remote.files import Files, close_files, shared_files
from eearth.geo.remote.parts import PART_BYTES
from eearth.geo.remote.tiff import CorruptError

if TYPE_CHECKING:
    from pathlib import Path


pytestmark = pytest.mark.usefixtures("quick")


# --- Files that GDAL finds its way through itself


def write_jpeg2000(folder: Path) -> Path:
    """Lossless, 3 bands, larger than a part."""
    path, grid = folder / "f.jp2", utm_grid(900, 900)
    with rasterio.Env() as env:
        if "JP2OpenJPEG" not in env.drivers():
            pytest.skip("rasterio was built without OpenJPEG")
    with rasterio.open(
        path, "w", "JP2OpenJPEG", 900, 900, 3, UTM33, grid.transform, "uint16", QUALITY=100, REVERSIBLE="YES",
        BLOCKXSIZE=256, BLOCKYSIZE=256,
    ) as file:  # fmt: skip
        file.write(np.stack([noise(grid, number) for number in range(3)]))
    return path


def write_striped(folder: Path) -> Path:
    path, grid = folder / "striped.tif", utm_grid(900, 900)
    with rasterio.open(
        path, "w", "GTiff", 900, 900, 3, UTM33, grid.transform, "uint16", nodata=0, compress="lzw"
    ) as file:
        file.write(np.stack([noise(grid, number) for number in range(3)]))
    return path


def write_masked(folder: Path) -> Path:
    return write_form(folder, plain(bands=3, mask=True, nodata=False, compress="NONE"))


WRITERS = {"jp2": write_jpeg2000, "striped": write_striped, "masked": write_masked}


@pytest.mark.parametrize("kind", WRITERS)
def test_other_files_are_the_local_ones_for_several_threads_at_once(tmp_path: Path, kind: str) -> None:
    path = WRITERS[kind](tmp_path)
    with serve_files(tmp_path) as url, ThreadPoolExecutor(6) as pool:

        def read(number: int) -> None:
            height, width = 100 + 10 * number, 300 - 10 * number
            grid = utm_grid(height, width, left=500_000 + 70 * number, top=5_000_000 - 110 * number)
            band = number % 3 + 1
            local, remote = (
                read_onto(source_of(href, index=band), grid, "nearest") for href in (str(path), f"{url}/{path.name}")
            )
            np.testing.assert_array_equal(remote.observed, local.observed)
            np.testing.assert_array_equal(remote.values, local.values)

        list(pool.map(read, range(18)))


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("code", [404, 500])
def test_an_error_in_the_middle_comes_out_as_itself(tmp_path: Path, kind: str, code: int) -> None:
    """The first requests go well, so that it is GDAL that stumbles."""
    content = WRITERS[kind](tmp_path).read_bytes()

    def reply(handler: Handler) -> None:
        first, _ = handler.wanted()
        (status(code) if first >= PART_BYTES else good)(handler)

    with serve_scripted(content, after=reply) as server, pytest.raises(SourceError) as caught:
        read_onto(source_of(f"{server.url}/f?sig=hush"), utm_grid(700, 700), "nearest")
    message = str(caught.value)
    assert str(code) in message or "has not answered" in message
    assert message.startswith((f"{server.url}/f cannot be read", "127.0.0.1"))
    assert "\n" not in message
    assert "hush" not in message


@pytest.mark.parametrize("kind", ["striped"])
def test_a_file_that_changes_while_it_is_read(tmp_path: Path, kind: str) -> None:
    content = WRITERS[kind](tmp_path).read_bytes()

    def reply(handler: Handler) -> None:
        if len(handler.scripted.seen) == 6:
            handler.scripted.content = content[: PART_BYTES + 5]
        good(handler)

    with serve_scripted(content, after=reply) as server, pytest.raises(SourceError):
        read_onto(source_of(f"{server.url}/f"), utm_grid(900, 900), "nearest")


def test_closing_lets_gdal_stop(tmp_path: Path) -> None:
    """An error in the callback is no noise, and comes out as what it is."""
    content = write_jpeg2000(tmp_path).read_bytes()

    def reply(handler: Handler) -> None:
        first, _ = handler.wanted()
        if first >= PART_BYTES:
            time.sleep(0.5)
        good(handler)

    with serve_scripted(content, after=reply) as server, ThreadPoolExecutor(3) as pool:
        waiting = [
            pool.submit(read_onto, source_of(f"{server.url}/f"), utm_grid(900, 900), "nearest") for _ in range(3)
        ]
        while not any(each.headers.get("range", "").startswith("bytes=1048576") for each in server.seen):
            time.sleep(0.01)
        close_files()
        for each in waiting:
            with pytest.raises(EearthError, match="stopped"):
                each.result()


def test_what_is_no_raster_says_so(tmp_path: Path) -> None:
    (tmp_path / "f.txt").write_bytes(b"no raster " * 1000)
    with serve_files(tmp_path) as url, pytest.raises(SourceError, match=r"f\.txt cannot be read") as caught:
        read_onto(source_of(f"{url}/f.txt?sig=hush"), GRID, "nearest")
    assert "hush" not in str(caught.value)


# --- Bytes that are not the file's

FORMS = {
    "plain": {},
    "float": {"dtype": "float32", "predictor": 3},
    "three bands": {"bands": 3},
    "uncompressed": {"compress": "NONE", "predictor": 1},
    "zstd": {"compress": "ZSTD"},
    "lerc": {"compress": "LERC", "dtype": "float32"},
    "strips": {"mask": True, "nodata": False},
}


@pytest.mark.parametrize("kind", ["flipped", "garbage", "zeroed", "truncated"])
@pytest.mark.parametrize("name", FORMS)
def test_damaged_answers_are_never_pixels(tmp_path: Path, name: str, kind: str) -> None:
    form = {"height": 400, "width": 400} | FORMS[name]
    paths = [write_form(tmp_path, plain(**form, seed=seed)) for seed in range(4)]
    grids = [utm_grid(150, 400), utm_grid(120, 150, left=501_003, top=4_998_904)]
    with serve_faulty(tmp_path, Faults(**{kind: 0.2})) as url:
        for path in paths:
            for grid in grids:
                local = read_onto(source_of(str(path)), grid, "bilinear")
                remote = read_onto(source_of(f"{url}/{path.name}"), grid, "bilinear")
                np.testing.assert_array_equal(remote.observed, local.observed)
                np.testing.assert_array_equal(remote.values[local.observed], local.values[local.observed])
        assert tally_of(url).faults[kind] > 0


def test_damages_that_look_alike_are_no_second_reading(tmp_path: Path, files: Files) -> None:
    """Of a file of many tiles, whose places are asked for apart: all noise there has the same thing wrong with it."""
    path = write_tif(tmp_path / "large.tif", noise(GRID, 0), GRID)
    for number in range(12):
        rasterio.shutil.copy(path, tmp_path / f"{number}.tif", tiled=True, blockxsize=16, blockysize=16)
    with serve_faulty(tmp_path, Faults(garbage=0.35, seed=0)) as url:
        found = [files._agreed_header(source_of(f"{url}/{number}.tif")) for number in range(12)]
        assert tally_of(url).faults["garbage"] >= 8
    assert all(header is not None and header.shape == GRID.shape for header in found)


def test_a_header_that_tells_another_place_is_not_believed(tmp_path: Path) -> None:
    """The pixels are whole, only not where they belong: nothing but a second reading tells."""
    for number in range(12):
        write_tif(tmp_path / f"{number}.tif", noise(GRID, number), GRID)
    lie = struct.pack("<d", 500_000).hex(), struct.pack("<d", 500_640).hex()
    with serve_faulty(tmp_path, Faults(tampered=0.5, tampering=lie)) as url:
        for number in range(12):
            pixels = read_onto(source_of(f"{url}/{number}.tif"), GRID, "nearest")
            np.testing.assert_array_equal(pixels.values, noise(GRID, number))
        assert tally_of(url).faults["tampered"] >= 3


def test_a_file_that_was_replaced_is_read_anew(tmp_path: Path) -> None:
    write_tif(tmp_path / "f.tif", noise(GRID, 1), GRID)
    with serve_files(tmp_path) as url:
        source, part = source_of(f"{url}/f.tif"), GRID.crop(Window(0, 0, 200, 200))
        read_onto(source, part, "nearest")
        (tmp_path / "f.tif").unlink()
        write_tif(tmp_path / "f.tif", noise(GRID, 2, high=100), GRID)
        pixels = read_onto(source, GRID.crop(Window(500, 500, 200, 200)), "nearest")
    np.testing.assert_array_equal(pixels.values, noise(GRID, 2, high=100)[500:700, 500:700])


def test_facts_are_asked_once_for_files_of_the_same_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    monkeypatch.setattr(module, "MemoryFile", lambda body: opened.append(1) or rasterio.MemoryFile(body))
    other = Grid(UTM33, Affine(10, 0, 600_000, 0, -10, 5_000_000), SIDE, SIDE)
    for number, grid in enumerate((GRID, GRID, GRID, other)):
        write_tif(tmp_path / f"{number}.tif", noise(grid, number), grid)
    with serve_files(tmp_path) as url:
        facts = [shared_files().facts(source_of(f"{url}/{number}.tif")) for number in range(4)]
    assert len(opened) == 2
    assert [each.transform.c for each in facts] == [500_000] * 3 + [600_000]


def test_a_damaged_tile_in_the_cache_is_forgotten(tmp_path: Path, files: Files) -> None:
    values = noise(GRID)
    write_tif(tmp_path / "f.tif", values, GRID)
    with serve_files(tmp_path) as url:
        source, window = source_of(f"{url}/f.tif"), Window(0, 0, 300, 300)
        files.pixels(source, window, keep=True)
        files._tiles.put(source.href, 2, b"spoiled")
        with pytest.raises(CorruptError):
            files.pixels(source, window, keep=True)
        files.forget(source)
        np.testing.assert_array_equal(files.pixels(source, window, keep=True), values[window.slices])
