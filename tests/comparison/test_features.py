from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from eearth import classifiers
from eearth.classifiers import forest, probe
from eearth.comparison import features as module
from eearth.comparison.features import encoded, monthly_medians
from eearth.data.series import Series
from eearth.geo.grid import Window
from eearth.settings import PretrainSettings
from eearth.training.pretrain import new_encoder


def series(seed: int = 0, height: int = 19, width: int = 23) -> Series:
    """Fourteen dates over sixteen months, one month twice, and a pixel that is never seen."""
    random = np.random.default_rng(seed)
    values = random.integers(1, 5000, (14, 3, height, width)).astype(np.int16)
    valid = random.random((14, height, width)) < 0.4
    valid[:, 2, 3] = False
    months = np.array([0, 1, 1, 3, 4, 5, 6, 8, 9, 10, 11, 12, 14, 15])
    times = (np.datetime64("2020-01", "M") + months).astype("datetime64[D]") + np.arange(14)
    return Series(values, valid, times.astype("datetime64[ns]"), ("blue", "red", "nir"), 1e-4, -0.1)


def test_monthly_medians_are_those_of_a_naive_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MEDIAN_TILE", 8)
    one = series()
    wanted = np.random.default_rng(1).random(one.shape) < 0.5
    wanted[2, 3] = True
    month = np.array([int(str(time)[5:7]) for time in one.times])
    rows = []
    for row, col in np.argwhere(wanted):
        seen = one.valid[:, row, col]
        pixel = one.reflectance[:, :, row, col] * 1e-4 - 0.1
        whole = np.median(pixel[seen], axis=0) if seen.any() else np.zeros(3)
        months = [seen & (month == each) for each in sorted(set(month))]
        rows.append(np.concatenate([np.median(pixel[part], axis=0) if part.any() else whole for part in months]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = monthly_medians(one, wanted)
    np.testing.assert_allclose(found, np.array(rows), atol=1e-6)


def test_frozen_features_are_those_of_the_whole_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EVALUATION_TILE", 8)
    one = series()
    encoder = new_encoder([one], PretrainSettings(features=8)).eval()
    with torch.no_grad():
        whole = encoder(one.chips([Window(0, 0, *one.shape)]))[0].numpy()
    wanted = np.random.default_rng(2).random(one.shape) < 0.3
    wanted[2, 3] = True
    found = encoded(one, encoder, wanted, "cpu")
    seen = one.valid.any(axis=0)[wanted]
    np.testing.assert_allclose(found[seen], whole[:, wanted].T[seen], atol=1e-5)
    assert not found[~seen].any()


@pytest.mark.parametrize("name", ["forest", "probe"])
def test_classifiers_learn(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifiers, "TREES", 20)
    random = np.random.default_rng(0)
    codes = np.repeat(np.array([3, 200], np.uint8), 10)
    features = (random.normal(0, 1, (20, 4)) + 4 * (codes == 200)[:, None]).astype(np.float32)
    model = forest(features, codes, 5) if name == "forest" else probe(features, codes, features)
    assert model(features).tolist() == codes.tolist()
    assert model(features).dtype == np.uint8


def test_a_forest_is_a_function_of_its_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifiers, "TREES", 5)
    random = np.random.default_rng(0)
    noise, codes = random.normal(0, 1, (220, 4)).astype(np.float32), random.integers(1, 4, 20).astype(np.uint8)
    one, again, other = (forest(noise[:20], codes, seed)(noise[20:]).tolist() for seed in (5, 5, 6))
    assert one == again != other


def test_the_probes_standard_is_that_of_the_usual_pixels() -> None:
    """A band that hardly varies among many pixels tells classes apart if it is made comparable with the others."""
    random = np.random.default_rng(0)
    codes = np.tile(np.array([1, 2], np.uint8), 500)
    features = np.stack([random.normal(0, 100, 1000), random.normal(0, 0.001, 1000) + 0.01 * (codes == 2)], axis=1)
    model = probe(features[:20], codes[:20], features)
    assert (model(features) == codes).mean() > 0.97
