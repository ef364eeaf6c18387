from __future__ import annotations

import warnings
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from passes import made_scene, naive_piece, plan_over
from rasterio.features import geometry_mask
from runs import catalog_of, run, watched
from scenery import utm_grid
from shapely.geometry import box
from small_site import PASSES

from eearth.errors import DiskError
from eearth.events import silent
from eearth.geo import quicklook
from eearth.geo.cube import CUBE
from eearth.geo.grid import Window
from eearth.geo.imagery import assemble, fetch
from eearth.geo.imagery.assemble import Assembled, Assembly, composed, dates_of
from eearth.geo.imagery.fetch import Fetched, blocks
from eearth.geo.imagery.pieces import read_piece
from eearth.geo.imagery.store import Store
from eearth.manifest import folder_digest

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from runs import Done
    from small_site import Site

    from eearth.geo.cube import Cube
    from eearth.geo.imagery.plan import Plan

GRID = utm_grid(150, 97)
HALF = GRID.crop(Window(0, 40, 150, 57))
CORNER = GRID.crop(Window(0, 0, 40, 50))
# A triangle: its diagonal cuts through blocks.
REGION = box(500_000, 4_998_500, 500_970, 5_000_000).difference(box(500_500, 4_999_000, 500_970, 5_000_000))


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """Four passes: of two tiles, of a part of the grid, of a corner of it, and of all."""
    folder = tmp_path_factory.mktemp("scenes")
    scenes = [
        made_scene(folder, "a-west", GRID.crop(Window(0, 0, 150, 60)), 1, tile="W"),
        made_scene(folder, "a-east", HALF, 2, tile="E"),
        made_scene(folder, "b", HALF, 3, time="2023-08-18T10:00:00+00:00"),
        made_scene(folder, "c", CORNER, 4, time="2023-08-20T10:00:00+00:00", mask=False),
        made_scene(folder, "d", GRID, 5, time="2023-09-01T10:00:00+00:00"),
    ]
    return plan_over(scenes, GRID)


def pieces_of(plan: Plan, folder: Path) -> tuple[Store, Fetched]:
    store = Store(folder / "pieces")
    return store, fetch.fetch(plan, store, (), silent)


def assembled(plan: Plan, folder: Path) -> Assembled:
    store, fetched = pieces_of(plan, folder)
    return Assembly(plan, fetched, store, None, folder).run(folder / CUBE, silent)


def arrays_of(cube: Cube) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    return np.asarray(cube.reflectance[...]), np.asarray(cube.valid[...])


def assert_naive(done: Assembled, plan: Plan) -> None:
    values, valid = arrays_of(done.cube)
    contributed: dict[str, tuple[int, int]] = {}
    for number, group in enumerate(plan.acquisitions):
        expected, clear, seen = naive_piece(group, plan.grid)
        np.testing.assert_array_equal(values[number], expected)
        np.testing.assert_array_equal(valid[number], clear)
        contributed |= seen
    assert done.contributed == contributed
    assert done.cube.items == tuple(group.ids for group in plan.acquisitions)


# --- Blocks and strips


@pytest.mark.parametrize(("block", "strip_bytes"), [(1024, 2**26), (64, 2**26), (64, 1), (1024, 1), (128, 1)])
def test_the_cube_is_its_pieces_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plan: Plan, block: int, strip_bytes: int
) -> None:
    monkeypatch.setattr(fetch, "BLOCK", block)
    monkeypatch.setattr(assemble, "STRIP_BYTES", strip_bytes)
    assert_naive(assembled(plan, tmp_path), plan)
    assert list((tmp_path / "pieces").glob("*.piece")) == list((tmp_path / "pieces").glob("*.look.piece"))


def test_the_files_do_not_tell_how_it_was_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plan: Plan) -> None:
    digests = set()
    for number, (block, strip) in enumerate([(1024, 2**26), (64, 1), (128, 1), (1024, 1)]):
        monkeypatch.setattr(fetch, "BLOCK", block)
        monkeypatch.setattr(assemble, "STRIP_BYTES", strip)
        assembled(plan, tmp_path / str(number))
        digests.add(folder_digest(tmp_path / str(number) / CUBE))
    assert len(digests) == 1


