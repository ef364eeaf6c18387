"""From STAC items to acquisitions: duplicates resolved, radiometry decided, and blocks of pixels read."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pystac
from affine import Affine
from numpy.typing import NDArray
from shapely import prepare
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from eearth.geo.aoi import lonlat_footprint
from eearth.geo.grid import Grid, Window
from eearth.geo.providers import (
    Encoding,
    Radiometry,
    Source,
    band_source,
    decide_offset,
    mask_source,
)
from eearth.geo.raster import read_header, read_onto
from eearth.geo.stac import moment_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from eearth.settings import DownloadSettings


# Two parts of one granule bear the same time but for rounding.
SAME_GRANULE = timedelta(minutes=1)

# Footprints of one granule's reprocessings differ by less than this, about 100 m on the ground.
SAME_FOOTPRINT_DEGREES = 0.001

# Tiles of one pass are sensed seconds to minutes apart, the next pass comes after hours: anything between tells them.
SAME_PASS = timedelta(minutes=10)

# Side of a sample, in pixels, from which the offset test takes its percentile: ample, and one read. A sample with fewer
# clear pixels than this shows nothing.
SAMPLE_SIDE = 256
FEWEST_CLEAR = 100


@dataclass(frozen=True)
class Scene:
    """One item, ready to read.

    Attributes:
        item: The item.
        time: When it was acquired, UTC.
        bands: One source for each band, in the cube's order.
        mask: The asset that classifies pixels; None if there is none.
        radiometry: How its numbers become reflectance, and why.
        footprint: Where it has data, in longitude and latitude.
    """

    item: pystac.Item
    time: datetime
    bands: tuple[Source, ...]
    mask: Source | None
    radiometry: Radiometry
    footprint: BaseGeometry


@dataclass(frozen=True)
class Acquisition:
    """Scenes of one pass, which together are one date of the cube; where they overlap, the first one counts."""

    scenes: tuple[Scene, ...]

    @property
    def time(self) -> datetime:
        """The earliest scene's time, UTC."""
        return min(scene.time for scene in self.scenes)

    @property
    def ids(self) -> str:
        """The scenes' item ids, separated by spaces."""
        return " ".join(scene.item.id for scene in self.scenes)


@dataclass(frozen=True)
class Block:
    """What one acquisition shows on one piece of the grid.

    Attributes:
        values: (band, y, x) in the cube's encoding.
        valid: (y, x), True = a clear observation of the ground in all bands.
        contributed: Item id → (pixels observed, pixels of them that are valid).
    """

    values: NDArray[Any]
    valid: NDArray[np.bool_]
    contributed: dict[str, tuple[int, int]]


def without_duplicates(items: Iterable[pystac.Item]) -> tuple[list[pystac.Item], dict[str, str]]:
    """Keep one item for each (platform, tile, minute): of the highest processing baseline, then the last updated.

    An item that reaches beyond the one that is kept shows other ground (a datatake received by two stations): it stays.

    Returns:
        The items kept, in the order of their granules' first items, the best of a granule first, and for each item
        left out the id of the one that stands for it.
    """
    groups: dict[tuple[str, str, str], list[pystac.Item]] = defaultdict(list)
    for item in items:
        groups[_granule(item)].append(item)
    replaced: dict[str, str] = {}
    kept: list[pystac.Item] = []
    for members in groups.values():
        best = max(members, key=_recency)
        others = {item.id: item for item in members if item.id != best.id}
        beyond = [item for item in others.values() if not _covers(best, item)]
        kept += [best, *beyond]
        replaced |= {name: best.id for name, item in others.items() if item not in beyond}
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
    return bool(shape(best.geometry).buffer(SAME_FOOTPRINT_DEGREES).covers(shape(item.geometry)))


def _recency(item: pystac.Item) -> tuple[float, str, str]:
    properties = item.properties
    text = str(properties.get("s2:processing_baseline") or properties.get("processing:version") or "")
    baseline = float(text) if re.fullmatch(r"\d+(\.\d+)?", text) else 0.0
    return baseline, str(properties.get("updated", "")), item.id


def prepare_scene(item: pystac.Item, settings: DownloadSettings, samples: Sequence[Grid]) -> Scene:
    """Find an item's assets and decide its radiometry.

    Args:
        item: The item.
        settings: Which bands and which mask are wanted.
        samples: Grids on which the offset test reads the blue band, if it must, until one shows enough clear ground.

    Raises:
        SourceError: A band or the mask is missing, or the test cannot find or read the blue band.
    """
    sources = [with_number_type(band_source(item, band)) for band in settings.bands]
    mask = mask_source(item, settings.mask_asset)

    def first_percentile() -> float | None:
        blue = band_source(item, "blue")
        for sample in samples:
            pixels = read_onto(blue, sample, "nearest")
            clear = pixels.values[pixels.observed & _clear(mask, sample, settings.mask_valid)]
            if clear.size >= FEWEST_CLEAR:
                return float(np.percentile(clear, 1))
        return None

    radiometry = decide_offset(item, sources[0], first_percentile)
    return Scene(
        item=item,
        time=moment_of(item),
        bands=tuple(radiometry.apply(source) for source in sources),
        mask=mask,
        radiometry=radiometry,
        footprint=_footprint(item),
    )


