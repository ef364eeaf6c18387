"""From pieces to the cube: every date of a small square comes together, for that is what later readers want."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from eearth.errors import DiskError
from eearth.events import Advanced, Finished, Report, Started
from eearth.geo.cube import CHUNK, Cube
from eearth.geo.grid import Window
from eearth.geo.imagery.fetch import blocks, inside_region, job_of
from eearth.geo.imagery.pieces import FRAME_ROWS, Job, read_piece
from eearth.geo.imagery.scenes import Acquisition
from eearth.geo.imagery.store import LostPieceError
from eearth.geo.quicklook import Summary
from eearth.manifest import write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from eearth.geo.imagery.fetch import Fetched
    from eearth.geo.imagery.plan import Plan
    from eearth.geo.imagery.store import Store

T = TypeVar("T")

# Pixels of all dates and bands that one thread puts together at a time, in bytes.
STRIP_BYTES = 64 * 2**20
THREADS = 2


@dataclass(frozen=True)
class Date:
    """One date of the cube, and the acquisitions that it is made of: several where months are composed."""

    time: datetime
    groups: tuple[Acquisition, ...]

    @property
    def ids(self) -> str:
        """Item ids, separated by spaces."""
        return " ".join(group.ids for group in self.groups)


def dates_of(groups: Sequence[Acquisition], composite: str) -> list[Date]:
    """The cube's dates: each acquisition, or each calendar month at the mean time of its acquisitions."""
    if composite == "none":
        return [Date(group.time, (group,)) for group in groups]
    months = groupby(groups, key=lambda group: (group.time.astimezone(UTC).year, group.time.astimezone(UTC).month))
    return [Date(_mean(members), tuple(members)) for members in ([*month] for _, month in months)]


def _mean(groups: Sequence[Acquisition]) -> datetime:
    first = groups[0].time
    later = sum(((group.time - first) for group in groups), timedelta())
    return (first + later / len(groups)).replace(microsecond=0)


@dataclass(frozen=True)
class Assembled:
    """A finished cube.

    Attributes:
        cube: The cube.
        contributed: Item id → (pixels observed, pixels of them that are valid).
        summary: What a first look shows.
        shown: The date of the summary's picture.
    """

    cube: Cube
    contributed: dict[str, tuple[int, int]]
    summary: Summary
    shown: int


