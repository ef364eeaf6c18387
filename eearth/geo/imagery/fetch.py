"""From acquisitions to pieces on the disk: masks first, then the bands of what is worth it.

A scene of which anything cannot be read is left out whole: its pieces are read again without it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Container
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from rasterio.features import geometry_mask
from shapely.geometry import box

from eearth.errors import NothingFoundError, SceneError
from eearth.events import Advanced, Finished, Report, Started, Warned
from eearth.geo.cube import CHUNK
from eearth.geo.grid import Window
from eearth.geo.imagery.choice import Seen, choose
from eearth.geo.imagery.engine import run_jobs
from eearth.geo.imagery.pieces import Job, Look, Part, look, read_piece
from eearth.geo.imagery.scenes import Acquisition, surviving
from eearth.geo.remote.files import shared_files

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from eearth.geo.grid import Grid
    from eearth.geo.imagery.plan import Plan
    from eearth.geo.imagery.store import Store

# Side of a block in pixels: large against the tiles of the files (256 to 1024), small against the memory.
BLOCK = 1024
# Blocks beside each other that are read before the row below them: what two rows have in common is still in memory.
SWATH = 16

# What the pieces in work may hold together, and how much of itself a piece takes while it is merged.
WORKING_BYTES = 320 * 2**20
COPIES = 2


@dataclass
class Fetched:
    """What was learned while fetching.

    Attributes:
        acquisitions: Those whose pieces are all here, in order of time.
        seen: Item ids of an acquisition → what its masks show of the region.
        removed: Item ids of an acquisition that was not worth fetching → the reason.
        dropped: Item id of a scene that cannot be read → the reason.
    """

    acquisitions: list[Acquisition]
    seen: dict[str, Seen] = field(default_factory=dict)
    removed: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)


def blocks(grid: Grid) -> list[Window]:
    """The grid's blocks, in the order in which they are read."""
    rows, cols = _sides(grid.height), _sides(grid.width)
    whole = [Window(row, col, height, width) for row, height in rows for col, width in cols]
    return sorted(whole, key=lambda block: (block.col // (BLOCK * SWATH), block.row, block.col))


def _sides(length: int) -> list[tuple[int, int]]:
    """(first, number) of the pixels of each block along one axis: about equal, on chunk edges, none a mere sliver."""
    count, chunks = max(1, round(length / BLOCK)), -(-length // CHUNK)
    edges = [min(length, number * chunks // count * CHUNK) for number in range(count + 1)]
    return [(first, last - first) for first, last in pairwise(edges)]


def piece_bytes(plan: Plan) -> int:
    """Memory that a piece takes while it is read and packed."""
    largest = max(block.pixels for block in blocks(plan.grid))
    return COPIES * largest * (plan.pixel_bytes + 1)


def job_of(group: Acquisition, block: Window, plan: Plan) -> Job | None:
    """What reading a block of an acquisition takes; None where none of its scenes reaches."""
    grid = plan.grid.crop(block)
    outline = box(*grid.bounds)
    parts = tuple(
        Part(scene.item.id, scene.bands, scene.mask, plan.provider.valid_range)
        for scene in group.scenes
        if scene.area.intersects(outline)
    )
    if not parts:
        return None
    alone = block.pixels == plan.grid.window.pixels
    return Job(parts, grid, plan.encoding, plan.settings.resampling, plan.settings.workers, alone)


def fetch(plan: Plan, store: Store, kept: Iterable[str], report: Report) -> Fetched:
    """Fetch every piece that is not here yet.

    Args:
        plan: What to fetch.
        store: Where the pieces are kept.
        kept: Item ids of acquisitions whose pixels are at hand elsewhere.
        report: Receives progress, and a warning for each scene that is left out.

    Raises:
        NothingFoundError: Nothing is left to fetch.
        SourceError: The provider cannot be reached.
    """
    return _Fetching(plan, store, set(kept), report).run()


@dataclass(frozen=True)
class _Phase:
    """One pass over every block of some acquisitions.

    Attributes:
        task: What it brings.
        work: Job → what is kept of it.
        is_here: Whether that is kept already.
        keep: Keeps it.
        known: Item ids of acquisitions that need it no more.
    """

    task: str
    work: Callable[[Job], Any]
    is_here: Callable[[Job], bool]
    keep: Callable[[Job, Any], None]
    known: Container[str]

    def wants(self, job: Job) -> bool:
        """Whether there is anything to read: a mask, if masks are read."""
        return self.task == "imagery" or any(part.mask for part in job.parts)


class _Fetching:
    """One run of `fetch`."""

    def __init__(self, plan: Plan, store: Store, kept: set[str], report: Report) -> None:
        self.plan, self.store, self.report = plan, store, report
        self.blocks = blocks(plan.grid)
        self.dropped: dict[str, str] = {}
        self.seen: dict[str, Seen] = dict(plan.known)
        self.masks = _Phase("masks", look, lambda job: store.looks(job.key) is not None, self._keep_looks, self.seen)
        self.bands = _Phase("imagery", read_piece, lambda job: store.has(job.key), self._keep_piece, kept)

    def run(self) -> Fetched:
        """Look, choose and fetch; all of it again where a scene had to be left out, for then others are worth it."""
        while True:
            looked = self._look_at(self.plan.acquisitions)
            chosen, removed = choose(looked, self.seen, self.plan.settings)
            if not chosen:
                raise NothingFoundError(_nothing_left(self.plan, removed, self.dropped), self.dropped)
            before = len(self.dropped)
            whole = self._until_whole(chosen, self.bands)
            if len(self.dropped) == before:
                return Fetched(whole, self.seen, removed, self.dropped)

    def _look_at(self, groups: Sequence[Acquisition]) -> list[Acquisition]:
        """Read the masks of acquisitions, and count what they show of the region."""
        left = self._until_whole(groups, self.masks)
        self._see(left)
        return left

    def _until_whole(self, groups: Sequence[Acquisition], phase: _Phase) -> list[Acquisition]:
        """Do a phase for every block of every acquisition, again wherever a scene had to be left out."""
        while True:
            left = surviving(groups, self.dropped)
            before = len(self.dropped)
            self._do(left, phase)
            if len(self.dropped) == before:
                return left

    def _jobs(self, groups: Sequence[Acquisition], phase: _Phase) -> Iterator[Job]:
        for group in groups:
            for block in self.blocks if group.ids not in phase.known else ():
                job = job_of(group, block, self.plan)
                if job is not None and phase.wants(job) and not any(part.scene in self.dropped for part in job.parts):
                    yield job

    def _do(self, groups: Sequence[Acquisition], phase: _Phase) -> None:
        total = here = 0
        for job in self._jobs(groups, phase):
            total, here = total + 1, here + phase.is_here(job)
        if total == here:
            return
        self.report(Started(task=phase.task, total=total, unit="scene blocks", done=here))
        todo = (self._prepared(job, phase) for job in self._jobs(groups, phase) if not phase.is_here(job))
        pace, settings = _Pace(), self.plan.settings
        for job, result in run_jobs(todo, phase.work, at_once=self._at_once(phase), scheduler=settings.scheduler):
            if isinstance(result, SceneError):
                self._drop(result)
            else:
                phase.keep(job, result)
            self.report(Advanced(task=phase.task, detail=pace.rate()))
        self.report(Finished(task=phase.task))

    def _prepared(self, job: Job, phase: _Phase) -> Job:
        return job if phase is self.masks else replace(job, looks=self.store.looks(job.key) or ())

    def _drop(self, error: SceneError) -> None:
        if error.scene not in self.dropped:
            self.dropped[error.scene] = error.reason
            self.report(left_out(error.scene, error.reason))

    def _at_once(self, phase: _Phase) -> int:
        """Pieces in work at the same time, by the memory that one takes; of masks, one file each, as many as read."""
        workers = self.plan.settings.workers
        return workers if phase is self.masks else max(1, min(workers, WORKING_BYTES // piece_bytes(self.plan)))

    def _keep_looks(self, job: Job, looks: list[bytes]) -> None:
        self.store.put_looks(job.key, looks)

    def _keep_piece(self, job: Job, packed: bytes) -> None:
        self.store.put(job.key, packed)

    def _see(self, groups: Sequence[Acquisition]) -> None:
        """Count what the masks of each acquisition show of the region."""
        total: dict[str, Counter[str]] = {
            group.ids: Counter()
            for group in groups
            if group.ids not in self.seen and any(scene.mask for scene in group.scenes)
        }
        for block in self.blocks if total else ():
            inside = inside_region(self.plan, block)
            for group in (group for group in groups if group.ids in total):
                observed, clear = self._merged(job_of(group, block, self.plan), inside.shape)
                total[group.ids].update(
                    region=int(inside.sum()), observed=int((observed & inside).sum()), clear=int((clear & inside).sum())
                )
        self.seen |= {ids: Seen(count["region"], count["observed"], count["clear"]) for ids, count in total.items()}

    def _merged(self, job: Job | None, shape: tuple[int, int]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """(observed, clear), each (y, x): the first scene that observed a pixel decides."""
        observed, clear = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
        for packed in (self.store.looks(job.key) if job else None) or ():
            if packed:
                seen = Look.unpacked(packed, shape)
                clear |= seen.clear & ~observed
                observed |= seen.observed
        return observed, clear


def left_out(scene: str, reason: str) -> Warned:
    """What is said of a scene that cannot be read."""
    return Warned(text=f"the scene {scene} is left out: {reason}")


def inside_region(plan: Plan, block: Window) -> NDArray[np.bool_]:
    """(y, x), True where the region touches a pixel of the block: one pixel at least of any region."""
    grid = plan.grid.crop(block)
    if plan.area.contains(grid.footprint):  # to draw it would take longer than much of the rest
        return np.ones(grid.shape, dtype=bool)
    inside: NDArray[np.bool_] = geometry_mask(
        [plan.area], out_shape=grid.shape, transform=grid.transform, invert=True, all_touched=True
    )
    return inside


class _Pace:
    """Bytes a second since it was made."""

    def __init__(self) -> None:
        self.begun, self.before = time.monotonic(), shared_files().traffic.received

    def rate(self) -> str:
        received = shared_files().traffic.received - self.before
        return f"{received / 1e6 / max(time.monotonic() - self.begun, 1e-3):.3g} MB/s" if received else ""


def _nothing_left(plan: Plan, removed: dict[str, str], dropped: dict[str, str]) -> str:
    reasons = Counter(reason.split(" (")[0] for reason in removed.values())
    why = [f"{count} by {reason}" for reason, count in reasons.items()]
    if dropped:
        why.append(f"{len(dropped)} scenes that cannot be read, the first because: {next(iter(dropped.values()))}")
    remedy = "raise --max-cloud, or give another --datetime" if "cloud" in reasons else "give another --datetime"
    return f"no scenes left of {len(plan.items)} in {plan.found.collection}; removed: {', '.join(why)}; {remedy}"
