from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pystac
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.features import rasterize
from rasterio.warp import transform_geom
from rio_cogeo import cog_validate
from shapely.geometry import shape
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import jaccard_score

from eearth.errors import UsageError
from eearth.events import Advanced, Event, Finished, Started
from eearth.synthetic.acquisitions import FEWEST, MOST, schedule
from eearth.synthetic.catalog import encode
from eearth.synthetic.landscape import CLASSES, lay_out
from eearth.synthetic.noise import smooth_field
from eearth.synthetic.place import Place
from eearth.synthetic.reference import survey
from eearth.synthetic.region import SimulatedRegion, simulate
from eearth.synthetic.sky import Sky, Sun, sun_position

BANDS = ("blue", "green", "red", "rededge1", "rededge2", "rededge3", "nir", "nir08", "swir16", "swir22")
COARSE = {"rededge1", "rededge2", "rededge3", "nir08", "swir16", "swir22", "scl"}
CHANGE = "2022-01-25"  # first day of processing baseline 04.00
Layer = NDArray[Any]


@dataclass(frozen=True)
class Read:
    """A simulated region as a reader sees it who knows only the files."""

    paths: SimulatedRegion
    items: list[pystac.Item]
    truth: Layer
    plots: Layer  # 1 + row of the label polygon, 0 elsewhere

    def dn(self, item: pystac.Item, key: str) -> Layer:
        with rasterio.open(item.assets[key].get_absolute_href()) as source:
            return np.asarray(source.read(1))

    def fine(self, item: pystac.Item, key: str) -> Layer:
        values = self.dn(item, key)
        return values.repeat(2, 0).repeat(2, 1) if key in COARSE else values

    def reflectance(self, item: pystac.Item, key: str) -> Layer:
        return (self.fine(item, key) - 1000.0 * shifted(item)) * 1e-4

    def clear(self, item: pystac.Item) -> Layer:
        return np.isin(self.fine(item, "scl"), (4, 5, 6))


def shifted(item: pystac.Item) -> bool:
    after = item.properties["s2:processing_baseline"] >= "04.00"
    return after and not item.properties["earthsearch:boa_offset_applied"]


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> Read:
    paths = simulate(tmp_path_factory.mktemp("simulation"))
    items = sorted(
        pystac.Catalog.from_file(str(paths.catalog)).get_items(recursive=True), key=lambda i: str(i.datetime)
    )
    labels = gpd.read_file(paths.labels)
    with rasterio.open(paths.truth) as source:
        truth, transform = source.read(1), source.transform
    shapes = [(polygon, row) for row, polygon in enumerate(labels.geometry, start=1)]
    return Read(paths, items, truth, rasterize(shapes, truth.shape, transform=transform, dtype="int32"))


def whole(region: Read, clouds: float) -> list[pystac.Item]:
    """Scenes of the orbit that sees everything, with less than so many per cent of clouds."""
    properties = [(item, item.properties) for item in region.items]
    return [i for i, p in properties if p["s2:nodata_pixel_percentage"] == 0 and p["eo:cloud_cover"] < clouds]


# ---------------------------------------------------------------- catalog


def test_catalog_is_read_and_normalised_by_pystac(region: Read, tmp_path: Path) -> None:
    catalog = pystac.Catalog.from_file(str(region.paths.catalog))
    assert [child.id for child in catalog.get_children()] == ["sentinel-2-l2a"]
    assert len(region.items) == 36
    assert {item.datetime.year for item in region.items if item.datetime} == {2022}
    copy = catalog.full_copy()
    copy.normalize_hrefs(str(tmp_path))
    assert {i.id for i in copy.get_items(recursive=True)} == {i.id for i in region.items}
    for item in region.items:
        assert shape(item.geometry).bounds == pytest.approx(item.bbox)
        assert item.get_parent().id == item.collection_id == "sentinel-2-l2a"