@pytest.mark.parametrize("block", [64, 1024])
def test_the_summary_is_that_of_the_whole_cube(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plan: Plan, block: int
) -> None:
    monkeypatch.setattr(fetch, "BLOCK", block)
    monkeypatch.setattr(assemble, "STRIP_BYTES", 1)
    monkeypatch.setattr(quicklook, "LONGEST_SIDE", 40)
    done = assembled(replace(plan, area=REGION), tmp_path)
    values, valid = arrays_of(done.cube)
    inside = geometry_mask([REGION], GRID.shape, GRID.transform, invert=True, all_touched=True)
    often = valid.sum(axis=0)
    found = done.summary
    assert found.histogram.tolist() == [int((often[inside] == count).sum()) for count in range(5)]
    assert found.clear.tolist() == [int(one[inside].sum()) for one in valid]
    assert (found.median, found.least) == (np.percentile(often[inside], 50, method="lower"), often[inside].min())
    assert (found.never, found.region) == ((often[inside] == 0).sum(), inside.sum())
    assert found.step == 4
    np.testing.assert_array_equal(found.counts, often[::4, ::4])
    shown = values[done.shown, 0, ::4, ::4]
    expected = np.where(shown == 0, np.nan, shown * done.cube.scale + done.cube.offset)
    np.testing.assert_allclose(found.picture[..., 0], expected, rtol=1e-6)


# --- Pieces that are lost


def spoil(path: Path, how: str) -> None:
    if how == "gone":
        path.unlink()
    elif how == "cut off":
        path.write_bytes(path.read_bytes()[:-40])
    else:
        body = bytearray(path.read_bytes())
        body[len(body) // 3] ^= 255
        path.write_bytes(body)


@pytest.mark.parametrize("how", ["gone", "cut off", "flipped"])
def test_a_damaged_piece_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plan: Plan, how: str) -> None:
    monkeypatch.setattr(fetch, "BLOCK", 64)
    store, fetched = pieces_of(plan, tmp_path)
    whole = sorted(path for path in store.folder.glob("*.piece") if "look" not in path.name)
    spoiled = whole[:: len(whole) // 3]
    for path in spoiled:
        spoil(path, how)
    reads = watched(monkeypatch)
    done = Assembly(plan, fetched, store, None, tmp_path).run(tmp_path / CUBE, silent)
    assert sorted(job.key for job in reads.pieces) == [path.stem for path in spoiled]
    assert_naive(done, plan)


def test_a_disk_that_keeps_nothing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plan: Plan) -> None:
    store, fetched = pieces_of(plan, tmp_path)
    monkeypatch.setattr(assemble, "read_piece", lambda job: read_piece(job)[:-40])
    spoil(next(path for path in sorted(store.folder.glob("*.piece")) if "look" not in path.name), "cut off")
    with pytest.raises(DiskError, match=r"expected what was just written to .*pieces, found other bytes") as caught:
        Assembly(plan, fetched, store, None, tmp_path).run(tmp_path / CUBE, silent)
    assert "\n" not in str(caught.value)


# --- Months


# The cube's two number types, each with the values that data may have.
NUMBERS = st.sampled_from([(np.uint16, st.integers(1, 65_535)), (np.int16, st.integers(-32_767, 32_767))])
SHAPES = st.tuples(st.integers(1, 6), st.integers(1, 3), st.integers(1, 6))
LAYERS = st.tuples(SHAPES, NUMBERS).flatmap(
    lambda drawn: st.tuples(
        arrays(drawn[1][0], drawn[0], elements=drawn[1][1]), arrays(bool, (drawn[0][0], drawn[0][2]))
    )
)


@given(LAYERS)
def test_a_month_is_the_median_of_what_is_clear_rounded_down(drawn: tuple[NDArray[Any], NDArray[np.bool_]]) -> None:
    values, valid = (array[..., None] for array in drawn)
    fill = 0 if values.dtype == np.uint16 else -32768
    found, seen = composed(list(zip(values, valid, strict=True)), fill)
    assert found.dtype == values.dtype
    np.testing.assert_array_equal(seen, valid.any(axis=0))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice")
        median = np.nanmedian(np.where(valid[:, None], values.astype(np.float64), np.nan), axis=0)
    np.testing.assert_array_equal(found, np.where(seen, np.floor(np.nan_to_num(median)), fill))


