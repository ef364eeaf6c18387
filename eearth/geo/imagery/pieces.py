"""One acquisition on one block of the grid: what is read, and how scenes of a pass become one picture.

A job says all that reading a piece takes, so that any thread, process or machine can do it; the result is bytes.
"""

from __future__ import annotations

import hashlib
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from eearth.errors import SceneError, SourceError, UnreachableError
from eearth.geo.cf import COMPRESSOR
from eearth.geo.cube import CHUNK
from eearth.geo.grid import Grid, Window, tiles_of
from eearth.geo.imagery.archive import packed
from eearth.geo.providers import Encoding, Mask, Source
from eearth.geo.raster import forget, read_onto
from eearth.geo.remote.files import close_files
from eearth.manifest import redacted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# A piece is stored in frames of whole chunk rows, each of which is read back by itself.
FRAME_ROWS = CHUNK

# Bands of one scene are seen on the same ground, but for some pixels along the edge of the swath. Where one lacks more
# than this share, a part of it may have been lost on the way: the scene is read again.
UNEVEN_SHARE = 0.02

# A difference of offsets this near to a whole number of steps is one, but for rounding.
WHOLE = 1e-6


@dataclass(frozen=True)
class Part:
    """One scene's share in a piece.

    Attributes:
        scene: Item id.
        bands: One source for each band of the cube.
        mask: What tells clear ground from cloud; None where nothing does.
        valid_range: Lowest and highest number that is to be trusted; empty: every number.
    """

    scene: str
    bands: tuple[Source, ...]
    mask: Mask | None
    valid_range: tuple[float, ...]


@dataclass(frozen=True)
class Job:
    """A piece to read.

    Attributes:
        parts: The scenes that reach the block, the one that counts first where they overlap first.
        grid: The block.
        encoding: How the cube stores reflectance.
        resampling: How reflectance on another lattice is warped.
        workers: Files that one process reads at the same time.
        alone: No other block will want what lies beside this one.
        looks: What `look` found for each part; where it is empty, reading begins with that.
    """

    parts: tuple[Part, ...]
    grid: Grid
    encoding: Encoding
    resampling: str
    workers: int
    alone: bool
    looks: tuple[bytes, ...] = ()

    @cached_property
    def key(self) -> str:
        """The same for the same pixels: what an interrupted run stored under it can be taken."""
        sources = [
            (part.scene, [_identity(band) for band in part.bands], _identity(part.mask.source if part.mask else None),
             repr(part.mask and part.mask.rule), part.valid_range)
            for part in self.parts
        ]  # fmt: skip
        said = repr((sources, self.grid.as_dict(), self.encoding, self.resampling))
        return hashlib.sha256(said.encode()).hexdigest()[:32]


def _identity(source: Source | None) -> Any:
    """All that decides a source's pixels; a signature does not."""
    return source and (redacted(source.href), source.index, source.scale, source.offset, source.nodata, source.dtype)


@dataclass(frozen=True)
class Look:
    """What a mask shows of a block: (y, x) each. Clear is a part of observed."""

    observed: NDArray[np.bool_]
    clear: NDArray[np.bool_]

    def packed(self) -> bytes:
        """As few bytes."""
        bits = np.packbits(np.stack([self.observed, self.clear]))
        packed: bytes = COMPRESSOR.encode(bits)
        return packed

    @classmethod
    def unpacked(cls, packed: bytes, shape: tuple[int, int]) -> Look:
        """Back from bytes."""
        bits = np.unpackbits(np.frombuffer(COMPRESSOR.decode(packed), dtype=np.uint8), count=2 * shape[0] * shape[1])
        observed, clear = bits.astype(bool).reshape(2, *shape)
        return cls(observed, clear)


_pools: dict[int, ThreadPoolExecutor] = {}
_pooling = threading.Lock()


def _readers(workers: int) -> ThreadPoolExecutor:
    """This process's threads that wait for files."""
    with _pooling:
        if workers not in _pools:
            _pools[workers] = ThreadPoolExecutor(workers, thread_name_prefix="read")
        return _pools[workers]


def stop_readers() -> None:
    """Begin no file more, and let none wait."""
    close_files()
    with _pooling:
        while _pools:
            _pools.popitem()[1].shutdown(cancel_futures=True)


def look(job: Job) -> list[bytes]:
    """Read the masks of a piece: a packed `Look` for each part.

    Raises:
        SceneError: A mask cannot be read.
    """
    pool = _readers(job.workers)
    masks = [
        pool.submit(read_onto, part.mask.source, job.grid, "nearest", keep=not job.alone) if part.mask else None
        for part in job.parts
    ]
    looks = []
    for part, waiting in zip(job.parts, masks, strict=True):
        if waiting is None or part.mask is None:
            looks.append(b"")
            continue
        with _blamed(part):
            pixels = waiting.result()
        looks.append(Look(pixels.observed, pixels.observed & part.mask.rule.clear(pixels.values)).packed())
    return looks


@contextmanager
def _blamed(part: Part) -> Iterator[None]:
    """What cannot be read is that scene's fault, unless the server does not answer at all."""
    try:
        yield
    except UnreachableError:
        raise
    except SourceError as error:
        raise SceneError(part.scene, str(error)) from error


