"""A remote file that GDAL finds its own way through, such as JPEG 2000, in parts of equal size."""

from __future__ import annotations

import hashlib
import io
from functools import lru_cache
from typing import TYPE_CHECKING

from eearth.errors import EearthError
from eearth.geo.remote.tiff import CorruptError

if TYPE_CHECKING:
    from collections.abc import Callable

# How a file is read that is no tiled GeoTIFF: in pieces of this size, the last few of them kept.
PART_BYTES = 2**20
PARTS_KEPT = 16

# Readings of the same bytes of which two must agree.
COMPARISONS = 10


def agreed(ask: Callable[[], bytes]) -> bytes:
    """The first bytes that two answers agree on."""
    seen = set()
    for _ in range(COMPARISONS):
        body = ask()
        digest = hashlib.blake2b(body, digest_size=16).digest()
        if digest in seen:
            return body
        seen.add(digest)
    msg = "the server sends different bytes each time"
    raise CorruptError(msg)


class Parts:
    """A file in pieces of equal size. GDAL swallows what its callbacks raise: `error` keeps it.

    Args:
        get: (start, length) → bytes, and the file's size.
        twice: Ask for everything twice and compare: over plain HTTP nothing guards the bytes on their way.
    """

    def __init__(self, get: Callable[[int, int], tuple[bytes, int]], *, twice: bool) -> None:
        """Ask for the file's size."""
        self._get, self._twice = get, twice
        self.error: Exception | None = None
        self.part = lru_cache(PARTS_KEPT)(self._load)
        _, self.size = get(0, 1)

    def _load(self, number: int) -> bytes:
        start, length = number * PART_BYTES, PART_BYTES

        def ask() -> bytes:
            body, size = self._get(start, length)
            if (len(body), size) != (min(length, self.size - start), self.size):
                msg = f"the file had {self.size} bytes and now has {size}"
                raise CorruptError(msg)
            return body

        return agreed(ask) if self._twice else ask()


class RemoteFile(io.RawIOBase):
    """A file-like object over the parts of a remote file; GDAL may open several."""

    def __init__(self, parts: Parts) -> None:
        """At the beginning."""
        super().__init__()
        self._parts, self._place = parts, 0

    def seekable(self) -> bool:
        """Always."""
        return True

    def readable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """The place of the next byte."""
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place, which may lie beyond the end."""
        self._place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._parts.size}[whence]
        return self._place

    def read(self, size: int = -1) -> bytes:
        """The next bytes; none where they cannot be had, and then `Parts.error` says why."""
        stop = self._parts.size if size < 0 else min(self._parts.size, self._place + size)
        parts = []
        try:
            while self._place < stop:
                number, inside = divmod(self._place, PART_BYTES)
                part = self._parts.part(number)[inside : inside + stop - self._place]
                parts.append(part)
                self._place += len(part)
        except (EearthError, CorruptError) as error:
            self._parts.error = error
            return b""
        return b"".join(parts)
