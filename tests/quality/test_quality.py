"""What is said of labels, against naive counts; and labels that somebody planted wrong, found in a simulated region."""

from __future__ import annotations

import json
from functools import cache
from itertools import combinations
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import matplotlib.image
import numpy as np
from rasterio.crs import CRS
from rasterio.features import rasterize
from rasterio.transform import Affine

from eearth.data.series import Series
from eearth.events import Event, Note
from eearth.geo.colours import _oklab
from eearth.geo.grid import Grid
from eearth.geo.labels.legend import LandCoverClass
from eearth.geo.splits.blocks import TEST, TRAIN, VALIDATION
from eearth.geo.splits.footprints import footprints_of
from eearth.geo.splits.split import Split
from eearth.geo.splits.whole_features import split_features
from eearth.quality import looking
from eearth.quality.judge import judge
from eearth.quality.looking import clear_observations, patches, squares
from eearth.quality.picture import part_colours
from eearth.quality.profiles import profiles_of
from eearth.quality.summary import Dropped, Labelling, left_out
from eearth.quality.suspects import disagreeing, find_suspects
from eearth.synthetic.acquisitions import schedule
from eearth.synthetic.landscape import CLASSES, lay_out
from eearth.synthetic.phenology import BANDS
from eearth.synthetic.place import Place
from eearth.synthetic.region import World

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

SIZE, YEAR, SCENES, SEED = 160, 2022, 24, 3
CLEAR = (4, 5, 6, 7)


def fine(asset: np.ndarray) -> np.ndarray:
    """On the grid of 10 m."""
    times = SIZE // len(asset)
    return asset.repeat(times, axis=0).repeat(times, axis=1)