def test_every_asset_is_a_cog_that_its_metadata_describes(region: Read) -> None:
    for item in region.items[::12]:
        assert set(item.assets) == {*BANDS, "scl"}
        for key, asset in item.assets.items():
            valid, errors, _ = cog_validate(asset.get_absolute_href())
            assert valid, errors
            with rasterio.open(asset.get_absolute_href()) as source:
                assert source.crs.to_epsg() == item.properties.get("proj:epsg", 32633)
                assert source.res == ((20, 20) if key in COARSE else (10, 10))
                assert list(source.transform)[:6] == asset.extra_fields["proj:transform"]
                assert list(source.shape) == asset.extra_fields["proj:shape"]
                assert source.dtypes == ("uint8" if key == "scl" else "uint16",)
                assert source.nodata == 0
                assert source.compression.name == "deflate"


def test_items_have_the_form_of_earth_search(region: Read, real_data: Path) -> None:
    real = json.loads((real_data / "austria" / "items" / "S2A_33TWL_20230815_0_L2A.json").read_text())
    ours = json.loads(Path(region.items[-1].get_self_href() or "").read_text())
    assert set(ours["properties"]) <= set(real["properties"])
    assert set(ours) <= set(real)
    for key in ("red", "scl"):
        assert set(ours["assets"][key]) <= set(real["assets"][key])
        assert set(ours["assets"][key]["raster:bands"][0]) == set(real["assets"][key]["raster:bands"][0])
    assert ours["assets"]["red"]["eo:bands"][0]["common_name"] == "red"


def test_the_sun_stands_where_the_real_items_say(real_data: Path) -> None:
    for path in sorted((real_data / "austria" / "items").glob("*.json")):
        item = json.loads(path.read_text())
        x, y = shape(item["geometry"]).centroid.coords[0]
        sun = sun_position(datetime.fromisoformat(item["properties"]["datetime"]), x, y)
        assert sun.elevation == pytest.approx(item["properties"]["view:sun_elevation"], abs=1.0)
        # Without the equation of time, up to four degrees of azimuth; in August just over one minute is missing.
        assert sun.azimuth == pytest.approx(item["properties"]["view:sun_azimuth"], abs=3.0)


def test_percentages_and_footprint_describe_the_pixels(region: Read) -> None:
    partial = [item for item in region.items if item.properties["s2:nodata_pixel_percentage"] > 0]
    assert 15 <= len(partial) <= 21
    for item in region.items[:12]:
        scl = region.dn(item, "scl")
        seen = scl > 0
        assert item.properties["s2:nodata_pixel_percentage"] == pytest.approx(100 * (1 - seen.mean()), abs=1e-4)
        cloudy = np.isin(scl, (8, 9, 10)).sum() / seen.sum()
        assert item.properties["eo:cloud_cover"] == pytest.approx(100 * cloudy, abs=1e-4)
        for band in ("blue", "swir16"):
            assert ((region.fine(item, band) > 0) == region.fine(item, "scl").astype(bool)).all()
        with rasterio.open(item.assets["scl"].get_absolute_href()) as source:
            outline = transform_geom("OGC:CRS84", source.crs, item.geometry)
            assert (rasterize([(outline, 1)], source.shape, transform=source.transform).astype(bool) == seen).all()


# ---------------------------------------------------------------- radiometry


def test_products_of_every_kind_around_the_change_of_baseline(region: Read) -> None:
    kinds = Counter()
    for item in region.items:
        after = str(item.datetime) >= CHANGE
        assert (item.properties["s2:processing_baseline"] >= "04.00") == after
        kinds[after, item.properties["earthsearch:boa_offset_applied"]] += 1
        stated = item.assets["blue"].extra_fields["raster:bands"][0]["offset"]
        assert stated == pytest.approx(-0.1 if after else 0)
    assert set(kinds) == {(False, False), (True, False), (True, True)}
    assert min(kinds.values()) >= 2


def test_offset_is_in_the_pixels_exactly_where_the_flag_says(region: Read) -> None:
    for item in region.items:
        blue = region.dn(item, "blue")
        darkest = np.percentile(blue[blue > 0], 1)
        if shifted(item):
            assert darkest >= 900, item.id
        elif item.properties["eo:cloud_cover"] < 50:
            assert darkest < 900, item.id


