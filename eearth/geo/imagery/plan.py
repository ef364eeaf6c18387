"""From a region to what is to be fetched: which scenes there are, on which grid, and how their numbers are read."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from rasterio.crs import CRS
from shapely.geometry.base import BaseGeometry

from eearth.errors import DiskError, NothingFoundError, SourceError, UnreachableError, UsageError
from eearth.events import Note, Report, Warned, silent
from eearth.geo.aoi import Region, parse_crs
from eearth.geo.cube import CUBE
from eearth.geo.grid import Grid
from eearth.geo.imagery.choice import Seen
from eearth.geo.imagery.scenes import Acquisition, Wanted, acquisitions, prepare_scenes, without_duplicates
from eearth.geo.providers import Encoding, Provider, common_encoding, find_provider
from eearth.geo.raster import read_header
from eearth.geo.stac import Found, SceneSearch, parse_time
from eearth.settings import DownloadSettings

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    import pystac

# Sentinel-2 cubes shrink to about this share of their plain size with LZ4 and bit shuffling (measured on the simulated
# region and on Romania: 0.55-0.7); a region is refused only if not even half of it fits on the disk.
HOPEFUL_COMPRESSION = 0.5

# Bytes of a number in the cube, before the files are asked: every provider has 16 bits.
LIKELY_ITEMSIZE = 2

# Where an interrupted run has written what it need not write again.
WRITTEN = (CUBE, "scratch/pieces")

# Pixel size in metres of the coarsest of the built-in providers.
COARSEST = 30.0


@dataclass(frozen=True)
class Plan:
    """All that is known before the first pixel of the cube is read.

    Attributes:
        region: The region of interest.
        area: The region in the grid's CRS.
        grid: The cube's grid: the region's bounding box.
        provider: Whose scenes they are.
        bands: Band names, in the cube's order.
        acquisitions: What may become a date of the cube, in order of time.
        encoding: How the cube stores reflectance.
        found: What the search brought and removed.
        duplicates: Item id left out → the id of the item that stands for it.
        incomplete: Item id left out → why it cannot be used: a band that it lacks, a header that cannot be read.
        settings: What was asked for.
        known: Item ids of acquisitions of an earlier cube → what their masks show.
    """

    region: Region
    area: BaseGeometry
    grid: Grid
    provider: Provider
    bands: tuple[str, ...]
    acquisitions: tuple[Acquisition, ...]
    encoding: Encoding
    found: Found
    duplicates: dict[str, str]
    incomplete: dict[str, str]
    settings: DownloadSettings
    known: Mapping[str, Seen] = field(default_factory=dict)

    @property
    def pixel_bytes(self) -> int:
        """Bytes of a pixel of one date: every band, and whether it is valid."""
        return bytes_of_pixel(len(self.bands), np.dtype(self.encoding.dtype).itemsize)

    @property
    def items(self) -> list[pystac.Item]:
        """The items that may be read, in order of time."""
        return [scene.item for group in self.acquisitions for scene in group.scenes]


def plan_imagery(
    region: Region,
    settings: DownloadSettings,
    *,
    folder: Path,
    providers: Mapping[str, Mapping[str, Any]] | None = None,
    grid: Grid | None = None,
    searching: SceneSearch | None = None,
    report: Report = silent,
) -> Plan:
    """Search, choose the grid, and decide how each scene is read.

    Args:
        region: The region of interest.
        settings: What to look for, and how to read it.
        folder: Where the cube will be written; its disk must hold it.
        providers: The user's own providers by name.
        grid: The grid to use instead of the one that the settings ask for.
        searching: Where to search, if that was asked before.
        report: Receives notes and warnings.

    Raises:
        NothingFoundError: There are no scenes, or none that has the bands and can be read.
        SourceError: An unreachable provider, or no scene of which `--grid native` could take its grid.
        DiskError: The disk is too small.
        UsageError: A resolution that cannot be meant.
    """
    time = parse_time(str(settings.datetime))
    if grid is None and settings.grid == "snap":  # before anybody is asked
        least = snapped_grid(region, settings, settings.resolution or COARSEST)
        check_disk(folder, least, dates=1, bands=len(settings.bands or (1,)))
    searching = searching or SceneSearch(settings.catalog, settings.collection, report)
    found = searching.search(region, time)
    provider = find_provider(settings.provider, settings.catalog, found.collection, providers or {})
    bands = settings.bands or provider.bands
    wanted = Wanted(provider, bands, settings.mask_asset, settings.mask_valid)
    complete, incomplete = _complete(found.items, wanted, settings, report)
    items, duplicates = without_duplicates(complete)
    grid = grid or grid_for(region, settings, provider, wanted, items)
    scenes, unreadable = prepare_scenes(items, wanted, grid, longitude=region.longitude, workers=settings.workers)
    groups = acquisitions(scenes)
    if not groups:
        raise NothingFoundError(next(iter(unreadable.values())), incomplete | unreadable)
    _warn(scenes, unreadable, settings, report)
    dates = min(len(groups), settings.max_dates or len(groups))
    check_disk(folder, grid, dates=dates, bands=len(bands))
    encoding = common_encoding([source for scene in scenes for source in scene.bands])
    plan = Plan(
        region=region,
        area=region.projected(parse_crs(grid.crs.to_wkt())),
        grid=grid,
        provider=provider,
        bands=tuple(bands),
        acquisitions=tuple(groups),
        encoding=encoding,
        found=found,
        duplicates=duplicates,
        incomplete=incomplete | unreadable,
        settings=settings,
    )
    _describe(plan, report)
    return plan


def grid_for(
    region: Region, settings: DownloadSettings, provider: Provider, wanted: Wanted, items: Sequence[pystac.Item]
) -> Grid:
    """The cube's grid, as the settings ask for it."""
    if settings.grid == "native":
        return native_grid(region, settings, wanted, items)
    return snapped_grid(region, settings, settings.resolution or provider.resolution)


