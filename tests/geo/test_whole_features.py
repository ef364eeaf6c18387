"""Splits that keep features whole, against naive sets and a k-d tree of all pixels."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import shapely
from rasterio.crs import CRS
from rasterio.features import rasterize
from rasterio.transform import Affine
from scipy.spatial import cKDTree
from shapely.geometry import LineString, Point, Polygon, box

from eearth.errors import LabelError, UsageError
from eearth.events import Event, Note
from eearth.geo.grid import Grid
from eearth.geo.splits.footprints import footprints_of
from eearth.geo.splits.guarantee import check_guarantee, guarantee_of
from eearth.geo.splits.split import Split, split_blocks
from eearth.geo.splits.whole_features import Folds, split_features

TRAIN, VALIDATION, TEST, DROPPED = 1, 2, 3, 4
CONFIGURATIONS = 200


def grid_of(shape: tuple[int, int], pixel: tuple[float, float] = (10, 10)) -> Grid:
    return Grid(CRS.from_epsg(32633), Affine(pixel[0], 0, 500_000, 0, -pixel[1], 5_000_000), *shape)


def split(labels: np.ndarray, features: np.ndarray, grid: Grid | None = None, **settings: Any) -> Split:
    plain = {"polygons": "whole", "block_size": None, "buffer": None, "test_fraction": 0.25}
    given = {**plain, "validation_fraction": 0.15, "seed": 0, **settings}
    return split_features(labels, features, grid or grid_of(labels.shape), **given)


def outlines(rng: np.random.Generator, side: float, count: int) -> list[shapely.Geometry]:
    """Fields, slivers, discs with smaller ones inside, clusters of points as one feature, and single points."""
    found: list[shapely.Geometry] = []
    for _ in range(count):
        x, y = rng.uniform(0, side, 2)
        kind = rng.integers(6)
        if kind == 0:
            corners = rng.uniform(-60, 60, (5, 2)) + np.array([x, y])
            found.append(shapely.convex_hull(Polygon(corners)))
        elif kind == 1:
            found.append(LineString([(x, y), rng.uniform(0, side, 2)]).buffer(rng.uniform(3, 9)))
        elif kind == 2:
            found += [Point(x, y).buffer(radius) for radius in (rng.uniform(60, 200), rng.uniform(10, 50))]
        elif kind == 3:
            found.append(shapely.MultiPoint(rng.normal((x, y), 80, (4, 2))))
        elif kind == 4:
            found.append(Point(x, y))
        else:
            found.append(box(x, y, x + rng.uniform(5, 250), y + rng.uniform(5, 250)))
    return found


def layout(seed: int) -> tuple[np.ndarray, np.ndarray, Grid, dict[str, Any]]:
    rng = np.random.default_rng(seed)
    shape = int(rng.integers(30, 90)), int(rng.integers(30, 90))
    grid = grid_of(shape, [(10.0, 10.0), (9.9947, 9.9974), (20.0, 10.0)][seed % 3])
    shapes = [
        shapely.affinity.translate(one, grid.bounds[0], grid.bounds[1])
        for one in outlines(rng, 10.0 * max(shape), int(rng.integers(10, 120)))
    ]
    features = rasterize(
        list(zip(shapes, range(1, len(shapes) + 1), strict=True)),
        out_shape=shape,
        transform=grid.transform,
        dtype="uint32",
    )
    codes = np.append(0, rng.integers(1, rng.integers(2, 6), len(shapes))).astype(np.uint8)
    settings = {
        "polygons": ["whole", "auto"][seed % 2],
        "block_size": [None, 60.0, 137.0, 300.0][rng.integers(4)],
        "buffer": [None, 0.0, 9.99, 10.0, 28.29, 60.0][rng.integers(6)],
        "validation_fraction": [0.15, 0.0][rng.integers(2)],
        "folds": [None, None, Folds(3, 2)][rng.integers(3)],
        "seed": seed,
    }
    return codes[features], features, grid, settings


def least_distance(part: np.ndarray, grid: Grid, one: int, other: int) -> float:
    """Between the centres of the pixels of two parts."""
    places = []
    for code in (one, other):
        rows, columns = np.nonzero(part == code)
        places.append(np.column_stack([grid.x()[columns], grid.y()[rows]]))
    if not all(len(points) for points in places):
        return math.inf
    return float(cKDTree(places[0]).query(places[1])[0].min())


def torn(part: np.ndarray, features: np.ndarray) -> set[int]:
    """Features with pixels in several parts, by going through all pixels."""
    held: dict[int, set[int]] = {}
    for feature, code in zip(features.ravel().tolist(), part.ravel().tolist(), strict=True):
        if feature and code in (TRAIN, VALIDATION, TEST):
            held.setdefault(feature, set()).add(code)
    return {feature for feature, codes in held.items() if len(codes) > 1}


def test_no_pixel_is_too_near_and_no_feature_divided_in_200_configurations() -> None:
    split_up, divided = 0, 0
    for seed in range(CONFIGURATIONS):
        labels, features, grid, settings = layout(seed)
        try:
            found = split(labels, features, grid, **settings)
        except LabelError:
            continue
        split_up += 1
        np.testing.assert_array_equal(found.part > 0, labels > 0)
        assert (found.part == TRAIN).any()
        for one, other in itertools.combinations((TRAIN, VALIDATION, TEST), 2):
            assert least_distance(found.part, grid, one, other) > found.buffer_m, seed
        assert found.min_distance_m == pytest.approx(least_distance(found.part, grid, TEST, TRAIN))
        assert torn(found.part, features) == set(found.divided), seed
        assert not found.divided or settings["polygons"] == "auto"
        divided += bool(found.divided)
        check_guarantee(found.part, features, grid, guarantee_of(found), "labels/")
    assert split_up > 0.9 * CONFIGURATIONS
    assert divided > 5  # or "auto" would be "whole"


def parcels(shape: tuple[int, int] = (120, 120), classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Fields of 8 x 12 pixels, none of whose edges lies on a block's."""
    rows, columns = np.arange(shape[0]) // 8, np.arange(shape[1]) // 12
    features = (rows[:, None] * 100 + columns + 1).astype(np.uint32)
    codes = np.append(0, np.random.default_rng(0).integers(1, classes + 1, int(features.max()))).astype(np.uint8)
    return codes[features], features


