"""What a product's files are made with: overviews, and the journal of finished tiles."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.transform import Affine

from eearth.geo.grid import Grid
from eearth.geo.products.rasters.journal import Journal
from eearth.geo.products.rasters.overviews import coarser, finer, halved

SIDES = st.integers(1, 7)


@settings(max_examples=100, deadline=None)
@given(SIDES, SIDES, st.integers(0, 10_000), st.sampled_from([0, 255]))
def test_the_most_frequent_number_is_shown(height: int, width: int, seed: int, nodata: int) -> None:
    values = np.random.default_rng(seed).choice([0, 1, 7, 255], (height, width)).astype(np.uint8)
    found = halved(values, "mode", nodata)
    assert found.dtype == np.uint8
    for y in range(-(-height // 2)):
        for x in range(-(-width // 2)):
            there = [v for v in values[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].ravel().tolist() if v != nodata]
            assert found[y, x] == (Counter(there).most_common(1)[0][0] if there else nodata)  # of ties the first seen


@pytest.mark.parametrize(("dtype", "nodata"), [("uint8", 255), ("uint8", 0), ("int8", -128), ("float32", np.nan)])
@pytest.mark.parametrize("shape", [(8, 6), (5, 7), (1, 1)])
def test_the_mean_is_that_of_what_is_there(dtype: str, nodata: float, shape: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    limits = (-1000, 1000) if dtype == "float32" else (np.iinfo(dtype).min, np.iinfo(dtype).max + 1)
    values = random.integers(*limits, shape).astype(dtype)
    values[random.random(shape) < 0.4] = nodata
    found = halved(values, "mean", nodata)
    assert found.dtype == dtype
    there = np.where(values == np.array(nodata, dtype), np.nan, values.astype(float))
    for y in range(found.shape[0]):
        for x in range(found.shape[1]):
            cell = there[2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
            cell = cell[~np.isnan(cell)]
            expected = np.array(nodata, float) if not cell.size else cell.mean()
            if cell.size and dtype != "float32":
                expected = np.rint(expected)
            np.testing.assert_allclose(found[y, x], expected, rtol=1e-6)


def test_levels_cover_the_grid() -> None:
    grid = Grid(CRS.from_epsg(32633), Affine(10, 0, 500_000, 0, -10, 5_000_000), 21, 8)
    half = coarser(grid)
    assert half.shape == (11, 4)
    assert half.transform == Affine(20, 0, 500_000, 0, -20, 5_000_000)
    seen = np.zeros(grid.shape, int)
    for window in half.windows(3):
        seen[finer(window, grid.shape).slices] += 1
    assert (seen == 1).all()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 10**6), unique=True, max_size=12), st.integers(0, 200))
def test_a_journal_cut_anywhere_knows_whole_lines_only(tiles: list[int], cut: int) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "journal.txt"
        journal = Journal(path, "a1b2")
        assert not journal.begun
        journal.begin()
        for tile in tiles:
            journal.add(tile)
        text = path.read_bytes()
        assert text.count(b"\n") == 1 + len(tiles)
        path.write_bytes(text[:cut])
        again = Journal(path, "a1b2")
        whole = [int(line) for line in text[:cut].split(b"\n")[1:-1]]
        assert again.begun == (cut > 4)
        assert all((tile in again) == (tile in whole) for tile in tiles)
        if again.begun:
            again.add(10**7)
            after = Journal(path, "a1b2")
            assert all(tile in after for tile in [*whole, 10**7])


def test_a_journal_of_another_product_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "journal.txt"
    first = Journal(path, "a1b2")
    first.begin()
    first.add(3)
    other = Journal(path, "c3d4")
    assert not other.begun
    assert 3 not in other
    other.remove()
    assert not path.exists()
