from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.image import imread
from scenery import utm_grid

from eearth.geo.grid import Grid
from eearth.geo.products.features.moments import Moments
from eearth.geo.products.features.pca import _colour_axes, draw_pca
from eearth.geo.products.features.quantisation import FARTHEST, LARGEST, NODATA, Int8, MeasuredInt8
from eearth.geo.products.features.writer import FeatureWriter, feature_names

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def random_features(count: int, height: int, width: int, seed: int = 0) -> NDArray[np.float32]:
    """Correlated features around large means; a corner without features."""
    random = np.random.default_rng(seed)
    mixed = np.einsum("ij,jyx->iyx", random.normal(size=(count, count)), random.normal(size=(count, height, width)))
    features = (mixed + 100 * random.normal(size=(count, 1, 1))).astype(np.float32)
    features[:, : height // 3, : width // 4] = np.nan
    return features


def decoded(numbers: NDArray[np.int8], scale: Any, offset: Any) -> NDArray[np.float64]:
    """As every reader of a scaled file does it."""
    values = numbers * np.asarray(scale)[:, None, None] + np.asarray(offset)[:, None, None]
    return np.where(numbers == NODATA, np.nan, values)


def writer(folder: Path, grid: Grid, count: int) -> FeatureWriter:
    (folder / "scratch").mkdir(parents=True, exist_ok=True)
    return FeatureWriter(folder, folder / "scratch", grid, count, {"MODEL": "ab12"})


def written(folder: Path, features: NDArray[np.float32], tile: int = 300) -> FeatureWriter:
    grid = utm_grid(*features.shape[1:])
    out = writer(folder, grid, len(features))
    for index, window in enumerate(grid.windows(tile)):
        out.write(index, window, features[:, *window.slices])
    return out


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=6), st.integers(1, 4), st.floats(0, 1e4))
def test_moments_of_parts_are_those_of_the_whole(sizes: list[int], count: int, mean: float) -> None:
    random = np.random.default_rng(len(sizes))
    parts = [(random.normal(size=(count, 1, size)) + mean).astype(np.float32) for size in sizes]
    for part in parts:
        part[:, :, :2] = np.nan
    found = Moments.of(parts, count)
    pixels = np.concatenate([part[:, 0, 2:] for part in parts], axis=1).astype(np.float64)
    assert found.count == pixels.shape[1]
    if found.count:
        np.testing.assert_allclose(found.mean, pixels.mean(axis=1))
        np.testing.assert_allclose(found.sd, pixels.std(axis=1), rtol=1e-9, atol=1e-9)
        covariance = np.atleast_2d(np.cov(pixels, bias=True))
        np.testing.assert_allclose(found.scatter / found.count, covariance, rtol=1e-9, atol=1e-9)
        np.testing.assert_array_equal((found.low, found.high), (pixels.min(axis=1), pixels.max(axis=1)))


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 200), st.floats(1e-6, 1e6), st.floats(-1e3, 1e3))
def test_integers_are_within_half_a_step(pixels: int, spread: float, mean: float) -> None:
    values = np.random.default_rng(pixels).uniform(-spread, spread, (3, 1, pixels)).astype(np.float32)
    values += np.float32(mean)
    values[2] = np.float32(mean)  # a feature that is the same everywhere
    code = Int8.fitting(Moments.of([values], 3))
    numbers = code.encode(values)
    assert numbers.dtype == np.int8
    assert numbers.min() >= -LARGEST
    assert (code.scale > 0).all()
    assert (
        np.abs(decoded(numbers, code.scale, code.offset) - values) <= code.scale[:, None, None] * 0.501 + 1e-9
    ).all()
    varies = np.ptp(values, axis=(1, 2)) > 0
    np.testing.assert_array_equal(np.abs(numbers).max(axis=(1, 2)), np.where(varies, LARGEST, 0))


def test_what_lies_too_far_out_is_clipped_and_counted() -> None:
    values = np.random.default_rng(0).normal(5, 1, (2, 50, 50)).astype(np.float32)
    values[0, :2, :3] = 400
    values[0, 3, 3] = -400
    values[:, 10] = np.nan
    moments = Moments.of([values], 2)
    coder = MeasuredInt8(moments)
    numbers = coder.encode(values[:, :20])
    numbers = np.concatenate([numbers, coder.encode(values[:, 20:])], axis=1)
    assert (numbers[:, 10] == NODATA).all()
    assert numbers[0, 0, 0] == LARGEST
    assert numbers[0, 3, 3] == -LARGEST
    assert coder.clipped.tolist() == [7, 0]
    error = np.abs(decoded(numbers, coder.code.scale, coder.code.offset) - values)
    sd = np.nanstd(values.astype(np.float64), axis=(1, 2))
    np.testing.assert_allclose(coder.largest, np.nanmax(error, axis=(1, 2)) / sd)
    np.testing.assert_allclose(coder.rms, np.sqrt(np.nanmean(error**2, axis=(1, 2))) / sd)
    np.testing.assert_allclose(coder.code.scale[0], FARTHEST * sd[0] / LARGEST)
    assert coder.figures()["int8 values clipped"].startswith("7 (")


