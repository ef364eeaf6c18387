"""From STAC items to acquisitions: duplicates resolved, radiometry decided, tiles of a pass together."""

from __future__ import annotations

import re
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pystac
from affine import Affine
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from eearth.errors import SourceError, UnreachableError
from eearth.geo.antimeridian import unwrapped
from eearth.geo.aoi import footprint_on, parse_crs
from eearth.geo.grid import Grid, Window
from eearth.geo.providers import Mask, MaskRule, Provider, Source, band_source, mask_of
from eearth.geo.radiometry import Case, Radiometry, decide_offsets
from eearth.geo.raster import read_header, read_onto
from eearth.geo.stac import moment_of

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Sequence

    from numpy.typing import NDArray

# Two parts of one granule bear the same time but for rounding.
SAME_GRANULE = timedelta(minutes=1)

# Footprints of one granule's reprocessings differ by less than this, about 100 m on the ground.
SAME_FOOTPRINT_DEGREES = 0.001

# Tiles of one pass are sensed seconds to minutes apart, the next pass comes after hours: anything between tells them.
SAME_PASS = timedelta(minutes=10)

# Side of a sample, in pixels, from which the offset test takes its percentile: ample, and one read. A sample with fewer
# clear pixels than this shows nothing.
SAMPLE_SIDE = 256
FEWEST_CLEAR = 500
GROUND = (4, 5, 6)


@dataclass(frozen=True)
class Scene:
    """One item, ready to read.

    Attributes:
        item: The item.
        time: When it was acquired, UTC.
        bands: One source for each band, in the cube's order.
        mask: What tells clear ground from cloud; None if nothing does.
        radiometry: How its numbers become reflectance, and why.
        area: Where it has data, in the CRS of the cube.
    """

    item: pystac.Item
    time: datetime
    bands: tuple[Source, ...]
    mask: Mask | None
    radiometry: Radiometry
    area: BaseGeometry


@dataclass(frozen=True)
class Acquisition:
    """Scenes of one pass, which together are one date of the cube; where they overlap, the first one counts."""

    scenes: tuple[Scene, ...]

    def without(self, dropped: Container[str]) -> Acquisition | None:
        """The acquisition without some items, by id; None if nothing is left."""
        left = tuple(scene for scene in self.scenes if scene.item.id not in dropped)
        return Acquisition(left) if left else None

    @property
    def time(self) -> datetime:
        """The earliest scene's time, UTC."""
        return min(scene.time for scene in self.scenes)

    @property
    def ids(self) -> str:
        """The scenes' item ids, separated by spaces."""
        return " ".join(scene.item.id for scene in self.scenes)


@dataclass(frozen=True)
class Wanted:
    """What is looked for in each item.

    Attributes:
        provider: Whose items they are.
        bands: Band names, in the cube's order.
        mask_asset: Asset key instead of the provider's own; 'none' for no mask.
        mask_valid: Values of the mask that are clear, instead of the provider's rule.
    """

    provider: Provider
    bands: tuple[str, ...]
    mask_asset: str | None
    mask_valid: tuple[int, ...] | None

    def sources(self, item: pystac.Item) -> list[Source]:
        """One source for each band.

        Raises:
            SourceError: The item lacks a band.
        """
        return [band_source(item, band, self.provider) for band in self.bands]

    def mask(self, item: pystac.Item) -> Mask | None:
        """The mask; None if the item has none, or none is wanted.

        Raises:
            SourceError: The item lacks the mask that was asked for by name.
        """
        return mask_of(item, self.provider, self.mask_asset, self.mask_valid)


def without_duplicates(items: Iterable[pystac.Item]) -> tuple[list[pystac.Item], dict[str, str]]:
    """Keep one item for each (platform, tile, minute): of the highest processing baseline, then the last updated.

    An item that reaches beyond those that are kept shows other ground (a datatake received by two stations): it stays.

    Returns:
        The items kept, in the order of their granules' first items, the best of a granule first, and for each item
        left out the id of the one that stands for it.
    """
    groups: dict[tuple[str, str, str], dict[str, pystac.Item]] = defaultdict(dict)
    for item in items:
        groups[_granule(item)].setdefault(item.id, item)
    replaced: dict[str, str] = {}
    kept: list[pystac.Item] = []
    for members in groups.values():
        own: list[pystac.Item] = []
        for item in sorted(members.values(), key=_recency, reverse=True):
            better = next((other for other in own if _covers(other, item)), None)
            if better is None:
                own.append(item)
            else:
                replaced[item.id] = better.id
        kept += own
    return kept, replaced


def _granule(item: pystac.Item) -> tuple[str, str, str]:
    """What identifies a granule; an item without a tile name is its own granule."""
    properties = item.properties
    tile = properties.get("grid:code") or properties.get("s2:mgrs_tile") or properties.get("s2:tile_id") or item.id
    return str(properties.get("platform", "")), str(tile), moment_of(item).strftime("%Y-%m-%dT%H:%M")


def _covers(best: pystac.Item, item: pystac.Item) -> bool:
    """Whether an item shows no ground that the best one does not show."""
    if best.geometry is None or item.geometry is None:
        return True
    own = shape(item.geometry)
    other = unwrapped(shape(best.geometry), own.centroid.x)
    return bool(other.buffer(SAME_FOOTPRINT_DEGREES).covers(unwrapped(own, own.centroid.x)))


def _recency(item: pystac.Item) -> tuple[float, str, str]:
    properties = item.properties
    text = str(properties.get("s2:processing_baseline") or properties.get("processing:version") or "")
    baseline = float(text) if re.fullmatch(r"\d+(\.\d+)?", text) else 0.0
    return baseline, str(properties.get("updated", "")), item.id