def read_piece(job: Job) -> bytes:
    """Read one acquisition on one block.

    A pixel comes whole from one scene: the first of the pass that observed it in every band. Where none did, it shows
    what there is of each band, and is not valid.

    Returns:
        An archive: the frames of values and of `valid`, and what each scene contributed.

    Raises:
        SceneError: A scene cannot be read.
    """
    looks = job.looks or tuple(look(job))
    values: NDArray[Any] | None = None
    valid = np.zeros(job.grid.shape, dtype=bool)
    missing = np.ones(job.grid.shape, dtype=bool)
    contributed: dict[str, tuple[int, int]] = {}
    for number, part in enumerate(job.parts):
        if not missing.any():
            break
        stored, whole, trusted = _read_scene(part, job)
        fresh = missing & whole
        if values is None:
            values = stored
        else:
            np.copyto(values, stored, where=fresh | (missing & (values == job.encoding.fill)))
        clear = fresh if trusted is None else fresh & trusted
        if looks[number]:
            clear = clear & Look.unpacked(looks[number], job.grid.shape).clear
        valid |= clear
        missing &= ~fresh
        contributed[part.scene] = int(np.count_nonzero(fresh)), int(np.count_nonzero(clear))
    assert values is not None  # noqa: S101 - a job has parts
    return _packed(values, valid, contributed)


def _read_scene(part: Part, job: Job) -> tuple[NDArray[Any], NDArray[np.bool_], NDArray[np.bool_] | None]:
    """(values (band, y, x), observed in every band (y, x), to be trusted in every band, None for all).

    The values are `fill` where they were not observed.
    """
    stored = np.empty((len(part.bands), *job.grid.shape), dtype=job.encoding.dtype)
    seen = _read_bands(part, job, stored)
    if _is_uneven([observed for observed, _ in seen]):
        for source in part.bands:
            forget(source)
        seen = _read_bands(part, job, stored)
    trusted = reduce(np.logical_and, [each for _, each in seen if each is not None]) if part.valid_range else None
    return stored, reduce(np.logical_and, [observed for observed, _ in seen]), trusted


def _read_bands(part: Part, job: Job, stored: NDArray[Any]) -> list[tuple[NDArray[np.bool_], NDArray[np.bool_] | None]]:
    """Read every band into its place of `stored` (band, y, x); returns where each is (observed, to be trusted)."""

    def read(number: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_] | None]:
        place = stored[number]
        pixels = read_onto(part.bands[number], job.grid, job.resampling, keep=not job.alone, place=place)
        encoded = encode(pixels.values, part.bands[number], job.encoding)
        if encoded is not place:
            place[...] = encoded
        if not pixels.observed.all():
            place[~pixels.observed] = job.encoding.fill
        if not part.valid_range:
            return pixels.observed, None
        low, high = part.valid_range
        return pixels.observed, (pixels.values >= low) & (pixels.values <= high)

    waiting = [_readers(job.workers).submit(read, number) for number in range(len(part.bands))]
    with _blamed(part):
        return [each.result() for each in waiting]


def _is_uneven(observed: Sequence[NDArray[np.bool_]]) -> bool:
    """Whether a band lacks what others show."""
    counts = [np.count_nonzero(each) for each in observed]
    if min(counts) == observed[0].size:
        return False
    return bool(min(counts) < (1 - UNEVEN_SHARE) * np.count_nonzero(np.logical_or.reduce(observed)))


def encode(values: NDArray[Any], source: Source, encoding: Encoding) -> NDArray[Any]:
    """A source's numbers in the cube's encoding: unchanged where they already are, rescaled and clipped otherwise."""
    same_form = (source.scale, source.offset) == (encoding.scale, encoding.offset)
    if same_form and values.dtype == np.dtype(encoding.dtype):
        return values
    limits = np.iinfo(encoding.dtype)
    low = limits.min + 1 if encoding.fill == limits.min else limits.min
    shift = (source.offset - encoding.offset) / encoding.scale
    if source.scale == encoding.scale and values.dtype.kind in "iu" and abs(shift - round(shift)) < WHOLE:
        moved: NDArray[Any] = np.clip(values.astype(np.int64) + round(shift), low, limits.max).astype(encoding.dtype)
        return moved
    reflectance = values.astype(np.float64) * source.scale + source.offset
    stored = np.rint((reflectance - encoding.offset) / encoding.scale)
    encoded: NDArray[Any] = np.nan_to_num(np.clip(stored, low, limits.max)).astype(encoding.dtype)
    return encoded


def frames(shape: tuple[int, int]) -> Iterator[Window]:
    """The frames of a piece: bands of whole rows."""
    for window in tiles_of((shape[0], 1), FRAME_ROWS):
        yield Window(window.row, 0, window.height, shape[1])


def _packed(values: NDArray[Any], valid: NDArray[np.bool_], contributed: dict[str, tuple[int, int]]) -> bytes:
    """An archive of the frames, `<row>` (band, y, x) and `<row>v` (y, x), and of `contributed`."""
    parts: dict[str, bytes] = {}
    for frame in frames(valid.shape):
        rows = slice(frame.row, frame.row + frame.height)
        parts[f"{frame.row}"] = COMPRESSOR.encode(np.ascontiguousarray(values[:, rows]))
        parts[f"{frame.row}v"] = COMPRESSOR.encode(np.ascontiguousarray(valid[rows]))
    parts["contributed"] = json.dumps(contributed).encode()
    return packed(parts)
