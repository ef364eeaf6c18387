"""From a region to its data cube: what is there, on which grid, and the pixels, block by block.

Memory depends on the size of a block, never on that of the region. A block that is written is logged, so an interrupted
run takes up after the last one.
"""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from rasterio.crs import CRS

from eearth.errors import DiskError, SourceError, UsageError
from eearth.events import Advanced, Finished, Note, Report, Started, Warned, silent
from eearth.geo.aoi import Region, parse_crs
from eearth.geo.cube import CHUNK, CUBE, Cube
from eearth.geo.grid import Grid, Window
from eearth.geo.providers import Encoding, band_source, common_encoding, mask_source
from eearth.geo.raster import read_header
from eearth.geo.scenes import (
    Acquisition,
    acquisitions,
    prepare_scene,
    read_block,
    sample_grids,
    without_duplicates,
)
from eearth.geo.stac import Found, Search, parse_time, search
from eearth.manifest import write_json
from eearth.settings import DownloadSettings

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import pystac

# Pixels of all dates and bands that are held at once. Larger blocks mean fewer requests, and more memory.
BLOCK_BYTES = 192 * 2**20

# Sentinel-2 cubes shrink to about this share of their plain size with LZ4 and bit shuffling (measured on the simulated
# region and on Romania: 0.55-0.7); a region is refused only if not even half of it fits on the disk.
HOPEFUL_COMPRESSION = 0.5


@dataclass(frozen=True)
class Plan:
    """All that is known before the first pixel is read.

    Attributes:
        region: The region of interest.
        grid: The cube's grid: the region's bounding box.
        acquisitions: What becomes a date of the cube, in order of time.
        encoding: How the cube stores reflectance.
        found: What the search brought and removed.
        duplicates: Item id left out → the id of the item that stands for it.
        incomplete: Item id left out → the band or mask that it lacks.
        settings: What was asked for.
    """

    region: Region
    grid: Grid
    acquisitions: tuple[Acquisition, ...]
    encoding: Encoding
    found: Found
    duplicates: dict[str, str]
    incomplete: dict[str, str]
    settings: DownloadSettings

    @property
    def items(self) -> list[pystac.Item]:
        """The items that are read, in order of time."""
        return [scene.item for group in self.acquisitions for scene in group.scenes]


def plan_imagery(
    region: Region, settings: DownloadSettings, *, folder: Path, grid: Grid | None = None, report: Report = silent
) -> Plan:
    """Search, choose the grid, and decide how each scene is read.

    Args:
        region: The region of interest.
        settings: What to look for, and how to read it.
        folder: Where the cube will be written; its disk must hold it.
        grid: The grid to use instead of the one that the settings ask for.
        report: Receives notes and warnings.

    Raises:
        SourceError: No scenes, a missing band or mask, an unreachable provider.
        DiskError: The disk is too small.
        UsageError: A resolution that cannot be meant.
    """
    wanted = _search_of(region, settings)
    if grid is None and settings.grid == "snap":
        grid = snapped_grid(region, settings)
    if grid is not None:
        check_disk(folder, grid, dates=1, bands=len(settings.bands), itemsize=2)
    found = search(wanted)
    complete, incomplete = _complete(found.items, settings, report)
    items, duplicates = without_duplicates(complete)
    grid = grid or native_grid(region, settings, items)
    groups = _prepare(items, grid, settings, report)
    encoding = common_encoding([source for group in groups for scene in group.scenes for source in scene.bands])
    itemsize = np.dtype(encoding.dtype).itemsize
    check_disk(folder, grid, dates=len(groups), bands=len(settings.bands), itemsize=itemsize)
    _describe(found, duplicates, groups, grid, report)
    return Plan(region, grid, tuple(groups), encoding, found, duplicates, incomplete, settings)


def _search_of(region: Region, settings: DownloadSettings) -> Search:
    time = parse_time(str(settings.datetime))
    return Search(settings.catalog, settings.collection, region, time, settings.max_cloud)


def snapped_grid(region: Region, settings: DownloadSettings) -> Grid:
    """The region's bounding box in its UTM zone (or the given CRS), edges on whole multiples of the resolution."""
    crs = parse_crs(settings.crs) if settings.crs else region.utm()
    if crs.is_geographic and settings.resolution > 1:
        msg = f"expected a --resolution in degrees for {settings.crs}, found {settings.resolution:g}"
        raise UsageError(msg)
    bounds = region.projected(crs).bounds
    return Grid.snapped(bounds, crs=CRS.from_wkt(crs.to_wkt()), resolution=settings.resolution)