def test_parts_have_about_their_shares_and_every_class() -> None:
    labels, features = parcels()
    for seed in range(5):
        found = split(labels, features, seed=seed, buffer=0.0)
        assert (found.part == TEST).mean() == pytest.approx(0.25, abs=0.06)
        assert (found.part == VALIDATION).mean() == pytest.approx(0.15, abs=0.06)
        assert all({TRAIN, VALIDATION, TEST} <= set(found.part[labels == code]) for code in range(1, 5))


def test_seeds_differ_and_the_same_one_repeats() -> None:
    labels, features = parcels()
    parts = [split(labels, features, seed=seed).part for seed in (0, 1, 0)]
    assert (parts[0] != parts[1]).any()
    np.testing.assert_array_equal(parts[0], parts[2])


def test_cut_is_the_split_by_blocks() -> None:
    labels, features = parcels()
    grid = grid_of(labels.shape)
    found = split(labels, features, polygons="cut")
    settings = {"block_size": None, "buffer": None, "test_fraction": 0.25, "validation_fraction": 0.15, "seed": 0}
    plain = split_blocks(labels, grid, **settings)
    np.testing.assert_array_equal(found.part, plain.part)
    assert [block.outline for block in found.blocks] == [block.outline for block in plain.blocks]
    assert set(found.divided) == torn(found.part, features) != set()


def matrix_with_patches() -> tuple[np.ndarray, np.ndarray]:
    """One feature across the whole region, as of a vectorised map, with patches of another class in it."""
    labels, features = np.ones((100, 100), np.uint8), np.ones((100, 100), np.uint32)
    for number, (row, column) in enumerate(itertools.product(range(8, 100, 20), repeat=2), start=2):
        labels[row : row + 6, column : column + 6] = 2
        features[row : row + 6, column : column + 6] = number
    return labels, features