@cache
def region() -> tuple[Series, np.ndarray, np.ndarray]:
    """A simulated year on 10 m, the number of each pixel's object, and each object's class."""
    place, landscape = Place(SIZE, SEED), lay_out(SIZE, seed=SEED, year=YEAR)
    world = World.draw(place, landscape, seed=SEED, year=YEAR)
    values, valid, times = [], [], []
    for acquisition in schedule(SCENES, size=SIZE, seed=SEED, year=YEAR):
        assets = world.scene(acquisition, np.random.default_rng(acquisition.index)).assets
        fine = [
            assets[band].repeat(SIZE // len(assets[band]), 0).repeat(SIZE // len(assets[band]), 1) for band in BANDS
        ]
        values.append(np.stack(fine).astype(np.int32) - 1000 * acquisition.shifted)
        valid.append(np.isin(assets["scl"], CLEAR).repeat(2, axis=0).repeat(2, axis=1) & (assets["red"] > 0))
        times.append(np.datetime64(acquisition.time.replace(tzinfo=None)))
    series = Series(np.stack(values), np.stack(valid), np.array(times), tuple(BANDS), 1e-4, 0.0)
    objects = landscape.objects.astype(np.uint32)
    small = np.bincount(objects.ravel(), minlength=len(landscape.classes) + 1) < 25
    objects[small[objects]] = 0
    return series, objects, np.array([0, *(CLASSES.index(name) + 1 for name in landscape.classes)], np.uint8)


def planted(share: float, seed: int) -> tuple[np.ndarray, np.ndarray, set[int]]:
    """Labels and features of the simulated region, a share of the features with another class than is true."""
    _, objects, truth = region()
    random, codes = np.random.default_rng(seed), truth.copy()
    numbers = np.unique(objects[objects > 0])
    wrong = random.permutation(numbers)[: round(share * numbers.size)]
    for number in wrong:
        codes[number] = random.choice([code for code in range(1, len(CLASSES) + 1) if code != truth[number]])
    return codes[objects], objects, set(wrong.tolist())


def grid(shape: tuple[int, int] = (SIZE, SIZE)) -> Grid:
    return Grid(CRS.from_epsg(32633), Affine(10, 0, 500_000, 0, -10, 5_000_000), *shape)


def suspected(labels: np.ndarray, features: np.ndarray) -> dict[int, int]:
    """Suspects and what they look like."""
    footprints = footprints_of(labels, features)
    profiles = profiles_of(region()[0], squares(labels, 0), footprints, 0)
    assert profiles.number.size == np.unique(features).size - 1
    return {one.feature: one.looks_like for one in find_suspects(profiles, labels, footprints, grid(), 0)}


def test_planted_errors_are_found_and_clean_labels_are_left_alone(record_property: Any) -> None:
    truth, found, right, wrong, named = region()[2], 0, 0, 0, 0
    for seed in range(5):
        labels, features, planted_here = planted(0.08, seed)
        suspects = suspected(labels, features)
        found += len(suspects)
        right += len(set(suspects) & planted_here)
        wrong += len(planted_here)
        named += sum(suspects[number] == truth[number] for number in set(suspects) & planted_here)
    precision, recall = right / found, right / wrong
    record_property("precision", precision)
    record_property("recall", recall)
    assert precision > 0.8
    assert recall > 0.75
    assert named > 0.9 * right  # the true class is the one that it looks like
    labels, features, _ = planted(0, 0)
    assert len(suspected(labels, features)) <= 0.03 * (np.unique(features).size - 1)


def test_confident_disagreement_is_that_of_the_paper() -> None:
    """A naive loop over the definition: the likeliest of the classes at least as likely as their own members find."""
    random = np.random.default_rng(0)
    for _ in range(50):
        likely = random.dirichlet(np.ones(4), 30)
        given = random.integers(0, 3, 30)  # the last class has no member
        found, confidence = disagreeing(likely, given)
        for row, own in enumerate(given):
            usual = {k: np.mean([likely[i, k] for i in range(30) if given[i] == k] or [0.0]) for k in range(4)}
            confident = [k for k in range(4) if likely[row, k] >= usual[k]]
            expected = max(confident, key=lambda k: likely[row, k]) if confident else own
            assert found[row] == expected
            assert confidence[row] == likely[row, expected]


def made(labels: np.ndarray, features: np.ndarray) -> Labelling:
    classes = tuple(
        LandCoverClass(code, name, f"#{code:02x}80{255 - 20 * code:02x}", int((labels == code).sum()), 3)
        for code, name in enumerate(CLASSES, start=1)
    )
    split = split_features(
        labels, features, grid(labels.shape),
        polygons="auto", block_size=None, buffer=None, test_fraction=0.25, validation_fraction=0.15, seed=0,
    )  # fmt: skip
    return Labelling(labels, classes, footprints_of(labels, features), split, grid(labels.shape))


def test_the_files_say_what_was_found(tmp_path: Path) -> None:
    labels, features, wrong = planted(0.08, 0)
    labelling = made(labels, features)
    lost = [Dropped("without a class", 4, None)]
    judge(tmp_path, labelling, region()[0], dropped=lost, conflicts=(12, 3), seed=0)
    said = json.loads((tmp_path / "quality.json").read_text())
    part, valid = labelling.split.part, region()[0].valid
    for entry in said["classes"]:
        own = labels == entry["code"]
        assert entry["pixels"] == own.sum()
        assert [entry[name] for name in ("train", "validation", "test")] == [(part[own] == k).sum() for k in (1, 2, 3)]
        seen = np.sort(valid.sum(axis=0)[own])
        assert entry["clear_observations"] == {"least": seen[0], "median": seen[(seen.size - 1) // 2]}
    near = {"reason": "within the buffer of another part", "pixels": int((part == 4).sum())}
    near["features"] = len(set(features[part == 4].tolist()) - {0})
    assert said["dropped"] == [{"reason": "without a class", "features": 4, "pixels": None}, near]
    assert said["conflicts"] == {"pixels": 12, "features": 3}
    assert said["split"]["min_distance_m"] == labelling.split.min_distance_m
    assert said["checked"] == {"features": np.unique(features).size - 1}
    outlines = gpd.read_file(tmp_path / "suspects.geojson")
    assert outlines.crs.to_epsg() == 4326
    burnt = rasterize(
        zip(outlines.to_crs(32633).geometry, outlines["feature"], strict=True),
        labels.shape, transform=grid().transform, dtype="uint32",
    )  # fmt: skip
    assert {one["feature"] for one in said["suspects"]} & wrong
    for one in said["suspects"]:
        np.testing.assert_array_equal(burnt == one["feature"], features == one["feature"])
        assert one["pixels"] == (features == one["feature"]).sum()
        assert one["class"] == CLASSES[labels[features == one["feature"]][0] - 1] != one["looks_like"]
        row, column = np.argwhere(features == one["feature"]).mean(axis=0)
        x, y = gpd.GeoSeries(gpd.points_from_xy([one["lon"]], [one["lat"]]), crs=4326).to_crs(32633)[0].coords[0]
        assert np.hypot((x - 500_000) / 10 - column - 0.5, (5_000_000 - y) / 10 - row - 0.5) < 6
    picture = matplotlib.image.imread(tmp_path / "quality.png")
    assert min(picture.shape[:2]) > 200


def test_the_parts_have_colours_of_their_own() -> None:
    """Even where the classes have those of the parts without them."""
    plain = part_colours(())
    named = [plain[code] for code in (TRAIN, VALIDATION, TEST)]
    classes = [
        LandCoverClass(code=n, name=f"class {n}", colour=colour, pixels=1, polygons=1)
        for n, colour in enumerate(named, start=1)
    ]
    chosen = part_colours(classes)
    assert len(set(chosen.values()) | set(named)) == 7
    places = _oklab([*named, *(chosen[code] for code in (TRAIN, VALIDATION, TEST))])
    assert min(np.linalg.norm(one - other) for one, other in combinations(places, 2)) >= 0.1


def test_imagery_that_was_never_clear_is_no_failure(tmp_path: Path) -> None:
    labels, features, _ = planted(0, 0)
    series = region()[0]
    cloudy = Series(series.reflectance, np.zeros_like(series.valid), series.times, region()[0].bands, 1e-4, 0.0)
    heard: list[Event] = []
    quality = judge(tmp_path, made(labels, features), cloudy, dropped=[], conflicts=(0, 0), seed=0, report=heard.append)
    assert quality.suspects == ()
    assert quality.checked == {"features": 0}
    assert any("ever seen clearly" in event.text for event in heard if isinstance(event, Note))
    assert quality.classes[0]["clear_observations"] == {"least": 0, "median": 0}
    assert json.loads((tmp_path / "suspects.geojson").read_text())["features"] == []


def test_a_map_without_features_is_looked_at_by_patches(tmp_path: Path) -> None:
    labels, features, _ = planted(0.08, 0)
    nothing = np.zeros_like(features)
    quality = judge(tmp_path, made(labels, nothing), region()[0], dropped=[], conflicts=(0, 0), seed=0)
    assert quality.checked["features"] == patches(labels).max()
    assert len(quality.suspects) > 3
    suspects = quality.tables()[-1]
    assert f"{patches(labels).max()} patches compared" in suspects.title
    assert suspects.columns[0] == "patch"


def test_patches_are_those_of_a_flood_fill() -> None:
    labels = np.random.default_rng(0).integers(0, 3, (12, 15)).astype(np.uint8)
    found = patches(labels)
    np.testing.assert_array_equal(found > 0, labels > 0)
    for number in range(1, int(found.max()) + 1):
        pixels = {tuple(place) for place in np.argwhere(found == number).tolist()}
        front, reached = [min(pixels)], {min(pixels)}
        while front:
            row, column = front.pop()
            for place in ((row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)):
                inside = 0 <= place[0] < 12 and 0 <= place[1] < 15
                if inside and place not in reached and labels[place] == labels[row, column]:
                    reached.add(place)
                    front.append(place)
        assert reached == pixels


def test_of_a_large_region_the_richest_square_of_each_class_is_read_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "SIDE", 20)
    labels, features, _ = planted(0, 0)
    series, order = region()[0], squares(labels, 0)
    first = order[: len(CLASSES)]
    for code in range(1, len(CLASSES) + 1):
        most = max(int((labels[tile.slices] == code).sum()) for tile in order)
        assert any((labels[tile.slices] == code).sum() == most for tile in first)
    monkeypatch.setattr(looking, "MOST_SIGHTINGS", 20 * 20 * SCENES * len(first))
    seen = np.concatenate([series.valid[:, *tile.slices].sum(axis=0)[labels[tile.slices] == 3] for tile in first])
    assert clear_observations(series, order, labels)[3]["least"] == seen.min()
    monkeypatch.setattr("eearth.quality.profiles.MOST_VALUES", 20 * 20 * SCENES * len(BANDS) * 3)
    profiles = profiles_of(series, order, footprints_of(labels, features), 0)
    inside = np.concatenate([features[tile.slices].ravel() for tile in order[:3]])
    assert set(profiles.number) <= set(inside.tolist())


def test_of_an_even_number_of_pixels_the_lower_median_counts() -> None:
    valid = np.arange(4)[:, None, None] < np.array([[0, 1, 3, 4, 4]])
    series = Series(np.ones((4, 1, 1, 5)), valid, np.arange(4).astype("datetime64[D]"), ("red",))
    found = clear_observations(series, squares(labels := np.array([[1, 1, 1, 1, 0]], np.uint8), 0), labels)
    assert found == {1: {"least": 0, "median": 1}}


def test_of_many_features_those_of_a_rare_class_are_drawn_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eearth.quality.profiles.MOST_FEATURES", 20)
    monkeypatch.setattr("eearth.quality.profiles.FEWEST_OF_A_CLASS", 2)
    features = np.arange(1, 2501, dtype=np.uint32).reshape(50, 50)
    labels = np.where(features <= 3, 2, 1).astype(np.uint8)
    series = Series(np.ones((1, 1, 50, 50)), np.ones((1, 50, 50), bool), np.zeros(1, "datetime64[D]"), ("red",))
    profiles = profiles_of(series, squares(labels, 0), footprints_of(labels, features), 0)
    assert np.bincount(profiles.code).tolist() == [0, 18, 2]


def test_lost_features_are_counted_by_reason() -> None:
    labels = np.array([[1, 1, 2]], np.uint8)
    footprints = footprints_of(labels, np.array([[4, 4, 9]], np.uint32))
    found = left_out({"without a class": 2}, 3, 7, footprints)
    assert [(one.features, one.reason.split()[0]) for one in found] == [(2, "without"), (3, "within"), (2, "on")]
    assert isinstance(made(*planted(0, 0)[:2]).split, Split)