def prepare_scenes(
    items: Sequence[pystac.Item], wanted: Wanted, grid: Grid, *, longitude: float, workers: int
) -> tuple[list[Scene], dict[str, str]]:
    """Find the items' assets and decide their radiometry.

    Args:
        items: The items; each has every band and mask that is wanted.
        wanted: Which bands and which mask, of which provider.
        grid: The cube's grid.
        longitude: The region's, near which footprints across the antimeridian are laid.
        workers: Files to read at the same time.

    Returns:
        The scenes, and for each item that cannot be read the reason.

    Raises:
        UnreachableError: The server does not answer.
    """
    samples, crs = sample_grids(grid), parse_crs(grid.crs.to_wkt())
    with ThreadPoolExecutor(workers) as pool:
        found = list(pool.map(lambda item: _sources(item, wanted), items))
    failed = {item.id: own for item, own in zip(items, found, strict=True) if isinstance(own, str)}
    readable = [(item, own) for item, own in zip(items, found, strict=True) if not isinstance(own, str)]
    masks = [wanted.mask(item) for item, _ in readable]

    def darkest_in(*bands: str) -> Callable[[int], float | None]:
        return lambda number: _darkest(readable[number][0], bands, masks[number], wanted.provider, samples)

    cases = [Case(item, own[0], wanted.provider) for item, own in readable]
    decided = decide_offsets(cases, darkest_in("blue"), witness=darkest_in("swir16", "swir22"), workers=workers)
    scenes = [
        Scene(
            item=item,
            time=moment_of(item),
            bands=tuple(radiometry.apply(source) for source in own),
            mask=mask,
            radiometry=radiometry,
            area=footprint_on(shape(item.geometry or {}), crs, longitude),
        )
        for (item, own), mask, radiometry in zip(readable, masks, decided, strict=True)
    ]
    return scenes, failed


def _sources(item: pystac.Item, wanted: Wanted) -> list[Source] | str:
    """The item's bands, or why it cannot be read."""
    try:
        return [with_number_type(band) for band in wanted.sources(item)]
    except UnreachableError:
        raise
    except SourceError as error:
        return str(error)


def _darkest(
    item: pystac.Item, bands: Sequence[str], mask: Mask | None, provider: Provider, samples: Iterable[Grid]
) -> float | None:
    """The first percentile of the clear ground in the first of some bands; of the first sample that shows enough."""
    ground = mask and replace(mask, rule=_without_snow(mask.rule))
    for band in bands:
        try:
            source = band_source(item, band, provider)
            for sample in samples:
                pixels = read_onto(source, sample, "nearest")
                clear = pixels.values[pixels.observed & _clear(ground, sample)]
                if clear.size >= FEWEST_CLEAR:
                    return float(np.percentile(clear, 1))
        except UnreachableError:
            raise
        except SourceError:
            continue  # a band that the item lacks, or one that cannot be read: then the scene will be left out
    return None


def _without_snow(rule: MaskRule) -> MaskRule:
    """Of the Sentinel-2 scene classification only vegetation, soil and water: snow is bright without any offset."""
    return MaskRule(values=GROUND) if set(GROUND) <= set(rule.values) else rule


def with_number_type(source: Source) -> Source:
    """The source with type and nodata value; asked of the file where the metadata do not tell."""
    if source.dtype is not None and source.nodata is not None:
        return source
    header = read_header(source)
    nodata = header.nodata if header.nodata is not None else source.nodata
    return replace(source, nodata=nodata, dtype=header.dtype)


def _clear(mask: Mask | None, grid: Grid) -> NDArray[np.bool_]:
    """(y, x), True where the mask says clear; everywhere where there is no mask."""
    if mask is None:
        return np.ones(grid.shape, dtype=bool)
    pixels = read_onto(mask.source, grid, "nearest")
    clear: NDArray[np.bool_] = pixels.observed & mask.rule.clear(pixels.values)
    return clear


def sample_grids(grid: Grid) -> tuple[Grid, Grid]:
    """The centre of a grid, small enough for one quick read, and, where that shows nothing, all of it coarsely."""
    height, width = min(grid.height, SAMPLE_SIDE), min(grid.width, SAMPLE_SIDE)
    centre = grid.crop(Window((grid.height - height) // 2, (grid.width - width) // 2, height, width))
    coarse = grid.transform @ Affine.scale(grid.width / width, grid.height / height)
    return centre, Grid(grid.crs, coarse, height, width)


def surviving(groups: Iterable[Acquisition], dropped: Container[str]) -> list[Acquisition]:
    """What is left of acquisitions without some items, by id."""
    return [rest for group in groups if (rest := group.without(dropped))]


def acquisitions(scenes: Iterable[Scene]) -> list[Acquisition]:
    """Group scenes of the same platform whose times lie within one pass, in order of time."""
    passes: list[list[Scene]] = []
    for scene in sorted(scenes, key=lambda scene: (_platform(scene), scene.time, scene.item.id)):
        last = passes[-1][-1] if passes else None
        if last is not None and _platform(last) == _platform(scene) and _same_pass(last, scene):
            passes[-1].append(scene)
        else:
            passes.append([scene])
    groups = [Acquisition(tuple(members)) for members in passes]
    return sorted(groups, key=lambda group: (group.time, group.ids))


def _platform(scene: Scene) -> str:
    return str(scene.item.properties.get("platform", ""))


def _same_pass(last: Scene, scene: Scene) -> bool:
    """Whether it was sensed in the same pass: another tile, or the rest of the same one."""
    gap = scene.time - last.time
    return gap <= (SAME_PASS if _granule(last.item)[1] != _granule(scene.item)[1] else SAME_GRANULE)
