"""From a region and what is to be made of each of its tiles to a product on the disk."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any, Protocol

from eearth.data.sights import ACCOUNTS, Account, Accounts, open_imagery
from eearth.errors import NothingFoundError
from eearth.events import Advanced, Event, Finished, Note, Report, Started, Warned
from eearth.geo.cube import Cube
from eearth.geo.imagery.fetch import left_out
from eearth.geo.sampling.areas import SQUARE_KILOMETRE
from eearth.inference.memory import peak_memory
from eearth.inference.walk import Made, Mapper, RegionTiles, behind, walk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from eearth.data.scenery import Scenery
    from eearth.geo.grid import Window
    from eearth.inference.walk import Clock, Tile


class Product(Protocol):
    """What is written tile by tile, in any order."""

    def is_done(self, index: int) -> bool:
        """Whether an interrupted run has finished a tile."""

    def require_room(self, pixels: int) -> None:
        """Say at once that there is no room for so many pixels more."""

    def write(self, index: int, window: Window, result: Any, /) -> None:
        """Put a tile into its place; once this returns, a killed process does not lose it."""


def cover(  # noqa: PLR0917 - all are needed, none twice
    task: str,
    tiles: RegionTiles,
    scenery: Scenery,
    mapper: Mapper[Any],
    product: Product,
    scratch: Path,
    report: Report,
    elsewhere: Callable[[Iterator[Tile]], Iterator[Made[Any]]] | None = None,
) -> Account:
    """Make every tile that is not finished, and write it.

    Args:
        task: What the work is called.
        tiles: Those of the region.
        scenery: Their imagery.
        mapper: What is made of each.
        product: Where it goes.
        scratch: Where an interrupted run finds what it knew.
        report: Receives progress, warnings, and how fast it was.
        elsewhere: Makes tiles in other processes, in any order; None makes them here.

    Returns:
        The imagery that all of it was made from.

    Raises:
        NothingFoundError: There is no imagery of any tile.
        EearthError: The provider cannot be reached, or a tile cannot be written.
    """
    told = _Once(report)
    accounts = Accounts(scratch / ACCOUNTS)
    left = [int(index) for index in tiles.indices if not product.is_done(int(index))]
    product.require_room(len(left) * min(tiles.size**2, tiles.grid.window.pixels))
    pace, imagery = _Pace(tiles, mapper.clock), open_imagery(scenery, told)
    report(Started(task=task, total=len(tiles.indices), unit="tiles", done=len(tiles.indices) - len(left)))

    def keep(made: Made[Any]) -> None:
        if scenery.fetching:
            accounts.add(made.tile.name, made.account)
            for name, reason in (made.account.dropped or {}).items():
                told(left_out(name, reason))
        product.write(made.tile.index, made.tile.window, made.result)
        imagery.release(made.tile.name)
        report(Advanced(task=task, detail=pace.after(made.tile)))

    wanted = _present(tiles, left)
    with behind(keep) as put:
        for made in elsewhere(wanted) if elsewhere else walk(wanted, tiles.grid, imagery, mapper):
            put(made)
    report(Finished(task=task))
    if left:
        report(Note(text=pace.told()))
    return _account(scenery, accounts, scratch, report)


def _present(tiles: RegionTiles, indices: list[int]) -> Iterator[Tile]:
    """The tiles with a pixel in the region."""
    for index in indices:
        if tile := tiles.tile(index):
            yield tile


def _account(scenery: Scenery, accounts: Accounts, scratch: Path, report: Report) -> Account:
    if scenery.held is not None:
        return Account.of(Cube.open(scenery.held))
    total = accounts.total()
    if not total.items:
        shutil.rmtree(scratch, ignore_errors=True)  # what says that nothing is there would be taken for finished work
        raise NothingFoundError(total.missing)
    if total.missing:
        report(Warned(text=f"{total.missing}; the product says there that nothing was observed"))
    if total.disputed:
        text = f"the offset of {len(total.disputed)} scenes was decided differently in different tiles, the first is "
        report(Warned(text=f"{text}{total.disputed[0]}: look for steps along tiles, or download the region first"))
    return total


class _Once:
    """Passes on each warning once: neighbouring tiles share their scenes."""

    def __init__(self, report: Report) -> None:
        self._report, self._told = report, set[Event]()

    def __call__(self, event: Event) -> None:
        if event not in self._told:
            self._told.add(event)
            self._report(event)


class _Pace:
    """How fast the area is covered."""

    def __init__(self, tiles: RegionTiles, clock: Clock) -> None:
        self._pixel = tiles.grid.pixel_metres**2 / SQUARE_KILOMETRE
        self._clock, self._area = clock, 0.0

    def after(self, tile: Tile) -> str:
        """The rate so far, this tile included."""
        self._area += int(tile.inside.sum()) * self._pixel
        return f"{self._rate:.3g} km²/s"

    @property
    def _rate(self) -> float:
        return self._area / max(self._clock.seconds, 1e-9)

    def told(self) -> str:
        """A closing line."""
        return (
            f"{self._area:.4g} km² in {self._clock.seconds:.0f} s, {self._rate:.3g} km²/s; the network waited for "
            f"imagery in {self._clock.share:.0%} of the time; peak memory {peak_memory() / 1e6:.0f} MB"
        )
