from __future__ import annotations

from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from scenery import utm_grid

from eearth.geo import quicklook
from eearth.geo.cube import CUBE, Cube
from eearth.geo.grid import Grid, Window
from eearth.geo.providers import Encoding
from eearth.geo.quicklook import Summary, draw_quicklook

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

TIMES = [datetime.fromisoformat(f"2023-0{month}-15T10:20:30+00:00") for month in (3, 6, 8)]
UNSIGNED = Encoding("uint16", 1e-4, -0.1, 0)


def empty_cube(path: Path, grid: Grid, bands: list[str]) -> Cube:
    return Cube.create(path, grid=grid, bands=bands, times=TIMES, items=["a", "b", "c"], encoding=UNSIGNED)


def stack(grid: Grid, bands: int) -> tuple[NDArray[np.uint16], NDArray[np.bool_]]:
    """(values (time, band, y, x), valid (time, y, x)): the second date is the clearest."""
    random = np.random.default_rng(1)
    values = random.integers(0, 9999, (3, bands, *grid.shape)).astype(np.uint16)
    return values, random.random((3, *grid.shape)) < np.array([0.2, 0.9, 0.4])[:, None, None]


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")  # a picture is no map
@pytest.mark.parametrize("bands", [["nir", "blue", "green", "red"], ["nir"]])
def test_the_picture_shows_the_date_in_colour_or_grey(tmp_path: Path, bands: list[str]) -> None:
    grid = utm_grid(900, 130)
    cube = empty_cube(tmp_path / CUBE, grid, bands)
    values, valid = stack(grid, len(bands))
    inside = np.ones(grid.shape, dtype=bool)
    summary = Summary.of(cube, grid.window, values[1], valid, inside)
    assert summary.step == 2
    shown = values[1][[bands.index(name) for name in ("red", "green", "blue")] if len(bands) > 1 else [0]][:, ::2, ::2]
    expected = np.where(shown == 0, np.nan, shown * 1e-4 - 0.1)
    np.testing.assert_allclose(summary.picture, np.moveaxis(expected, 0, -1), rtol=1e-5, atol=1e-6)
    for name in ("one.png", "two.png"):
        draw_quicklook(tmp_path / name, cube, summary, 1)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    with rasterio.open(tmp_path / "one.png") as picture:
        assert picture.count == 4
        assert np.unique(picture.read(1)).size > 50


def test_a_cube_without_a_pixel_is_drawn_too(tmp_path: Path) -> None:
    grid = utm_grid(20, 20)
    cube = empty_cube(tmp_path / CUBE, grid, ["nir"])
    nothing = np.zeros((3, *grid.shape), dtype=bool)
    for name, inside in (("in.png", ~nothing[0]), ("out.png", nothing[0])):
        summary = Summary.of(cube, grid.window, np.zeros((1, *grid.shape), np.uint16), nothing, inside)
        assert (summary.median, summary.least, summary.never) == (0, 0, inside.sum())
        draw_quicklook(tmp_path / name, cube, summary, 0)
        assert (tmp_path / name).stat().st_size > 1000


@pytest.fixture(scope="module")
def tall(tmp_path_factory: pytest.TempPathFactory) -> Cube:
    return empty_cube(tmp_path_factory.mktemp("tall") / CUBE, utm_grid(90, 70), ["nir"])


@given(st.sets(st.integers(1, 89)), st.sets(st.integers(1, 69)), st.integers(1, 100), st.data())
def test_a_summary_of_parts_is_that_of_the_whole(
    tall: Cube, rows: set[int], cols: set[int], longest: int, data: st.DataObject
) -> None:
    grid = tall.grid
    values, valid = stack(grid, 1)
    inside = np.random.default_rng(data.draw(st.integers(0, 9))).random(grid.shape) < 0.6
    windows = [
        Window(top, left, bottom - top, right - left)
        for top, bottom in _spans(rows, grid.height)
        for left, right in _spans(cols, grid.width)
    ]

    def of(window: Window) -> Summary:
        part: Any = window.slices
        return Summary.of(tall, window, values[1][:, *part], valid[:, *part], inside[part])

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(quicklook, "LONGEST_SIDE", longest)
        joined, whole = Summary.joined(grid.window, [of(window) for window in windows]), of(grid.window)
    assert joined.step == whole.step == -(-90 // longest)
    for name in ("histogram", "clear", "counts", "picture"):
        np.testing.assert_array_equal(getattr(joined, name), getattr(whole, name))
    often = np.sort(valid.sum(axis=0)[inside])
    assert (whole.least, whole.region) == (often[0], inside.sum())
    assert whole.median == often[(len(often) - 1) // 2]


def _spans(cuts: set[int], length: int) -> list[tuple[int, int]]:
    edges = [0, *sorted(cuts)[:4], length]
    return list(pairwise(edges))


def test_a_summary_comes_back_from_the_disk(tmp_path: Path, tall: Cube) -> None:
    values, valid = stack(tall.grid, 1)
    window = Window(10, 20, 30, 40)
    part: Any = window.slices
    summary = Summary.of(tall, window, values[0][:, *part], valid[:, *part], valid[0][part])
    summary.write(tmp_path / "summary.npz")
    back = Summary.read(tmp_path / "summary.npz")
    assert (back.window, back.step) == (summary.window, summary.step)
    for name in ("histogram", "clear", "counts", "picture"):
        np.testing.assert_array_equal(getattr(back, name), getattr(summary, name))
        assert getattr(back, name).dtype == getattr(summary, name).dtype
