"""What a download takes, before it begins: reckoned from the headers of some of its files."""

from __future__ import annotations

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from eearth.events import Table
from eearth.geo.imagery.fetch import WORKING_BYTES, blocks, job_of, piece_bytes
from eearth.geo.imagery.plan import HOPEFUL_COMPRESSION, existing_folder
from eearth.geo.raster import read_onto, reading_costs
from eearth.geo.remote.files import CACHED_BYTES, shared_files
from eearth.geo.remote.tiff import HEADER_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from eearth.geo.grid import Grid
    from eearth.geo.imagery.pieces import Job, Part
    from eearth.geo.imagery.plan import Plan
    from eearth.geo.imagery.scenes import Scene
    from eearth.geo.providers import Source

T = TypeVar("T")

# Pieces and scenes whose files' headers are read; the others are taken to be like them.
SAMPLES = 8

# MB/s that a folder on this machine is reckoned to give.
LOCAL_RATE = 200.0

TITLE = "estimate (clouds not yet looked at: at most)"

# Python, GDAL and the other libraries themselves.
BASE_BYTES = 300 * 2**20


def estimate(plan: Plan, folder: Path, rate: float | None) -> Table:
    """Reckon.

    Args:
        plan: What would be fetched.
        folder: Where it would be written.
        rate: MB/s; measured on one file where not given.

    Raises:
        SourceError: A file of the sample cannot be read.
    """
    found = reckon(plan, rate)
    plain = plain_bytes(plan)
    free = shutil.disk_usage(existing_folder(folder)).free
    rows = [
        ("scenes", f"{len(plan.items)} in {len(plan.acquisitions)} acquisitions"),
        ("requests", f"{found.requests:,.0f}"),
        ("to fetch", size_of(found.received)),
        ("on the disk", f"{size_of(plain * HOPEFUL_COMPRESSION)} to {size_of(plain)}, {size_of(free)} free"),
        ("memory", size_of(BASE_BYTES + working_bytes(plan))),
        ("time", f"{found.seconds / 60:.1f} min at {found.rate:.3g} MB/s"),
    ]
    return Table(title=TITLE, columns=("", "download"), rows=tuple(rows))


@dataclass(frozen=True)
class Traffic:
    """What fetching takes.

    Attributes:
        requests: To servers.
        received: Bytes.
        rate: MB/s reckoned with.
    """

    requests: float
    received: float
    rate: float

    @property
    def seconds(self) -> float:
        """How long that takes."""
        return self.received / 1e6 / self.rate


def reckon(plan: Plan, rate: float | None) -> Traffic:
    """Reckon what fetching takes; see `estimate`."""
    jobs = [job for group in plan.acquisitions for block in blocks(plan.grid) if (job := job_of(group, block, plan))]
    return Traffic(*_traffic(plan, jobs), rate or _measured(jobs[0]))


def _traffic(plan: Plan, jobs: Sequence[Job]) -> tuple[float, float]:
    """(requests, bytes): those of each piece, but a tile that several pieces touch once, and each file's header."""
    scenes = [scene for group in plan.acquisitions for scene in group.scenes]
    files = sum(len(_sources(scene)) for scene in scenes)
    with ThreadPoolExecutor(plan.settings.workers) as pool:
        pieces = _costs(pool, jobs, [(job.grid, source) for job in _some(jobs) for source in _sources(*job.parts)])
        wholes = _costs(pool, scenes, [(plan.grid, source) for scene in _some(scenes) for source in _sources(scene)])
    return pieces[0] + files, wholes[1] + files * HEADER_BYTES


def _some(everything: Sequence[T]) -> Sequence[T]:
    return everything[:: max(1, len(everything) // SAMPLES)][:SAMPLES]


def _sources(*parts: Part | Scene) -> list[Source]:
    return [source for part in parts for source in (*part.bands, *((part.mask.source,) if part.mask else ()))]


def _costs(
    pool: ThreadPoolExecutor, everything: Sequence[Any], reads: Sequence[tuple[Grid, Source]]
) -> tuple[float, float]:
    """(requests, bytes) of everything, from what some of it reads."""
    costs = list(pool.map(lambda each: _cost(*each), reads))
    share = len(everything) / max(1, len(_some(everything)))
    return share * sum(requests for requests, _ in costs), share * sum(received for _, received in costs)


def _cost(grid: Grid, source: Source) -> tuple[int, int]:
    """(requests, bytes) of one file's part in a grid; a file that is not read by tiles counts as its plain pixels."""
    cost = reading_costs(source, grid)
    return cost if cost is not None else (1, grid.window.pixels * np.dtype(source.dtype or "uint16").itemsize)


def _measured(job: Job) -> float:
    """MB/s of reading one piece's bands, all at once."""
    files = shared_files()
    before, begun = files.traffic.received, time.monotonic()
    with ThreadPoolExecutor(job.workers) as pool:
        list(pool.map(lambda source: read_onto(source, job.grid, job.resampling), _sources(*job.parts)))
    received = files.traffic.received - before
    return max(received / 1e6 / max(time.monotonic() - begun, 1e-3), 1e-3) if received else LOCAL_RATE


def plain_bytes(plan: Plan) -> float:
    """Bytes of the cube without compression."""
    return float(plan.grid.window.pixels * len(plan.acquisitions) * plan.pixel_bytes)


def working_bytes(plan: Plan) -> float:
    """Bytes of the pieces in work, and of the tiles kept between them."""
    piece = piece_bytes(plan)
    return float(max(piece, min(WORKING_BYTES, piece * len(plan.acquisitions))) + CACHED_BYTES)


def size_of(count: float) -> str:
    """Bytes in words."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:  # noqa: PLR2004 - SI
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"
