from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from rasterio.crs import CRS
from rasterio.features import geometry_mask
from rasterio.transform import Affine
from shapely.geometry import MultiPolygon, Polygon, box
from test_inference import BANDS, PixelMean, region

from eearth.data.series import Series
from eearth.data.sights import Account, Accounts, Sight, surroundings
from eearth.errors import SourceError
from eearth.geo.aoi import Region, parse_crs
from eearth.geo.grid import Grid, Window
from eearth.geo.imagery.stream import outline
from eearth.geo.lattice import extent_of, phase_of
from eearth.inference.mapping import FeatureMapper
from eearth.inference.walk import Clock, RegionTiles, ahead, behind, walk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray


GRID = Grid(CRS.from_epsg(32633), Affine(10, 0, 499_980, 0, -10, 5_200_020), 200, 150)


STOPPED, FULL = SourceError("stopped"), SourceError("full")


@dataclass
class Shown:
    """Imagery in memory whose first pixel is the grid's, and what is done with it."""

    series: Series
    grid: Grid
    log: list[str]

    def look(self, name: str, part: Grid, reach: int) -> Sight:
        self.log.append(f"look {name} {reach}")
        offset = self.grid.offset_of(part)
        assert offset is not None
        return Sight(self.series, Window(*offset, part.height, part.width), phase_of(self.grid), Account())

    def release(self, name: str) -> None:
        self.log.append(f"release {name}")

    def stop(self) -> None:
        self.log.append("stop")


def of_pixels(*boxes: tuple[int, int, int, int]) -> Region:
    """A region that touches just the pixels of some (row, col, height, width) of the grid."""
    outlines = []
    for row, col, height, width in boxes:
        shrunk = Affine.translation(col + 0.3, row + 0.3) @ Affine.scale(width - 0.6, height - 0.6)
        outlines.append(outline(Grid(GRID.crs, GRID.transform @ shrunk, 1, 1), 15.0))
    return Region(MultiPolygon([each.geometry for each in outlines if each]), "r")  # type: ignore[list-item]


def tiles_of(tiles: RegionTiles) -> list[Any]:
    return [tile for index in tiles.indices if (tile := tiles.tile(int(index)))]


def test_tiles_are_cut_to_the_region_and_skip_what_lies_beside() -> None:
    tiles = RegionTiles(of_pixels((5, 6, 15, 10), (170, 58, 12, 2), (60, 40, 1, 1)), GRID, 50)
    assert [(tile.index, tile.window) for tile in tiles_of(tiles)] == [
        (0, Window(5, 6, 15, 10)),
        (3, Window(60, 40, 1, 1)),
        (10, Window(170, 58, 12, 2)),
    ]
    assert all(tile.inside.all() for tile in tiles_of(tiles))


@pytest.mark.parametrize("size", [30, 64, 500])
def test_tiles_hold_every_pixel_that_the_region_touches_once(size: int) -> None:
    shape = Region(box(15.0, 46.94, 15.012, 46.955).union(box(15.015, 46.945, 15.019, 46.95)), "r")  # type: ignore[arg-type]
    projected = shape.projected(parse_crs(GRID.crs.to_wkt()))
    grid = GRID.over(projected.bounds)
    expected = geometry_mask([projected], grid.shape, grid.transform, all_touched=True, invert=True)
    found = np.zeros(grid.shape, int)
    for tile in tiles_of(RegionTiles(shape, grid, size)):
        found[tile.window.slices] += tile.inside
    np.testing.assert_array_equal(found, expected)
    assert 0 < expected.sum() < expected.size


def test_of_a_long_border_only_what_is_near_is_drawn() -> None:
    """A ring of many vertices around a hole: the same pixels as drawn in one piece, and a tile within has them all."""
    turns = np.linspace(0, 2 * np.pi, 20_000, endpoint=False)
    reach = 1 + 0.2 * np.sin(7 * turns) + 0.02 * np.sin(900 * turns)
    ring = np.column_stack([15.01 + 0.008 * reach * np.cos(turns), 46.945 + 0.007 * reach * np.sin(turns)])
    shape = Region(Polygon(ring, [box(15.009, 46.946, 15.0097, 46.9466).exterior.coords]), "r")
    tiles = RegionTiles(shape, GRID.over(shape.projected(parse_crs(GRID.crs.to_wkt())).bounds), 16)
    expected = geometry_mask(
        [shape.projected(parse_crs(GRID.crs.to_wkt()))], tiles.grid.shape, tiles.grid.transform, all_touched=True,
        invert=True,
    )  # fmt: skip
    found = np.zeros(tiles.grid.shape, int)
    for tile in tiles_of(tiles):
        found[tile.window.slices] += tile.inside
    np.testing.assert_array_equal(found, expected)
    assert sum(tile.inside.all() for tile in tiles_of(tiles)) > 5


class Recorder:
    """An array on disk, as far as reading goes: remembers the most pixels that were read at once."""

    def __init__(self, values: NDArray[Any]) -> None:
        self.values, self.shape, self.most = values, values.shape, 0

    def __getitem__(self, index: Any) -> Any:
        part = self.values[index]
        self.most = max(self.most, part.shape[-1] * part.shape[-2])
        return part