def native_grid(region: Region, settings: DownloadSettings, items: list[pystac.Item]) -> Grid:
    """The region's bounding box on the pixel lattice of the requested band that is nearest to the resolution."""
    if settings.crs:
        msg = "expected either --grid native, which takes the source's CRS, or --crs, found both"
        raise UsageError(msg)
    own = [read_header(band_source(items[0], band)).grid for band in settings.bands]
    grids = [grid for grid in own if grid is not None]
    if not grids:
        msg = f"expected a north-up grid in the item {items[0].id} for --grid native, found none: use --grid snap"
        raise SourceError(msg)
    source = min(grids, key=lambda grid: abs(math.log(grid.resolution[0] / settings.resolution)))
    return source.over(region.projected(parse_crs(source.crs.to_wkt())).bounds)


def check_disk(folder: Path, grid: Grid, *, dates: int, bands: int, itemsize: int) -> None:
    """Refuse a cube that cannot fit.

    Raises:
        DiskError: Not even half of its plain size is free.
    """
    existing = next(path for path in (folder, *folder.resolve().parents) if path.exists())
    written = sum(path.stat().st_size for path in (folder / CUBE).rglob("*") if path.is_file())
    free = shutil.disk_usage(existing).free + written
    plain = grid.height * grid.width * dates * (bands * itemsize + 1)
    if plain * HOPEFUL_COMPRESSION > free:
        msg = (
            f"expected room for {grid.height} x {grid.width} pixels x {dates} date(s) x {bands} band(s), at least "
            f"{plain * HOPEFUL_COMPRESSION / 1e9:.1f} GB, found {free / 1e9:.1f} GB free at {existing}: "
            "take a smaller region, fewer bands or dates, or a coarser --resolution"
        )
        raise DiskError(msg)


def _complete(
    items: Iterable[pystac.Item], settings: DownloadSettings, report: Report
) -> tuple[list[pystac.Item], dict[str, str]]:
    """Items that have every band and the mask, and why each other one is left out; none at all is an error."""
    kept: list[pystac.Item] = []
    lacking: dict[str, str] = {}
    items = list(items)
    masked = any(mask_source(item, None) for item in items) and settings.mask_asset is None
    for item in items:
        try:
            for band in settings.bands:
                band_source(item, band)
            mask = mask_source(item, settings.mask_asset)
            if masked and mask is None:
                lacking[item.id] = f"the item {item.id} has no scene classification, others have one"
                continue
            kept.append(item)
        except SourceError as error:
            lacking[item.id] = str(error)
    if not kept:
        raise SourceError(next(iter(lacking.values())))
    if lacking:
        report(Warned(text=f"{len(lacking)} scenes left out, the first because: {next(iter(lacking.values()))}"))
    return kept, lacking


def _prepare(items: list[pystac.Item], grid: Grid, settings: DownloadSettings, report: Report) -> list[Acquisition]:
    samples = sample_grids(grid)
    with ThreadPoolExecutor(settings.workers) as pool:
        scenes = list(pool.map(lambda item: prepare_scene(item, settings, samples), items))
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
    return acquisitions(scenes)


def _describe(found: Found, duplicates: dict[str, str], groups: list[Acquisition], grid: Grid, report: Report) -> None:
    removed = "".join(f", {count} removed by {reason}" for reason, count in found.removed.items())
    again = f", {len(duplicates)} duplicates" if duplicates else ""
    report(Note(text=f"{found.collection}: {found.matched} scenes found{removed}{again}; {len(groups)} acquisitions"))
    side = grid.resolution[0]
    report(Note(text=f"grid: {grid.height} x {grid.width} pixels of {side:g}, {grid.crs.to_string()[:40]}"))