class Assembly:
    """Puts a cube together.

    Args:
        plan: The grid, bands and encoding.
        fetched: The acquisitions, all of whose pieces are in the store or in the earlier cube.
        store: The pieces; those of a block are removed once the block is in the cube.
        earlier: A cube of the same grid, bands and encoding, for acquisitions that are there already.
        scratch: Folder that tells an interrupted run which blocks are done.
    """

    def __init__(self, plan: Plan, fetched: Fetched, store: Store, earlier: Cube | None, scratch: Path) -> None:
        """Nothing is written yet."""
        self.plan, self.store, self.earlier, self.seen = plan, store, earlier, fetched.seen
        self.dates = dates_of(fetched.acquisitions, plan.settings.composite)
        self.done = scratch / "blocks"
        self.place = {ids: number for number, ids in enumerate(earlier.items)} if earlier else {}

    def run(self, path: Path, report: Report) -> Assembled:
        """Write the cube at `path`, or go on with it."""
        todo = blocks(self.plan.grid)
        cube = self._resumed(path) or self._created(path)
        left = [block for block in todo if not self._log(block).is_file()]
        report(Started(task="cube", total=len(todo), unit="blocks", done=len(todo) - len(left)))
        for block in left:
            self._write_block(cube, block)
            report(Advanced(task="cube"))
        report(Finished(task="cube"))
        summary = Summary.joined(self.plan.grid.window, [Summary.read(self._sketch(block)) for block in todo])
        return Assembled(cube, self._contributed(todo), summary, self._shown())

    def _shown(self) -> int:
        shown: int = json.loads((self.done / "shown.json").read_text(encoding="utf-8"))
        return shown

    def _log(self, block: Window) -> Path:
        return self.done / f"{block.row}-{block.col}.json"

    def _sketch(self, block: Window) -> Path:
        return self._log(block).with_suffix(".npz")

    def _contributed(self, todo: Sequence[Window]) -> dict[str, tuple[int, int]]:
        return _sum_of(json.loads(self._log(block).read_text(encoding="utf-8")) for block in todo)

    def _resumed(self, path: Path) -> Cube | None:
        """The cube that an interrupted run left, if it is of the very same acquisitions."""
        if not (self.done / "shown.json").is_file():
            return None
        for half_written in path.rglob("*.partial"):  # of a chunk, by a process that was killed
            half_written.unlink()
        cube = Cube.open(path)
        plan = self.plan
        same = cube.grid == plan.grid and cube.encoding == plan.encoding and cube.bands == plan.bands
        return cube if same and cube.items == tuple(date.ids for date in self.dates) else None

    def _created(self, path: Path) -> Cube:
        shutil.rmtree(self.done, ignore_errors=True)
        cube = Cube.create(
            path,
            grid=self.plan.grid,
            bands=self.plan.bands,
            times=[date.time for date in self.dates],
            items=[date.ids for date in self.dates],
            encoding=self.plan.encoding,
        )
        self.done.mkdir(parents=True)
        write_json(self.done / "shown.json", self._clearest())
        return cube

    def _jobs(self, groups: Iterable[Acquisition], todo: Iterable[Window]) -> list[tuple[str, Job]]:
        """(item ids of an acquisition, what was read) for each piece: what the earlier cube does not have."""
        new = [group for group in groups if group.ids not in self.place]
        found = [(group.ids, job_of(group, block, self.plan)) for block in todo for group in new]
        return [(ids, job) for ids, job in found if job]

    def _mended(self, work: Callable[[], T], jobs: Mapping[str, Job]) -> T:
        """What some work on pieces, by their keys, gives; those that it finds damaged are read again."""
        mended: set[str] = set()
        while True:
            try:
                return work()
            except LostPieceError as lost:
                if lost.key in mended:
                    msg = f"expected what was just written to {self.store.folder}, found other bytes: check the disk"
                    raise DiskError(msg) from lost
                mended.add(lost.key)
                self.store.put(lost.key, read_piece(jobs[lost.key]))

    def _clearest(self) -> int:
        """The date that shows the most clear ground, for the picture."""
        clear = [sum(self._clear(group) for group in date.groups) for date in self.dates]
        return int(np.argmax(clear))

    def _clear(self, group: Acquisition) -> int:
        """By its masks; without these, what is valid of it."""
        if group.ids in self.seen:
            return self.seen[group.ids].clear
        if group.ids in self.place and self.earlier is not None:
            return int(np.count_nonzero(self.earlier.valid[self.place[group.ids]]))
        jobs = {job.key: job for _, job in self._jobs([group], blocks(self.plan.grid))}
        return sum(valid for _, valid in self._mended(lambda: self._given_by(jobs), jobs).values())

    def _given_by(self, keys: Iterable[str]) -> dict[str, tuple[int, int]]:
        return _sum_of(self.store.contributed(key) for key in keys)

    def _write_block(self, cube: Cube, block: Window) -> None:
        """Put one block together, tell how it went, and make room."""
        found = self._jobs((group for date in self.dates for group in date.groups), [block])
        keys, jobs = {ids: job.key for ids, job in found}, {job.key: job for _, job in found}
        inside, shown = inside_region(self.plan, block), self._shown()

        def write(strip: Window) -> Summary:
            values, valid = self._strip(strip, block, keys)
            window = Window(block.row + strip.row, block.col + strip.col, strip.height, strip.width)
            cube.write(window, values, valid)
            return Summary.of(cube, window, values[shown], valid, inside[strip.slices])

        def write_all() -> dict[str, tuple[int, int]]:
            with ThreadPoolExecutor(THREADS, thread_name_prefix="strip") as pool:
                Summary.joined(block, list(pool.map(write, self._strips(block)))).write(self._sketch(block))
            return self._given_by(jobs)

        write_json(self._log(block), self._mended(write_all, jobs))
        for key in jobs:
            self.store.remove(key)

    def _strips(self, block: Window) -> Iterator[Window]:
        """Windows of a block, relative to it, whose edges lie on chunks and which fit the memory."""
        pixel = len(self.dates) * self.plan.pixel_bytes
        width = max(CHUNK, STRIP_BYTES // (pixel * FRAME_ROWS) // CHUNK * CHUNK)
        for row in range(0, block.height, FRAME_ROWS):
            for col in range(0, block.width, width):
                yield Window(row, col, min(FRAME_ROWS, block.height - row), min(width, block.width - col))

    def _strip(self, strip: Window, block: Window, keys: Mapping[str, str]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """(values (time, band, y, x), valid (time, y, x)) of a strip, of all dates."""
        shape = strip.height, strip.width
        values = np.empty((len(self.dates), len(self.plan.bands), *shape), dtype=self.plan.encoding.dtype)
        valid = np.empty((len(self.dates), *shape), dtype=bool)
        for number, date in enumerate(self.dates):
            if len(date.groups) == 1:
                values[number], valid[number] = self._layer(date.groups[0], strip, block, keys)
            else:
                layers = [self._layer(group, strip, block, keys) for group in date.groups]
                values[number], valid[number] = composed(layers, self.plan.encoding.fill)
        return values, valid

    def _layer(
        self, group: Acquisition, strip: Window, block: Window, keys: Mapping[str, str]
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """(values (band, y, x), valid (y, x)) of one acquisition."""
        fill, bands = self.plan.encoding.fill, len(self.plan.bands)
        if group.ids in self.place and self.earlier is not None:
            rows = slice(block.row + strip.row, block.row + strip.row + strip.height)
            cols = slice(block.col + strip.col, block.col + strip.col + strip.width)
            number = self.place[group.ids]
            return (
                np.asarray(self.earlier.reflectance[number, :, rows, cols]),
                np.asarray(self.earlier.valid[number, rows, cols]),
            )
        key = keys.get(group.ids)
        if key is None:
            shape = strip.height, strip.width
            return np.full((bands, *shape), fill, self.plan.encoding.dtype), np.zeros(shape, dtype=bool)
        values, valid = self.store.frame(key, strip.row, (bands, strip.height, block.width), self.plan.encoding)
        cols = slice(strip.col, strip.col + strip.width)
        return values[:, :, cols], valid[:, cols]


def _sum_of(parts: Iterable[Mapping[str, tuple[int, int]]]) -> dict[str, tuple[int, int]]:
    """What each scene contributed to all parts, from what it contributed to each."""
    total: dict[str, Counter[str]] = {}
    for part in parts:
        for scene, (observed, valid) in part.items():
            total.setdefault(scene, Counter()).update(observed=observed, valid=valid)
    return {scene: (count["observed"], count["valid"]) for scene, count in total.items()}


def composed(
    layers: Sequence[tuple[NDArray[Any], NDArray[np.bool_]]], fill: int
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """The median of the clear observations of each pixel and band; `fill` and not valid where there is none.

    Args:
        layers: (values (band, y, x), valid (y, x)) of each acquisition.
        fill: Number that means "no data".
    """
    valid = np.stack([each for _, each in layers])
    values = np.stack([each for each, _ in layers])
    last = np.iinfo(values.dtype).max
    ordered = np.sort(np.where(valid[:, None], values, last), axis=0)
    count = valid.sum(axis=0)[None, None]
    low, high = (
        np.take_along_axis(ordered, np.broadcast_to(middle, (1, *ordered.shape[1:])), axis=0)[0].astype(np.int64)
        for middle in (np.maximum(count - 1, 0) // 2, np.minimum(count // 2, len(layers) - 1))
    )
    seen = np.logical_or.reduce(valid)
    return np.where(seen, (low + high) // 2, fill).astype(values.dtype), seen
