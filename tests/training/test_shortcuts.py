"""The contrastive loss cannot be solved without looking at the ground: not by padding, by cloud edges, nor by dates."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from eearth.data.series import Series
from eearth.settings import PretrainSettings
from eearth.training.pretrain import pretrain

SETTINGS = PretrainSettings(
    evening=0.0, agreement=0.0, steps=60, batch_size=8, pixels=24, dates=8, features=32, learning_rate=3e-3,
    exclusion=16.0, probe_every=0,
)  # fmt: skip


def imagery(ground: float) -> Series:
    """Each date has its own level and its own blocks of cloud, each value its own noise; fields differ by `ground`."""
    random, side, times = np.random.default_rng(0), 96, 16
    dates = np.datetime64("2021-01-10", "ns") + np.arange(times) * np.timedelta64(22, "D")
    level = random.uniform(0.1, 0.5, (times, 2, 1, 1))
    fields = ground * np.kron(random.normal(size=(2, side // 8, side // 8)), np.ones((8, 8)))
    cloudy = np.kron(random.random((times, side // 8, side // 8)) < 0.4, np.ones((8, 8), bool))
    values = np.where(cloudy[:, None], 0.8, level + fields + random.normal(0, 0.03, (times, 2, side, side)))
    return Series((values * 1e4).astype(np.int16), ~cloudy, dates, ("nir", "red"), 1e-4)


def reached(series: Series, settings: PretrainSettings) -> float:
    """The loss at the end of a training."""
    _, history = pretrain([series], settings)
    return float(np.mean([row["loss"] for row in history[-30:]]))


def test_where_the_ground_tells_nothing_nothing_is_learnt() -> None:
    """Unrelated pixels give what chance gives; only noise that both views share would tell pixels apart."""
    empty = imagery(ground=0.0)
    chance = reached(empty, replace(SETTINGS, shuffle=True))
    assert reached(empty, SETTINGS) == pytest.approx(chance, abs=0.03)
    assert reached(empty, replace(SETTINGS, same_dates=True)) < chance - 0.5


def test_where_it_tells_something_that_is_learnt() -> None:
    fields = imagery(ground=0.1)
    assert reached(fields, SETTINGS) < reached(fields, replace(SETTINGS, shuffle=True)) - 0.1