def test_months_are_those_of_the_calendar_in_utc(plan: Plan) -> None:
    assert [date.ids for date in dates_of(plan.acquisitions, "none")] == [group.ids for group in plan.acquisitions]
    august, september = dates_of(plan.acquisitions, "monthly")
    assert august.ids == "a-east a-west b c"
    assert august.time == datetime(2023, 8, 18, 2, tzinfo=UTC)  # the mean of the 15th, 18th and 20th at ten
    assert september.time == datetime(2023, 9, 1, 10, tzinfo=UTC)


@pytest.mark.usefixtures("small_blocks")
def test_a_download_of_months(tmp_path: Path, site: Site) -> None:
    catalog = catalog_of(site, tmp_path / "catalog")
    dates = run(site, catalog, tmp_path / "dates")
    months = run(site, catalog, tmp_path / "months", composite="monthly")
    values, valid = dates.arrays
    by_month = [[n for n, day in enumerate(PASSES) if day[:7] == month] for month in ("2023-06", "2023-07")]
    assert [ids.split() for ids in months.cube.items] == [
        [name for number in numbers for name in dates.cube.items[number].split()] for numbers in by_month
    ]
    for found, seen, numbers in zip(*months.arrays, by_month, strict=True):
        layers = [(values[number], valid[number]) for number in numbers]
        expected, clear = composed(layers, 0)
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(seen, clear)
    assert months.manifest.records["scenes"] == dates.manifest.records["scenes"]
    assert (months.manifest.figures["acquisitions"], months.manifest.figures["scenes"]) == (2, 7)


# --- Interruptions


def fails_after(blocks_written: int, monkeypatch: pytest.MonkeyPatch) -> None:
    write, written = Assembly._write_block, []

    def dying(self: Assembly, cube: Cube, block: Window) -> None:
        if len(written) == blocks_written:
            msg = "the disk is full"
            raise DiskError(msg)
        written.append(block)
        write(self, cube, block)

    monkeypatch.setattr(Assembly, "_write_block", dying)


@pytest.fixture
def whole(tmp_path: Path, site: Site, small_blocks: None) -> Done:
    assert small_blocks is None
    return run(site, catalog_of(site, tmp_path / "catalog"), tmp_path / "whole")


@pytest.mark.parametrize("written", [0, 1, 3])
def test_an_interrupted_assembly_goes_on(
    tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch, whole: Done, written: int
) -> None:
    catalog = tmp_path / "catalog" / "collection.json"
    with monkeypatch.context() as patched:
        fails_after(written, patched)
        with pytest.raises(DiskError):
            run(site, catalog, tmp_path / "w")
    grid = whole.cube.grid
    assert len(list((tmp_path / "w" / "imagery.partial" / "scratch" / "blocks").glob("*-*.json"))) == written
    assert len(blocks(grid)) == 4
    reads = watched(monkeypatch)
    made = run(site, catalog, tmp_path / "w")
    assert reads.pieces == reads.masks == []
    assert made.manifest.outputs == whole.manifest.outputs
    assert made.manifest.digest == whole.manifest.digest


def test_a_block_half_written_and_a_piece_cut_off(
    tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch, whole: Done
) -> None:
    """As a machine that lost its power leaves them."""
    catalog = tmp_path / "catalog" / "collection.json"
    with monkeypatch.context() as patched:
        fails_after(1, patched)
        with pytest.raises(DiskError):
            run(site, catalog, tmp_path / "w")
    partial = tmp_path / "w" / "imagery.partial"
    last = partial / CUBE / "reflectance" / "0.0.9.9"
    assert not last.exists()
    last.write_bytes(b"half a chunk")
    piece = next(path for path in (partial / "scratch" / "pieces").glob("*.piece") if "look" not in path.name)
    spoil(piece, "cut off")
    reads = watched(monkeypatch)
    made = run(site, catalog, tmp_path / "w")
    assert [job.key for job in reads.pieces] == [piece.stem]
    assert made.manifest.digest == whole.manifest.digest
