"""From a plan to the finished cube: fetch what is missing, put it together."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from eearth.errors import SceneError
from eearth.events import Report, silent
from eearth.geo.imagery.assemble import Assembled, Assembly
from eearth.geo.imagery.choice import Seen
from eearth.geo.imagery.engine import share_heaps
from eearth.geo.imagery.fetch import Fetched, fetch
from eearth.geo.imagery.pieces import stop_readers
from eearth.geo.imagery.scenes import surviving
from eearth.geo.imagery.store import Store
from eearth.manifest import write_json

if TYPE_CHECKING:
    from pathlib import Path

    from eearth.geo.cube import Cube
    from eearth.geo.imagery.plan import Plan


def write_cube(
    plan: Plan, path: Path, *, scratch: Path, earlier: Cube | None = None, report: Report = silent
) -> tuple[Fetched, Assembled]:
    """Fetch every acquisition that is worth it, and write the cube.

    Args:
        plan: What to read.
        path: Where the cube is; created, or continued if `scratch` knows it.
        scratch: Folder for what an interrupted run need not fetch again.
        earlier: A cube whose acquisitions need not be fetched; its grid, bands and encoding are the plan's.
        report: Receives progress, and a warning for each scene that cannot be read.

    Raises:
        SourceError: The provider cannot be reached, or nothing is left; what was fetched stays.
    """
    share_heaps()
    store, log = Store(scratch / "pieces"), scratch / "fetched.json"
    try:
        fetched = _fetched_before(plan, earlier, log)
        if fetched is None:
            shutil.rmtree(scratch / "blocks", ignore_errors=True)
            fetched = fetch(plan, store, earlier.items if earlier else (), report)
            write_json(log, _as_dict(plan, earlier, fetched))
        return fetched, Assembly(plan, fetched, store, earlier, scratch).run(path, report)
    except SceneError:  # a piece that was lost cannot be read again: next time its scene is left out
        log.unlink(missing_ok=True)
        raise
    finally:
        stop_readers()


def _as_dict(plan: Plan, earlier: Cube | None, fetched: Fetched) -> dict[str, Any]:
    return {
        "of": _identity(plan, earlier),
        "acquisitions": [group.ids for group in fetched.acquisitions],
        "seen": {ids: asdict(seen) for ids, seen in fetched.seen.items()},
        "removed": fetched.removed,
        "dropped": fetched.dropped,
    }


def _identity(plan: Plan, earlier: Cube | None) -> list[Any]:
    """What must be the same for an interrupted run's choice to stand, and for its pieces to be all that is needed."""
    offered = [group.ids for group in plan.acquisitions]
    return [plan.grid.as_dict(), repr(plan.encoding), list(plan.bands), offered, list(earlier.items if earlier else ())]


def _fetched_before(plan: Plan, earlier: Cube | None, log: Path) -> Fetched | None:
    """What an interrupted run had fetched, if it had finished that and the provider still offers the same."""
    try:
        found = json.loads(log.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if found["of"] != _identity(plan, earlier):
        return None
    left = surviving(plan.acquisitions, found["dropped"])
    return Fetched(
        acquisitions=[group for group in left if group.ids in set(found["acquisitions"])],
        seen={ids: Seen(**seen) for ids, seen in found["seen"].items()},
        removed=found["removed"],
        dropped=found["dropped"],
    )
