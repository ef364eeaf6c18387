from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eearth.data.radiometry import Radiometry, change_radiometry
from eearth.data.series import Series
from eearth.data.views import Turn, draw_pairs, split_dates

TURNS = [Turn(flip, quarters) for flip in (False, True) for quarters in range(4)]


def ground_truth(height: int, width: int, region: int, times: int = 6) -> Series:
    """Imagery whose first two bands say where a pixel lies, and whose third says in which region."""
    rows, cols = np.mgrid[:height, :width]
    one = np.stack([rows, cols, np.full_like(rows, region)]).astype(np.int16)
    valid = np.random.default_rng(region).random((times, height, width)) < 0.6
    dates = np.datetime64("2020-01-01", "ns") + np.arange(times) * np.timedelta64(30, "D")
    return Series(np.repeat(one[None], times, 0), valid, dates, ("row", "col", "region"))


@pytest.mark.parametrize("turn", TURNS)
def test_undo_brings_every_pixel_back(turn: Turn) -> None:
    image = torch.arange(2 * 5 * 5).reshape(2, 5, 5)
    assert torch.equal(turn.undo(turn.apply(image)), image)


def test_the_eight_turns_differ() -> None:
    image = torch.arange(9).reshape(3, 3)
    assert len({tuple(turn.apply(image).flatten().tolist()) for turn in TURNS}) == 8


@given(seed=st.integers(0, 10_000), size=st.integers(1, 20))
@settings(max_examples=40, deadline=None)
def test_both_views_show_the_same_ground_at_every_compared_pixel(seed: int, size: int) -> None:
    regions = [ground_truth(21, 33, 0), ground_truth(18, 26, 1)]
    pairs = draw_pairs(
        regions, np.random.default_rng(seed), bands=("row", "col", "region"), pairs=4, size=size, dates=3, pixels=50
    )
    seen = pairs.chips.valid.float().sum(1).clamp(min=1)
    shown = pairs.chips.reflectance.sum(1) / seen[:, None]
    first, second = pairs.to_ground(shown).round().long()
    expected = pairs.place[:, [1, 2, 0]]
    assert torch.equal(first, expected)
    assert torch.equal(second, expected)
    clear = pairs.to_ground(pairs.chips.valid.any(1)[:, None].float())
    assert bool((clear == 1).all())


def test_the_control_breaks_the_link() -> None:
    pairs = draw_pairs(
        [ground_truth(40, 40, 0)],
        np.random.default_rng(0),
        bands=("row", "col", "region"),
        pairs=4,
        size=16,
        dates=3,
        pixels=50,
        shuffle=True,
    )
    shown = pairs.chips.reflectance.amax(1)
    first, second = pairs.to_ground(shown)
    assert float((first == second).all(dim=1).float().mean()) < 0.05


@given(count=st.integers(2, 200), most=st.integers(1, 40), seed=st.integers(0, 1000))
def test_the_dates_of_two_views_are_disjoint(count: int, most: int, seed: int) -> None:
    one, two = split_dates(count, most, np.random.default_rng(seed))
    assert not set(one) & set(two)
    for dates in (one, two):
        assert 1 <= len(dates) <= most
        assert (np.diff(dates) > 0).all()
        assert len(dates) >= min(most, count // 2) / 2


def test_a_single_date_is_in_both_views() -> None:
    one, two = split_dates(1, 5, np.random.default_rng(0))
    assert one.tolist() == two.tolist() == [0]


def test_radiometry_keeps_invalid_pixels_zero_and_can_drop_a_band() -> None:
    series = ground_truth(8, 8, 1)
    pairs = draw_pairs([series], np.random.default_rng(0), bands=series.bands, pairs=2, size=8, dates=3, pixels=5)
    mean, std = torch.full((3, 1, 1), 7.0), torch.ones(3, 1, 1)
    strong = Radiometry(gain=0.1, offset=0.1, noise=0.1, drop_band=1.0)
    changed = change_radiometry(pairs.chips, strong, mean, std, np.random.default_rng(1).spawn(4))
    hidden = ~pairs.chips.valid[:, :, None].expand_as(changed.reflectance)
    assert not changed.reflectance[hidden].any()
    assert bool((changed.reflectance[~hidden] == 7.0).all())
    nothing = Radiometry(gain=0.0, offset=0.0, noise=0.0, drop_band=0.0)
    same = change_radiometry(pairs.chips, nothing, mean, std, np.random.default_rng(1).spawn(4))
    assert torch.equal(same.reflectance, pairs.chips.reflectance)
