from __future__ import annotations

import math

import numpy as np
import pytest
import rasterio
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.features import rasterize
from rasterio.transform import Affine
from scipy.spatial import cKDTree

from eearth.errors import LabelError, UsageError
from eearth.events import Event, Warned
from eearth.geo.distance import nearest
from eearth.geo.grid import Grid
from eearth.geo.splits.split import Split, split_blocks

UTM = CRS.from_epsg(32633)


def grid_of(shape: tuple[int, int], pixel: tuple[float, float] = (10, 10)) -> Grid:
    return Grid(UTM, Affine(pixel[0], 0, 500_000, 0, -pixel[1], 5_000_000), *shape)


def split(labels: np.ndarray, grid: Grid | None = None, **settings: object) -> Split:
    plain = {"block_size": None, "buffer": None, "test_fraction": 0.2, "validation_fraction": 0.2, "seed": 0}
    return split_blocks(labels, grid or grid_of(labels.shape), **{**plain, **settings})


def centres(grid: Grid, mask: np.ndarray) -> np.ndarray:
    rows, columns = np.nonzero(mask)
    return np.column_stack([grid.x()[columns], grid.y()[rows]])


def apart(grid: Grid, one: np.ndarray, other: np.ndarray) -> float:
    """The smallest distance between pixel centres of two masks: scipy's tree, where the code has a transform."""
    if not one.any() or not other.any():
        return math.inf
    return float(cKDTree(centres(grid, one)).query(centres(grid, other))[0].min())


def patchy(rng: np.random.Generator, shape: tuple[int, int], classes: int, labelled: float) -> np.ndarray:
    coarse = rng.integers(1, classes + 1, (shape[0] // 6 + 1, shape[1] // 6 + 1))
    labels = coarse.repeat(6, axis=0).repeat(6, axis=1)[: shape[0], : shape[1]].astype(np.uint8)
    return np.where(rng.random(shape) < labelled, labels, 0).astype(np.uint8)


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray, Grid, dict[str, float | None]]:
    shape = draw(st.integers(1, 70)), draw(st.integers(1, 70))
    seed, classes = draw(st.integers(0, 10_000)), draw(st.integers(1, 6))
    labels = patchy(np.random.default_rng(seed), shape, classes, draw(st.sampled_from([0.02, 0.4, 1.0])))
    grid = grid_of(shape, draw(st.sampled_from([(10.0, 10.0), (9.9947, 9.9974), (20.0, 10.0)])))
    buffer = draw(st.sampled_from([None, 0.0, 9.99, 10.0, 20.0, 28.29, 45.0]))
    return (
        labels,
        grid,
        {"buffer": buffer, "block_size": draw(st.sampled_from([None, 10.0, 47.0, 150.0])), "seed": seed},
    )


@settings(max_examples=60, deadline=None)
@given(cases())
def test_parts_are_farther_apart_than_the_buffer(case: tuple[np.ndarray, Grid, dict[str, float | None]]) -> None:
    labels, grid, arguments = case
    try:
        found = split(labels, grid, **arguments)
    except LabelError:
        return
    train, validation, test = (found.part == code for code in (1, 2, 3))
    assert train.any()
    assert test.any()
    np.testing.assert_array_equal(found.part > 0, labels > 0)
    assert found.part.max() <= 4
    distance = apart(grid, train, test)
    assert distance > found.buffer_m
    assert found.min_distance_m == pytest.approx(distance)
    assert apart(grid, validation, test) > found.buffer_m
    assert apart(grid, train, validation) > found.buffer_m
    np.testing.assert_array_equal(split(labels, grid, **arguments).part, found.part)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.1, 0.4), st.floats(0, 0.4))
def test_fractions_are_met_about(seed: int, test_fraction: float, validation_fraction: float) -> None:
    labels = patchy(np.random.default_rng(seed), (120, 120), 4, 1.0)
    found = split(labels, buffer=0, test_fraction=test_fraction, validation_fraction=validation_fraction, seed=seed)
    assert (found.part == 3).mean() == pytest.approx(test_fraction, abs=0.1)
    assert (found.part == 2).mean() == pytest.approx(validation_fraction, abs=0.1)
    for code in np.unique(labels):
        assert set(np.unique(found.part[labels == code])) >= {1, 3}


def test_default_sizes_on_a_hundred_pixels() -> None:
    found = split(np.ones((100, 100), np.uint8))
    assert found.block_size_m == 200
    assert len(found.blocks) == 25
    assert found.buffer_m == 30
    assert found.min_distance_m > 30


