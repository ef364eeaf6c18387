from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from sklearn.metrics import jaccard_score

from eearth.data.chips import LabelledSeries
from eearth.data.series import Series
from eearth.errors import LabelError, ModelError
from eearth.events import Advanced, Event, Started
from eearth.geo.grid import Window
from eearth.settings import FinetuneSettings, PretrainSettings
from eearth.training import loop
from eearth.training.finetune import finetune, planned_steps
from eearth.training.pretrain import at_home, new_encoder, pretrain
from eearth.training.validation import mean_iou, validation_windows

if TYPE_CHECKING:
    from pathlib import Path

PRETRAIN = PretrainSettings(steps=8, batch_size=4, window_size=12, pixels=20, dates=4, features=16)
FINETUNE = FinetuneSettings(steps=12, batch_size=4, window_size=12, validate_every=4)


def region(seed: int = 0, times: int = 10) -> LabelledSeries:
    """Two crops in square fields: each is green in its own half of the year."""
    random = np.random.default_rng(seed)
    fields = np.kron(random.integers(0, 2, (6, 6)), np.ones((8, 8), int))
    dates = np.datetime64("2021-01-10", "ns") + np.arange(times) * np.timedelta64(36, "D")
    season = np.cos(2 * np.pi * np.arange(times) / times)
    green = 0.4 + 0.2 * season[:, None, None] * np.where(fields, 1, -1)
    noise = random.normal(0, 0.03, (times, 2, *fields.shape))
    values = (np.stack([green, 1 - green], axis=1) + noise) * 10_000
    valid = random.random((times, *fields.shape)) < 0.8
    labels = np.where(fields, 9, 4).astype(np.uint8)
    split = np.kron(random.integers(1, 4, (6, 6)), np.ones((8, 8), int)).astype(np.uint8)
    return LabelledSeries(Series(values.astype(np.int16), valid, dates, ("nir", "red"), 1e-4), labels, split)


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(mine, theirs) for mine, theirs in pairs)


class Killed(BaseException):
    pass


def kill_at(step: int) -> object:
    seen = []

    def report(event: Event) -> None:
        if isinstance(event, Advanced):
            seen.append(event)
            if len(seen) == step:
                raise Killed

    return report


@pytest.fixture(autouse=True)
def checkpoint_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(loop, "CHECKPOINT_SHARE", float("inf"))


def test_the_same_seed_gives_the_same_weights_and_another_one_does_not() -> None:
    series = [region().series]
    one, history = pretrain(series, dataclasses.replace(PRETRAIN, seed=3))
    again, _ = pretrain(series, dataclasses.replace(PRETRAIN, seed=3))
    other, _ = pretrain(series, dataclasses.replace(PRETRAIN, seed=4))
    assert same(one, again)
    assert not same(one, other)
    assert [row["step"] for row in history] == list(range(1, 9))


def test_training_leaves_torchs_own_random_state_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    pretrain([region().series], dataclasses.replace(PRETRAIN, steps=1))
    assert torch.equal(torch.rand(3), expected)


def test_pretraining_killed_and_resumed_gives_the_same_weights(tmp_path: Path) -> None:
    series = [region().series]
    straight, history = pretrain(series, PRETRAIN)
    with pytest.raises(Killed):
        pretrain(series, PRETRAIN, checkpoint=tmp_path, report=kill_at(5))  # type: ignore[arg-type]
    started: list[int] = []
    resumed, whole = pretrain(
        series,
        PRETRAIN,
        checkpoint=tmp_path,
        report=lambda event: started.append(event.done) if isinstance(event, Started) else None,
    )
    assert started == [5]
    assert whole == history
    assert same(straight, resumed)


@pytest.mark.parametrize("labels_per_class", [None, 5])
def test_finetuning_killed_and_resumed_gives_the_same_weights(tmp_path: Path, labels_per_class: int | None) -> None:
    one = region()
    settings = dataclasses.replace(FINETUNE, labels_per_class=labels_per_class)
    encoder = new_encoder([one.series], PRETRAIN)
    straight, history = finetune(encoder, [one], settings)
    with pytest.raises(Killed):
        finetune(encoder, [one], settings, checkpoint=tmp_path, report=kill_at(6))  # type: ignore[arg-type]
    resumed, whole = finetune(encoder, [one], settings, checkpoint=tmp_path)
    assert whole == history
    assert same(straight, resumed)
    assert any("validation_miou" in row for row in history) == (labels_per_class is None)


def test_the_loss_falls_and_the_classes_are_learnt() -> None:
    one = region()
    encoder, history = pretrain([one.series], dataclasses.replace(PRETRAIN, steps=40, batch_size=8))
    losses = [row["loss"] for row in history]
    assert np.mean(losses[-10:]) < np.mean(losses[:10])
    model, _ = finetune(encoder, [one], dataclasses.replace(FINETUNE, labels_per_class=5, steps=30))
    score = mean_iou(model, [one], [(0, Window(0, 0, 48, 48))], torch.device("cpu"), part=3)
    assert score > 0.9
    assert model.classes == (4, 9)


