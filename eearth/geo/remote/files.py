"""Files, remote and local, as datasets that rasterio reads one window of."""

from __future__ import annotations

import hashlib
import os
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

import numpy as np
import rasterio
from rasterio.io import MemoryFile

from eearth.geo.remote.cog import Body, Header, NotCroppableError, read_header
from eearth.geo.remote.decode import check_streams, decode_into, number_type
from eearth.geo.remote.parts import COMPARISONS, Parts, RemoteFile, agreed
from eearth.geo.remote.tiff import CorruptError
from eearth.geo.remote.tiles import TileCache
from eearth.geo.remote.transport import Traffic, Transport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from eearth.geo.grid import Window
    from eearth.geo.providers import Source
    from eearth.geo.signing import Access

# Schemes that are read byte range by byte range; GDAL knows others.
RANGED = ("http://", "https://", "s3://")

# Tiles on the edge between two pieces of a region, kept for the second one.
CACHED_BYTES = 64 * 2**20


# Stands for a header that was not read yet, for None stands for one that says nothing.
UNREAD = object()


GDAL_OPTIONS: dict[str, Any] = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_NUM_THREADS": "1",  # files are what is read in parallel
    "GDAL_CACHEMAX": 128,  # MB; each tile is decoded once
}


@dataclass(frozen=True)
class Facts:
    """What a file says of itself that decides where a window lies: GDAL's view of its header."""

    crs: Any
    transform: Any
    height: int
    width: int
    dtypes: tuple[str, ...]
    nodatavals: tuple[float | None, ...]