def test_reflectance_is_continuous_across_the_offset(region: Read) -> None:
    roofs = region.truth == 1 + CLASSES.index("built-up")
    medians: dict[str, list[float]] = {"before": [], "plain": [], "shifted": []}
    for item in region.items:
        clear = roofs & region.clear(item)
        if clear.sum() < 300:
            continue
        kind = "before" if str(item.datetime) < CHANGE else "shifted" if shifted(item) else "plain"
        medians[kind].append(float(np.median(region.reflectance(item, "red")[clear])))
    means = {kind: np.mean(values) for kind, values in medians.items()}
    assert means["shifted"] == pytest.approx(means["plain"], abs=0.02)
    assert means["before"] == pytest.approx(means["plain"], abs=0.03)
    assert means["plain"] > 0.08


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=30))
def test_the_offset_moves_dn_by_a_thousand(values: list[float]) -> None:
    reflectance, seen = np.array(values), np.ones(len(values), dtype=bool)
    plain, moved = (encode(reflectance, seen, shifted=flag).astype(int) for flag in (False, True))
    np.testing.assert_allclose(plain * 1e-4, np.maximum(reflectance, 1e-4), atol=0.51e-4)
    assert (moved - np.rint(reflectance * 1e4) == 1000).all()
    assert (encode(reflectance, ~seen, shifted=True) == 0).all()


# ---------------------------------------------------------------- ground truth


def test_polygons_rasterise_to_the_truth(region: Read) -> None:
    labels = gpd.read_file(region.paths.labels)
    codes = np.array([0, *(1 + CLASSES.index(name) for name in labels["class"])])
    inside = region.plots > 0
    assert (codes[region.plots][inside] == region.truth[inside]).all()
    assert 0.3 < inside.sum() / (region.truth > 0).sum() < 0.7
    assert set(np.unique(region.truth)) == set(range(9))
    assert tuple(sorted(CLASSES)) == region.paths.classes


def test_region_lies_within_the_imagery_and_labels_within_the_region(region: Read) -> None:
    outline = gpd.read_file(region.paths.region).to_crs(32633)
    with rasterio.open(region.paths.truth) as source:
        left, bottom, right, top = source.bounds
    assert outline.total_bounds == pytest.approx([left + 40, bottom + 40, right - 40, top - 40], abs=0.01)
    assert gpd.read_file(region.paths.labels).within(outline.union_all().buffer(0.01)).all()


@pytest.mark.parametrize(("size", "fewest"), [(96, 3), (128, 5)])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_class_has_polygons_to_hold_out(size: int, fewest: int, seed: int) -> None:
    polygons, classes = survey(Place(size), lay_out(size, seed=seed, year=2022), np.random.default_rng(seed))
    counts = Counter(classes)
    assert set(counts) == set(CLASSES)
    assert min(counts.values()) >= fewest
    assert all(polygon.is_valid for polygon in polygons)


def test_objects_are_disjoint_and_crops_rotate_while_meadows_stay() -> None:
    first, second = (lay_out(96, seed=4, year=year) for year in (2021, 2022))
    assert (first.objects == second.objects).all()
    assert first.classes != second.classes
    lasting = {"forest", "water", "built-up", "grassland"}
    assert [c if c in lasting else "" for c in first.classes] == [c if c in lasting else "" for c in second.classes]
    frame = gpd.GeoSeries(first.polygons)
    assert frame.area.sum() == pytest.approx(frame.union_all().area, rel=1e-9)


# ---------------------------------------------------------------- how hard it is