def block_side(dates: int, bands: int, itemsize: int) -> int:
    """Side of a block in pixels: whole chunks, as many as the memory for one block allows, at least one."""
    side = math.sqrt(BLOCK_BYTES / (dates * (bands * itemsize + 1)))
    return max(1, int(side) // CHUNK) * CHUNK


def write_cube(plan: Plan, path: Path, *, scratch: Path, report: Report = silent) -> dict[str, tuple[int, int]]:
    """Read every block and write it.

    Args:
        plan: What to read.
        path: Where the cube is; created, or continued if `scratch` knows it.
        scratch: Folder with the log of the blocks that an interrupted run finished.
        report: Receives progress.

    Returns:
        Item id → (pixels observed, pixels of them that are valid).

    Raises:
        SourceError: An asset cannot be read; what is written stays.
    """
    groups, bands = plan.acquisitions, plan.settings.bands
    log = scratch / "blocks"
    cube = _resumed(plan, path, log) or _created(plan, path, log)
    windows = list(plan.grid.windows(block_side(len(groups), len(bands), np.dtype(plan.encoding.dtype).itemsize)))
    todo = [window for window in windows if not _log_of(log, window).is_file()]
    total = len(windows) * len(groups)
    report(Started(task="imagery", total=total, unit="reads", done=total - len(todo) * len(groups)))
    with ThreadPoolExecutor(plan.settings.workers) as pool:
        try:
            for window in todo:
                contributed = _write_block(plan, cube, window, pool, report)
                write_json(_log_of(log, window), contributed)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    report(Finished(task="imagery"))
    return _sum_of(_log_of(log, window) for window in windows)


def _resumed(plan: Plan, path: Path, log: Path) -> Cube | None:
    """The cube that an interrupted run left, if the provider still offers the very same acquisitions."""
    if not log.is_dir():
        return None
    cube = Cube.open(path)
    same = cube.grid == plan.grid and cube.encoding == plan.encoding and cube.bands == plan.settings.bands
    return cube if same and cube.items == tuple(group.ids for group in plan.acquisitions) else None


def _created(plan: Plan, path: Path, log: Path) -> Cube:
    shutil.rmtree(log, ignore_errors=True)
    groups = plan.acquisitions
    cube = Cube.create(
        path,
        grid=plan.grid,
        bands=plan.settings.bands,
        times=[group.time for group in groups],
        items=[group.ids for group in groups],
        encoding=plan.encoding,
    )
    log.mkdir(parents=True)
    return cube


def _log_of(log: Path, window: Window) -> Path:
    return log / f"{window.row}-{window.col}.json"


def _write_block(
    plan: Plan, cube: Cube, window: Window, pool: ThreadPoolExecutor, report: Report
) -> dict[str, tuple[int, int]]:
    grid, settings = plan.grid.crop(window), plan.settings
    values = np.empty((len(plan.acquisitions), len(settings.bands), *grid.shape), dtype=plan.encoding.dtype)
    valid = np.empty((len(plan.acquisitions), *grid.shape), dtype=bool)
    contributed: dict[str, tuple[int, int]] = {}

    def read(number: int) -> dict[str, tuple[int, int]]:
        block = read_block(
            plan.acquisitions[number],
            grid,
            plan.encoding,
            mask_valid=settings.mask_valid,
            resampling=settings.resampling,
        )
        values[number], valid[number] = block.values, block.valid
        return block.contributed

    for part in pool.map(read, range(len(plan.acquisitions))):
        contributed |= part
        report(Advanced(task="imagery"))
    cube.write(window, values, valid)
    return contributed


def _sum_of(logs: Iterable[Path]) -> dict[str, tuple[int, int]]:
    observed: Counter[str] = Counter()
    valid: Counter[str] = Counter()
    for path in logs:
        for scene, (seen, clear) in json.loads(path.read_text(encoding="utf-8")).items():
            observed[scene] += seen
            valid[scene] += clear
    return {scene: (observed[scene], valid[scene]) for scene in observed}


def scene_records(plan: Plan, contributed: dict[str, tuple[int, int]]) -> list[dict[str, Any]]:
    """What each scene contributed to the cube, for the manifest."""
    pixels = plan.grid.window.pixels
    return [
        {
            "id": scene.item.id,
            "time": scene.time.isoformat(),
            "observed_pixels": contributed.get(scene.item.id, (0, 0))[0],
            "valid_pixels": contributed.get(scene.item.id, (0, 0))[1],
            "pixels": pixels,
            "radiometry": scene.radiometry.reason,
            "masked": scene.mask is not None,
        }
        for group in plan.acquisitions
        for scene in group.scenes
    ]


def item_collection(plan: Plan) -> dict[str, Any]:
    """The scenes' items as a GeoJSON feature collection, without the query strings that may be signatures."""
    features = []
    for item in plan.items:
        feature = item.to_dict(include_self_link=False, transform_hrefs=False)
        for asset in feature["assets"].values():
            asset["href"] = asset["href"].split("?")[0]
        feature["links"] = []
        features.append(feature)
    return {"type": "FeatureCollection", "features": features}