class Encoding(PixelMean):
    """The bands' mean as features."""

    bands, features, margin, copies = BANDS, len(BANDS), 5, 2.0


@dataclass(frozen=True)
class Small:
    window_size: int = 32
    batch_size: int = 4


def mapper() -> FeatureMapper:
    return FeatureMapper(Encoding(), torch.device("cpu"), Small(), Clock())  # type: ignore[arg-type]


def test_a_walk_reads_no_more_than_a_tile_at_once_and_gives_every_pixel() -> None:
    held = region(200, 150)
    reflectance, valid = Recorder(held.reflectance), Recorder(held.valid)
    shown = Shown(Series(reflectance, valid, held.times, BANDS, held.scale), GRID, [])
    found = np.full((3, 200, 150), np.nan, np.float32)
    work = mapper()
    tiles = tiles_of(RegionTiles(of_pixels((0, 0, 200, 150)), GRID, 50))
    for made in walk(tiles, GRID, shown, work):
        found[:, *made.tile.window.slices] = made.result
    assert reflectance.most <= 32 * 32
    assert valid.most <= 50 * 50
    masked = np.where(held.valid[:, None], held.reflectance * held.scale, 0).sum(axis=0)
    expected = np.where(held.valid.any(axis=0), masked / np.maximum(held.valid.sum(axis=0), 1), np.nan)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert shown.log[-1] == "stop"
    assert [line.split()[1] for line in shown.log[:-1]] == [str(number) for number in range(12)]
    assert work.clock.waiting > 0


def test_where_there_is_no_imagery_nothing_was_observed() -> None:
    class Blind(Shown):
        def look(self, name: str, part: Grid, reach: int) -> Sight:
            found = super().look(name, part, reach)
            return Sight(None, found.window, found.phase, Account(missing="ocean"))

    work = mapper()
    shown = Blind(region(8, 8), GRID, [])
    (made,) = walk(tiles_of(RegionTiles(of_pixels((5, 6, 15, 10)), GRID, 50)), GRID, shown, work)
    assert made.result.shape == (3, 15, 10)
    assert np.isnan(made.result).all()
    assert made.account.missing == "ocean"


@pytest.mark.parametrize(("row", "col", "reach"), [(0, 0, 0), (3, 5, 8), (7, 2, 13)])
def test_surroundings_are_what_the_windows_look_at(row: int, col: int, reach: int) -> None:
    part = GRID.crop(Window(row, col, 21, 34))
    first, second, around = surroundings(part, reach)
    assert around.offset_of(part) == (first, second)
    assert phase_of(around) == (0, 0)
    inside = Window(first, second, 21, 34)
    assert extent_of(around.shape, inside, reach, phase_of(around)) == around.window


def test_the_next_item_is_made_while_one_is_worked_on() -> None:
    making = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        making.set()
        yield 2

    waits: list[float] = []
    for item in ahead(items(), lambda: None, waits.append):
        if item == 1:
            assert making.wait(5)
    assert len(waits) == 3


def test_who_wants_no_more_stops_what_is_being_made() -> None:
    stopped = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        assert stopped.wait(5)
        raise STOPPED

    taken = ahead(items(), stopped.set, lambda _seconds: None)
    assert next(taken) == 1
    taken.close()  # type: ignore[attr-defined]
    assert stopped.is_set()


def test_items_are_worked_on_behind_and_their_errors_told() -> None:
    seen: list[int] = []

    def work(item: int) -> None:
        time.sleep(0.01)
        if item == 2:
            raise FULL
        seen.append(item)

    def give(*items: int) -> None:
        with behind(work) as put:
            for item in items:
                put(item)

    give(0, 1)
    assert seen == [0, 1]
    with pytest.raises(SourceError, match="full"):
        give(2)
    with pytest.raises(SourceError, match="full"):
        give(2, 3)
    assert seen == [0, 1]


def test_accounts_survive_a_torn_line_and_add_up(tmp_path: Path) -> None:
    accounts = Accounts(tmp_path / "accounts.jsonl")
    decided = {"a": (-0.1, "told"), "b": (-0.1, "tested")}
    accounts.add("0", Account(("a", "b"), "2023-02-01T00:00:00", "2023-03-01T00:00:00", {"x": "torn"}, offsets=decided))
    with accounts.path.open("a") as file:
        file.write('\n{"part": "1", "items"')
    decided = {"b": (0.0, "tested"), "c": (None, "none for this provider")}
    accounts.add("1", Account(("b", "c"), "2023-01-01T00:00:00", "2023-02-01T00:00:00", offsets=decided))
    accounts.add("2", Account(missing="ocean"))
    accounts.add("2", Account(missing="ocean"))
    total = Accounts(tmp_path / "accounts.jsonl").total()
    assert set(total.items) == {"a", "b", "c"}
    assert (total.first, total.last) == ("2023-01-01T00:00:00", "2023-03-01T00:00:00")
    assert total.dropped == {"x": "torn"}
    assert {name: offset for name, (offset, _) in total.offsets.items()} == {"a": -0.1, "b": 0.0, "c": None}
    assert total.disputed == ("b",)
    assert total.missing == "1 of 3 tiles have no imagery (ocean)"
