"""A split by a column of the user's: honoured, and refused where it leaks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pytest
from rasterio.crs import CRS
from rasterio.features import rasterize
from rasterio.transform import Affine
from scipy.spatial import cKDTree
from shapely.geometry import box

from eearth.errors import LabelError
from eearth.events import Event, Note, Warned
from eearth.geo.grid import Grid
from eearth.geo.splits.guarantee import check_guarantee, guarantee_of
from eearth.geo.splits.own import WORDS, read_parts, split_as_given

if TYPE_CHECKING:
    from pathlib import Path

    from eearth.geo.splits.split import Split

GRID = Grid(CRS.from_epsg(32633), Affine(10, 0, 500_000, 0, -10, 5_000_000), 40, 60)
TRAIN, VALIDATION, TEST, DROPPED = 1, 2, 3, 4


def squares(columns: list[int], words: list[Any], path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Fields of 8 x 8 pixels that begin at some columns, written to a file; the labels and features they give."""
    shapes = [box(500_000 + 10 * c, 4_999_800, 500_000 + 10 * c + 80, 4_999_880) for c in columns]
    frame = gpd.GeoDataFrame(
        {"class": ["ab"[n % 2] for n in range(len(shapes))], "use": words}, geometry=shapes, crs=32633
    )
    frame.to_file(path, layer="labels", driver="GPKG")
    numbered = [(shape, number) for number, shape in enumerate(shapes, start=1)]
    features = rasterize(numbered, GRID.shape, transform=GRID.transform, dtype="uint32")
    return np.where(features > 0, 2 - features % 2, 0).astype(np.uint8), features


def split(
    labels: np.ndarray, features: np.ndarray, parts: np.ndarray, buffer: float | None = None, **settings: Any
) -> Split:
    given = {"drop_near": False, "source": "the column `use`", **settings}
    return split_as_given(labels, features, parts, GRID, buffer=buffer, **given)


def test_the_column_decides(tmp_path: Path) -> None:
    labels, features = squares([0, 13, 26, 39], ["Train", " training", "VAL", "Hold-Out"], tmp_path / "l.gpkg")
    parts = read_parts(tmp_path / "l.gpkg", "use", None, features)
    found = split(labels, features, parts)
    for number, part in enumerate((TRAIN, TRAIN, VALIDATION, TEST), start=1):
        assert set(found.part[features == number]) == {part}
    assert found.block_size_m is None
    assert found.buffer_m == 30
    assert found.min_distance_m == 190
    assert sorted(block.part for block in found.blocks) == ["test", "train", "train", "validation"]
    check_guarantee(found.part, features, GRID, guarantee_of(found), "labels/")


@pytest.mark.parametrize("word", WORDS)
def test_every_word_is_known_in_any_case(tmp_path: Path, word: str) -> None:
    _, features = squares([0, 13], [word.upper(), word.title()], tmp_path / "l.gpkg")
    assert read_parts(tmp_path / "l.gpkg", "use", None, features).tolist() == [0, WORDS[word], WORDS[word]]


def test_a_planted_leak_is_refused_and_named(tmp_path: Path) -> None:
    labels, features = squares([0, 13, 26, 36], ["train", "train", "train", "test"], tmp_path / "l.gpkg")
    parts = read_parts(tmp_path / "l.gpkg", "use", None, features)
    with pytest.raises(LabelError) as raised:
        split(labels, features, parts)
    said = str(raised.value)
    assert "\n" not in said
    assert "expected parts more than 30 m apart in the column `use`, found 8 pixels nearer" in said
    assert "the nearest 30 m" in said
    place = r"longitude 15\.00\d+, latitude 45\.15\d+"
    assert re.search(rf"30 m: feature 3 \(train\) at {place} from feature 4 \(test\);", said)
    assert said.endswith("--drop-near to drop these pixels, or with --buffer 29 to allow them")
    assert split(labels, features, parts, buffer=29).min_distance_m == 30


def test_the_example_is_the_nearest_pair(tmp_path: Path) -> None:
    """Not the first that is too near."""
    labels, features = squares([0, 10, 30, 39], ["train", "test", "train", "validation"], tmp_path / "l.gpkg")
    parts = read_parts(tmp_path / "l.gpkg", "use", None, features)
    with pytest.raises(LabelError, match=r"the nearest 20 m: feature 3 \(train\) at .* from feature 4 \(validation\)"):
        split(labels, features, parts)