def snapped_grid(region: Region, settings: DownloadSettings, resolution: float) -> Grid:
    """The region's bounding box in its UTM zone (or the given CRS), edges on whole multiples of the resolution."""
    crs = parse_crs(settings.crs) if settings.crs else region.utm()
    if crs.is_geographic and resolution > 1:
        found = f"{settings.resolution:g}" if settings.resolution else "none, and the default is in metres"
        msg = f"expected a --resolution in degrees for {settings.crs}, found {found}"
        raise UsageError(msg)
    bounds = region.projected(crs).bounds
    return Grid.snapped(bounds, crs=CRS.from_wkt(crs.to_wkt()), resolution=resolution)


def native_grid(region: Region, settings: DownloadSettings, wanted: Wanted, items: Sequence[pystac.Item]) -> Grid:
    """The region's bounding box on the pixel lattice of the requested band that is nearest to the resolution."""
    if settings.crs:
        msg = "expected either --grid native, which takes the source's CRS, or --crs, found both"
        raise UsageError(msg)
    grids = [grid for grid in _own_grids(items, wanted) if grid is not None]
    if not grids:
        msg = f"expected a north-up grid in the item {items[0].id} for --grid native, found none: use --grid snap"
        raise SourceError(msg)
    resolution = settings.resolution or wanted.provider.resolution
    source = min(grids, key=lambda grid: abs(math.log(grid.resolution[0] / resolution)))
    return source.over(region.projected(parse_crs(source.crs.to_wkt())).bounds)


def _own_grids(items: Sequence[pystac.Item], wanted: Wanted) -> list[Grid | None]:
    """The grids of the bands of the first item that can be read.

    Raises:
        SourceError: None can.
    """
    for number, item in enumerate(items):
        try:
            return [read_header(source).grid for source in wanted.sources(item)]
        except UnreachableError:
            raise
        except SourceError:
            if number == len(items) - 1:
                raise
    return []


