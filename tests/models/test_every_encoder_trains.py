"""Every encoder through pre-training, a file, fine-tuning and a map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from eearth.data.chips import LabelledSeries
from eearth.data.series import Series
from eearth.geo.grid import Window
from eearth.geo.lattice import margin_for
from eearth.inference.classify import classify
from eearth.inference.tiles import predict_tile
from eearth.models.files import ENCODER, LAND_COVER, load_encoder, load_land_cover, save_encoder, save_land_cover
from eearth.models.registry import MODELS
from eearth.settings import FinetuneSettings, PretrainSettings
from eearth.training.finetune import finetune
from eearth.training.pretrain import pretrain

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIDE = 53

# Fast enough, and with nothing to disturb it, so that a network of any kind learns two crops in a few steps.
EASY: dict[str, Any] = {"learning_rate": 1e-3, "head_learning_rate": 3e-3, "gain": 0.0, "offset": 0.0, "noise": 0.0}


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Small convolutions are slower on several threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def region(times: int = 6) -> LabelledSeries:
    """Two crops in square fields: each is green in its own half of the year."""
    random = np.random.default_rng(0)
    fields = np.kron(random.integers(0, 2, (7, 7)), np.ones((8, 8), int))[:SIDE, :SIDE]
    dates = np.datetime64("2021-01-10", "ns") + np.arange(times) * np.timedelta64(60, "D")
    season = np.cos(2 * np.pi * np.arange(times) / times)
    green = 0.4 + 0.2 * season[:, None, None] * np.where(fields, 1, -1)
    values = (np.stack([green, 1 - green], axis=1) + random.normal(0, 0.03, (times, 2, SIDE, SIDE))) * 10_000
    valid = random.random((times, SIDE, SIDE)) < 0.7
    series = Series(values.astype(np.int16), valid, dates, ("nir", "red"), 1e-4)
    return LabelledSeries(series, np.where(fields, 9, 4).astype(np.uint8), np.ones((SIDE, SIDE), np.uint8))


@pytest.mark.parametrize("name", MODELS)
def test_from_imagery_to_a_map_in_windows(name: str, tmp_path: Path) -> None:
    one = region()
    settings = PretrainSettings(model=name, steps=2, batch_size=2, window_size=8, pixels=10, dates=3, features=8)  # type: ignore[arg-type]
    encoder, history = pretrain([one.series], settings)
    assert [row["step"] for row in history] == [1, 2]
    assert np.isfinite([row["loss"] for row in history]).all()
    save_encoder(tmp_path, encoder, {})
    started = load_encoder(tmp_path / ENCODER)
    tuning = FinetuneSettings(labels_per_class=100, steps=40, batch_size=4, window_size=8, dates=6, **EASY)
    model, history = finetune(started, [one], tuning)
    assert [row["step"] for row in history] == list(range(41))
    assert history[0]["start_loss"] < np.log(2)
    assert np.isfinite([row["loss"] for row in history[1:]]).all()
    save_land_cover(tmp_path, model, {}, [])
    model, _ = load_land_cover(tmp_path / LAND_COVER)
    assert type(model.encoder) is MODELS[name]
    whole, margin = Window(0, 0, SIDE, SIDE), margin_for(model.margin)
    large, observations = predict_tile(model, one.series, whole, size=64, margin=0, device="cpu", batch=1)
    small, _ = predict_tile(model, one.series, whole, size=2 * margin + 12, margin=margin, device="cpu", batch=4)
    np.testing.assert_allclose(small, large, atol=1e-4)
    mapped = classify(large, observations, np.ones((SIDE, SIDE), bool), model.classes).landcover
    seen = one.series.valid.any(axis=0)
    assert set(np.unique(mapped[seen])) <= {4, 9}
    assert (mapped[~seen] == 0).all()
    assert (mapped == one.labels)[seen].mean() > 0.85
