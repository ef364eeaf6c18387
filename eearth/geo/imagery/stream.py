"""Imagery that nobody keeps: fetched for one window of a product at a time, and removed when that is done.

What a window shows must not depend on where its neighbours' edges lie, so nothing is decided by what is seen of the
window alone: scenes are left out by the cloud cover that they announce for themselves, and not, as in a download, by
their clouds over the region, and no date for another that shows more of it (--max-dates).
"""

from __future__ import annotations

import math
import shutil
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from pyproj import Transformer
from shapely.geometry import Polygon

from eearth.errors import NothingFoundError
from eearth.events import Report, Warned, silent
from eearth.geo.antimeridian import near
from eearth.geo.aoi import LONLAT, Region, parse_crs
from eearth.geo.cube import CUBE, Cube
from eearth.geo.imagery.download import write_cube
from eearth.geo.imagery.plan import plan_imagery
from eearth.geo.imagery.scenes import surviving
from eearth.geo.stac import SceneSearch
from eearth.settings import DownloadSettings

if TYPE_CHECKING:
    from eearth.events import Event
    from eearth.geo.grid import Grid
    from eearth.geo.imagery.plan import Plan

# Below 100 %: an acquisition of which not one pixel is clear, and only that, is not worth its bands.
ALL_BUT_HIDDEN = math.nextafter(100.0, 0.0)

# Vertices on each edge of a window, for an edge that is straight in one CRS is a curve in another.
EDGE_PARTS = 16


# What a window's imagery is called once it is no longer one.
GONE = ".gone"


class StoppedError(Exception):
    """Nobody waits for the imagery any more."""


@dataclass(frozen=True)
class Fetching:
    """How imagery is fetched; any process can do it.

    Attributes:
        request: What to look for, and how to read it.
        providers: The user's own providers by name.
        region: What the product covers.
        folder: Where the imagery of a window lies while it is needed.
    """

    request: DownloadSettings
    providers: Mapping[str, Mapping[str, Any]]
    region: Region
    folder: Path


@dataclass(frozen=True)
class Fetched:
    """The imagery of one window.

    Attributes:
        cube: The imagery; None where there is none.
        dropped: Item id of a scene that cannot be read → the reason.
        missing: Why there is none.
        offsets: Item id of a scene → what was added to its numbers, and why.
    """

    cube: Cube | None
    dropped: Mapping[str, str]
    missing: str = ""
    offsets: Mapping[str, tuple[float | None, str]] = field(default_factory=dict)


class Stream:
    """Fetches windows.

    Args:
        fetching: How.
        report: Receives warnings; progress stays untold, for a window is no more than a part of something larger.
    """

    def __init__(self, fetching: Fetching, report: Report = silent) -> None:
        """Nobody is asked yet."""
        self._how, self._report = fetching, report
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Let whatever is being fetched in another thread end with `StoppedError`."""
        self._stopped.set()

    def fetch(self, name: str, grid: Grid) -> Fetched:
        """Fetch one window.

        Args:
            name: Names it among those of this product; what an interrupted run fetched under it is continued.
            grid: The window's grid.

        Raises:
            SourceError: The provider cannot be reached.
            StoppedError: Nobody waits for it any more.
        """
        folder = self._folder(name)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            plan = self.plan(folder, grid)
            fetched, done = write_cube(plan, folder / CUBE, scratch=folder, report=self._told)
        except NothingFoundError as error:
            return Fetched(None, error.unreadable, str(error))
        scenes = [scene for group in surviving(plan.acquisitions, fetched.dropped) for scene in group.scenes]
        offsets = {scene.item.id: (scene.radiometry.offset, scene.radiometry.reason) for scene in scenes}
        return Fetched(done.cube, plan.incomplete | fetched.dropped, offsets=offsets)

    def release(self, name: str) -> None:
        """Remove a window's imagery, at one blow: half of it would be taken for all of it by a run that goes on."""
        gone = self._folder(f"{name}{GONE}")
        shutil.rmtree(gone, ignore_errors=True)
        with suppress(FileNotFoundError):
            self._folder(name).rename(gone)
        shutil.rmtree(gone, ignore_errors=True)

    def _folder(self, name: str) -> Path:
        return self._how.folder / name

    @cached_property
    def _searching(self) -> SceneSearch:
        return SceneSearch(self._how.request.catalog, self._how.request.collection, self._report)

    def plan(self, folder: Path, grid: Grid) -> Plan:
        """What fetching a window takes.

        Raises:
            NothingFoundError: There is no imagery of it.
            SourceError: The provider cannot be reached.
        """
        request = self._how.request
        plan = plan_imagery(
            outline(grid, self._how.region.longitude) or self._how.region,
            replace(request, max_cloud=ALL_BUT_HIDDEN, max_dates=None),
            folder=folder,
            providers=self._how.providers,
            grid=grid,
            searching=self._searching,
            report=self._told,
        )
        clouded = {item.id for item in plan.items if _announced(item) > request.max_cloud}
        left = surviving(plan.acquisitions, clouded)
        if not left:
            msg = f"no scenes left of {len(plan.items)}: all announce more than {request.max_cloud:g} % of clouds"
            raise NothingFoundError(msg)
        return replace(plan, acquisitions=tuple(left))

    def _told(self, event: Event) -> None:
        if self._stopped.is_set():
            raise StoppedError
        if isinstance(event, Warned):
            self._report(event)


def _announced(item: Any) -> float:
    """Cloud cover of a whole scene in percent; 0 where it says nothing."""
    return float(item.properties.get("eo:cloud_cover") or 0.0)


def outline(grid: Grid, longitude: float) -> Region | None:
    """A grid's footprint as a region; None where it is no plain shape in longitude and latitude, as over a pole.

    Args:
        grid: Anywhere on the globe.
        longitude: In degrees: on which side of the antimeridian the region is told.
    """
    to_lonlat = Transformer.from_crs(parse_crs(grid.crs.to_wkt()), LONLAT, always_xy=True)
    longest = max(side * pixels for side, pixels in zip(grid.resolution, (grid.width, grid.height), strict=True))
    ring = shapely.segmentize(grid.footprint, longest / EDGE_PARTS)
    area = near(Polygon(np.column_stack(to_lonlat.transform(*ring.exterior.xy))), longitude)
    if isinstance(area, Polygon) and np.isfinite(area.bounds).all() and area.is_valid:
        return Region(area, "window")
    return None