@pytest.fixture(scope="module")
def season(region: Read) -> Layer:
    """(y, x, feature): clear-sky medians of every month and band, gaps filled along the year."""
    months = np.array([item.datetime.month for item in region.items if item.datetime])
    cube = np.stack([[region.reflectance(item, band) for band in BANDS] for item in region.items])
    clear = np.stack([region.clear(item) for item in region.items])
    seen = np.where(clear[:, None], cube, np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a pixel that no scene of the month shows
        medians = np.stack([np.nanmedian(seen[months == month], axis=0) for month in range(1, 13)])
    return np.moveaxis(filled(medians), (0, 1), (2, 3)).reshape(*region.truth.shape, -1)


def filled(medians: Layer) -> Layer:
    """Missing months take the nearest month that was seen, going round the year."""
    result = medians.copy()
    for distance in (1, -1, 2, -2, 3, -3, 4, -4):
        result = np.where(np.isnan(result), np.roll(medians, distance, axis=0), result)
    return result


def forest_score(region: Read, features: Layer, train: Layer, test: Layer) -> float:
    """Macro IoU of a random forest on the pixels of objects that the survey did not visit."""
    model = RandomForestClassifier(50, random_state=0).fit(features[train], region.truth[train])
    return float(jaccard_score(region.truth[test], model.predict(features[test]), average="macro"))


def some(mask: Layer, truth: Layer, each: int, seed: int = 0) -> Layer:
    """Up to `each` pixels a class."""
    rng, chosen = np.random.default_rng(seed), np.zeros(mask.size, dtype=bool)
    for code in range(1, 9):
        chosen[rng.permutation(np.flatnonzero(mask & (truth == code)))[:each]] = True
    return chosen.reshape(mask.shape)


def held_out(region: Read) -> Layer:
    return (region.truth > 0) & (region.plots == 0)


def test_one_date_confuses_what_the_season_separates(region: Read, season: Layer) -> None:
    train, test = some(region.plots > 0, region.truth, 150), held_out(region)
    dates = whole(region, clouds=5)
    assert len(dates) >= 4
    single = []
    for item in dates:
        image = np.stack([region.reflectance(item, band) for band in BANDS], axis=-1)
        single.append(forest_score(region, image, train & region.clear(item), test & region.clear(item)))
    together = forest_score(region, season, train, test)
    assert max(single) < 0.65, single
    assert together > max(single) + 0.2


def test_few_labels_are_not_enough(region: Read, season: Layer) -> None:
    test, plots = held_out(region), region.plots > 0
    few = [forest_score(region, season, some(plots, region.truth, 1, seed), test) for seed in range(4)]
    many = forest_score(region, season, some(plots, region.truth, 100), test)
    assert np.mean(few) < 0.5
    assert many > 0.75


# ---------------------------------------------------------------- sky


def test_every_pixel_is_seen_and_every_pixel_is_hidden(region: Read) -> None:
    clear = np.stack([region.clear(item) for item in region.items])
    assert clear.sum(0).min() >= 3
    assert 0.3 < clear.mean() < 0.6
    assert (~clear).sum(0).min() >= 5


def test_clouds_drift_with_the_wind() -> None:
    sky = Sky.draw(160, seed=3, year=2022)
    now, soon = (sky.overhead(sky.opacity(hours, 0.4)) for hours in (50.0, 50.0 + 1 / 60))
    # Where the clouds are one minute later, by brute-force search for the best match.
    best = max(
        ((right, down) for right in range(-60, 61, 2) for down in range(-60, 61, 2)),
        key=lambda move: agreement(now, soon, *move),
    )
    assert best == pytest.approx((sky.wind[0] / 60, sky.wind[1] / 60), abs=2)
    assert sky.wind[0] > 0
    assert abs(now - soon).mean() > 0.05
    assert sky.opacity(50.0, 0.4).astype(bool).mean() == pytest.approx(0.4, abs=0.01)
    assert not sky.opacity(50.0, 0.0).any()


def agreement(before: Layer, after: Layer, right: int, down: int) -> float:
    """Correlation of `after` with `before` moved by whole pixels, over what both show."""
    h, w = before.shape
    here = before[max(0, -down) : h - max(0, down), max(0, -right) : w - max(0, right)]
    there = after[max(0, down) : h - max(0, -down), max(0, right) : w - max(0, -right)]
    return float(np.corrcoef(here.ravel(), there.ravel())[0, 1])


@pytest.mark.parametrize("sun", [Sun(160, 60), Sun(200, 30), Sun(90, 45)])
def test_a_shadow_falls_away_from_the_sun(sun: Sun) -> None:
    size, radius = 400, 4
    rows, columns = np.indices((size + 512, size + 512))
    cloud = (np.hypot(rows - 200, columns - 200) < radius).astype(np.float32)
    shade = Sky(cloud, (0, 0), size).towards_sun(cloud, sun)
    row, column = (axis.mean() for axis in np.nonzero(shade))
    length = 90 / math.tan(math.radians(sun.elevation))
    towards = math.radians(sun.azimuth)
    assert column - 200 == pytest.approx(-math.sin(towards) * length, abs=1)
    assert row - 200 == pytest.approx(math.cos(towards) * length, abs=1)


def test_scene_classes_hide_most_clouds_but_not_all(region: Read) -> None:
    sky = Sky.draw(128, seed=0, year=2022)
    passes = schedule(36, size=128, seed=0, year=2022)
    cloudy, missed, clear, taken = 0, 0, 0, 0
    for acquisition, item in zip(passes, region.items, strict=True):
        opacity = sky.overhead(sky.opacity(acquisition.hours, acquisition.cover))
        seen = region.fine(item, "scl") > 0
        cloudy += (seen & (opacity > 0.4)).sum()
        missed += (seen & (opacity > 0.4) & region.clear(item)).sum()
        clear += (seen & (opacity == 0)).sum()
        taken += (seen & (opacity == 0) & np.isin(region.fine(item, "scl"), (8, 9))).sum()
    assert 0.001 < missed / cloudy < 0.05
    assert 0.0005 < taken / clear < 0.02
    every = np.concatenate([np.unique(region.dn(item, "scl")) for item in region.items])
    assert set(every) >= {0, 3, 4, 5, 6, 7, 8, 9, 10, 11}


def test_winter_snow_is_white_and_classified(region: Read) -> None:
    december = [item for item in region.items if "2022-12-09" <= str(item.datetime) < "2022-12-19"]
    snowy = [np.isin(region.fine(item, "scl"), 11) for item in december]
    assert sum(mask.sum() for mask in snowy) > 100
    for item, mask in zip(december, snowy, strict=True):
        if mask.any():
            assert np.median(region.reflectance(item, "green")[mask]) > 0.4
            assert np.median(region.reflectance(item, "swir16")[mask]) < 0.3


# ---------------------------------------------------------------- the whole


def digests(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        simulate(tmp_path / name, size=96, scenes=6, seed=seed)
    first, again, other = (digests(tmp_path / name) for name in "abc")
    assert len(first) == 6 * 12 + 5
    assert first == again
    assert first["labels.gpkg"] != other["labels.gpkg"]
    assert first["truth.tif"] != other["truth.tif"]


def test_progress_is_reported_scene_by_scene(tmp_path: Path) -> None:
    events: list[Event] = []
    simulate(tmp_path, size=96, scenes=6, seed=5, report=events.append)
    assert [type(event) for event in events] == [Started, *[Advanced] * 6, Finished]


@pytest.mark.parametrize("wrong", [{"size": 97}, {"size": 64}, {"scenes": 5}, {"scenes": 1000}])
def test_sizes_out_of_range_are_refused(tmp_path: Path, wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError, match=rf"expected .* found {next(iter(wrong.values()))}"):
        simulate(tmp_path, **wrong)
    assert not any(tmp_path.iterdir())


@given(st.integers(FEWEST, MOST), st.integers(0, 50))
@settings(max_examples=40)
def test_schedules_rise_in_time_and_hold_every_kind(scenes: int, seed: int) -> None:
    passes = schedule(scenes, size=128, seed=seed, year=2022)
    times = [acquisition.time for acquisition in passes]
    assert times == sorted(set(times))
    assert len(times) == scenes
    assert all(time.year == 2022 and time.tzinfo == UTC for time in times)
    assert {(a.shifted, a.harmonised) for a in passes} == {(False, False), (True, False), (False, True)}
    for orbit in {a.orbit for a in passes}:
        gaps = np.diff([a.day for a in passes if a.orbit == orbit])
        assert (gaps % 5 == 0).all()


@given(st.integers(8, 80), st.floats(1, 20), st.integers(0, 1000))
@settings(max_examples=30)
def test_noise_is_standard_and_wraps_around(side: int, scale: float, seed: int) -> None:
    field = smooth_field(np.random.default_rng(seed), side, scale=scale).astype(float)
    assert field.mean() == pytest.approx(0, abs=1e-5)
    assert field.std() == pytest.approx(1, abs=1e-5)
    steps = np.abs(np.diff(field, axis=0))
    assert np.abs(field[0] - field[-1]).mean() <= steps.mean(axis=1).max() * 1.5 + 1e-6
