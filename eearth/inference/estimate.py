"""What a map takes, before it begins: the network's pace measured, fetching reckoned from one tile."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING

import numpy as np
import torch

from eearth.data.series import Chips
from eearth.data.sights import surroundings
from eearth.data.sliding import at_once
from eearth.events import Table
from eearth.geo.cube import Cube
from eearth.geo.grid import Window
from eearth.geo.imagery.estimate import BASE_BYTES, TITLE, reckon, size_of, working_bytes
from eearth.geo.imagery.plan import existing_folder
from eearth.geo.imagery.stream import Stream
from eearth.geo.lattice import extent_of, patches
from eearth.geo.sampling.areas import SQUARE_KILOMETRE
from eearth.inference.load import load_of

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from eearth.data.scenery import Scenery
    from eearth.geo.imagery.plan import Plan
    from eearth.inference.mapping import LandCoverMapper
    from eearth.inference.walk import RegionTiles, Tile

# Bytes of a pixel in the unfinished rasters and in the finished ones, which are written beside them: what a map's
# bands take at most, without compression.
PIXEL_BYTES = 12

# Batches of each thread whose time is taken, after one that warms up.
BATCHES = 3


def estimate_map(
    tiles: RegionTiles, scenery: Scenery, mapper: LandCoverMapper, folder: Path, rate: float | None
) -> Table:
    """Reckon.

    Args:
        tiles: Those of the region.
        scenery: Their imagery.
        mapper: What would map them.
        folder: Where the map would be written.
        rate: MB/s; measured on one file where not given.

    Raises:
        SourceError: The provider cannot be reached, or has nothing of the tile in the middle.
    """
    indices = tiles.indices
    middle = next(tile for index in np.roll(indices, -(len(indices) // 2)) if (tile := tiles.tile(int(index))))
    plan = _plan(scenery, middle, mapper.reach, folder)
    dates = len(plan.acquisitions) if plan else _held_dates(scenery)
    windows = _windows(mapper, middle)
    load = load_of(mapper.model.encoder, mapper.settings, dates, mapper.device)
    batch = _batch(mapper, dates, min(load.batch, len(windows)))
    seen = len(indices) * sum(window.pixels for window in windows)
    seconds = seen / _window_pixels(batch) * _pace(mapper, batch, load.workers)
    pixels = len(indices) * middle.inside.size
    free = shutil.disk_usage(existing_folder(folder)).free
    area = pixels * tiles.grid.pixel_metres**2 / SQUARE_KILOMETRE
    rows = [
        ("tiles", f"{len(indices):,} of {tiles.size} x {tiles.size} pixels, {area:,.4g} km²"),
        ("network", f"{_duration(seconds)}, {area / seconds:.3g} km²/s on {mapper.device.type}, {dates} dates"),
        *_fetching(plan, len(indices), rate),
        ("on the disk", f"{size_of(pixels * PIXEL_BYTES)}, {size_of(free)} free"),
        ("memory", size_of(BASE_BYTES + load.memory + (working_bytes(plan) if plan else 0))),
    ]
    return Table(title=TITLE, columns=("", "map"), rows=tuple(rows))


def _plan(scenery: Scenery, tile: Tile, reach: int, folder: Path) -> Plan | None:
    """What fetching one tile takes; None where the imagery is at hand."""
    if scenery.fetching is None:
        return None
    around = surroundings(scenery.grid.crop(tile.window), reach)[2]
    return Stream(scenery.fetching).plan(folder, around)


def _held_dates(scenery: Scenery) -> int:
    assert scenery.held is not None  # noqa: S101 - imagery that is not fetched is held
    return len(Cube.open(scenery.held).times)


def _fetching(plan: Plan | None, tiles: int, rate: float | None) -> list[tuple[str, str]]:
    if plan is None:
        return [("imagery", "of the workspace")]
    found = reckon(plan, rate)
    return [
        ("requests", f"{tiles * found.requests:,.0f}"),
        ("to fetch", f"{size_of(tiles * found.received)}, {_duration(tiles * found.seconds)} at {found.rate:.3g} MB/s"),
    ]


def _windows(mapper: LandCoverMapper, tile: Tile) -> list[Window]:
    """The windows of a tile."""
    height, width = tile.inside.shape
    wide = 2 * mapper.margin
    place = Window(mapper.margin, mapper.margin, height, width)
    extent = extent_of((height + wide, width + wide), place, mapper.margin)
    cut = patches(extent, place, size=mapper.settings.window_size, margin=mapper.margin)
    return [patch.window for patch in cut]


def _batch(mapper: LandCoverMapper, dates: int, count: int) -> Chips:
    """A batch of windows that show nothing in particular on every date."""
    size, bands = mapper.settings.window_size, len(mapper.model.bands)
    return Chips(
        torch.zeros(count, dates, bands, size, size),
        torch.ones((count, dates, size, size), dtype=torch.bool),
        torch.linspace(1, 365, dates).expand(count, -1),
    )


def _window_pixels(batch: Chips) -> int:
    """Pixels of all windows of a batch."""
    return batch.valid.numel() // batch.valid.shape[1]


def _pace(mapper: LandCoverMapper, batch: Chips, workers: int) -> float:
    """Seconds that a batch takes when as many are in the network as will be."""
    mapper.model.eval()
    shown, count = batch.to(mapper.device), BATCHES * workers

    def look(_number: int) -> Tensor:
        return mapper.model(shown).cpu()  # type: ignore[no-any-return]

    list(at_once(look, range(workers), workers))
    begun = time.monotonic()
    list(at_once(look, range(count), workers))
    return (time.monotonic() - begun) / count


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {left} s" if minutes else f"{seconds:.1f} s"
