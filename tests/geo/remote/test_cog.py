from __future__ import annotations

import random
import struct
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile
from scenery import noise, utm_grid, write_tif
from tiffs import Form, facts, forms, plain, windows, write_form

from eearth.geo.grid import Window
from eearth.geo.remote import cog
from eearth.geo.remote.cog import GAP_BYTES, REQUEST_BYTES, Header, NotCroppableError, read_header
from eearth.geo.remote.tiff import HEADER_BYTES, CorruptError
from eearth.geo.remote.tiles import TileCache

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
REPEATED = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


class Bytes:
    """A file's bytes as `read_header` asks for them, and what was asked."""

    def __init__(self, content: bytes) -> None:
        self.content, self.asked = content, []

    def __call__(self, start: int, length: int) -> tuple[bytes, int]:
        assert length > 0
        self.asked.append((start, length))
        return self.content[start : start + length], len(self.content)


def tiles_of(header: Header, content: bytes, numbers: list[int]) -> dict[int, bytes]:
    """Tiles as their runs bring them."""
    tiles = {}
    for run in header.runs(numbers):
        body = content[run.start : run.stop]
        for tile in run.tiles:
            first = int(header.offsets[tile]) - run.start
            tiles[tile] = body[first : first + int(header.counts[tile])]
    return tiles


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tiffs")


# --- The copy


@settings(REPEATED, max_examples=250)
@given(st.data())
def test_the_copy_shows_what_the_file_shows(folder: Path, data: st.DataObject) -> None:
    form = data.draw(forms())
    path = write_form(folder, form)
    content = path.read_bytes()
    try:
        header = read_header(Bytes(content))
    except NotCroppableError:
        assert form.mask or (form.bands > 1 and form.interleave == "band")
        return
    finally:
        path.unlink()
    assert not form.mask
    window = data.draw(windows(form.height, form.width))
    band = data.draw(st.integers(1, form.bands))
    copy = header.copy(tiles_of(header, content, header.tiles(window)))
    with MemoryFile(content) as memory, MemoryFile(copy) as memory2, memory.open() as file, memory2.open() as own:
        assert facts(own) == facts(file)
        area = window.rasterio
        np.testing.assert_array_equal(own.read(band, window=area), file.read(band, window=area))
        np.testing.assert_array_equal(own.read_masks(band, window=area), file.read_masks(band, window=area))


