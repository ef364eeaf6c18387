"""The tiles of a remote GeoTIFF that a window needs, fetched and nothing else.

The header is read once. For a window, the tiles that it touches are fetched in as few requests as they lie together,
and put into a copy of the file in memory that holds only them: GDAL decodes and warps that copy as it would the file
itself. A tile that was not fetched points beyond the copy's end, so that touching it is an error and never a hole.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from eearth.geo.remote.tiff import BIG, Beginning, CorruptError, Tag, directory, read_directory, values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from eearth.geo.grid import Window


# Tiles closer than this are fetched in one request: a COG puts 8 bytes between them.
GAP_BYTES = 512
# A request is not made longer than this: a failure would cost too much.
REQUEST_BYTES = 8 * 2**20

SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, SAMPLES, PLANAR = 254, 256, 257, 258, 259, 277, 284
TILE_WIDTH, TILE_HEIGHT, OFFSETS, COUNTS, SUB_IFDS = 322, 323, 324, 325, 330
EXTRA_SAMPLES = 338
MASK_SUBFILE = 4
# Size, number type, and georeferencing (GeoTIFF 1.1, 7; GDAL's nodata value is 42113).
LOOKS = {WIDTH, HEIGHT, BITS, SAMPLES, EXTRA_SAMPLES, 339, 33550, 33922, 34264, 34735, 34736, 34737, 42113}
# What else decides which pixels a tile decodes to: photometric interpretation, fill order, predictor, LERC's settings.
FORM = LOOKS | {COMPRESSION, PLANAR, TILE_WIDTH, TILE_HEIGHT, 262, 266, 317, 50674}
BANDS_APART = 2  # of one band alone it means nothing

# Codecs whose streams end in a checksum, or are refused by their decoder unless they are whole: 8 and 32946 deflate
# (Adler-32), 34887 LERC (Fletcher-32). What the others decode to tells nothing of what was lost.
CHECKED_CODECS = {8, 32946, 34887}


class NotCroppableError(Exception):
    """A file that is read in another way: no TIFF, not tiled, or with a mask of its own beside the image."""


# A tile's bytes, or the part of an answer that holds them.
Body = bytes | memoryview


@dataclass(frozen=True)
class Run:
    """Tiles that lie together: byte range and tile numbers."""

    start: int
    stop: int
    tiles: tuple[int, ...]


@dataclass(frozen=True)
class Header:
    """The first directory of a tiled GeoTIFF.

    Attributes:
        order: struct's byte order, `<` or `>`.
        tags: Number → field, without the tiles' places.
        offsets: First byte of each tile, 0 for one that the file leaves out.
        counts: Bytes of each tile.
        size: Bytes of the file.
        whole: The file, where it is so small that the header's request brought all of it; else empty.
    """

    order: str
    tags: dict[int, Tag]
    offsets: NDArray[np.uint64]
    counts: NDArray[np.uint64]
    size: int
    whole: bytes = b""

    def number(self, tag: int, default: int = 1) -> int:
        """The first value of a field of whole numbers."""
        found = self.tags.get(tag)
        return default if found is None else int(values(found, self.order)[0])

    @cached_property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.number(HEIGHT), self.number(WIDTH)

    @cached_property
    def tile_shape(self) -> tuple[int, int]:
        """(rows, columns) of a tile."""
        return self.number(TILE_HEIGHT), self.number(TILE_WIDTH)

    @cached_property
    def looks(self) -> tuple[tuple[int, Tag], ...]:
        """What two files share that lie on the same ground in the same form: all fields but those on what they show."""
        return tuple(sorted((number, tag) for number, tag in self.tags.items() if number in LOOKS))

    @property
    def form(self) -> tuple[object, ...]:
        """All that decides which pixels come out where, but the tiles' places."""
        return self.order, *sorted((number, tag) for number, tag in self.tags.items() if number in FORM)

    def equals(self, other: Header) -> bool:
        """Whether two readings of a header brought the same."""
        mine, others = (
            (one.order, one.tags, one.size, one.offsets.tobytes(), one.counts.tobytes(), one.whole)
            for one in (self, other)
        )
        return mine == others

    @property
    def checked(self) -> bool:
        """Whether a tile that decodes is surely the tile that was stored."""
        return self.number(COMPRESSION) in CHECKED_CODECS

    def tiles(self, window: Window) -> list[int]:
        """Numbers of the tiles that a window touches, without those that the file leaves out."""
        (rows, cols), across = self.tile_shape, -(-self.shape[1] // self.tile_shape[1])
        return [
            row * across + col
            for row in range(window.row // rows, -(-(window.row + window.height) // rows))
            for col in range(window.col // cols, -(-(window.col + window.width) // cols))
            if self.counts[row * across + col]
        ]

    def is_shared(self, tile: int, window: Window) -> bool:
        """Whether a tile reaches beyond a window: the window beside it will want it, too."""
        row, col = self._first_pixel(tile)
        return row < window.row or col < window.col or self.goes_on(tile, window)

    def goes_on(self, tile: int, window: Window) -> bool:
        """Whether a tile reaches beyond a window's right or lower edge, where a walk over the file comes later."""
        (row, col), (rows, cols), (height, width) = self._first_pixel(tile), self.tile_shape, self.shape
        return (
            min(row + rows, height) > window.row + window.height or min(col + cols, width) > window.col + window.width
        )

    def _first_pixel(self, tile: int) -> tuple[int, int]:
        """(row, column)."""
        rows, cols = self.tile_shape
        row, col = divmod(tile, -(-self.shape[1] // cols))
        return row * rows, col * cols

    def runs(self, tiles: Iterable[int]) -> list[Run]:
        """The requests that fetch some tiles."""
        runs: list[Run] = []
        for tile in sorted(tiles, key=lambda tile: int(self.offsets[tile])):
            start, stop = int(self.offsets[tile]), int(self.offsets[tile] + self.counts[tile])
            last = runs[-1] if runs else None
            if last and start - last.stop <= GAP_BYTES and stop - last.start <= REQUEST_BYTES:
                runs[-1] = Run(last.start, max(stop, last.stop), (*last.tiles, tile))
            else:
                runs.append(Run(start, stop, (tile,)))
        return runs

    def copy(self, tiles: Mapping[int, Body]) -> bytes:
        """A GeoTIFF that holds these tiles of the file, at the places that they have there."""
        counts = self.counts.copy()
        fields = self.tags | {
            OFFSETS: Tag(16, len(counts), bytes(8 * len(counts))),
            COUNTS: Tag(16, len(counts), counts.astype(f"{self.order}u8").tobytes()),
        }
        start = len(directory(self.order, fields))
        offsets = np.where(counts > 0, np.uint64(self.size + start + 2**40), np.uint64(0))
        for number in sorted(tiles):
            offsets[number] = start
            start += len(tiles[number])
        fields[OFFSETS] = Tag(16, len(counts), offsets.astype(f"{self.order}u8").tobytes())
        return b"".join([directory(self.order, fields), *(tiles[number] for number in sorted(tiles))])


def read_header(fetch: Callable[[int, int], tuple[bytes, int]]) -> Header:
    """Read the first directory of a GeoTIFF.

    Args:
        fetch: (start, length) → bytes of the file, and the file's size.

    Raises:
        NotCroppableError: The file must be read in another way.
        CorruptError: The bytes contradict each other; another attempt may bring better ones.
    """
    reader = Beginning(fetch)
    order = {b"II": "<", b"MM": ">"}.get(reader.bytes[:2])
    version = struct.unpack_from(f"{order}H", reader.bytes, 2)[0] if order and len(reader.bytes) >= 8 else 0  # noqa: PLR2004
    if order is None or version not in (42, BIG):
        raise NotCroppableError
    try:
        tags, following = read_directory(reader, order, big=version == BIG)
        _refuse_others(reader, order, tags, following, big=version == BIG)
        header = Header(
            order,
            {number: tag for number, tag in tags.items() if number not in (OFFSETS, COUNTS, SUB_IFDS)},
            values(tags[OFFSETS], order).astype(np.uint64),
            values(tags[COUNTS], order).astype(np.uint64),
            reader.size,
            reader.bytes if len(reader.bytes) == reader.size else b"",
        )
        _check(header)
    except (KeyError, ValueError, struct.error) as error:
        raise CorruptError(str(error)) from error
    return header


def _refuse_others(reader: Beginning, order: str, tags: dict[int, Tag], following: int, *, big: bool) -> None:
    """Only tiles, no bands with tiles of their own, and no mask among the directories that follow: they are overviews.

    GDAL warps all bands of a file at once, whichever is wanted, and an alpha band counts as a mask of the others.
    """
    several, apart = (
        number in tags and int(values(tags[number], order)[0]) >= BANDS_APART for number in (SAMPLES, PLANAR)
    )
    if TILE_WIDTH not in tags or OFFSETS not in tags or (several and apart):
        raise NotCroppableError
    seen = 0
    while following and seen < 64:  # noqa: PLR2004 - a file has a dozen overviews at most
        seen += 1
        others, following = read_directory(reader, order, big=big, start=following, wanted={SUBFILE})
        if SUBFILE in others and int(values(others[SUBFILE], order)[0]) & MASK_SUBFILE:
            raise NotCroppableError


def _check(header: Header) -> None:
    """Every tile lies inside the file, and there are as many as the image needs."""
    (rows, cols), (height, width) = header.tile_shape, header.shape
    needed = -(-height // max(1, rows)) * -(-width // max(1, cols))
    if min(rows, cols, height, width) < 1 or not len(header.offsets) == len(header.counts) == needed:
        msg = f"{len(header.offsets)} tiles of {rows} x {cols} for {height} x {width} pixels"
        raise CorruptError(msg)
    room = header.size - np.minimum(header.offsets, header.size)
    if (header.counts > room).any() or ((header.offsets == 0) != (header.counts == 0)).any():
        msg = "a tile lies beyond the end of the file"
        raise CorruptError(msg)
