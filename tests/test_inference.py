from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.transform import Affine
from torch import nn
from torch.nn import functional as F

from eearth.data.series import Series
from eearth.errors import ModelError
from eearth.geo.grid import Grid, Window
from eearth.inference.classify import classify
from eearth.inference.tiles import predict_tile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from torch import Tensor

    from eearth.data.series import Chips

BANDS = ("blue", "green", "red")
CODES = (3, 4, 9, 200)
ONCE: dict[str, Any] = {"device": "cpu", "batch": 3}


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Small convolutions are slower on several threads, and much slower where other processes hold the cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def region(height: int, width: int, *, times: int = 4, seed: int = 0) -> Series:
    """Fields of about 12 pixels with noise, and clouds of 20."""
    rng = np.random.default_rng(seed)
    shape = (times, len(BANDS), height, width)
    fields = rng.normal(0, 1, (*shape[:2], height // 12 + 1, width // 12 + 1)).repeat(12, 2).repeat(12, 3)
    clear = rng.random((times, height // 20 + 1, width // 20 + 1)).repeat(20, 1).repeat(20, 2) > 0.4
    values = fields[..., :height, :width] + rng.normal(0, 0.5, shape)
    dates = np.array([f"2023-0{month}-15" for month in range(3, 3 + times)], "datetime64[ns]")
    return Series((values * 1000).astype(np.int16), clear[:, :height, :width], dates, BANDS, 1e-3)


class PixelNorm(nn.LayerNorm):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        return super().forward(input.movedim(1, -1)).movedim(-1, 1)


def _block(channels: int, hidden: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for given_channels in (channels, hidden):
        layers += [nn.Conv2d(given_channels, hidden, 3, padding=1), PixelNorm(hidden), nn.GELU()]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """Two levels, two convolutions each: a score depends on pixels up to 23 rows or columns away."""

    def __init__(self, hidden: int = 12) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.down = nn.ModuleList([_block(len(BANDS), hidden), _block(hidden, hidden), _block(hidden, hidden)])
        self.up = nn.ModuleList([_block(hidden, hidden), _block(hidden, hidden)])
        self.head = nn.Conv2d(hidden, len(CODES), 1)
        nn.init.normal_(self.head.weight)

    def forward(self, chips: Chips) -> Tensor:
        clear = chips.valid[:, :, None].float()
        mean = (chips.reflectance * clear).sum(1) / clear.sum(1).clamp(min=1)
        fine = self.down[0](mean)
        middle = self.down[1](F.avg_pool2d(fine, 2))
        coarse = self.down[2](F.avg_pool2d(middle, 2))
        middle = self.up[0](F.interpolate(coarse, scale_factor=2.0) + middle)
        scores: Tensor = self.head(self.up[1](F.interpolate(middle, scale_factor=2.0) + fine))
        return scores


class WindowMean(nn.Module):
    """Scores that are one number for the whole window: what the blend does with them shows at every pixel."""

    def forward(self, chips: Chips) -> Tensor:
        mean = (chips.reflectance.sum(dim=(1, 3, 4)) / chips.valid.sum(dim=(1, 2, 3))[:, None].clamp(min=1)) * 5
        return mean[:, :, None, None].expand(-1, -1, *chips.valid.shape[-2:])


class PixelMean(nn.Module):
    """The bands' mean of the clear observations as scores."""

    def forward(self, chips: Chips) -> Tensor:
        clear = chips.valid[:, :, None].float()
        return chips.reflectance.sum(1) / clear.sum(1).clamp(min=1)


def _naive_starts(length: int, size: int, margin: int) -> list[tuple[int, int]]:
    """(first, last + 1) of the windows, found by stepping."""
    end = length
    while end % 4:
        end += 1
    if end <= size:
        return [(0, end)]
    windows = [(0, size)]
    while windows[-1][1] < end:
        start = min(windows[-1][0] + size - 2 * margin, end - size)
        windows.append((start, start + size))
    return windows


def _naive_share(windows: list[tuple[int, int]], k: int, pixel: int, margin: int) -> float:
    """Share of window k at a pixel: it rises across the seam before it, and the next window takes it over."""

    def taken(seam: int) -> float:
        middle = (windows[seam - 1][1] + windows[seam][0]) / 2
        place = (pixel + 0.5 - middle) / max(margin / 4, 1) + 0.5
        return 0.0 if place <= 0 else 1.0 if place >= 1 else math.sin(math.pi / 2 * place) ** 2

    start, stop = windows[k]
    if not start <= pixel < stop:
        return 0.0
    return (taken(k) if k else 1.0) - (taken(k + 1) if k + 1 < len(windows) else 0.0)


def _naive_map(source: Series, size: int, margin: int) -> NDArray[np.float64]:
    """Blend the softmax of every window's mean reflectance, one pixel at a time."""
    height, width = source.shape
    down, across = _naive_starts(height, size, margin), _naive_starts(width, size, margin)
    means = {}
    for top, bottom in down:
        for left, right in across:
            clear = source.valid[:, top:bottom, left:right]
            values = source.reflectance[:, :, top:bottom, left:right].transpose(1, 0, 2, 3)[:, clear] * source.scale
            scores = np.exp(5 * values.sum(axis=1) / max(1, clear.sum()))
            means[top, left] = scores / scores.sum()
    result = np.zeros((len(BANDS), height, width))
    for y in range(height):
        for x in range(width):
            for i, (top, _) in enumerate(down):
                for j, (left, _) in enumerate(across):
                    share = _naive_share(down, i, y, margin) * _naive_share(across, j, x, margin)
                    result[:, y, x] += share * means[top, left]
    return result


@pytest.mark.parametrize(
    ("height", "width", "size", "margin"), [(50, 43, 24, 8), (37, 61, 16, 4), (30, 30, 16, 0), (9, 70, 32, 8)]
)
def test_blend_is_that_of_a_loop_over_pixels(height: int, width: int, size: int, margin: int) -> None:
    source = region(height, width)
    found, _ = predict_tile(WindowMean(), source, Window(0, 0, height, width), size=size, margin=margin, **ONCE)
    expected = _naive_map(source, size, margin)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    assert np.ptp(expected) > 0.1


@pytest.mark.parametrize(("height", "width"), [(203, 270), (131, 97)])
def test_many_windows_give_the_map_of_one(height: int, width: int) -> None:
    source, model, whole = region(height, width), UNet(), Window(0, 0, height, width)
    one, _ = predict_tile(model, source, whole, size=300, margin=0, device="cpu", batch=1)
    many, _ = predict_tile(model, source, whole, size=128, margin=32, device="cpu", batch=3)
    assert (one.argmax(axis=0) != many.argmax(axis=0)).mean() <= 0.001
    np.testing.assert_allclose(one, many, atol=1e-5)
    assert len(np.unique(one.argmax(axis=0))) > 2
    few, _ = predict_tile(model, source, whole, size=64, margin=4, device="cpu", batch=4)
    assert (one.argmax(axis=0) != few.argmax(axis=0)).mean() > 0.001  # the test sees it when the overlap is too small


@pytest.mark.parametrize("batch", [1, 5])
def test_tiles_do_not_show_in_the_map(batch: int) -> None:
    source, model, grid = region(101, 130), UNet(8), Grid(CRS.from_epsg(32633), Affine(10, 0, 0, 0, -10, 0), 101, 130)
    whole, counts = predict_tile(model, source, grid.window, size=72, margin=28, device="cpu", batch=2)
    apart = 0.0
    for tile in grid.windows(37):
        part, seen = predict_tile(model, source, tile, size=72, margin=28, device="cpu", batch=batch)
        np.testing.assert_allclose(part, whole[:, *tile.slices], atol=1e-5)
        np.testing.assert_array_equal(seen, counts[tile.slices])
        short, _ = predict_tile(model, source, tile, size=72, margin=8, device="cpu", batch=batch)
        apart = max(apart, float(np.abs(short - whole[:, *tile.slices]).max()))
    assert apart > 1e-2  # the test sees it when the margin is too small


@settings(max_examples=6, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30))
def test_where_a_region_is_cut_changes_nothing_beyond_the_margin(row: int, col: int) -> None:
    """The cut of a region begins at any pixel; its windows begin where those of the whole do."""
    source, model, margin = region(110, 120), UNet(8), 28
    sliding: dict[str, Any] = {"size": 72, "margin": margin, "device": "cpu", "batch": 2}
    whole, _ = predict_tile(model, source, Window(0, 0, 110, 120), **sliding)
    cut = Series(source.reflectance[:, :, row:, col:], source.valid[:, row:, col:], source.times, BANDS, source.scale)
    part, _ = predict_tile(model, cut, Window(0, 0, *cut.shape), phase=(row, col), **sliding)
    np.testing.assert_allclose(part[:, margin:, margin:], whole[:, row + margin :, col + margin :], atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([(8, 0), (16, 4), (64, 16)]), st.integers(1, 4))
def test_regions_of_any_size_are_covered(height: int, width: int, window: tuple[int, int], batch: int) -> None:
    source = region(height, width)
    found, counts = predict_tile(
        PixelMean(), source, Window(0, 0, height, width), size=window[0], margin=window[1], device="cpu", batch=batch
    )
    masked = np.where(source.valid[:, None], source.reflectance * source.scale, 0).sum(axis=0)
    scores = np.exp(masked / np.maximum(source.valid.sum(axis=0), 1))
    np.testing.assert_allclose(found, scores / scores.sum(axis=0), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(counts, source.valid.sum(axis=0))


def test_bands_and_dates_are_chosen() -> None:
    source, tile = region(20, 20), Window(0, 0, 20, 20)
    part = Series(
        source.reflectance[[0, 2]][:, [2, 0]], source.valid[[0, 2]], source.times[[0, 2]], ("red", "blue"), 1e-3
    )
    settings_: dict[str, Any] = {"size": 16, "margin": 4, "device": "cpu", "batch": 2}
    found = predict_tile(PixelMean(), source, tile, bands=("red", "blue"), dates=np.array([0, 2]), **settings_)
    expected = predict_tile(PixelMean(), part, tile, **settings_)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


def test_classify_tells_outside_and_never_observed_apart() -> None:
    probabilities = np.array([[[0.2, 0.2, 0.2, 0.001]], [[0.8, 0.8, 0.8, 0.0]], [[0.0, 0.0, 0.0, 0.0005]]], np.float32)
    observations, inside = np.array([[7, 0, 7, 999]], np.int32), np.array([[True, True, False, True]])
    found = classify(probabilities, observations, inside, (4, 9, 200))
    assert found.landcover.tolist() == [[9, 0, 0, 4]]
    assert found.confidence.tolist() == [[80, 0, 255, 1]]
    assert found.observations.tolist() == [[7, 0, 255, 254]]
    assert {found.landcover.dtype, found.confidence.dtype, found.observations.dtype} == {np.dtype(np.uint8)}


def test_models_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ModelError, match="model of 2 classes, found 3"):
        classify(np.zeros((3, 1, 1), np.float32), np.ones((1, 1), np.int32), np.ones((1, 1), bool), (1, 2))

    class Damaged(PixelMean):
        def forward(self, chips: Chips) -> Tensor:
            return super().forward(chips) * float("nan")

    with pytest.raises(ModelError, match="finite class scores"):
        predict_tile(Damaged(), region(8, 8), Window(0, 0, 8, 8), size=8, margin=0, device="cpu", batch=1)


def test_dropout_is_off() -> None:
    source, tile = region(16, 16), Window(0, 0, 16, 16)

    class Dropping(PixelMean):
        def forward(self, chips: Chips) -> Tensor:
            return F.dropout(super().forward(chips), 0.5, training=self.training)

    found = [
        predict_tile(m, source, tile, size=16, margin=0, device="cpu", batch=1)[0] for m in (Dropping(), PixelMean())
    ]
    np.testing.assert_array_equal(*found)
