"""Which test pixels the bootstrap draws together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import geopandas as gpd
import numpy as np
import pytest
from scenery import utm_grid, write_tif
from shapely.geometry import box

from eearth.accuracy.held_out import assess_blocks, groups_of, values_of_map
from eearth.errors import WorkspaceError
from eearth.geo.labels.legend import LandCoverClass

if TYPE_CHECKING:
    from pathlib import Path

GRID = utm_grid(20, 40)  # two blocks of 20 x 20 pixels


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    left, bottom, right, top = GRID.bounds
    middle = (left + right) / 2
    squares = [box(left, bottom, middle, top), box(middle, bottom, right, top)]
    frame = gpd.GeoDataFrame({"part": ["test", "test"]}, geometry=squares, crs=GRID.crs.to_wkt())
    frame.to_crs(4326).to_file(tmp_path / "split.geojson", driver="GeoJSON")
    return tmp_path


def test_pixels_belong_to_the_block_that_they_lie_in(labels: Path) -> None:
    groups = groups_of(labels, np.ones(GRID.shape, bool), GRID, "blocks").reshape(GRID.shape)
    assert (groups[:, :20] == groups[0, 0]).all()
    assert (groups[:, 20:] == groups[0, 39]).all()
    assert groups[0, 0] != groups[0, 39]


def test_a_feature_belongs_to_the_block_with_most_of_it_unless_it_is_larger_than_blocks(labels: Path) -> None:
    features = np.zeros(GRID.shape, np.uint32)
    features[2:4, 12:24] = 7  # two thirds of it in the left block
    features[6:8, 25:28] = 8
    write_tif(labels / "features.tif", features, GRID)
    held = np.ones(GRID.shape, bool)
    groups = groups_of(labels, held, GRID, "blocks").reshape(GRID.shape)
    assert (groups[features == 7] == groups[0, 0]).all()
    assert (groups[features == 8] == groups[0, 39]).all()
    assert groups[10, 21] == groups[0, 39]
    np.testing.assert_array_equal(groups_of(labels, held, GRID, "features"), features.ravel())
    gpd.read_file(labels / "split.geojson").assign(part=["test", "train"]).to_file(labels / "split.geojson")
    groups = groups_of(labels, held, GRID, "blocks").reshape(GRID.shape)
    assert len({int(groups[7, 26]), int(groups[0, 0]), int(groups[0, 39])}) == 3  # in no block: a group of its own


def test_a_feature_over_many_blocks_is_not_one_group(labels: Path) -> None:
    left, bottom, _, top = GRID.bounds
    squares = [box(left + 100 * k, bottom, left + 100 * (k + 1), top) for k in range(4)]
    frame = gpd.GeoDataFrame({"part": ["test"] * 4}, geometry=squares, crs=GRID.crs.to_wkt())
    frame.to_crs(4326).to_file(labels / "split.geojson", driver="GeoJSON")
    write_tif(labels / "features.tif", np.full(GRID.shape, 3, np.uint32), GRID)
    groups = groups_of(labels, np.ones(GRID.shape, bool), GRID, "blocks")
    assert len(np.unique(groups)) == 4


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
