"""The commonest form of tile, decoded without a detour: one band, DEFLATE, whole numbers.

It is the form of nearly every public archive of optical imagery. Whatever is stored in another way goes through GDAL,
which gives the same pixels and takes half as long again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import deflate
import numpy as np

from eearth.geo.remote.cog import BITS, COMPRESSION, SAMPLES
from eearth.geo.remote.tiff import CorruptError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from eearth.geo.grid import Window
    from eearth.geo.remote.cog import Body, Header

FILL_ORDER, PREDICTOR, SAMPLE_FORMAT = 266, 317, 339

# TIFF 6.0, section 14 and Adobe's TIFF Technical Note 3: 1 nothing, 2 differences along the row.
PREDICTORS = {1, 2}
DEFLATE = {8, 32946}
# Sample format → numpy's kind of whole number.
KINDS = {1: "u", 2: "i"}


def number_type(header: Header) -> np.dtype[Any] | None:
    """The type of a file's numbers; None for a file that `decode_into` does not read."""
    kind, bits = KINDS.get(header.number(SAMPLE_FORMAT)), header.number(BITS)
    simple = (
        kind is not None
        and bits in (8, 16, 32)
        and header.number(COMPRESSION) in DEFLATE
        and header.number(PREDICTOR) in PREDICTORS
        and header.number(SAMPLES) == 1
        and header.number(FILL_ORDER) == 1
    )
    return np.dtype(f"{kind}{bits // 8}") if simple else None


def decode_into(values: NDArray[Any], header: Header, tiles: Mapping[int, Body], window: Window) -> None:
    """Decode some tiles into their places.

    Args:
        values: (y, x) of the window, in the file's number type; changed.
        header: Of a file whose `number_type` is known.
        tiles: Number → bytes.
        window: Which part of the file `values` is.

    Raises:
        CorruptError: A tile does not decode to what its size should be.
    """
    rows, cols = header.tile_shape
    across = -(-header.shape[1] // cols)
    for number, body in tiles.items():
        top, left = number // across * rows - window.row, number % across * cols - window.col
        tile = _tile(header, body, values.dtype)
        inside = (
            slice(max(0, -top), min(rows, window.height - top)),
            slice(max(0, -left), min(cols, window.width - left)),
        )
        place = (
            slice(top + inside[0].start, top + inside[0].stop),
            slice(left + inside[1].start, left + inside[1].stop),
        )
        if header.number(PREDICTOR) == 1:
            values[place] = tile[inside]
        else:  # undone from the row's beginning, for the rows that are wanted
            values[place] = _summed(tile[inside[0], : inside[1].stop])[:, inside[1].start :]


def check_streams(header: Header, tiles: Mapping[int, Body]) -> None:
    """Refuse damaged DEFLATE tiles before GDAL decodes them: zlib stops at the last pixel, before the checksum.

    One flipped bit in seven would pass otherwise.

    Raises:
        CorruptError: A tile does not decode to what its size should be.
    """
    if header.number(COMPRESSION) not in DEFLATE:
        return
    rows, cols = header.tile_shape
    size = rows * -(-cols * header.number(SAMPLES) * header.number(BITS) // 8)
    for body in tiles.values():
        _inflated(body, size)


def _tile(header: Header, body: Body, kind: np.dtype[Any]) -> NDArray[Any]:
    rows, cols = header.tile_shape
    plain = _inflated(body, rows * cols * kind.itemsize)
    stored = np.frombuffer(plain, dtype=np.dtype(f"{header.order}{kind.str[1:]}")).reshape(rows, cols)
    return stored.astype(kind, copy=False)


def _summed(steps: NDArray[Any]) -> NDArray[Any]:
    """Running sums along the rows, in 32 bits: a processor adds these up three times as fast as 16.

    Args:
        steps: (y, x) whole numbers.

    Returns:
        (y, x) whose lowest bits are the sums in the type of `steps`.
    """
    sums = steps.astype(f"{steps.dtype.kind}4")
    np.add.accumulate(sums, axis=1, out=sums)
    return sums


def _inflated(body: Body, size: int) -> bytes | bytearray:
    try:
        plain: bytes | bytearray = deflate.zlib_decompress(body, size)
    except deflate.DeflateError as error:
        raise CorruptError(str(error)) from error
    if len(plain) != size:
        msg = f"a tile of {len(plain)} bytes, expected {size}"
        raise CorruptError(msg)
    return plain
