from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from eearth.comparison.features import encoded
from eearth.data import medians as module
from eearth.data.medians import medians_of_all, monthly_medians
from eearth.data.series import Series
from eearth.errors import ModelError
from eearth.geo.grid import Window
from eearth.settings import PretrainSettings
from eearth.training.pretrain import new_encoder


def series(seed: int = 0, height: int = 19, width: int = 23) -> Series:
    """Fourteen dates over sixteen months, one month twice, and a pixel that is never seen."""
    random = np.random.default_rng(seed)
    values = random.integers(1, 5000, (14, 3, height, width)).astype(np.int16)
    valid = random.random((14, height, width)) < 0.4
    valid[:, 2, 3] = False
    months = np.array([0, 1, 1, 3, 4, 5, 6, 8, 9, 10, 11, 12, 14, 15])
    times = (np.datetime64("2020-01", "M") + months).astype("datetime64[D]") + np.arange(14)
    return Series(values, valid, times.astype("datetime64[ns]"), ("blue", "red", "nir"), 1e-4, -0.1)


def test_monthly_medians_are_those_of_a_naive_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MEDIAN_TILE", 8)
    one = series()
    wanted = np.random.default_rng(1).random(one.shape) < 0.5
    wanted[2, 3] = True
    month = np.array([int(str(time)[5:7]) for time in one.times])
    rows = []
    for row, col in np.argwhere(wanted):
        seen = one.valid[:, row, col]
        pixel = one.reflectance[:, :, row, col] * 1e-4 - 0.1
        whole = np.median(pixel[seen], axis=0) if seen.any() else np.zeros(3)
        months = [seen & (month == each) for each in sorted(set(month))]
        rows.append(np.concatenate([np.median(pixel[part], axis=0) if part.any() else whole for part in months]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = monthly_medians(one, wanted)
    np.testing.assert_allclose(found, np.array(rows), atol=1e-6)


def test_medians_of_several_regions_have_the_same_columns() -> None:
    """A month that one region lacks holds its pixels' medians of the year; bands are those of the first region."""
    one, other = series(0), series(1, 11, 9)
    summer = (one.times.astype("datetime64[M]").astype(int) % 12) > 5
    turned = Series(other.reflectance[:, ::-1], other.valid, other.times, other.bands[::-1], 1e-4, -0.1)
    late = Series(one.reflectance[summer], one.valid[summer], one.times[summer], one.bands, 1e-4, -0.1)
    wanted = [np.random.default_rng(seed).random(region.shape) < 0.5 for seed, region in ((0, late), (1, turned))]
    found = medians_of_all([late, turned], wanted)
    months = np.unique(other.times.astype("datetime64[M]").astype(int) % 12)
    assert found.shape == (sum(place.sum() for place in wanted), 3 * len(months))
    first, second = np.split(found, [wanted[0].sum()])
    np.testing.assert_array_equal(second, monthly_medians(other, wanted[1]))
    there = np.repeat(np.isin(months, np.unique(late.times.astype("datetime64[M]").astype(int) % 12)), 3)
    np.testing.assert_array_equal(first[:, there], monthly_medians(late, wanted[0]))
    pixels = np.where(late.valid[:, None], late.reflectance * 1e-4 - 0.1, np.nan)[:, :, wanted[0]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of a pixel that was never seen
        whole = np.nan_to_num(np.nanmedian(pixels, axis=0)).T
    np.testing.assert_allclose(first[:, ~there], np.tile(whole, (~there).sum() // 3), atol=1e-6)


def test_frozen_features_are_those_of_the_whole_image() -> None:
    one = series(0, 90, 130)
    encoder = new_encoder([one], PretrainSettings(features=8)).eval()
    with torch.no_grad():
        whole = encoder(one.chips([Window(0, 0, *one.shape)]))[0].numpy()
    wanted = np.zeros(one.shape, bool)
    wanted[2, 3] = wanted[40:50, 60:63] = wanted[89, 129] = wanted[80, 5] = True
    encoded_pixels: list[int] = []
    encoder.register_forward_hook(lambda _module, given, _found: encoded_pixels.append(given[0].valid[0, 0].numel()))
    found = encoded(one, encoder, wanted, "cpu")
    seen = one.valid.any(axis=0)[wanted]
    assert 0 < seen.sum() < len(seen)
    np.testing.assert_allclose(found[seen], whole[:, wanted].T[seen], atol=1e-5)
    assert not found[~seen].any()
    assert len(encoded_pixels) > 1
    assert sum(encoded_pixels) < wanted.size / 2


def test_features_that_are_no_numbers_are_refused() -> None:
    one = series()
    encoder = new_encoder([one], PretrainSettings(features=8))
    with torch.no_grad():
        next(encoder.parameters()).fill_(torch.nan)
    with pytest.raises(ModelError, match="the encoder is damaged"):
        encoded(one, encoder, np.ones(one.shape, bool), "cpu")