def bytes_of_pixel(bands: int, itemsize: int) -> int:
    """Bytes of a pixel of one date: every band, and whether it is valid."""
    return bands * itemsize + 1


def existing_folder(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(path for path in (folder, *folder.resolve().parents) if path.exists())


def check_disk(folder: Path, grid: Grid, *, dates: int, bands: int) -> None:
    """Refuse a cube that cannot fit.

    Raises:
        DiskError: Not even half of its plain size is free.
    """
    existing = existing_folder(folder)
    written = sum(path.stat().st_size for part in WRITTEN for path in (folder / part).rglob("*") if path.is_file())
    free = shutil.disk_usage(existing).free + written
    plain = grid.window.pixels * dates * bytes_of_pixel(bands, LIKELY_ITEMSIZE)
    if plain * HOPEFUL_COMPRESSION > free:
        msg = (
            f"expected room for {grid.height} x {grid.width} pixels x {dates} date(s) x {bands} band(s), at least "
            f"{plain * HOPEFUL_COMPRESSION / 1e6:.0f} MB, found {free / 1e6:.1f} MB free at {existing}: "
            "take a smaller region, fewer bands or dates (--max-dates), or a coarser --resolution"
        )
        raise DiskError(msg)


def _complete(
    items: Iterable[pystac.Item], wanted: Wanted, settings: DownloadSettings, report: Report
) -> tuple[list[pystac.Item], dict[str, str]]:
    """Items that have every band and the mask, and why each other one is left out; none at all is an error."""
    kept: list[pystac.Item] = []
    lacking: dict[str, str] = {}
    items = list(items)
    masked = settings.mask_asset is None and any(wanted.mask(item) for item in items)
    for item in items:
        try:
            wanted.sources(item)
            mask = wanted.mask(item)
            if masked and mask is None:
                lacking[item.id] = f"the item {item.id} has no mask asset, others have one"
                continue
            kept.append(item)
        except SourceError as error:
            lacking[item.id] = str(error)
    if not kept:
        raise NothingFoundError(next(iter(lacking.values())), lacking)
    if lacking:
        report(Warned(text=f"{len(lacking)} scenes left out, the first because: {next(iter(lacking.values()))}"))
    return kept, lacking


def _warn(scenes: Sequence[Any], unreadable: dict[str, str], settings: DownloadSettings, report: Report) -> None:
    for name, reason in unreadable.items():
        report(Warned(text=f"the scene {name} is left out: {reason}"))
    tested = [scene for scene in scenes if scene.radiometry.tested]
    if tested:
        text = f"{len(tested)} scenes do not say for sure whether the offset of baseline 04.00 is in their numbers; "
        report(Warned(text=f"{text}their blue pixels decided, see `radiometry` in manifest.json"))
    unmasked = [scene.item.id for scene in scenes if scene.mask is None]
    if unmasked and settings.mask_asset != "none":
        text = (
            f"{len(unmasked)} of {len(scenes)} scenes have no mask asset ({unmasked[0]} ...): their clouds count as "
            "clear ground; name the asset with --mask-asset, or say --mask-asset none"
        )
        report(Warned(text=text))


def _describe(plan: Plan, report: Report) -> None:
    found, grid = plan.found, plan.grid
    removed = "".join(f", {count} removed by {reason}" for reason, count in found.removed.items())
    again = f", {len(plan.duplicates)} duplicates" if plan.duplicates else ""
    text = f"{found.collection} ({plan.provider.name}): {found.matched} scenes found{removed}{again}"
    report(Note(text=f"{text}; {len(plan.acquisitions)} acquisitions"))
    side = grid.resolution[0]
    report(Note(text=f"grid: {grid.height} x {grid.width} pixels of {side:g}, {grid.crs.to_string()[:40]}"))
