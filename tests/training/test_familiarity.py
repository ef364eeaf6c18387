"""What ground a model knows: its points, the distance from them, the band, and what a map's user is told."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
import torch
from fields import field_workspace
from hypothesis import given, settings
from hypothesis import strategies as st
from scenery import lonlat_outline, utm_grid
from scipy.spatial.distance import cdist
from sklearn.metrics import roc_auc_score

from eearth.data.chips import LabelledSeries
from eearth.data.series import Series, months_of, samples
from eearth.events import Event, Warned
from eearth.geo.grid import Window, tiles_of
from eearth.geo.lattice import margin_for
from eearth.geo.products.landcover.unfamiliar import unfamiliar_share, unfamiliar_warnings, unfamiliarity
from eearth.geo.products.landcover.writer import CONFIDENCE
from eearth.geo.splits.blocks import BUFFER, NONE, TEST, TRAIN, VALIDATION
from eearth.inference.tiles import map_tile, predict_tile
from eearth.models.familiarity import Familiarity
from eearth.models.files import LAND_COVER, load_land_cover, save_land_cover
from eearth.models.segmentation import LandCoverModel
from eearth.settings import FinetuneSettings, PredictSettings, PretrainSettings
from eearth.stages.finetune import finetune
from eearth.stages.predict import predict
from eearth.training.familiarity import familiarity_of, farthest_points
from eearth.training.pretrain import new_encoder

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SIDE, DATES, BANDS = 96, 6, ("blue", "red", "nir")
CLEAR = np.ones((DATES, SIDE, SIDE), bool)


def scene(seed: int) -> Series:
    """Six classes in fields of eight pixels, each with its own course over the year, the same in every scene."""
    courses = np.random.default_rng(5).uniform(500, 4000, (6, DATES, len(BANDS)))
    random = np.random.default_rng(seed)
    fields = random.integers(0, 6, (SIDE // 8, SIDE // 8)).repeat(8, 0).repeat(8, 1)
    values = courses[fields].transpose(2, 3, 0, 1) * random.normal(1, 0.05, (DATES, len(BANDS), SIDE, SIDE))
    times = np.array([f"2022-{month:02d}-10" for month in range(3, 3 + DATES)], "datetime64[s]")
    return Series(values.astype(np.int16), CLEAR, times, BANDS, 1e-4)


def halves() -> NDArray[np.uint8]:
    """Test and validation blocks on the right, a buffer before them; only some of the left is labelled."""
    split = np.full((SIDE, SIDE), NONE, np.uint8)
    split[::2, :64] = TRAIN
    split[:, 64:72] = BUFFER
    split[:48, 72:], split[48:, 72:] = TEST, VALIDATION
    return split


@cache
def trained() -> tuple[LandCoverModel, LabelledSeries]:
    """A model that knows the left half of a scene."""
    region = LabelledSeries(scene(0), np.ones((SIDE, SIDE), np.uint8), halves())
    encoder = new_encoder([region.series], PretrainSettings(features=16, depth=1, seed=3))
    encoder.get_used_to(samples([region.series], BANDS))
    model = LandCoverModel(encoder, (1, 2))
    torch.nn.init.normal_(model.head.weight)
    model.familiarity = familiarity_of(encoder, [region], "cpu")
    return model.eval(), region


def band(series: Series) -> NDArray[np.uint8]:
    """The unfamiliarity of a whole series."""
    sliding: dict[str, Any] = {"size": 96, "margin": 0, "device": "cpu", "batch": 1, "bands": BANDS}
    _, distance, seen = map_tile(trained()[0], series, Window(0, 0, *series.shape), **sliding)
    return unfamiliarity(distance, seen > 0)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 40), st.integers(1, 5), st.integers(1, 12), st.integers(0, 1000))
def test_the_points_are_those_of_a_naive_loop(pixels: int, features: int, count: int, seed: int) -> None:
    values = np.random.default_rng(seed).normal(0, 1, (pixels, features)).astype(np.float32)
    expected = [int(cdist(values, values.mean(0, dtype=np.float64)[None]).argmin())]
    while len(expected) < min(count, pixels):
        expected.append(int(cdist(values, values[expected]).min(axis=1).argmax()))
    np.testing.assert_array_equal(farthest_points(values, count), values[expected])


def test_equal_features_make_one_point() -> None:
    assert farthest_points(np.ones((50, 3), np.float32), 8).tolist() == [[1, 1, 1]]


def test_the_distance_is_that_to_the_nearest_point() -> None:
    random = np.random.default_rng(1)
    known = Familiarity(11, 5)
    known.points.copy_(torch.from_numpy(random.normal(3, 2, (11, 5))))
    known.reach.fill_(2.5)
    features = random.normal(3, 4, (2, 5, 6, 7)).astype(np.float32)
    features[0, :, 0, 0] = known.points[4].numpy()
    found = known(torch.from_numpy(features)).numpy()
    pixels = features.transpose(0, 2, 3, 1).reshape(-1, 5)
    expected = cdist(pixels, known.points.numpy()).min(axis=1).reshape(2, 1, 6, 7) / 2.5
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-3)


def test_a_hundredth_of_the_own_held_out_ground_is_beyond_100_and_planted_ground_is() -> None:
    own = band(trained()[1].series)[:, 72:]
    assert (own > 100).mean() < 0.03
    assert own.max() > 60  # a scale so wide that nothing comes near it would flag nothing
    foreign = scene(0)
    values = np.array(foreign.reflectance)
    values[:, :, 32:64, 32:64] = values[::-1, :, 32:64, 32:64] // 2 + np.array([2500, 0, 900])[:, None, None]
    found = band(replace(foreign, reflectance=values))
    inner, rest = found[36:60, 36:60], np.delete(found, slice(20, 76), axis=0)
    assert (inner > 100).mean() > 0.95
    assert (rest > 100).mean() < 0.03
    truth = np.repeat([0, 1], [rest.size, inner.size])
    assert roc_auc_score(truth, np.concatenate([rest.ravel(), inner.ravel()])) > 0.99


def test_another_scene_of_the_same_kind_is_familiar() -> None:
    assert (band(scene(1)) > 100).mean() < 0.1


@pytest.mark.parametrize(("factor", "offset"), [(1e4, 0.0), (1.0, 0.1), (1.0, -0.1), (0.3, 0.0)])
def test_a_mistake_in_the_scale_is_seen(factor: float, offset: float) -> None:
    wrong = replace(trained()[1].series, scale=1e-4 * factor, offset=offset)
    assert (band(wrong) > 100).mean() > 0.95


def test_ground_that_is_held_out_is_not_learnt() -> None:
    model, region = trained()
    values = np.array(region.series.reflectance)
    values[..., 72:] = 30_000
    again = familiarity_of(model.encoder, [replace(region, series=replace(region.series, reflectance=values))], "cpu")
    assert again is not None
    assert model.familiarity is not None
    torch.testing.assert_close(again.points, model.familiarity.points)
    torch.testing.assert_close(again.reach, model.familiarity.reach)


def test_ground_never_seen_teaches_nothing_and_too_little_is_no_ground() -> None:
    model, region = trained()
    hidden = CLEAR.copy()
    hidden[:, 1:] = False
    few = replace(region, series=replace(region.series, valid=hidden))
    assert familiarity_of(model.encoder, [few], "cpu") is None  # 64 pixels
    assert familiarity_of(model.encoder, [replace(few, split=np.full_like(few.split, TEST))], "cpu") is None


def test_the_models_file_keeps_it(tmp_path: Path) -> None:
    model, region = trained()
    save_land_cover(tmp_path, model, {}, [])
    loaded, saved = load_land_cover(tmp_path / LAND_COVER)
    assert saved.network["familiarity"]["months"] == [3, 4, 5, 6, 7, 8]
    chips = region.series.chips([Window(0, 0, 16, 16)], bands=BANDS)
    for one, other in zip(loaded.with_distance(chips), model.with_distance(chips), strict=True):
        assert torch.equal(one, other)
    assert torch.equal(model.with_distance(chips)[0], model(chips))
    plain = LandCoverModel(model.encoder, (1, 2))
    assert "familiarity" not in plain.config()
    save_land_cover(tmp_path, plain, {}, [])
    assert load_land_cover(tmp_path / LAND_COVER)[0].with_distance(chips)[1].isnan().all()


def test_tiles_and_windows_change_no_distance_and_probabilities_are_the_same() -> None:
    model, region = trained()
    small: dict[str, Any] = {"size": 64, "margin": margin_for(model.margin), "device": "cpu", "batch": 3}
    whole = map_tile(model, region.series, Window(0, 0, SIDE, SIDE), size=96, margin=0, device="cpu", batch=1)
    plain, _ = predict_tile(model, region.series, Window(0, 0, SIDE, SIDE), **small)
    for tile in tiles_of((SIDE, SIDE), 48):
        probabilities, distance, seen = map_tile(model, region.series, tile, **small)
        np.testing.assert_allclose(distance, whole[1][tile.slices], rtol=1e-3, atol=2e-3)
        np.testing.assert_allclose(probabilities, plain[:, *tile.slices], atol=1e-5)
        assert (seen == DATES).all()


def test_the_band() -> None:
    distance = np.array([[0.0, 0.504, 1.0, 2.54, 2.55, 1e9, np.nan, 1.0]], np.float32)
    seen = np.array([[True] * 7 + [False]])
    assert unfamiliarity(distance, seen).tolist() == [[0, 50, 100, 254, 254, 254, 255, 255]]


def test_what_the_user_is_told() -> None:
    assert unfamiliar_warnings(None, (), (5,)) == []
    assert unfamiliar_warnings(0.2, (5, 6), (4, 5, 6)) == []
    much, season = unfamiliar_warnings(0.413, (4, 5, 7), (5,))
    assert much.startswith("41% of the map is unlike what the model was trained on")
    assert season == "the model was trained on imagery of April, July too, of which there is none here"
    assert months_of(np.array(["2021-12-31", "2020-01-01", "2022-01-05"], "datetime64[s]")) == (1, 12)


def test_a_map_says_where_it_is_not_to_be_trusted(tmp_path: Path) -> None:
    workspace = field_workspace(tmp_path)
    finetune(workspace, FinetuneSettings(steps=1, batch_size=2, window_size=12))
    path = workspace.folder("finetune") / LAND_COVER
    region = tmp_path / "region.geojson"
    region.write_text(json.dumps(lonlat_outline(utm_grid(48, 48))), encoding="utf-8")
    told: list[Event] = []
    manifest = predict(workspace, PredictSettings(region=region, device="cpu"), told.append)
    assert manifest is not None
    with rasterio.open(workspace.folder("predict") / CONFIDENCE) as file:
        found = file.read(5)
        never = file.read(2) == 0
    assert (found[never] == 255).all()
    share = (found[found < 255] > 100).mean()
    assert unfamiliar_share(workspace.folder("predict") / CONFIDENCE) == share
    assert manifest.figures["unlike the training"] == f"{share:.1%}"
    assert not [event for event in told if isinstance(event, Warned)]

    model, saved = load_land_cover(path)
    assert model.familiarity is not None
    model.familiarity.reach /= 1e6
    model.familiarity.months = (*model.familiarity.months, 13 - 1)
    save_land_cover(tmp_path, model, saved.imagery, saved.classes)
    predict(workspace, PredictSettings(region=region, model=tmp_path / LAND_COVER, device="cpu"), told.append)
    much, season = (event.text for event in told if isinstance(event, Warned))
    assert re.match(r"(100|9\d)% of the map is unlike", much)
    assert "December" in season
