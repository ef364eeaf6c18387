"""Which test pixels the bootstrap draws together."""

from __future__ import annotations

import json
import tracemalloc
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.transform import Affine
from scenery import utm_grid, write_tif

from eearth.accuracy.held_out import assess_blocks, groups_of, values_of_map
from eearth.errors import LabelError, WorkspaceError
from eearth.geo.grid import Grid
from eearth.geo.labels.legend import LandCoverClass
from eearth.geo.splits.blocks import TEST, TRAIN
from eearth.geo.splits.split import split_blocks
from eearth.geo.splits.whole_features import split_features

if TYPE_CHECKING:
    from pathlib import Path

GRID = utm_grid(20, 40)  # two blocks of 20 x 20 pixels of 10 m


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """All is for testing, in blocks of 200 m."""
    write_tif(tmp_path / "split.tif", np.full(GRID.shape, TEST, np.uint8), GRID)
    return with_blocks(tmp_path, (20, 20))


def with_blocks(folder: Path, shape: tuple[int, int] | None) -> Path:
    (folder / "quality.json").write_text(json.dumps({"split": {"block_pixels": shape}}))
    return folder


def grouped(folder: Path, held: np.ndarray, grid: Grid) -> np.ndarray:
    """(y, x) groups; -1 where nothing is held."""
    found = np.full(grid.shape, -1)
    found[held], flags = groups_of(folder, held, grid, "blocks")
    assert not flags
    return found


def test_pixels_belong_to_the_block_that_they_lie_in(labels: Path) -> None:
    groups = grouped(labels, np.ones(GRID.shape, bool), GRID)
    assert (groups[:, :20] == groups[0, 0]).all()
    assert (groups[:, 20:] == groups[0, 39]).all()
    assert groups[0, 0] != groups[0, 39]


def test_a_whole_feature_belongs_to_the_block_of_its_middle_and_a_divided_one_to_those_it_lies_in(labels: Path) -> None:
    features = np.zeros(GRID.shape, np.uint32)
    features[2:4, 12:24] = 7  # two thirds of it in the left block
    features[6:8, 25:28] = 8
    features[10:12, 5:30] = 9
    write_tif(labels / "features.tif", features, GRID)
    split = np.full(GRID.shape, TEST, np.uint8)
    split[10, 5] = TRAIN
    write_tif(labels / "split.tif", split, GRID)
    held = split == TEST
    groups = grouped(labels, held, GRID)
    assert (groups[features == 7] == groups[0, 0]).all()
    assert (groups[features == 8] == groups[0, 39]).all()
    assert groups[4, 21] == groups[0, 39]
    assert len(np.unique(groups[(features == 9) & held])) == 2
    np.testing.assert_array_equal(groups_of(labels, held, GRID, "features")[0], features[held])


