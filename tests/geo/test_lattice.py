from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eearth.errors import UsageError
from eearth.geo.grid import Window
from eearth.geo.lattice import BLEND, Axis, margin_for, patches


@st.composite
def axes(draw: st.DrawFn, longest: int = 300) -> Axis:
    length = draw(st.integers(1, longest))
    size = 4 * draw(st.integers(1, 40))
    margin = 4 * draw(st.integers(0, (size - 4) // 8))
    return Axis(length, size, margin)


@given(axes())
def test_shares_sum_to_one_at_every_pixel(axis: Axis) -> None:
    total = np.zeros(axis.padded)
    for index, start in enumerate(axis.starts):
        shares = axis.weights(index)
        assert (shares >= 0).all()
        assert (shares <= 1).all()
        total[start : start + axis.span] += shares
    np.testing.assert_allclose(total, 1, atol=1e-12)


@given(axes())
def test_windows_start_on_multiples_of_four_and_end_at_the_edge(axis: Axis) -> None:
    starts = np.array(axis.starts)
    assert (starts % 4 == 0).all()
    assert (np.diff(starts) > 0).all()
    assert (np.diff(starts) <= axis.size - 2 * axis.margin).all()
    assert starts[0] == 0
    assert axis.length <= starts[-1] + axis.span < axis.length + 4


@given(axes())
def test_pixels_near_an_inner_edge_do_not_count(axis: Axis) -> None:
    kept = math.floor((1 - BLEND) * axis.margin)
    for index in range(len(axis.starts)):
        shares = axis.weights(index)
        if index > 0:
            assert not shares[:kept].any()
        if index < len(axis.starts) - 1:
            assert not shares[axis.span - kept :].any()


@given(axes(), st.data())
def test_reaching_finds_the_windows_that_count(axis: Axis, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, axis.length - 1))
    stop = data.draw(st.integers(start + 1, axis.length))
    naive = [
        index
        for index, first in enumerate(axis.starts)
        if any(start <= first + k < stop and share > 0 for k, share in enumerate(axis.weights(index)))
    ]
    assert [index for index, _ in axis.reaching(start, stop)] == naive


@given(axes(90), axes(90), st.data())
def test_patches_cover_any_tile_with_shares_of_the_whole(down: Axis, across: Axis, data: st.DataObject) -> None:
    shape, size, margin = (down.length, across.length), down.size, down.margin
    row, col = (data.draw(st.integers(0, side - 1)) for side in shape)
    height, width = data.draw(st.integers(1, shape[0] - row)), data.draw(st.integers(1, shape[1] - col))
    tile = Window(row, col, height, width)
    total = np.zeros((height, width))
    whole = {patch.window: patch for patch in patches(shape, Window(0, 0, *shape), size=size, margin=margin)}
    for patch in patches(shape, tile, size=size, margin=margin):
        total[patch.outer] += patch.shares
        rows, cols = patch.inner
        assert patch.window.row + rows.start == row + patch.outer[0].start
        assert patch.window.col + cols.start == col + patch.outer[1].start
        np.testing.assert_array_equal(patch.shares, whole[patch.window].shares[patch.inner])
    np.testing.assert_allclose(total, 1, atol=1e-6)


@pytest.mark.parametrize(("size", "margin"), [(126, 32), (128, 30), (64, 32), (0, 0), (128, -4)])
def test_window_sizes_that_leave_gaps_are_refused(size: int, margin: int) -> None:
    with pytest.raises(UsageError, match=rf"margin of {margin} pixels .*found {size}"):
        Axis(300, size, margin)


@pytest.mark.parametrize(("reach", "margin"), [(0, 0), (1, 4), (13, 16), (14, 16), (15, 20), (28, 32)])
def test_margin_for_a_reach(reach: int, margin: int) -> None:
    assert margin_for(reach) == margin
    shares = Axis(1000, 4 * margin + 4, margin).weights(1)
    assert not shares[:reach].any()