def test_names_have_as_many_digits_as_the_last_one() -> None:
    assert feature_names(3) == ("f00", "f01", "f02")
    assert feature_names(101)[::100] == ("f000", "f100")


@pytest.mark.parametrize("integers", [False, True], ids=["float32", "int8"])
@pytest.mark.parametrize("tile", [128, 100])
def test_files_do_not_depend_on_the_tiles(tmp_path: Path, tile: int, *, integers: bool) -> None:
    features = random_features(3, 290, 200)
    found = []
    for name, side in (("one", 300), ("two", tile)):
        out = written(tmp_path / name, features, side)
        coder = MeasuredInt8(out.moments()) if integers else None
        found.append(out.finish("cog", coder).read_bytes())
    assert found[0] == found[1]
    with rasterio.open(tmp_path / "one" / "features.tif") as file:
        stored = file.read()
        if integers:
            stored = decoded(stored, file.scales, file.offsets)
        np.testing.assert_allclose(stored, features, atol=0.5 * max(file.scales) + 1e-5 if integers else 0)
        assert np.isfinite(features[0]).sum() == out.moments().count


def test_a_store_of_degrees_is_read_by_xarray(tmp_path: Path) -> None:
    features = random_features(2, 90, 700)
    grid = Grid(rasterio.crs.CRS.from_epsg(4326), rasterio.Affine(1e-4, 0, 14.5, 0, -1e-4, 46.0), 90, 700)
    out = writer(tmp_path, grid, 2)
    out.write(0, grid.window, features)
    with xr.open_zarr(out.finish("zarr", None)) as data:
        assert data.y.attrs["standard_name"] == "latitude"
        np.testing.assert_allclose(data.x, grid.x(), rtol=1e-15)
        np.testing.assert_array_equal(data.f01, features[1])
        assert data.attrs["MODEL"] == "ab12"


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_directions_are_those_of_the_largest_spread(count: int) -> None:
    features = random_features(count, 30, 30)
    axes = _colour_axes(Moments.of([features], count))
    pixels = features[:, np.isfinite(features[0])].astype(np.float64)
    _, values, expected = np.linalg.svd((pixels - pixels.mean(axis=1, keepdims=True)).T, full_matrices=False)
    assert (np.diff(values) < 0).all()
    for number in range(3):
        cosine = axes[:, number] @ expected[min(number, count - 1)]
        assert abs(cosine) == pytest.approx(1)
        assert axes[np.abs(axes[:, number]).argmax(), number] > 0


def test_a_large_region_is_drawn_by_the_means_of_its_cells(tmp_path: Path) -> None:
    features = random_features(3, 101, 3100)
    out = written(tmp_path, features, 512)
    draw_pca(tmp_path / "pca.png", out, out.moments())
    picture = imread(tmp_path / "pca.png")
    assert picture.shape == (34, 1034, 4)  # every third pixel
    moments = out.moments()
    scores = np.einsum("iyx,ij->jyx", features - moments.mean[:, None, None], _colour_axes(moments))
    cells = np.full((3, 34, 1034), np.nan)
    for row in range(34):
        for col in range(1034):
            cell = scores[:, 3 * row : 3 * row + 3, 3 * col : 3 * col + 3]
            if np.isfinite(cell).any():
                cells[:, row, col] = np.nanmean(cell, axis=(1, 2))
    there = np.isfinite(cells[0])
    np.testing.assert_array_equal(picture[..., 3], there)
    low, high = (np.percentile(cells[:, there], share, axis=1)[:, None] for share in (2, 98))
    np.testing.assert_allclose(
        picture[there][:, :3].T, np.clip((cells[:, there] - low) / (high - low), 0, 1), atol=0.01
    )


def peak(folder: Path, height: int) -> int:
    """Most bytes held at once while 512 columns are written and coded; the picture has a bounded size of its own."""
    grid = utm_grid(height, 512)
    out = writer(folder, grid, 2)
    tile = random_features(2, 512, 512)
    tracemalloc.start()
    for index, window in enumerate(grid.windows(512)):
        out.write(index, window, tile[:, : window.height])
    moments = out.moments()
    out.finish("cog", MeasuredInt8(moments))
    out.finish("zarr", MeasuredInt8(moments))
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found


def test_memory_does_not_grow_with_the_region(tmp_path: Path) -> None:
    small, large = peak(tmp_path / "small", 1024), peak(tmp_path / "large", 2560)
    assert large < 1.1 * small
