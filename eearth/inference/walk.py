"""The walk over a region of any size: look at a tile, work on it, hand it over to be written, three things at once.

While the network works on a tile, the imagery of the next one is fetched, and the one before is written. No more than
these three are held, whatever the region's size.
"""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.features import geometry_mask

from eearth.data.sights import Account, Imagery, Sight
from eearth.geo.aoi import Region, parse_crs
from eearth.geo.grid import Grid, Window
from eearth.geo.imagery.pieces import stop_readers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from shapely.geometry.base import BaseGeometry

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True)
class Tile:
    """A part of a product.

    Attributes:
        index: Its place among all tiles of the grid, those outside the region included.
        window: The smallest window of the tile around its pixels in the region.
        inside: (y, x) of the window, True in the region.
    """

    index: int
    window: Window
    inside: NDArray[np.bool_]

    @property
    def name(self) -> str:
        """Where its imagery lies, and what its account is noted under."""
        return f"{self.index}"


@dataclass(frozen=True)
class Made(Generic[T]):
    """A tile that was worked on.

    Attributes:
        tile: Which.
        result: What was made of it.
        account: The imagery that it was made from.
    """

    tile: Tile
    result: T
    account: Account


@dataclass(frozen=True)
class RegionTiles:
    """The tiles of a grid that a region touches.

    Attributes:
        region: The region.
        grid: The product's grid.
        size: Side of a tile in pixels.
    """

    region: Region
    grid: Grid
    size: int

    @cached_property
    def _shape(self) -> BaseGeometry:
        shape = shapely.make_valid(self.region.projected(parse_crs(self.grid.crs.to_wkt())))
        shapely.prepare(shape)
        return shape

    @cached_property
    def indices(self) -> NDArray[np.intp]:
        """Their places among all tiles, row by row, rising."""
        boxes = shapely.box(*np.array([self.grid.crop(window).bounds for window in self._windows]).T)
        return np.flatnonzero(shapely.intersects(self._shape, boxes))

    @cached_property
    def _windows(self) -> list[Window]:
        return list(self.grid.windows(self.size))

    def tile(self, index: int) -> Tile | None:
        """One of them; None if no pixel of it is touched: a region smaller than a pixel is that pixel."""
        window = self._windows[index]
        inside = self._inside(self.grid.crop(window))
        rows, cols = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
        if not rows.size:
            return None
        cut = Window(int(rows[0]), int(cols[0]), int(rows[-1] - rows[0]) + 1, int(cols[-1] - cols[0]) + 1)
        place = Window(window.row + cut.row, window.col + cut.col, cut.height, cut.width)
        return Tile(index, place, inside[cut.slices])

    def _inside(self, part: Grid) -> NDArray[np.bool_]:
        """(y, x), True where the region touches a pixel; of a country's border, only what is near is drawn."""
        if shapely.contains_properly(self._shape, part.footprint):
            return np.ones(part.shape, dtype=bool)
        near = shapely.box(*part.footprint.buffer(2 * max(part.resolution)).bounds)
        inside: NDArray[np.bool_] = geometry_mask(
            [shapely.intersection(self._shape, near)],
            out_shape=part.shape,
            transform=part.transform,
            all_touched=True,
            invert=True,
        )
        return inside


@dataclass
class Clock:
    """What the time goes into, in seconds."""

    begun: float = field(default_factory=time.monotonic)
    waiting: float = 0.0

    def waited(self, seconds: float) -> None:
        """The network had nothing to work on for so long."""
        self.waiting += seconds

    @property
    def share(self) -> float:
        """Share of the time in which the network had nothing to work on."""
        return self.waiting / max(time.monotonic() - self.begun, 1e-9)

    @property
    def seconds(self) -> float:
        """Since it was made."""
        return time.monotonic() - self.begun


class Mapper(Protocol[T_co]):
    """What is made of a tile."""

    @property
    def clock(self) -> Clock:
        """Keeps the time."""

    @property
    def reach(self) -> int:
        """Pixels around a tile that it depends on."""

    def __call__(self, sight: Sight, tile: Tile) -> T_co:
        """Make it."""


def walk(tiles: Iterable[Tile], grid: Grid, imagery: Imagery, work: Mapper[T]) -> Iterator[Made[T]]:
    """Work on tiles one after another; the imagery of the next one is looked at meanwhile.

    Args:
        tiles: Which, in the order wanted.
        grid: The product's grid.
        imagery: What to look at; a tile's is to be released when the tile is not needed any more.
        work: What is made of a tile.

    Raises:
        SourceError: The provider cannot be reached.
    """

    def looked() -> Iterator[tuple[Tile, Sight]]:
        for tile in tiles:
            yield tile, imagery.look(tile.name, grid.crop(tile.window), work.reach)

    def stop() -> None:
        imagery.stop()
        stop_readers()

    for tile, sight in ahead(looked(), stop, work.clock.waited):
        yield Made(tile, work(sight, tile), sight.account)


def ahead(items: Iterator[T], stop: Callable[[], None], waited: Callable[[float], None]) -> Iterator[T]:
    """The same items; each is made in another thread while the caller works on the one before.

    Args:
        items: Where they come from.
        stop: Ends what the other thread does, when the caller wants no more.
        waited: Is told how many seconds the caller waited for each.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool:
        coming = pool.submit(lambda: list(islice(items, 1)))
        try:
            while True:
                begun = time.monotonic()
                made = coming.result()
                waited(time.monotonic() - begun)
                if not made:
                    return
                coming = pool.submit(lambda: list(islice(items, 1)))
                yield made[0]
        finally:
            stop()


@contextmanager
def behind(work: Callable[[T], None]) -> Iterator[Callable[[T], None]]:
    """Gives a function that has an item worked on in another thread; at most one is being worked on.

    What goes wrong with an item is raised when the next one is given, or at the end.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="behind") as pool:
        running: list[Future[None]] = []

        def put(item: T) -> None:
            while running:
                running.pop().result()
            running.append(pool.submit(work, item))

        yield put
        while running:
            running.pop().result()