def test_a_distance_that_equals_the_buffer_is_not_enough() -> None:
    labels = np.ones((1, 40), np.uint8)
    found = split(labels, block_size=100, buffer=30, validation_fraction=0)
    assert found.min_distance_m == 40


def test_test_pixels_never_give_way() -> None:
    labels = patchy(np.random.default_rng(1), (90, 90), 4, 0.8)
    found = split(labels)
    shapes = [(block.outline, 1) for block in found.blocks if block.part == "test"]
    inside = rasterize(shapes, out_shape=labels.shape, transform=grid_of(labels.shape).transform).astype(bool)
    np.testing.assert_array_equal(inside & (labels > 0), found.part == 3)


def test_pixels_are_dropped_only_near_another_part() -> None:
    labels = np.ones((100, 100), np.uint8)
    found = split(labels, validation_fraction=0)
    grid = grid_of(labels.shape)
    dropped = centres(grid, found.part == 4)
    distance = cKDTree(centres(grid, found.part == 3)).query(dropped)[0]
    assert distance.max() <= 30


def test_blocks_lie_on_the_grid_and_cover_every_label_once() -> None:
    labels = patchy(np.random.default_rng(2), (73, 51), 3, 0.5)
    found = split(labels, block_size=200)
    grid = grid_of(labels.shape)
    blocks = [block.outline for block in found.blocks]
    assert sum(block.area for block in blocks) == pytest.approx(shapely.union_all(blocks).area)
    assert shapely.union_all(blocks).within(grid.footprint)
    tree = shapely.STRtree(shapely.points(centres(grid, labels > 0)))
    assert sum(len(tree.query(block, predicate="contains")) for block in blocks) == (labels > 0).sum()
    assert {block.part for block in found.blocks} == {"train", "validation", "test"}


@pytest.mark.parametrize("seed", range(8))
def test_a_class_confined_to_one_block_is_for_training(seed: int) -> None:
    labels = np.ones((100, 100), np.uint8)
    labels[44:56, 44:56] = 2
    labels[2:5, 2:5] = 7
    found = split(labels, seed=seed)
    assert (found.part[labels == 2] == 1).any()
    assert (found.part[labels == 7] == 1).any()


@pytest.mark.parametrize("seed", range(8))
def test_a_class_at_the_edge_of_its_block_survives_the_buffer(seed: int) -> None:
    labels = np.ones((100, 100), np.uint8)
    labels[40:42, 40:42] = 9
    found = split(labels, seed=seed)
    assert (found.part[labels == 9] == 1).any()


@pytest.mark.parametrize("seed", range(8))
def test_a_class_in_two_distant_blocks_is_trained_and_tested(seed: int) -> None:
    labels = np.ones((100, 100), np.uint8)
    labels[8:12, 8:12] = labels[88:92, 88:92] = 5
    found = split(labels, seed=seed)
    assert {1, 3} <= set(np.unique(found.part[labels == 5]))


@pytest.mark.parametrize("seed", range(4))
def test_several_classes_at_corners_of_blocks_all_survive_the_buffer(seed: int) -> None:
    labels = np.ones((100, 100), np.uint8)
    for code, (row, col) in enumerate([(20, 20), (20, 60), (60, 20), (60, 60)], start=2):
        labels[row : row + 2, col : col + 2] = code
    found = split(labels, seed=seed)
    assert all((found.part[labels == code] == 1).any() for code in range(1, 6))


@pytest.mark.parametrize("seed", range(4))
def test_many_classes_of_two_blocks_are_all_trained_and_tested(seed: int) -> None:
    labels = np.zeros((100, 100), np.uint8)
    for code in range(1, 13):
        row, col = divmod(code - 1, 5)
        labels[20 * row : 20 * row + 15, 20 * col : 20 * col + 15] = code
        row, col = divmod(code + 12, 5)
        labels[20 * row : 20 * row + 2, 20 * col : 20 * col + 2] = code
    found = split(labels, block_size=200, buffer=0, seed=seed)
    assert all({1, 3} <= set(np.unique(found.part[labels == code])) for code in range(1, 13))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 12), st.sampled_from([0, 64]))
def test_distances_do_not_depend_on_windows(seed: int, window: int, offsets: int) -> None:
    rng = np.random.default_rng(seed)
    targets, sources = rng.random((2, 40, 33)) < 0.004
    targets[-1] = sources[0] = False
    targets[0, rng.integers(33)] = sources[-1, rng.integers(33)] = True
    sources &= ~targets
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("eearth.geo.distance.WINDOW", window)
        patch.setattr("eearth.geo.distance.NEAREST_OFFSETS", offsets)
        found = nearest(targets, sources, (2.0, 3.0), 0.0)
    where = [np.argwhere(mask) * (2.0, 3.0) for mask in (targets, sources)]
    assert found == pytest.approx(cKDTree(where[0]).query(where[1])[0].min())


