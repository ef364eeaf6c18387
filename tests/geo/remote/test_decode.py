from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from tiffs import forms, windows, write_form

from eearth.geo.remote.cog import Header, read_header
from eearth.geo.remote.decode import check_streams, decode_into, number_type
from eearth.geo.remote.tiff import CorruptError

if TYPE_CHECKING:
    from pathlib import Path

    from eearth.geo.grid import Window

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
REPEATED = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tiffs")


def header_of(content: bytes) -> Header:
    return read_header(lambda start, length: (content[start : start + length], len(content)))


def stored(header: Header, content: bytes, window: Window) -> dict[int, memoryview]:
    body = memoryview(content)
    return {
        tile: body[int(header.offsets[tile]) : int(header.offsets[tile] + header.counts[tile])]
        for tile in header.tiles(window)
    }


@settings(REPEATED, max_examples=250)
@given(st.data())
def test_a_window_is_gdals(folder: Path, data: st.DataObject) -> None:
    form = data.draw(forms(mask=False, bands=1))
    path = write_form(folder, form)
    content = path.read_bytes()
    header = header_of(content)
    kind = number_type(header)
    common = form.compress == "DEFLATE" and form.dtype != "float32"
    assert (kind is not None) == common
    if kind is not None:
        assert kind == np.dtype(form.dtype)
        window = data.draw(windows(form.height, form.width))
        values = np.full((window.height, window.width), 7 if form.nodata else 0, dtype=kind)
        decode_into(values, header, stored(header, content, window), window)
        with rasterio.open(path) as file:
            np.testing.assert_array_equal(values, file.read(1, window=window.rasterio))
    path.unlink()


KINDS_OF_DAMAGE = ("flip", "flip", "cut", "zeros", "noise", "longer", "shorter", "empty")


def damage(body: bytes, whole: int, data: st.DataObject) -> bytes:
    """A tile's stream, spoiled; `whole` is what it decodes to."""
    kind, damaged = data.draw(st.sampled_from(KINDS_OF_DAMAGE)), bytearray(body)
    if kind == "flip":
        place = data.draw(st.integers(2, len(damaged) - 1))  # the two bytes before say how it was compressed
        damaged[place] ^= 1 << data.draw(st.integers(0, 7))
    elif kind == "cut":
        del damaged[data.draw(st.integers(0, len(damaged) - 1)) :]
    elif kind == "noise":
        damaged = bytearray(data.draw(st.randoms(use_true_random=False)).randbytes(len(damaged)))
    elif kind in ("longer", "shorter"):
        return zlib.compress(bytes(whole + (1 if kind == "longer" else -1)))
    else:
        damaged = bytearray(len(damaged) if kind == "zeros" else 0)
    return bytes(damaged)


@settings(REPEATED, max_examples=200)
@given(st.data())
def test_a_damaged_tile_is_never_an_image(folder: Path, data: st.DataObject) -> None:
    """A flipped bit, a cut end and anything else: the stream's checksum tells, which GDAL does not ask."""
    form = data.draw(forms(mask=False, interleave="pixel", compress="DEFLATE", height=100, width=100))
    path = write_form(folder, form)
    content = path.read_bytes()
    path.unlink()
    header = header_of(content)
    window = data.draw(windows(100, 100))
    tiles = stored(header, content, window)
    assume(tiles)
    check_streams(header, tiles)
    victim = data.draw(st.sampled_from(sorted(tiles)))
    whole = header.tile_shape[0] * header.tile_shape[1] * form.bands * np.dtype(form.dtype).itemsize
    tiles[victim] = memoryview(damage(bytes(tiles[victim]), whole, data))
    with pytest.raises(CorruptError):
        check_streams(header, tiles)
    if kind := number_type(header):
        with pytest.raises(CorruptError):
            decode_into(np.zeros((window.height, window.width), dtype=kind), header, tiles, window)