class Files:
    """Opens files by their address; threads share it."""

    def __init__(self) -> None:
        """Nothing is opened yet."""
        self._transport = Transport()
        self._headers: dict[str, Header | None] = {}
        self._forms: set[Any] = set()
        self._facts: dict[Any, Facts] = {}  # by address, or by what the header says
        self._tiles = TileCache(CACHED_BYTES)
        self._locks: dict[str, threading.RLock] = {}
        self._lock = threading.Lock()
        self._suspects: set[str] = set()
        self._decoders = threading.BoundedSemaphore(max(2, os.cpu_count() or 2))

    @property
    def traffic(self) -> Traffic:
        """What went over the wire so far."""
        return self._transport.traffic

    def close(self) -> None:
        """Let no thread wait any longer."""
        self._transport.close()

    def facts(self, source: Source) -> Facts:
        """What the file says of itself; asked once for each file.

        Raises:
            SourceError: It cannot be had.
            RasterioError, CorruptError: It is no image, or was damaged on the way.
        """
        if (known := self._facts.get(source.href)) is not None:
            return known
        with self._lock_of(source.href):
            header = self._header(source)
            key = header.looks if header else source.href
            found = self._facts.get(key)
            if found is None:
                with self._opened(source, None, keep=False) as file:
                    found = Facts(file.crs, file.transform, file.height, file.width, file.dtypes, file.nodatavals)
                self._facts[key] = found
            self._facts[source.href] = found
            return found

    def pixels(
        self, source: Source, window: Window, *, keep: bool, place: NDArray[Any] | None = None
    ) -> NDArray[Any] | None:
        """A window of a file of the commonest form, (y, x); None for any other, which `opened` opens.

        Args:
            source: The file.
            window: Which part of it.
            keep: Another window will want the tiles on the edge of this one.
            place: Where to put the pixels, if it has their shape and type; else a new array is made.

        Raises:
            SourceError: The file cannot be had.
            CorruptError: It was damaged on the way.
        """
        header = self._header(source)
        if header is None or number_type(header) is None:
            return None
        nodata = self.facts(source).nodatavals[source.index - 1]
        shape, kind = (window.height, window.width), number_type(header)
        fits = place is not None and (place.shape, place.dtype) == (shape, kind)
        values = place if place is not None and fits else np.empty(shape, kind)
        values.fill(nodata or 0)  # the file may leave tiles out
        with self._lock_of(source.href):  # two pieces side by side: the second one finds their common tiles
            for tiles in self._fetched(source, header, window, keep=keep):
                with self._decoders:
                    decode_into(values, header, tiles, window)
        return values

    @contextmanager
    def opened(self, source: Source, window: Window, *, keep: bool) -> Iterator[Any]:
        """A dataset of the whole file's shape; only `window` of the source's band may be read."""
        self.facts(source)
        with self._opened(source, window, keep=keep) as file:
            yield file

    def _lock_of(self, href: str) -> threading.RLock:
        with self._lock:
            return self._locks.setdefault(href, threading.RLock())

    def forget(self, source: Source) -> None:
        """Fetch all of the file anew, each part until two answers agree: something of it was damaged."""
        with self._lock:
            self._suspects.add(source.href)
            self._headers.pop(source.href, None)
            self._facts.pop(source.href, None)
        self._tiles.drop(source.href)

    def needed(self, source: Source, window: Window) -> tuple[int, int] | None:
        """(requests, bytes) that reading a window takes; None for a file that is not read by tiles."""
        header = self._header(source)
        if header is None:
            return None
        runs = header.runs(header.tiles(window))
        return len(runs), sum(run.stop - run.start for run in runs)

    @contextmanager
    def _opened(self, source: Source, window: Window | None, *, keep: bool) -> Iterator[Any]:
        if not source.href.startswith(RANGED):
            with rasterio.Env(**GDAL_OPTIONS), rasterio.open(source.href) as file:
                yield file
            return
        header = self._header(source)
        if header is None:
            with self._in_parts(source) as file:
                yield file
            return
        tiles: dict[int, Body] = {}
        with self._lock_of(source.href):
            for some in self._fetched(source, header, window, keep=keep) if window else ():
                tiles |= some
        with self._decoders:
            check_streams(header, tiles)
            with rasterio.Env(**GDAL_OPTIONS), MemoryFile(header.copy(tiles)) as memory, memory.open() as file:
                yield file

    def _header(self, source: Source) -> Header | None:
        """The header; None for a file that is read in another way."""
        if not source.href.startswith(RANGED):
            return None
        if (known := self._headers.get(source.href, UNREAD)) is not UNREAD:
            return cast("Header | None", known)
        header = self._headers[source.href] = self._agreed_header(source)
        return header

    def _agreed_header(self, source: Source) -> Header | None:
        """Nothing guards a header: one reading is believed where another file's says the same, else two that agree.

        What it says of the tiles' places needs no belief where they end in checksums.
        """
        seen: list[Header | NoHeader] = []
        for _ in range(COMPARISONS):
            reading = self._reading(source)
            if isinstance(reading, Header) and reading.checked and reading.form in self._forms:
                return reading
            if any(_same(reading, other) for other in seen):
                if isinstance(reading, Header):
                    self._forms.add(reading.form)
                    return reading
                if reading.damage:
                    raise CorruptError(reading.damage)
                return None
            seen.append(reading)
        msg = "the server sends different bytes each time"
        raise CorruptError(msg)

    def _reading(self, source: Source) -> Header | NoHeader:
        """One reading of a header."""
        get, read = self._getter(source.href, source.access), hashlib.blake2b(digest_size=16)

        def noted(start: int, length: int) -> tuple[bytes, int]:
            body, size = get(start, length)
            read.update(body)
            return body, size

        try:
            return read_header(noted)
        except NotCroppableError:
            return NoHeader("", read.digest())
        except CorruptError as error:
            return NoHeader(str(error), read.digest())

    def _getter(self, href: str, access: Access | None) -> Callable[[int, int], tuple[bytes, int]]:
        def get(start: int, length: int) -> tuple[bytes, int]:
            answer = self._transport.fetch(href, access, start, length)
            return answer.body, answer.size

        return get

    def _fetched(self, source: Source, header: Header, window: Window, *, keep: bool) -> Iterator[dict[int, Body]]:
        """The tiles of a window, some at a time: from the cache, then over the wire."""
        wanted = header.tiles(window)
        found = {
            tile: self._tiles.get(source.href, tile, last=keep and not header.goes_on(tile, window)) for tile in wanted
        }
        here: dict[int, Body] = {tile: body for tile, body in found.items() if body is not None}
        yield here
        for run in header.runs(tile for tile in wanted if tile not in here):
            body = memoryview(header.whole[run.start : run.stop] or self._bytes(source, run.start, run.stop, header))
            tiles: dict[int, Body] = {}
            for tile in run.tiles:
                start = int(header.offsets[tile]) - run.start
                tiles[tile] = body[start : start + int(header.counts[tile])]
                if keep and header.is_shared(tile, window) and not header.whole:
                    self._tiles.put(source.href, tile, bytes(tiles[tile]))
            yield tiles

    def _bytes(self, source: Source, start: int, stop: int, header: Header) -> bytes:
        """A run's bytes: those that two answers agree on, if no checksum guards them or some were damaged before."""
        get = self._getter(source.href, source.access)

        def ask() -> bytes:
            body, size = get(start, stop - start)
            if size != header.size or len(body) != stop - start:
                msg = f"the file had {header.size} bytes and now has {size}"
                raise CorruptError(msg)
            return body

        return ask() if header.checked and source.href not in self._suspects else agreed(ask)

    @contextmanager
    def _in_parts(self, source: Source) -> Iterator[Any]:
        """A file that GDAL itself finds its way through, such as JPEG 2000."""
        remote = Parts(self._getter(source.href, source.access), twice=source.href.startswith("http://"))
        name = uuid4().hex  # rasterio tells open files apart by their names

        def open_part(path: str, mode: str = "rb") -> RemoteFile:  # noqa: ARG001 - rasterio names it
            if path != name:  # GDAL looks for files beside it
                raise FileNotFoundError(path)
            return RemoteFile(remote)

        try:
            with rasterio.Env(**GDAL_OPTIONS), rasterio.open(name, opener=open_part) as file:
                yield file
        except Exception:
            if remote.error is not None:
                raise remote.error from None
            raise
        if remote.error is not None:
            raise remote.error


@dataclass(frozen=True)
class NoHeader:
    """A reading that did not give a header.

    Attributes:
        damage: What is wrong with it; empty for a file that is read in another way.
        digest: Of the bytes that were read: different damages may look alike.
    """

    damage: str
    digest: bytes


def _same(reading: Header | NoHeader, other: Header | NoHeader) -> bool:
    return reading.equals(other) if isinstance(reading, Header) and isinstance(other, Header) else reading == other


_shared: list[Files] = []
_sharing = threading.Lock()


def shared_files() -> Files:
    """This process's files: every thread shares their connections, headers and tiles."""
    with _sharing:
        if not _shared:
            _shared.append(Files())
        return _shared[0]


def close_files() -> None:
    """Let every thread that waits for a file fail, and forget what was fetched."""
    with _sharing:
        while _shared:
            _shared.pop().close()