def with_number_type(source: Source) -> Source:
    """The source with type and nodata value; asked of the file where the metadata do not tell."""
    if source.dtype is not None and source.nodata is not None:
        return source
    header = read_header(source)
    nodata = header.nodata if header.nodata is not None else source.nodata
    return Source(source.href, source.index, source.scale, source.offset, nodata, header.dtype)


def _footprint(item: pystac.Item) -> BaseGeometry:
    footprint: BaseGeometry = shape(item.geometry or {})
    prepare(footprint)
    return footprint


def sample_grids(grid: Grid) -> tuple[Grid, Grid]:
    """The centre of a grid, small enough for one quick read, and, where that shows nothing, all of it coarsely."""
    height, width = min(grid.height, SAMPLE_SIDE), min(grid.width, SAMPLE_SIDE)
    centre = grid.crop(Window((grid.height - height) // 2, (grid.width - width) // 2, height, width))
    coarse = grid.transform @ Affine.scale(grid.width / width, grid.height / height)
    return centre, Grid(grid.crs, coarse, height, width)


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


def read_block(
    acquisition: Acquisition, grid: Grid, encoding: Encoding, *, mask_valid: Sequence[int], resampling: str
) -> Block:
    """Read one acquisition on one piece of the grid.

    A pixel comes whole from one scene: the first of the pass that observed it in every band. Where none did, it shows
    what there is of each band, and is not valid.

    Raises:
        SourceError: An asset cannot be read.
    """
    count = len(acquisition.scenes[0].bands)
    values = np.full((count, *grid.shape), encoding.fill, dtype=encoding.dtype)
    valid = np.zeros(grid.shape, dtype=bool)
    missing = np.ones(grid.shape, dtype=bool)
    contributed: dict[str, tuple[int, int]] = {}
    outline = lonlat_footprint(grid.bounds, grid.crs)
    for scene in acquisition.scenes:
        if not missing.any() or not scene.footprint.intersects(outline):
            continue
        stored, observed, clear = _read_scene(scene, grid, encoding, mask_valid, resampling)
        fresh = missing & observed.all(axis=0)
        values = np.where(fresh | (missing & (values == encoding.fill)), stored, values)
        valid |= fresh & clear
        missing &= ~fresh
        contributed[scene.item.id] = int(fresh.sum()), int((fresh & clear).sum())
    return Block(values, valid, contributed)


def _read_scene(
    scene: Scene, grid: Grid, encoding: Encoding, mask_valid: Sequence[int], resampling: str
) -> tuple[NDArray[Any], NDArray[np.bool_], NDArray[np.bool_]]:
    """(values (band, y, x), observed (band, y, x), clear (y, x)); values are `fill` where not observed."""
    clear = _clear(scene.mask, grid, mask_valid)
    pixels = [read_onto(source, grid, resampling) for source in scene.bands]
    observed = np.stack([each.observed for each in pixels])
    stored = np.stack([encode(each.values, source, encoding) for each, source in zip(pixels, scene.bands, strict=True)])
    stored[~observed] = encoding.fill
    return stored, observed, clear


def _clear(mask: Source | None, grid: Grid, mask_valid: Sequence[int]) -> NDArray[np.bool_]:
    """(y, x), True where the mask says clear; everywhere where there is no mask."""
    if mask is None:
        return np.ones(grid.shape, dtype=bool)
    pixels = read_onto(mask, grid, "nearest")
    clear: NDArray[np.bool_] = pixels.observed & np.isin(pixels.values, mask_valid)
    return clear


def encode(values: NDArray[Any], source: Source, encoding: Encoding) -> NDArray[Any]:
    """A source's numbers in the cube's encoding: unchanged where they already are, rescaled and clipped otherwise."""
    same_form = (source.scale, source.offset) == (encoding.scale, encoding.offset)
    if same_form and values.dtype == np.dtype(encoding.dtype):
        return values
    reflectance = values.astype(np.float64) * source.scale + source.offset
    stored = np.rint((reflectance - encoding.offset) / encoding.scale)
    limits = np.iinfo(encoding.dtype)
    low = limits.min + 1 if encoding.fill == limits.min else limits.min
    encoded: NDArray[Any] = np.nan_to_num(np.clip(stored, low, limits.max)).astype(encoding.dtype)
    return encoded