def test_seeds_give_different_splits() -> None:
    labels = patchy(np.random.default_rng(0), (100, 100), 4, 1.0)
    parts = {split(labels, seed=seed).part.tobytes() for seed in range(5)}
    assert len(parts) == 5


def test_few_clusters_of_labels_get_smaller_blocks() -> None:
    labels = np.zeros((200, 200), np.uint8)
    labels[3:33, 3:33] = labels[160:190, 160:190] = 1
    labels[3:33, 10:20] = labels[160:170, 160:190] = 2
    found = split(labels)
    assert found.block_size_m < 200
    assert all({1, 2, 3} <= set(np.unique(found.part[labels == code])) for code in (1, 2))


def test_windows_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = patchy(np.random.default_rng(3), (90, 80), 4, 0.7)
    whole = split(labels, buffer=45, block_size=150)
    monkeypatch.setattr("eearth.geo.distance.WINDOW", 13)
    pieces = split(labels, buffer=45, block_size=150)
    np.testing.assert_array_equal(pieces.part, whole.part)
    assert pieces.min_distance_m == whole.min_distance_m


def test_degrees_are_measured_at_the_latitude_where_they_are_shortest() -> None:
    grid = Grid(CRS.from_epsg(4326), Affine(1e-4, 0, 15, 0, -1e-4, 60.01), 100, 100)
    found = split(np.ones((100, 100), np.uint8), grid, buffer=30)
    rows, columns = (np.nonzero(found.part == code) for code in (1, 3))
    # On WGS84 a degree at latitude 60 is 111,412 m from north to south, and 55,800 m from west to east.
    one, other = (np.column_stack([row * 11.1412, column * 5.5783]) for row, column in (rows, columns))
    assert cKDTree(one).query(other)[0].min() > 30


def test_classes_that_a_part_lacks_are_reported() -> None:
    labels = np.ones((100, 100), np.uint8)
    labels[8:12, 8:12] = 5
    heard: list[Event] = []
    split(labels, report=heard.append)
    texts = [event.text for event in heard if isinstance(event, Warned)]
    assert len(texts) == 2
    assert all(text.endswith("no pixel of class 5") for text in texts)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.ones((1, 1), np.uint8), "at least 2 blocks of 10 m.*found 1 in 1: label more"),
        (np.zeros((5, 5), np.uint8), "found 0 in 0"),
        (np.ones((1, 2), np.uint8), "more than 10 m apart.*--buffer"),
    ],
)
def test_too_few_labels_are_an_error(labels: np.ndarray, message: str) -> None:
    with pytest.raises(LabelError, match=message):
        split(labels)


def test_one_block_is_an_error() -> None:
    with pytest.raises(LabelError, match="smaller --block-size"):
        split(np.ones((10, 10), np.uint8), block_size=1000)


@pytest.mark.parametrize(
    "wrong",
    [
        {"block_size": 0},
        {"block_size": math.nan},
        {"buffer": -1},
        {"buffer": math.inf},
        {"test_fraction": 0},
        {"test_fraction": math.nan},
        {"validation_fraction": -0.1},
        {"test_fraction": 0.6, "validation_fraction": 0.4},
    ],
)
def test_arguments_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="expected"):
        split(np.ones((100, 100), np.uint8), **wrong)


def test_labels_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="do not lie"):
        split(np.ones((10, 10), np.uint8), grid_of((10, 11)))


@pytest.mark.parametrize("site", ["slovenia", "romania", "ethiopia", "brandenburg"])
def test_real_sites(real_data: object, site: str) -> None:
    with rasterio.open(f"{real_data}/{site}/labels.tif") as source:
        labels, grid = source.read(1), Grid(source.crs, source.transform, *source.shape)
    found = split(labels, grid)
    shares = np.bincount(found.part[labels > 0], minlength=5) / (labels > 0).sum()
    assert 0.1 < shares[3] < 0.3
    assert 0.05 < shares[2] < 0.3
    assert shares[1] > 0.35
    assert apart(grid, found.part == 1, found.part == 3) > found.buffer_m
    for code in np.unique(labels[labels > 0]):
        assert {1, 3} <= set(np.unique(found.part[labels == code]))
