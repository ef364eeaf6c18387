from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eearth.errors import UsageError
from eearth.geo.grid import Window
from eearth.geo.lattice import BLEND, Axis, extent_of, margin_for, patches


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


@st.composite
def tiles(draw: st.DrawFn, shape: tuple[int, int]) -> Window:
    row, col = (draw(st.integers(0, side - 1)) for side in shape)
    return Window(row, col, draw(st.integers(1, shape[0] - row)), draw(st.integers(1, shape[1] - col)))


@given(axes(90), st.integers(1, 90), st.integers(1, 90), st.data())
def test_patches_cover_any_tile_with_shares_that_sum_to_one(
    axis: Axis, height: int, width: int, data: st.DataObject
) -> None:
    tile = data.draw(tiles((height, width)))
    phase = data.draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    extent = extent_of((height, width), tile, axis.margin, phase)
    total = np.zeros((tile.height, tile.width))
    for patch in patches(extent, tile, size=axis.size, margin=axis.margin):
        total[patch.outer] += patch.shares
        rows, cols = patch.inner
        assert patch.window.row + rows.start == tile.row + patch.outer[0].start
        assert patch.window.col + cols.start == tile.col + patch.outer[1].start
        assert (patch.window.row + phase[0]) % 4 == (patch.window.col + phase[1]) % 4 == 0
    np.testing.assert_allclose(total, 1, atol=1e-6)


@given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 10), st.data())
def test_a_tile_is_looked_at_with_its_margin_where_that_exists(
    height: int, width: int, fours: int, data: st.DataObject
) -> None:
    tile, margin = data.draw(tiles((height, width))), 4 * fours
    phase = data.draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    extent = extent_of((height, width), tile, margin, phase)
    sides = [(tile.row, tile.height, height, extent.row, extent.height, phase[0]),
             (tile.col, tile.width, width, extent.col, extent.width, phase[1])]  # fmt: skip
    for first, length, end, start, span, shift in sides:
        assert (start + shift) % 4 == span % 4 == 0
        assert max(0, first - margin) - 4 < start <= max(0, first - margin)
        assert min(end, first + length + margin) <= start + span < min(end, first + length + margin) + 4


@pytest.mark.parametrize(("size", "margin"), [(126, 32), (128, 30), (64, 32), (0, 0), (128, -4)])
def test_window_sizes_that_leave_gaps_are_refused(size: int, margin: int) -> None:
    with pytest.raises(UsageError, match=rf"margin of {margin} pixels .*found {size}"):
        Axis(300, size, margin)


@pytest.mark.parametrize(("reach", "margin"), [(0, 0), (1, 4), (13, 16), (14, 16), (15, 20), (28, 32)])
def test_margin_for_a_reach(reach: int, margin: int) -> None:
    assert margin_for(reach) == margin
    shares = Axis(1000, 4 * margin + 4, margin).weights(1)
    assert not shares[:reach].any()
