from __future__ import annotations

from typing import TYPE_CHECKING
from unittest.mock import patch

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scenery import utm_grid

from eearth.geo.cube import CHUNK
from eearth.geo.imagery import fetch
from eearth.geo.imagery.fetch import BLOCK, blocks

if TYPE_CHECKING:
    import pytest

    from eearth.geo.grid import Window

SIDES = st.one_of(st.integers(1, 300), st.integers(1, 30_000))


def spans(along: list[tuple[int, int]]) -> list[int]:
    """Lengths of intervals that must follow each other from 0 on."""
    edges = np.cumsum([0, *(length for _, length in along)])
    assert [first for first, _ in along] == edges[:-1].tolist()
    return [length for _, length in along]


def sides_of(found: list[Window]) -> tuple[list[int], list[int]]:
    """Heights and widths of blocks that must be all of a product of intervals, once each."""
    rows = sorted({(block.row, block.height) for block in found})
    cols = sorted({(block.col, block.width) for block in found})
    assert len(found) == len(rows) * len(cols) == len(set(found))
    return spans(rows), spans(cols)


@given(SIDES, SIDES)
def test_each_pixel_lies_in_one_block_of_whole_chunks_and_none_is_a_sliver(height: int, width: int) -> None:
    for length, sides in zip((height, width), sides_of(blocks(utm_grid(height, width))), strict=True):
        assert sum(sides) == length
        assert all(side % CHUNK == 0 for side in sides[:-1])
        assert max(sides) - min(sides) < 2 * CHUNK
        assert len(sides) == max(1, round(length / BLOCK))
        assert max(sides) < 1.5 * BLOCK + CHUNK


@given(SIDES, SIDES, st.integers(1, 40), st.sampled_from([64, 128, 1024]))
def test_the_order_changes_nothing_but_the_order(height: int, width: int, swath: int, side: int) -> None:
    grid = utm_grid(min(height, 60 * side), min(width, 60 * side))
    with patch.object(fetch, "BLOCK", side):
        expected = blocks(grid)
        with patch.object(fetch, "SWATH", swath):
            found = blocks(grid)
    assert sorted(found, key=repr) == sorted(expected, key=repr)


def test_a_row_is_read_before_the_next_one_as_far_as_memory_reaches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "SWATH", 8)
    found = blocks(utm_grid(3 * BLOCK, 10 * BLOCK))
    order = [(block.row // BLOCK, block.col // BLOCK) for block in found]
    assert order == [(row, col) for row in range(3) for col in range(8)] + [(r, c) for r in range(3) for c in (8, 9)]