def test_a_feature_as_large_as_the_region_is_divided_only_by_auto() -> None:
    labels, features = matrix_with_patches()
    heard: list[Event] = []
    found = split(labels, features, polygons="auto", report=heard.append)
    assert found.divided == (1,)
    assert all({TRAIN, TEST} <= set(found.part[labels == code]) for code in (1, 2))
    (told,) = (event.text for event in heard if isinstance(event, Note))
    assert "1 of 26" in told
    assert "(numbers in the file: 1)" in told
    whole = split(labels, features, polygons="whole")
    assert whole.divided == ()
    assert not {TRAIN, TEST} <= set(whole.part[labels == 1])


def test_auto_divides_nothing_where_nothing_is_missing() -> None:
    labels, features = parcels()
    features[:, 60:64] = 5000  # far longer than a block, of a class with many other features
    labels[:, 60:64] = 1
    assert split(labels, features, polygons="auto", block_size=200.0).divided == ()


def test_auto_divides_nothing_that_is_no_longer_than_a_block() -> None:
    labels, features = parcels()
    features[52:68, 52:68], labels[52:68, 52:68] = 5000, 9  # the only one of its class, over a corner of four blocks
    found = split(labels, features, polygons="auto", block_size=200.0)
    assert found.divided == ()
    assert torn(found.part, features) == set()


def test_pixels_without_a_feature_stay_with_their_block() -> None:
    labels, _ = parcels()
    grid = grid_of(labels.shape)
    found = split(labels, np.zeros(labels.shape, np.uint32), polygons="auto")
    settings = {"block_size": None, "buffer": None, "test_fraction": 0.25, "validation_fraction": 0.15, "seed": 0}
    np.testing.assert_array_equal(found.part, split_blocks(labels, grid, **settings).part)


def test_outlines_show_the_part_and_fold_of_every_pixel() -> None:
    labels, features = parcels()
    grid = grid_of(labels.shape)
    for folds in (None, Folds(4, 3)):
        found = split(labels, features, buffer=0.0, folds=folds)
        names = {"train": TRAIN, "validation": VALIDATION, "test": TEST}
        shown = rasterize(
            [(block.outline, names[block.part]) for block in found.blocks], labels.shape, transform=grid.transform
        )
        kept = found.part < DROPPED
        np.testing.assert_array_equal(shown[kept], found.part[kept])
        area = sum(block.outline.area for block in found.blocks)
        assert area == pytest.approx(shapely.union_all([block.outline for block in found.blocks]).area)
        if folds:
            numbers = [(block.outline, block.fold) for block in found.blocks]
            np.testing.assert_array_equal(rasterize(numbers, labels.shape, transform=grid.transform), found.folds)


def test_each_fold_is_tested_on_once() -> None:
    labels, features = parcels()
    splits = [split(labels, features, folds=Folds(5, fold)) for fold in range(1, 6)]
    folds = splits[0].folds
    assert folds is not None
    for fold, found in enumerate(splits, start=1):
        np.testing.assert_array_equal(found.folds, folds)
        np.testing.assert_array_equal(found.part == TEST, folds == fold)
        assert (found.part == VALIDATION).any()
    assert set(np.unique(folds)) == {1, 2, 3, 4, 5}
    for code in range(1, 5):
        shares = np.bincount(folds[labels == code], minlength=6)[1:] / (labels == code).sum()
        assert shares.min() > 0.05
    assert {len(set(folds[features == number])) for number in np.unique(features)} == {1}


