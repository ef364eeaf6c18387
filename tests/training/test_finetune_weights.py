"""How much pixels of a class count, and how often they are drawn."""

from __future__ import annotations

import numpy as np
import pytest
from test_training import PRETRAIN, region

from eearth.data.chips import LabelledPixels, LabelledSeries
from eearth.errors import UsageError
from eearth.geo.grid import Window
from eearth.settings import FinetuneSettings
from eearth.training.finetune import finetune
from eearth.training.pretrain import new_encoder
from eearth.training.weighting import balanced_weights, class_weights

LEGEND = {"late": 4, "early, or not": 9, "water": 12}
COUNTS = np.array([400, 100])


def weights(*given: str, counts: np.ndarray = COUNTS, balance: float = 0.5) -> list[float]:
    settings = FinetuneSettings(class_weights=given or ("auto",), class_balance=balance)
    return class_weights(counts, (4, 9), settings, LEGEND).tolist()


def test_automatic_weights_average_one_and_favour_the_rare() -> None:
    assert balanced_weights(np.array([400, 100, 0]), 0.5).tolist() == pytest.approx([2 / 3, 4 / 3, 0.0])
    assert balanced_weights(COUNTS, 0.0).tolist() == [1.0, 1.0]
    assert weights() == pytest.approx([2 / 3, 4 / 3])
    assert weights("none") == [1.0, 1.0]


def test_by_default_weights_are_milder_with_all_labels_than_with_a_budget() -> None:
    for settings, balance in ((FinetuneSettings(), 0.25), (FinetuneSettings(labels_per_class=5), 0.5)):
        found = class_weights(COUNTS, (4, 9), settings, LEGEND)
        assert found.tolist() == balanced_weights(COUNTS, balance).tolist()


def test_factors_multiply_the_automatic_weights_by_name_or_code() -> None:
    assert weights("late=3") == pytest.approx([2.0, 4 / 3])
    assert weights("4=3", "early, or not=0.5") == pytest.approx([2.0, 2 / 3])
    assert weights("late=3", "9=2", balance=0.0) == [3.0, 2.0]
    assert weights("water=7") == weights()  # in the legend, but nothing of it is for training


@pytest.mark.parametrize("given", ["laet=2", "7=2", "=2"])
def test_a_class_that_is_not_there_is_one_clear_line(given: str) -> None:
    with pytest.raises(UsageError, match=r"^expected .*class(es)?.*found '?" + given.partition("=")[0]) as error:
        weights(given)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "given", [("late",), ("late=many",), ("late=-1",), ("late=inf",), ("auto", "late=2"), ("late=nan",)]
)
def test_a_factor_that_is_none_is_refused_as_a_setting(given: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="expected auto, none or NAME=FACTOR for class_weights"):
        FinetuneSettings(class_weights=given)


def test_weights_that_leave_one_class_are_refused() -> None:
    with pytest.raises(UsageError, match="at least two classes"):
        weights("late=0")


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        ("crossentropy", "did you mean cross_entropy"),
        ("dice+dice", "once"),
        ("", "found ''"),
        ("dice+", "found ''"),
    ],
)
def test_a_loss_that_is_none_is_refused(loss: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        FinetuneSettings(loss=loss)


def test_a_class_without_weight_is_hardly_mapped() -> None:
    """Three classes of which one counts nothing: the logistic regression that fine-tuning starts from ignores it."""
    one = region()
    labels = one.labels.copy()
    labels[:, 24:][one.labels[:, 24:] == 4] = 12
    three = LabelledSeries(one.series, labels, np.ones_like(one.split))
    encoder = new_encoder([one.series], PRETRAIN)
    start = FinetuneSettings(labels_per_class=40)
    mapped = {}
    for given in (("auto",), ("water=0",)):
        settings = FinetuneSettings(labels_per_class=start.labels_per_class, class_weights=given)
        model, _ = finetune(encoder, [three], settings, legend=LEGEND)
        scores = model(one.series.chips([Window(0, 0, *one.series.shape)]))
        mapped[given[0]] = (scores.argmax(dim=1) == 2).float().mean().item()
    assert mapped["auto"] > 0.1
    assert mapped["water=0"] < 0.01


@pytest.mark.parametrize("balanced", [True, False])
def test_windows_are_drawn_around_each_class_as_often_or_each_pixel(balanced: bool) -> None:  # noqa: FBT001
    one = region()
    rare = (one.labels == 9) & (np.random.default_rng(0).random(one.labels.shape) < 0.05)
    chosen = (one.labels == 4) | rare
    pixels = LabelledPixels([one], [chosen], (4, 9))
    random = np.random.default_rng(1)
    batch = pixels.draw(random, bands=one.series.bands, chips=400, size=1, dates=10, balanced=balanced)
    share = (batch.target == 1).sum().item() / max(1, (batch.target >= 0).sum().item())
    expected = 0.5 if balanced else rare.sum() / chosen.sum()
    assert share == pytest.approx(expected, abs=0.06)


def test_layers_that_stay_as_they_are_have_no_rates() -> None:
    with pytest.raises(UsageError, match=r"expected --layer-decay with --mode full or gradual only, found 0\.8"):
        FinetuneSettings(mode="frozen", layer_decay=0.8)
