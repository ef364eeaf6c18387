"""Zoomed out, a map shows classes that are there, never a number between two codes."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
import rasterio
from rio_cogeo import cog_validate
from test_products import CLASSES, fields_of, grid_of

from eearth.geo.products.landcover.writer import LandCoverWriter

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A map of 1301 × 1100 pixels with noise in its fields, and the probabilities of its classes."""
    folder = tmp_path_factory.mktemp("map")
    (folder / "scratch").mkdir()
    grid, whole = grid_of(1301, 1100), fields_of(1301, 1100)
    rng = np.random.default_rng(1)
    noise = rng.random(grid.shape) < 0.3
    whole.landcover[noise & (whole.landcover > 0)] = 4
    shares = np.stack([np.where(whole.confidence > 100, 255, part) for part in rng.integers(0, 251, (3, *grid.shape))])
    with_shares = type(whole)(**{**vars(whole), "probabilities": shares.astype(np.uint8)})
    out = LandCoverWriter(folder, folder / "scratch", grid, CLASSES, {}, probabilities=True)
    out.write(0, grid.window, with_shares)
    out.finish()
    return folder


def levels(path: Path, band: int) -> list[NDArray[np.uint8]]:
    """All overviews of a band, the finest first, behind the band itself."""
    with rasterio.open(path) as file:
        found, count = [file.read(band)], len(file.overviews(band))
    for level in range(count):
        with rasterio.open(path, overview_level=level) as file:
            found.append(file.read(band))
    return found


def fours(values: NDArray[np.uint8], nodata: int) -> NDArray[np.uint8]:
    """(y, x, 4): the pixels under each pixel of the next overview."""
    even = np.pad(values, [(0, side % 2) for side in values.shape], constant_values=nodata)
    rows, cols = (side // 2 for side in even.shape)
    return even.reshape(rows, 2, cols, 2).swapaxes(1, 2).reshape(rows, cols, 4)


def test_every_file_is_a_valid_cog(folder: Path) -> None:
    for name in ("landcover.tif", "confidence.tif", "probabilities.tif"):
        assert cog_validate(folder / name, strict=True) == (True, [], [])


@pytest.mark.parametrize(("name", "band", "nodata"), [("landcover.tif", 1, 0), ("confidence.tif", 4, 255)])
def test_codes_are_summed_up_by_the_most_frequent_one(folder: Path, name: str, band: int, nodata: int) -> None:
    shown = levels(folder / name, band)
    assert len(shown) > 2
    for fine, coarse in pairwise(shown):
        under = fours(fine, nodata)
        frequency = (under[..., np.newaxis] == under[..., np.newaxis, :]).sum(axis=-1) * (under != nodata)
        best = frequency.max(axis=-1)
        chosen = ((under == coarse[..., np.newaxis]) * frequency).max(axis=-1)
        np.testing.assert_array_equal(chosen, best)
        np.testing.assert_array_equal(coarse == nodata, best == 0)


@pytest.mark.parametrize(("name", "band"), [("confidence.tif", 1), ("confidence.tif", 3), ("probabilities.tif", 2)])
def test_percentages_are_summed_up_by_their_mean(folder: Path, name: str, band: int) -> None:
    shown = levels(folder / name, band)
    for fine, coarse in pairwise(shown):
        under = np.ma.masked_equal(fours(fine, 255), 255).astype(np.float64)
        mean = under.mean(axis=-1)
        np.testing.assert_array_equal(coarse == 255, mean.mask)
        assert np.abs(coarse - mean).max() <= 0.5


def test_a_viewer_that_asks_for_a_small_picture_gets_the_codes(folder: Path) -> None:
    with rasterio.open(folder / "landcover.tif") as file:
        assert set(np.unique(file.read(1, out_shape=(163, 138)))) <= {0, 1, 4, 200}
