"""Tiles as tasks of a dask.distributed cluster: each worker loads the model once, and looks at imagery by itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from shapely.geometry import box

from eearth.data.scenery import Scenery
from eearth.data.sights import Imagery, open_imagery
from eearth.errors import SceneError
from eearth.geo.aoi import Region
from eearth.geo.imagery.engine import run_jobs
from eearth.inference.mapping import LandCoverMapper
from eearth.inference.walk import Made, Tile
from eearth.settings import PredictSettings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from eearth.geo.products.landcover.prediction import Prediction


@dataclass(frozen=True)
class Order:
    """What all tiles of a map have in common; every worker sees the paths in it.

    Attributes:
        key: Names the order among others.
        model: File of the trained model.
        scenery: Imagery.
        settings: How to map.
    """

    key: str
    model: Path
    scenery: Scenery
    settings: PredictSettings


@dataclass(frozen=True)
class TileJob:
    """One tile of an order."""

    order: Order
    tile: Tile


_open: dict[str, tuple[LandCoverMapper, Imagery]] = {}


def map_tile(job: TileJob) -> Made[Prediction]:
    """Map a tile in this process; its imagery is released by who asked, once the tile is written.

    Raises:
        SourceError: The provider cannot be reached.
    """
    if job.order.key not in _open:
        _open.clear()  # a worker that lives on holds one model
        _open[job.order.key] = _opened(job.order)
    mapper, imagery = _open[job.order.key]
    grid, tile = job.order.scenery.grid, job.tile
    sight = imagery.look(tile.name, grid.crop(tile.window), mapper.reach)
    return Made(tile, mapper(sight, tile), sight.account)


def _opened(order: Order) -> tuple[LandCoverMapper, Imagery]:
    mapper, _ = LandCoverMapper.loaded(order.model, order.settings)
    return mapper, open_imagery(order.scenery)


def map_on_cluster(order: Order, tiles: Iterable[Tile], scheduler: str) -> Iterator[Made[Prediction]]:
    """Map tiles on a cluster; yields them as they are finished.

    Args:
        order: What they have in common.
        tiles: Which, drawn as workers have room.
        scheduler: Address of a dask scheduler.

    Raises:
        SourceError: The cluster or the provider cannot be reached.
        UsageError: dask.distributed is not installed.
    """
    sent = replace(order, scenery=_portable(order.scenery), model=order.model.resolve())
    for _, made in run_jobs((TileJob(sent, tile) for tile in tiles), map_tile, at_once=1, scheduler=scheduler):
        if isinstance(made, SceneError):
            raise made
        yield made


def _portable(scenery: Scenery) -> Scenery:
    """The same for a worker: a country's outline need not travel with every tile, its bounds tell where it is."""
    held = scenery.held.resolve() if scenery.held else None
    if scenery.fetching is None:
        return replace(scenery, held=held)
    near = Region(box(*scenery.fetching.region.bounds), scenery.fetching.region.name)
    return replace(scenery, fetching=replace(scenery.fetching, region=near, folder=scenery.fetching.folder.resolve()))