@settings(REPEATED, max_examples=60)
@given(st.data())
def test_a_tile_that_was_not_fetched_is_an_error(folder: Path, data: st.DataObject) -> None:
    form = data.draw(forms(mask=False, interleave="pixel", bands=1))
    path = write_form(folder, form)
    content = path.read_bytes()
    path.unlink()
    header = read_header(Bytes(content))
    window = Window(0, 0, form.height, form.width)
    wanted = header.tiles(window)
    assume(wanted)
    missing = data.draw(st.sampled_from(wanted))
    copy = header.copy(tiles_of(header, content, [tile for tile in wanted if tile != missing]))
    row, col = divmod(missing, -(-form.width // header.tile_shape[1]))
    place = Window(row * header.tile_shape[0], col * header.tile_shape[1], 1, 1)
    with MemoryFile(copy) as memory, memory.open() as file, pytest.raises(RasterioError):
        file.read(1, window=place.rasterio)


# --- The header


def test_a_file_with_many_tiles(tmp_path: Path) -> None:
    """Its header is 33 kB long: what is missing is read in one request, overviews included."""
    grid = utm_grid(128 * 45, 128 * 45)
    path = write_tif(tmp_path / "f.tif", np.zeros(grid.shape, dtype=np.uint8), grid)
    fetch = Bytes(path.read_bytes())
    header = read_header(fetch)
    assert len(header.offsets) == 45 * 45
    assert len(fetch.asked) <= 3
    assert sum(length for _, length in fetch.asked) <= 4 * HEADER_BYTES


def test_a_cog_with_many_tiles_is_read_by_tiles(tmp_path: Path) -> None:
    """The directories of its overviews lie beyond the first request; they are read, for one might be a mask."""
    grid = utm_grid(64 * 60, 64 * 60)
    path = write_form(tmp_path, plain(cog=True, overviews=True, tile=64, height=grid.height, width=grid.width))
    fetch = Bytes(path.read_bytes())
    header = read_header(fetch)
    assert len(header.offsets) == 60 * 60
    assert len(fetch.asked) <= 3
    assert sum(length for _, length in fetch.asked) < 8 * HEADER_BYTES


def test_a_small_file_comes_whole(tmp_path: Path) -> None:
    grid = utm_grid(30, 30)
    content = write_tif(tmp_path / "f.tif", noise(grid), grid).read_bytes()
    fetch = Bytes(content)
    assert read_header(fetch).whole == content
    assert len(fetch.asked) == 1


@pytest.mark.parametrize(
    "content", [b"", b"I", b"II*\0", b"no raster at all", b"\x89PNG\r\n\x1a\n" + bytes(100), b"II+\0" + bytes(4)]
)
def test_what_is_no_tiff_is_not_croppable(content: bytes) -> None:
    with pytest.raises((NotCroppableError, CorruptError)):
        read_header(Bytes(content))


def outcome(content: bytes) -> Header | None:
    try:
        return read_header(Bytes(content))
    except (NotCroppableError, CorruptError):
        return None


@settings(max_examples=200)
@given(st.sampled_from([b"II*\0", b"MM\0*", b"II+\0\x08\0\0\0", b"MM\0+\0\x08\0\0"]), st.binary(max_size=400))
def test_garbage_is_refused(start: bytes, rest: bytes) -> None:
    assert outcome(start + rest) is None


@settings(max_examples=100)
@given(st.integers(0, 2**32), st.integers(0, 60_000))
def test_a_body_of_garbage_is_refused(seed: int, size: int) -> None:
    assert outcome(random.Random(seed).randbytes(size)) is None  # noqa: S311 - made-up content


def opened(header: Header, content: bytes, window: Window) -> Any:
    """What GDAL makes of the copy; None where it refuses."""
    try:
        copy = header.copy(tiles_of(header, content, header.tiles(window)))
        with MemoryFile(copy) as memory, memory.open() as file:
            return file.read(1, window=window.rasterio)
    except RasterioError:
        return None


@settings(REPEATED, max_examples=400)
@given(st.data())
def test_a_damaged_header_is_no_crash(folder: Path, data: st.DataObject) -> None:
    """Wherever bits are flipped, a header is read or refused in the two ways that it is said to be."""
    form = data.draw(forms(mask=False, height=150, width=150, compress="DEFLATE", overviews=True, alpha=False))
    whole = bytearray(damageable(folder, form))
    reach = min(len(whole), 1500)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.one_of(st.integers(0, reach - 1), st.integers(0, min(reach, 400) - 1)))
        whole[place] ^= 1 << data.draw(st.integers(0, 7))
    damaged = bytes(whole[: data.draw(st.one_of(st.just(len(whole)), st.integers(0, len(whole))))])
    header = outcome(damaged)
    if header is not None:
        height, width = header.shape
        opened(header, damaged, Window(0, 0, min(height, 64), min(width, 64)))


_made: dict[Form, bytes] = {}


def damageable(folder: Path, form: Form) -> bytes:
    if form not in _made:
        path = write_form(folder, form)
        _made[form] = path.read_bytes()
        path.unlink()
    return _made[form]


@settings(REPEATED, max_examples=60)
@given(st.data())
def test_a_truncated_file_is_refused_or_its_header_is_the_files(folder: Path, data: st.DataObject) -> None:
    form = data.draw(forms(mask=False, height=150, width=150, compress="DEFLATE", alpha=False, cog=False))
    content = damageable(folder, form)
    header = outcome(content[: data.draw(st.integers(0, len(content) - 1))])
    if header is not None:
        whole = outcome(content)
        assert whole is not None
        assert header.form == whole.form


def test_a_mask_among_the_directories_is_refused(folder: Path) -> None:
    form = plain(mask=True, overviews=True, tile=64, height=200, width=200)
    path = write_form(folder, form)
    with pytest.raises(NotCroppableError):
        read_header(Bytes(path.read_bytes()))


@pytest.mark.parametrize("tag", [cog.WIDTH, cog.TILE_HEIGHT, cog.COMPRESSION, cog.OFFSETS])
def test_a_field_without_values_counts_as_absent(tmp_path: Path, tag: int) -> None:
    grid = utm_grid(200, 200)
    content = bytearray(write_tif(tmp_path / "f.tif", noise(grid), grid).read_bytes())
    (start,) = struct.unpack_from("<I", content, 4)
    (fields,) = struct.unpack_from("<H", content, start)
    places = [start + 2 + 12 * number for number in range(fields)]
    (place,) = [place for place in places if struct.unpack_from("<H", content, place)[0] == tag]
    struct.pack_into("<I", content, place + 4, 0)
    if tag == cog.COMPRESSION:
        assert not read_header(Bytes(bytes(content))).checked
        return
    with pytest.raises((CorruptError, NotCroppableError)):
        read_header(Bytes(bytes(content)))


def test_an_offset_that_overflows_is_refused(tmp_path: Path) -> None:
    grid = utm_grid(200, 200)
    with rasterio.open(
        tmp_path / "f.tif", "w", "GTiff", 200, 200, 1, grid.crs, grid.transform, "uint8", tiled=True, blockxsize=64,
        blockysize=64, BIGTIFF="YES",
    ) as file:  # fmt: skip
        file.write(noise(grid).astype(np.uint8), 1)
    content = (tmp_path / "f.tif").read_bytes()
    offset = int(read_header(Bytes(content)).offsets[3])
    damaged = content.replace(offset.to_bytes(8, "little"), (2**64 - 8).to_bytes(8, "little"), 1)
    assert damaged != content
    with pytest.raises(CorruptError):
        read_header(Bytes(damaged))


# --- Runs


def header_of(offsets: list[int], counts: list[int]) -> Header:
    return Header("<", {}, np.array(offsets, dtype=np.uint64), np.array(counts, dtype=np.uint64), 2**40)


@st.composite
def layouts(draw: st.DrawFn) -> tuple[Header, list[int]]:
    place, offsets, counts = 1000, [], []
    for _ in range(draw(st.integers(1, 30))):
        count = draw(st.sampled_from((1, 100, 10**6, 5 * 10**6, REQUEST_BYTES, 2 * REQUEST_BYTES)))
        offsets.append(place)
        counts.append(count)
        place += count + draw(st.sampled_from((0, 8, GAP_BYTES, GAP_BYTES + 1, 10**6)))
    order = draw(st.permutations(range(len(offsets))))
    header = header_of([offsets[number] for number in order], [counts[number] for number in order])
    wanted = draw(st.lists(st.integers(0, len(offsets) - 1), unique=True))
    return header, wanted


@settings(max_examples=200)
@given(layouts())
def test_runs_cover_every_tile_once_and_join_only_what_lies_together(layout: tuple[Header, list[int]]) -> None:
    header, wanted = layout
    runs = header.runs(wanted)
    assert sorted(tile for run in runs for tile in run.tiles) == sorted(wanted)
    for run in runs:
        ends = [(int(header.offsets[tile]), int(header.offsets[tile] + header.counts[tile])) for tile in run.tiles]
        assert (run.start, run.stop) == (ends[0][0], ends[-1][1])
        assert all(later[0] - sooner[1] <= GAP_BYTES for sooner, later in pairwise(ends))
        assert len(ends) == 1 or run.stop - run.start <= REQUEST_BYTES
    for sooner, later in pairwise(runs):  # what could have come together did
        tile = later.tiles[0]
        stop = int(header.offsets[tile] + header.counts[tile])
        assert later.start - sooner.stop > GAP_BYTES or stop - sooner.start > REQUEST_BYTES


# --- Which tiles


@settings(REPEATED, max_examples=100)
@given(st.data())
def test_tiles_and_shared_tiles_are_those_of_a_naive_count(data: st.DataObject) -> None:
    draw = data.draw
    height, width, rows, cols = (draw(st.integers(1, most)) for most in (70, 70, 30, 30))
    down, across = -(-height // rows), -(-width // cols)
    tags = {number: cog.Tag(4, 1, value.to_bytes(4, "little")) for number, value in
            {cog.WIDTH: width, cog.HEIGHT: height, cog.TILE_WIDTH: cols, cog.TILE_HEIGHT: rows}.items()}  # fmt: skip
    counts = np.array([draw(st.integers(0, 1)) for _ in range(down * across)], dtype=np.uint64)
    header = Header("<", tags, counts * 100, counts, 10**6)
    window = draw(windows(height, width))
    number = np.arange(height)[:, None] // rows * across + np.arange(width) // cols
    inside = set(number[window.slices].ravel().tolist())
    assert set(header.tiles(window)) == {tile for tile in inside if counts[tile]}
    outside = np.ones((height, width), dtype=bool)
    outside[window.slices] = False
    for tile in inside:
        assert header.is_shared(tile, window) == bool(((number == tile) & outside).any())


# --- The cache


@settings(max_examples=100)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 5), st.integers(0, 60)), max_size=40))
def test_the_cache_stays_within_its_bytes(steps: list[tuple[str, int, int]]) -> None:
    cache, newest = TileCache(100), None
    for href, tile, size in steps:
        cache.put(href, tile, bytes(size))
        newest = href, tile, size
        held = [cache.get(href, tile, last=False) for href in "ab" for tile in range(6)]
        assert sum(len(body) for body in held if body is not None) == cache._held <= 100
    if newest:
        assert cache.get(newest[0], newest[1], last=False) == bytes(newest[2])
    cache.drop("a")
    assert all(cache.get("a", tile, last=False) is None for tile in range(6))


def test_a_tile_asked_for_the_last_time_is_given_up() -> None:
    cache = TileCache(100)
    cache.put("a", 0, bytes(60))
    assert cache.get("a", 0, last=True) == bytes(60)
    assert (cache.get("a", 0, last=True), cache._held) == (None, 0)


def test_a_body_larger_than_the_cache_is_not_kept() -> None:
    cache = TileCache(100)
    cache.put("a", 0, bytes(101))
    assert cache.get("a", 0, last=False) is None
    assert cache._held == 0
