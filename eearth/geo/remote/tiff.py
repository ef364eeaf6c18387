"""The directories of a TIFF file: what its header says, field by field."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from numpy.typing import NDArray

# The header of a COG of a whole Sentinel-2 tile, with its overviews, is 3 to 12 kB.
HEADER_BYTES = 16 * 2**10
# A larger one is read on to four times its length, as long as what is asked for lies no farther off than this.
NEAR_BYTES = 256 * 2**10
# Of what lies farther off this much is read at least: a directory of an overview, which GDAL puts behind the tiles.
FAR_BYTES = 2**10

# TIFF 6.0 and BigTIFF: field type → numpy type. 2 is text, 7 is bytes, 13, 16 and 18 are offsets.
TYPES = {1: "u1", 2: "u1", 3: "u2", 4: "u4", 5: "u8", 6: "i1", 7: "u1", 8: "i2", 9: "i4", 10: "u8", 11: "f4", 12: "f8",
         13: "u4", 16: "u8", 17: "i8", 18: "u8"}  # fmt: skip


# The version number of BigTIFF; that of TIFF is 42.
BIG = 43


class CorruptError(Exception):
    """Bytes that cannot be what the file holds."""


@dataclass(frozen=True, order=True)
class Tag:
    """One field of a TIFF directory: its type, how many values, and these as bytes."""

    kind: int
    count: int
    raw: bytes


def values(tag: Tag, order: str) -> NDArray[np.generic]:
    """A field's numbers."""
    return np.frombuffer(tag.raw, dtype=np.dtype(f"{order}{TYPES[tag.kind]}"), count=tag.count)


def directory(order: str, fields: dict[int, Tag]) -> bytes:
    """A BigTIFF header with one directory: it fits every file, and its offsets never overflow."""
    entries, values = bytearray(), bytearray()
    place = 16 + 8 + 20 * len(fields) + 8
    for number in sorted(fields):
        tag = fields[number]
        head = struct.pack(f"{order}HHQ", number, tag.kind, tag.count)
        if len(tag.raw) <= 8:  # noqa: PLR2004 - a short value stands in the entry itself
            entries += head + tag.raw.ljust(8, b"\0")
        else:
            entries += head + struct.pack(f"{order}Q", place + len(values))
            values += tag.raw + bytes(-len(tag.raw) % 8)
    mark = b"II" if order == "<" else b"MM"
    start = mark + struct.pack(f"{order}HHHQ", BIG, 8, 0, 16) + struct.pack(f"{order}Q", len(fields))
    return start + bytes(entries) + bytes(8) + bytes(values)


class Beginning:
    """The beginning of a file, longer whenever more of it is asked for."""

    def __init__(self, fetch: Callable[[int, int], tuple[bytes, int]]) -> None:
        """Fetch what nearly every header fits in."""
        self._fetch = fetch
        self._far = 0, b""
        self.bytes, self.size = fetch(0, HEADER_BYTES)

    def at(self, start: int, length: int) -> bytes:
        """Bytes from anywhere in the file."""
        stop = start + length
        if stop > self.size:
            msg = f"a field points to byte {stop} of {self.size}"
            raise CorruptError(msg)
        here = len(self.bytes)
        if start > here + NEAR_BYTES:
            return self._far_off(start, length)
        if stop > here:
            self.bytes += self._more(here, min(self.size, max(stop, 4 * here)) - here)
        return self.bytes[start:stop]

    def _far_off(self, start: int, length: int) -> bytes:
        first, body = self._far
        if not first <= start <= start + length <= first + len(body):
            first, body = start, self._more(start, min(self.size - start, max(length, FAR_BYTES)))
            self._far = first, body
        return body[start - first : start - first + length]

    def _more(self, start: int, length: int) -> bytes:
        body, size = self._fetch(start, length)
        if (len(body), size) != (length, self.size):
            msg = f"the file had {self.size} bytes and now has {size}"
            raise CorruptError(msg)
        return body


def read_directory(
    reader: Beginning, order: str, *, big: bool, start: int | None = None, wanted: Container[int] = range(2**16)
) -> tuple[dict[int, Tag], int]:
    """(the fields wanted, place of the next directory, 0 for none)."""
    word, entry, many = ("Q", 20, "Q") if big else ("I", 12, "H")
    wide = struct.calcsize(f"={word}")
    if start is None:
        (start,) = struct.unpack(f"{order}{word}", reader.at(8 if big else 4, wide))
    lead = struct.calcsize(f"={many}")
    (count,) = struct.unpack(f"{order}{many}", reader.at(start, lead))
    if not 0 < count < 1000:  # noqa: PLR2004 - TIFF has some hundred known fields
        msg = f"a directory of {count} fields"
        raise CorruptError(msg)
    raw = reader.at(start + lead, count * entry + wide)
    tags = {}
    for position in range(0, count * entry, entry):
        number, kind, values = struct.unpack_from(f"{order}HH{word}", raw, position)
        if number not in wanted or not values:
            continue
        length = np.dtype(TYPES[kind]).itemsize * values
        place = position + 4 + wide
        if length > wide:
            (at,) = struct.unpack_from(f"{order}{word}", raw, place)
            tags[number] = Tag(kind, values, reader.at(at, length))
        else:
            tags[number] = Tag(kind, values, raw[place : place + length])
    (following,) = struct.unpack_from(f"{order}{word}", raw, count * entry)
    return tags, following