def scattered(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Fields of 9 x 9 pixels, some in the shape of an L, across the edges of blocks: (their numbers, their classes)."""
    random, across = np.random.default_rng(0), size // 9 + 2
    rows = (np.arange(size) + 3) // 9
    cells = rows[:, None] * across + rows + 1
    merged = np.arange(cells.max() + 1)
    for cell in range(across, cells.max() + 1):
        if random.random() < 0.35:
            merged[cell] = merged[cell - 1] if random.random() < 0.5 else merged[cell - across]
    features = np.maximum(merged[cells], 1).astype(np.uint32)
    return features, random.integers(1, 5, features.max() + 1).astype(np.uint8)[features]


def test_groups_are_the_blocks_that_were_dealt_to_the_test_part(tmp_path: Path) -> None:
    """Features that reach into other blocks leave stray outlines in split.geojson, which are no blocks."""
    features, codes = scattered(300)
    grid = utm_grid(300, 300)
    how = {"block_size": 300.0, "buffer": None, "test_fraction": 0.2, "validation_fraction": 0.2, "seed": 0}
    split = split_features(codes, features, grid, polygons="whole", **how)
    write_tif(tmp_path / "split.tif", split.part, grid)
    write_tif(tmp_path / "features.tif", features, grid)
    outlines = sum(block.part == "test" for block in split.blocks)
    squares = sum(block.part == "test" for block in split.blocks[:100])
    groups = grouped(with_blocks(tmp_path, split.block_pixels), split.part == TEST, grid)
    assert len(np.unique(groups[groups >= 0])) == squares < outlines / 2
    for feature in np.unique(features[split.part == TEST]):
        assert len(np.unique(groups[(features == feature) & (split.part == TEST)])) == 1


@settings(deadline=None, max_examples=25)
@given(st.tuples(st.floats(3, 40), st.floats(3, 40)), st.floats(60, 700))
def test_a_split_knows_its_blocks(sides: tuple[float, float], size: float) -> None:
    """Its outlines, whole ones inside the grid, have just so many pixels."""
    grid = Grid(GRID.crs, Affine(sides[1], 0, 5e5, 0, -sides[0], 5e6), 80, 80)
    codes = np.random.default_rng(0).integers(1, 3, grid.shape).astype(np.uint8)
    try:
        split = split_blocks(codes, grid, block_size=size, buffer=0, test_fraction=0.4, validation_fraction=0, seed=0)
    except LabelError:
        return  # one block is no split
    height, width = split.block_pixels or (0, 0)
    left, bottom, right, top = split.blocks[0].outline.bounds
    assert (right - left, top - bottom) == pytest.approx((min(width, 80) * sides[1], min(height, 80) * sides[0]))


def test_a_split_without_blocks_is_grouped_by_squares_and_says_so(labels: Path) -> None:
    """Each feature of a split of one's own has an outline of its own there, however near they lie."""
    features = np.arange(GRID.height * GRID.width, dtype=np.uint32).reshape(GRID.shape) // 2 + 1
    write_tif(labels / "features.tif", features, GRID)
    held = np.ones(GRID.shape, bool)
    for make in (lambda: with_blocks(labels, None), (labels / "quality.json").unlink):
        make()
        groups, flags = groups_of(labels, held, GRID, "blocks")
        assert 9 <= len(np.unique(groups)) <= 100
        assert "the split has no blocks of known size" in flags[0]
        assert all(len(np.unique(groups[features.ravel() == feature])) == 1 for feature in (1, 50, 400))


def test_groups_of_many_features_take_memory_for_their_pixels_only(tmp_path: Path) -> None:
    """A table of features and outlines would take 80 GB here."""
    grid = utm_grid(320, 320)
    write_tif(tmp_path / "split.tif", np.full(grid.shape, TEST, np.uint8), grid)
    write_tif(tmp_path / "features.tif", np.arange(1, 320 * 320 + 1, dtype=np.uint32).reshape(grid.shape), grid)
    held = np.ones(grid.shape, bool)
    tracemalloc.start()
    groups = grouped(with_blocks(tmp_path, (1, 1)), held, grid)
    assert tracemalloc.get_traced_memory()[1] < 100 * 2**20
    tracemalloc.stop()
    assert len(np.unique(groups)) == 320 * 320


def test_features_must_be_there(labels: Path) -> None:
    with pytest.raises(WorkspaceError, match="for --resample features, found nothing"):
        groups_of(labels, np.ones(GRID.shape, bool), GRID, "features")


def test_a_map_may_be_larger_or_smaller_than_the_labels(labels: Path) -> None:
    values = np.arange(1, 201, dtype=np.uint8).reshape(10, 20)
    path = write_tif(labels / "map.tif", values, utm_grid(10, 20, left=500_000 - 50, top=5_000_000 + 30))
    found = values_of_map(path, GRID, np.ones(GRID.shape, bool)).reshape(GRID.shape)
    np.testing.assert_array_equal(found[:7, :15], values[3:, 5:])
    assert found[7:].sum() == found[:, 15:].sum() == 0
    shifted = write_tif(labels / "shifted.tif", values, utm_grid(10, 20, left=500_003))
    with pytest.raises(WorkspaceError, match="on the pixels of the labels"):
        values_of_map(shifted, GRID, np.ones(GRID.shape, bool))


def test_classes_that_nobody_shows_are_left_out_and_few_groups_are_flagged() -> None:
    legend = [LandCoverClass(code, name, "#000000", 1, 1) for code, name in ((1, "a"), (4, "b"), (9, "c"))]
    reference, mapped = np.array([1, 1, 9, 9, 9], np.uint8), np.array([1, 9, 9, 0, 9], np.uint8)
    found = assess_blocks(reference, mapped, np.array([1, 1, 2, 2, 2]), legend, replicates=100, seed=0)
    assert [entry.code for entry in found.classes] == [1, 9]
    assert found.confusion.tolist() == [[1, 1, 0], [0, 2, 1]]
    flags = " ".join(found.flags)
    assert "2 groups of pixels" in flags
    assert "a has test pixels in 1 group: no interval for its producer's accuracy" in flags
    assert "1 test pixels have no data in the map" in flags