def test_classes_that_a_part_lacks_are_named(tmp_path: Path) -> None:
    labels, features = squares([0, 26, 39], ["train", "train", "test"], tmp_path / "l.gpkg")
    heard: list[Event] = []
    parts = read_parts(tmp_path / "l.gpkg", "use", None, features)
    split(labels, features, parts, names={1: "oats", 2: "maize, silage"}, report=heard.append)
    assert 'the test part has no pixel of "maize, silage"' in [e.text for e in heard if isinstance(e, Warned)]


def test_near_pixels_are_dropped_when_asked(tmp_path: Path) -> None:
    labels, features = squares([0, 8, 16, 24], ["train", "valid", "test", "train"], tmp_path / "l.gpkg")
    parts = read_parts(tmp_path / "l.gpkg", "use", None, features)
    heard: list[Event] = []
    found = split(labels, features, parts, buffer=20, drop_near=True, report=heard.append)
    places = {code: np.argwhere(found.part == code) * 10.0 for code in (TRAIN, VALIDATION, TEST)}
    for one, other in ((TRAIN, TEST), (VALIDATION, TEST), (TRAIN, VALIDATION)):
        assert cKDTree(places[one]).query(places[other])[0].min() > 20
    assert set(found.part[features == 3]) == {TEST}
    dropped = int((found.part == DROPPED).sum())
    assert dropped == 3 * 16  # two columns of 8 pixels on both sides of the test field, and between the other two
    (note,) = (event.text for event in heard if isinstance(event, Note))
    assert note.startswith(f"{dropped} pixels lie at most 20 m from")


def test_leaks_between_training_and_validation_count_too(tmp_path: Path) -> None:
    labels, features = squares([0, 10, 40], ["train", "dev", "test"], tmp_path / "l.gpkg")
    parts = read_parts(tmp_path / "l.gpkg", "use", None, features)
    with pytest.raises(LabelError, match=r"feature 1 \(train\).* from feature 2 \(validation\)"):
        split(labels, features, parts)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "test", "fold 2"], r"found 'fold 2' \(1 feature\)"),
        (["train", None, None], r"found 'no value' \(2 features\)"),
        ([1, 2, 3], r"'1' \(1 feature\), '2' \(1 feature\), '3' \(1 feature\)"),
    ],
)
def test_other_values_are_refused(tmp_path: Path, words: list[Any], message: str) -> None:
    _, features = squares([0, 13, 26], words, tmp_path / "l.gpkg")
    with pytest.raises(LabelError, match=f"expected train, validation, test .*{message}: mend the column"):
        read_parts(tmp_path / "l.gpkg", "use", None, features)


def test_features_that_label_no_pixel_need_no_part(tmp_path: Path) -> None:
    _, features = squares([0, 13, 26], ["train", "test", None], tmp_path / "l.gpkg")
    features[features == 3] = 0
    assert read_parts(tmp_path / "l.gpkg", "use", None, features).tolist() == [0, TRAIN, TEST, 0]
    assert read_parts(tmp_path / "l.gpkg", "use", "use = 'test'", np.where(features == 2, 2, 0)).tolist()[2] == TEST


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    _, features = squares([0, 13], ["train", "test"], tmp_path / "l.gpkg")
    with pytest.raises(LabelError, match=r"expected a column `used` with train, .*--split-column use"):
        read_parts(tmp_path / "l.gpkg", "used", None, features)


@pytest.mark.parametrize(("words", "buffer"), [(["train", "train"], None), (["train", "test"], 2000.0)])
def test_both_parts_need_a_pixel(tmp_path: Path, words: list[str], buffer: float | None) -> None:
    labels, features = squares([0, 13], words, tmp_path / "l.gpkg")
    parts = read_parts(tmp_path / "l.gpkg", "use", None, features)
    with pytest.raises(LabelError, match="expected training and test pixels in the column `use`"):
        split(labels, features, parts, buffer=buffer, drop_near=True)