def test_mean_iou_is_scikit_learns() -> None:
    one = region()
    model, _ = finetune(new_encoder([one.series], PRETRAIN), [one], dataclasses.replace(FINETUNE, steps=1))
    torch.nn.init.normal_(model.head.weight, std=0.3)
    whole = Window(0, 0, 48, 48)
    found = mean_iou(model, [one], [(0, whole)], torch.device("cpu"))
    mapped = np.array([4, 9])[model(one.series.chips([whole])).argmax(1)[0].numpy()]
    held = (one.split == 2) & one.series.valid.any(0)
    assert found == pytest.approx(jaccard_score(one.labels[held], mapped[held], average="macro"))


def test_frozen_leaves_the_encoder_as_it_was_and_full_does_not() -> None:
    one = region()
    encoder = new_encoder([one.series], PRETRAIN)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    for mode in ("frozen", "full"):
        model, _ = finetune(encoder, [one], dataclasses.replace(FINETUNE, mode=mode, labels_per_class=5, steps=3))  # type: ignore[arg-type]
        kept = all(torch.equal(before[name], value) for name, value in model.encoder.state_dict().items())
        assert kept == (mode == "frozen")
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())


def test_several_regions_with_their_bands_in_another_order_train_one_encoder() -> None:
    one, two = region(0), region(1, times=4)
    turned = Series(two.series.reflectance[:, ::-1], two.series.valid, two.series.times, ("red", "nir"), 1e-4)
    encoder, _ = pretrain([one.series, turned], PRETRAIN)
    straight, _ = pretrain([one.series, two.series], PRETRAIN)
    assert same(encoder, straight)


def test_regions_with_other_bands_are_refused() -> None:
    one = region().series
    other = Series(one.reflectance, one.valid, one.times, ("nir", "blue"), 1e-4)
    with pytest.raises(ModelError, match="same bands"):
        pretrain([one, other], PRETRAIN)


def test_an_encoder_from_elsewhere_takes_what_is_usual_here_and_keeps_what_it_has_learnt() -> None:
    there, here = region(0).series, region(1, times=4).series
    bright = Series(here.reflectance + np.int16(2000), here.valid, here.times, here.bands, here.scale)
    learnt, _ = pretrain([there], dataclasses.replace(PRETRAIN, steps=2))
    before = {name: value.clone() for name, value in learnt.state_dict().items()}
    moved, fresh = at_home(learnt, [bright]), new_encoder([bright], PRETRAIN)
    usual = {"mean", "std", "usual", "spread"}
    for name, value in moved.state_dict().items():
        torch.testing.assert_close(value, (fresh.state_dict() if name in usual else before)[name], rtol=0, atol=0)
    assert all(torch.equal(value, before[name]) for name, value in learnt.state_dict().items())
    assert not torch.equal(moved.mean, learnt.mean)


def test_one_class_is_refused() -> None:
    one = region()
    alone = LabelledSeries(one.series, np.full_like(one.labels, 4), one.split)
    with pytest.raises(LabelError, match="2 classes"):
        finetune(new_encoder([one.series], PRETRAIN), [alone], FINETUNE)


def test_validation_windows_hold_every_validation_pixel_of_a_small_region() -> None:
    one = region()
    held = np.zeros(one.labels.shape, bool)
    for _, window in validation_windows([one]):
        held[window.slices] = True
    assert held[one.split == 2].all()


@pytest.mark.parametrize(("labels", "steps"), [(None, 300), (1, 0), (100, 0)])
def test_a_label_budget_is_spent_by_the_linear_start(labels: int | None, steps: int) -> None:
    assert planned_steps(FinetuneSettings(labels_per_class=labels)) == steps
    assert planned_steps(FinetuneSettings(labels_per_class=labels, steps=7)) == 7


def test_a_budget_without_steps_leaves_the_encoder_and_looks_at_no_validation_label() -> None:
    one = region()
    encoder = new_encoder([one.series], PRETRAIN)
    model, history = finetune(encoder, [one], FinetuneSettings(labels_per_class=5))
    assert same(model.encoder, encoder)
    assert [sorted(row) for row in history] == [["start_loss", "step"]]
    assert history[0]["step"] == 0
    score = mean_iou(model, [one], [(0, Window(0, 0, 48, 48))], torch.device("cpu"), part=3)
    assert score > 0.9


def test_without_a_budget_the_start_is_one_of_the_candidates() -> None:
    one = region()
    settings = dataclasses.replace(FINETUNE, labels_per_class=None, learning_rate=1.0, head_learning_rate=1.0)
    model, history = finetune(new_encoder([one.series], PRETRAIN), [one], settings)
    scores = [row["validation_miou"] for row in history if "validation_miou" in row]
    kept = mean_iou(model, [one], validation_windows([one]), torch.device("cpu"))
    assert history[0]["step"] == 0
    assert kept == max(scores) == scores[0]
