"""How several regions are split: whole ones where there are many, else blocks in each."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS

from eearth.comparison.splits import Ground, neighbours, split_regions
from eearth.errors import LabelError
from eearth.geo.grid import Grid
from eearth.geo.splits.split import split_blocks

SPLIT: dict[str, float | None] = {
    "block_size": 80.0, "buffer": 10.0, "test_fraction": 0.25, "validation_fraction": 0.15,
}  # fmt: skip
TRAIN, VALIDATION, TEST = 1, 2, 3


_NEXT = itertools.count()


def ground(labels: np.ndarray, west: float | None = None) -> Ground:
    """A region of its own, unless it is said where its western edge lies."""
    west = 400_000.0 + 2000 * (next(_NEXT) % 100) if west is None else west
    grid = Grid(CRS.from_epsg(32633), Affine(10, 0, west, 0, -10, 5100000), *labels.shape)
    return Ground(labels.astype(np.uint8), grid, SPLIT)


def scattered(seed: int, classes: tuple[int, ...] = (1, 7), side: int = 48) -> Ground:
    """Small fields of all classes all over a region."""
    random = np.random.default_rng(seed)
    fields = random.choice([0, *classes], (side // 4, side // 4))
    return ground(np.kron(fields, np.ones((4, 4))))


def one_field(code: int) -> Ground:
    """A region with a single pixel of ground truth: too small for blocks."""
    labels = np.zeros((9, 9))
    labels[4, 4] = code
    return ground(labels)


def whole(part: np.ndarray, one: Ground) -> int | None:
    """The part of a whole region; None where it was split."""
    found = np.unique(part[one.labels > 0])
    assert not part[one.labels == 0].any()
    return int(found[0]) if len(found) == 1 else None


@settings(max_examples=25)
@given(st.integers(0, 1000), st.integers(9, 24), st.data())
def test_many_regions_are_held_out_whole(seed: int, count: int, data: st.DataObject) -> None:
    classes = [data.draw(st.sets(st.sampled_from([1, 7, 200]), min_size=1), label=f"{k}") for k in range(count - 2)]
    classes += [{1, 7, 200}] * 2  # each class in two regions at least
    grounds = [scattered(k, tuple(own)) for k, own in enumerate(classes)]
    parts = split_regions(grounds, seed)
    of_region = [whole(part, one) for part, one in zip(parts, grounds, strict=True)]
    assert set(of_region) <= {TRAIN, VALIDATION, TEST}
    there = [set(np.unique(one.labels[one.labels > 0]).tolist()) for one in grounds]
    for part in (TRAIN, TEST):
        held = set().union(*(own for own, of_one in zip(there, of_region, strict=True) if of_one == part))
        assert held == {1, 7, 200}
    again = split_regions(grounds, seed)
    assert all((one == other).all() for one, other in zip(parts, again, strict=True))


def test_regions_within_the_buffer_are_held_out_together() -> None:
    """Of twenty tiles the first four lie side by side, 5 m apart; 10 m is the buffer."""
    tiles = [ground(scattered(k).labels, 400_000.0 + (485 * k if k < 4 else 2000 * k)) for k in range(20)]
    assert len(set(neighbours(tiles)[:4].tolist())) == 1
    assert len(set(neighbours(tiles).tolist())) == 17
    apart = [replace(one, split=SPLIT | {"buffer": 4.0}) for one in tiles]
    assert len(set(neighbours(apart).tolist())) == 20
    for seed in range(5):
        parts = split_regions(tiles, seed)
        assert len({whole(part, one) for part, one in zip(parts[:4], tiles, strict=False)}) == 1


def test_of_many_ways_one_is_taken_that_loses_few_classes() -> None:
    """Each class lies in two neighbours of a ring of ten: both sides have it only if training and test alternate."""
    grounds = [scattered(k, (10 + k, 10 + (k + 1) % 10)) for k in range(10)]
    for seed in range(8):
        of_region = [whole(*one) for one in zip(split_regions(grounds, seed), grounds, strict=True)]
        assert all({of_region[k], of_region[(k + 1) % 10]} == {TRAIN, TEST} for k in range(10))


def test_other_seeds_hold_out_other_regions_and_the_shares_are_near() -> None:
    grounds = [scattered(k) for k in range(20)]
    tested = []
    for seed in range(6):
        of_region = [whole(*one) for one in zip(split_regions(grounds, seed), grounds, strict=True)]
        tested.append(tuple(of_one == TEST for of_one in of_region))
        pixels = np.array([(one.labels > 0).sum() for one in grounds])
        assert abs(pixels[list(tested[-1])].sum() / pixels.sum() - 0.25) < 0.1
    assert len(set(tested)) == 6
    assert np.array(tested).any(axis=0).sum() > 10


def test_a_class_of_one_region_lets_each_be_split_by_blocks() -> None:
    """Held out whole, the class could not be on both sides."""
    grounds = [scattered(k) for k in range(8)] + [scattered(8, (1, 7, 9))]
    parts = split_regions(grounds, 3)
    for part, one in zip(parts, grounds, strict=True):
        np.testing.assert_array_equal(part, split_blocks(one.labels, one.grid, seed=3, **SPLIT).part)  # type: ignore[arg-type]
    own = parts[-1][grounds[-1].labels == 9]
    assert {TRAIN, TEST} <= set(own.tolist())


def test_few_regions_are_each_split_as_their_labels_were() -> None:
    grounds = [scattered(0), replace(scattered(1), split=SPLIT | {"block_size": 120.0, "test_fraction": 0.4})]
    parts = split_regions(grounds, 5)
    for part, one in zip(parts, grounds, strict=True):
        np.testing.assert_array_equal(part, split_blocks(one.labels, one.grid, seed=5, **one.split).part)  # type: ignore[arg-type]
    assert (parts[0] != split_regions(grounds, 6)[0]).any()


def test_a_region_too_small_for_blocks_is_for_training() -> None:
    grounds = [scattered(0), one_field(9), scattered(1)]
    parts = split_regions(grounds, 0)
    assert whole(parts[1], grounds[1]) == TRAIN
    assert {TRAIN, TEST} <= set(parts[0].ravel().tolist())


def test_regions_that_are_all_too_small_are_held_out_whole() -> None:
    grounds = [one_field(code) for code in (1, 1, 7, 7)]
    for seed in range(5):
        of_region = [whole(*one) for one in zip(split_regions(grounds, seed), grounds, strict=True)]
        assert set(of_region[:2]) == set(of_region[2:]) == {TRAIN, TEST}
    with pytest.raises(LabelError, match="no class in two of them"):
        split_regions([one_field(1), one_field(7)], 0)


def test_one_region_that_is_too_small_says_what_blocks_say() -> None:
    with pytest.raises(LabelError, match="expected labelled pixels in at least 2 blocks"):
        split_regions([one_field(1)], 0)