def test_every_pixel_of_random_sites_is_tested_once_over_all_folds() -> None:
    whole_sites = 0
    for seed in range(40, 80):
        rng = np.random.default_rng(seed)
        side = int(rng.integers(20, 50))
        labels, features = np.zeros((side, side), np.uint8), np.zeros((side, side), np.uint32)
        for number in range(1, int(rng.integers(4, 11))):
            (row, column), high = rng.integers(0, side, 2), side // (1 if rng.random() < 0.3 else 4) + 2
            height, width = rng.integers(1, high, 2)
            features[row : row + height, column : column + width] = number
            labels[row : row + height, column : column + width] = rng.integers(1, 4)
        number, tested, folds = int(rng.integers(2, 5)), np.zeros(labels.shape, int), []
        for fold in range(1, number + 1):
            try:
                found = split(labels, features, polygons="auto", folds=Folds(number, fold), validation_fraction=0.0)
            except LabelError:
                continue
            tested += found.part == TEST
            folds.append(found.folds)
        for other in folds[1:]:
            np.testing.assert_array_equal(other, folds[0])
        assert (tested <= 1).all()
        if len(folds) == number:
            whole_sites += 1
            np.testing.assert_array_equal(tested, labels > 0)
    assert whole_sites > 20


def test_a_map_has_no_features_to_keep_whole() -> None:
    labels, _ = parcels()
    none = np.zeros(labels.shape, np.uint32)
    with pytest.raises(UsageError, match=r"expected features for --polygons whole, found none.* --polygons auto"):
        split(labels, none, polygons="whole")
    assert not guarantee_of(split(labels, none, polygons="auto")).features_whole


def test_auto_divides_for_the_sake_of_a_fold() -> None:
    labels, features = matrix_with_patches()
    found = split(labels, features, polygons="auto", folds=Folds(4, 1))
    assert found.divided == (1,)
    assert found.folds is not None
    assert all(set(found.folds[labels == code]) == {1, 2, 3, 4} for code in (1, 2))


def test_footprints_are_those_of_a_naive_loop() -> None:
    for seed in range(20):
        labels, features, _, _ = layout(seed)
        found = footprints_of(labels, features)
        for number in range(1, int(features.max()) + 1):
            rows, columns = np.nonzero(features == number)
            assert found.pixels[number] == rows.size
            if rows.size:
                assert (found.row[number], found.column[number]) == pytest.approx((rows.mean(), columns.mean()))
                assert (found.height[number], found.width[number]) == (np.ptp(rows) + 1, np.ptp(columns) + 1)
                assert found.code[number] == labels[rows[0], columns[0]]


@pytest.mark.parametrize("folds", [Folds(1, 1), Folds(101, 1), Folds(3, 4), Folds(3, 0)])
def test_folds_that_cannot_be_are_refused(folds: Folds) -> None:
    labels, features = parcels()
    with pytest.raises(UsageError, match="expected"):
        split(labels, features, folds=folds)


def test_one_feature_cannot_be_kept_whole_and_split() -> None:
    labels, features = np.ones((60, 60), np.uint8), np.ones((60, 60), np.uint32)
    with pytest.raises(LabelError, match="--polygons cut"):
        split(labels, features)
    assert split(labels, features, polygons="auto").divided == (1,)


def test_a_split_that_was_changed_is_refused() -> None:
    labels, features = parcels()
    grid = grid_of(labels.shape)
    found = split(labels, features)
    promised = guarantee_of(found)
    check_guarantee(found.part, features, grid, promised, "labels/")
    leaking = found.part.copy()
    leaking[(found.part == DROPPED)] = TRAIN
    with pytest.raises(
        LabelError, match=r"labels/.* train pixels at most 30 m from test pixels: run `eearth rasterize"
    ):
        check_guarantee(leaking, features, grid, promised, "labels/")
    swapped = np.where(found.part == TEST, TRAIN, found.part)
    field = features == features[found.part == TEST][0]
    swapped[field & (np.cumsum(field.ravel()).reshape(field.shape) % 2 == 0)] = DROPPED
    check_guarantee(swapped, features, grid, promised, "labels/")
    row, column = np.argwhere(found.part == TRAIN)[0]
    torn_up = np.zeros_like(found.part)
    torn_up[row, column], torn_up[row + 7, column] = TRAIN, TEST  # of one field, farther apart than the buffer
    assert features[row, column] == features[row + 7, column]
    with pytest.raises(LabelError, match="features with pixels in several parts: 1, such as"):
        check_guarantee(torn_up, features, grid, promised, "labels/")
