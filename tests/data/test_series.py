from __future__ import annotations

import datetime as dt

import numpy as np
import pytest
import torch
import zarr
from hypothesis import given
from hypothesis import strategies as st

from eearth.data.series import SAMPLE_DATES, SAMPLES, Series, band_statistics, join, samples
from eearth.errors import ModelError
from eearth.geo.grid import Window


def make(times: int = 5, bands: int = 3, height: int = 20, width: int = 30, seed: int = 0) -> Series:
    random = np.random.default_rng(seed)
    values = random.integers(1, 4000, (times, bands, height, width)).astype(np.uint16)
    valid = random.random((times, height, width)) < 0.7
    dates = np.datetime64("2021-01-05", "ns") + np.arange(times) * np.timedelta64(40, "D")
    return Series(values, valid, dates, tuple(f"b{i}" for i in range(bands)), 1e-4, -0.1)


@given(st.dates(dt.date(1980, 1, 1), dt.date(2035, 12, 31)))
def test_day_of_year_is_the_calendars(date: dt.date) -> None:
    series = Series(np.zeros((1, 1, 1, 1)), np.ones((1, 1, 1), bool), np.array([date], "datetime64[ns]"), ("a",))
    assert series.days.tolist() == [date.timetuple().tm_yday]


def test_chips_are_the_windows_in_physical_units() -> None:
    series = make()
    window = Window(4, 7, 6, 8)
    chips = series.chips([window, Window(0, 0, 6, 8)], [np.array([1, 3]), np.array([0, 2, 4])], ("b2", "b0"))
    assert chips.reflectance.shape == (2, 3, 2, 6, 8)
    raw = series.reflectance[[1, 3]][:, [2, 0], 4:10, 7:15] * 1e-4 - 0.1
    mask = series.valid[[1, 3], 4:10, 7:15]
    np.testing.assert_allclose(chips.reflectance[0, :2], np.where(mask[:, None], raw, 0), atol=1e-6)
    np.testing.assert_array_equal(chips.valid[0, :2], mask)
    assert not chips.valid[0, 2].any()
    assert chips.day[0, :2].tolist() == series.days[[1, 3]].tolist()


def test_zarr_and_numpy_give_the_same_chips() -> None:
    series = make()
    stored = Series(
        zarr.array(series.reflectance),
        zarr.array(series.valid),
        series.times,
        series.bands,
        series.scale,
        series.offset,
    )
    window = Window(3, 5, 9, 11)
    for one, other in zip(series.chips([window]), stored.chips([window]), strict=True):
        assert torch.equal(one, other)
    held = stored.in_memory()
    assert isinstance(held.reflectance, np.ndarray)
    np.testing.assert_array_equal(held.reflectance, series.reflectance)
    assert stored.in_memory(limit=10) is stored


def test_join_fills_up_with_dates_on_which_nothing_is_valid() -> None:
    short, long = make(times=2), make(times=6, seed=1)
    window = Window(0, 0, 4, 4)
    chips = join([short.chips([window]), long.chips([window])])
    assert chips.valid.shape == (2, 6, 4, 4)
    assert not chips.valid[0, 2:].any()
    assert torch.equal(chips.reflectance[1], long.chips([window]).reflectance[0])


def test_a_missing_band_is_named() -> None:
    with pytest.raises(ModelError, match="download b9 too"):
        make().chips([Window(0, 0, 2, 2)], bands=("b0", "b9"))


def test_band_statistics_are_those_of_the_clear_pixels() -> None:
    series = make(times=8, height=32, width=32)
    mean, std = band_statistics([series], series.bands)
    clear = (series.reflectance * 1e-4 - 0.1).transpose(0, 2, 3, 1)[series.valid]
    np.testing.assert_allclose(mean, clear.mean(0), rtol=0.05)
    np.testing.assert_allclose(std, clear.std(0), rtol=0.05)


def test_a_few_missed_clouds_do_not_widen_the_statistics() -> None:
    series = make(times=8, height=32, width=32)
    _, before = band_statistics([series], series.bands)
    series.reflectance[:, :, :2, :2] = 60000  # type: ignore[index]
    _, after = band_statistics([series], series.bands)
    np.testing.assert_allclose(after, before, rtol=0.1)


def test_statistics_without_a_clear_pixel_are_refused() -> None:
    series = make()
    blind = Series(series.reflectance, np.zeros(series.valid.shape, bool), series.times, series.bands)
    with pytest.raises(ModelError, match="cloud mask"):
        band_statistics([blind], blind.bands)


@pytest.mark.parametrize(("times", "most", "expected"), [(3, 5, [0, 1, 2]), (9, 3, [0, 4, 8]), (1, 4, [0])])
def test_dates_are_all_or_spread_over_the_whole_time(times: int, most: int, expected: list[int]) -> None:
    assert make(times).spread_dates(most).tolist() == expected


def test_samples_are_cuts_of_each_series_with_few_enough_dates() -> None:
    long, short = make(SAMPLE_DATES + 40, 1, 40, 35), make(3, 1, 35, 50, seed=1)
    drawn = samples([long, short], ("b0",), 7)
    assert [chips.valid.shape for chips in drawn] == (
        [(1, SAMPLE_DATES, 32, 32)] * (SAMPLES // 2) + [(1, 3, 32, 32)] * (SAMPLES // 2)
    )
    raw = np.where(short.valid[:, None], short.reflectance * 1e-4 - 0.1, 0).astype(np.float32)
    cuts = np.lib.stride_tricks.sliding_window_view(raw[0, 0], (32, 32))
    for chips in drawn[SAMPLES // 2 :]:
        assert np.isclose(cuts, chips.reflectance[0, 0, 0].numpy(), atol=1e-6).all(axis=(-2, -1)).any()
    again, other = samples([long, short], ("b0",), 7), samples([long, short], ("b0",), 8)
    assert all(torch.equal(one.reflectance, two.reflectance) for one, two in zip(drawn, again, strict=True))
    assert not all(torch.equal(one.reflectance, two.reflectance) for one, two in zip(drawn, other, strict=True))
    assert [chips.valid.shape for chips in samples([make(2, 1, 5, 6)], ("b0",))] == [(1, 2, 5, 6)] * SAMPLES
