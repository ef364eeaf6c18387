from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from test_training import PRETRAIN, region, same

from eearth.data.chips import LabelledSeries, choose_labels, choose_together
from eearth.geo.grid import Window
from eearth.geo.lattice import STEP
from eearth.models.segmentation import LandCoverModel
from eearth.settings import FinetuneSettings
from eearth.training import head
from eearth.training.finetune import finetune
from eearth.training.head import covering, start_head
from eearth.training.pretrain import new_encoder
from eearth.training.weighting import balanced_weights

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from eearth.data.series import Series

EQUAL = torch.ones(2)


def cut(one: LabelledSeries, side: int) -> LabelledSeries:
    """The upper left corner, all of it for training."""
    series = dataclasses.replace(
        one.series, reflectance=one.series.reflectance[..., :side, :side], valid=one.series.valid[..., :side, :side]
    )
    return LabelledSeries(series, one.labels[:side, :side], np.ones((side, side), np.uint8))


def started(
    one: LabelledSeries, chosen: NDArray[np.bool_], weight: torch.Tensor = EQUAL
) -> tuple[LandCoverModel, float]:
    model = LandCoverModel(new_encoder([one.series], PRETRAIN), (4, 9))
    return model, start_head(model, [one], [chosen], weight, 0)


@torch.no_grad()
def whole(network: torch.nn.Module, series: Series) -> NDArray[np.float32]:
    """(y, x, channel) of the whole image at once."""
    found: NDArray[np.float32] = network(series.chips([Window(0, 0, *series.shape)]))[0].movedim(0, -1).numpy()
    return found


@pytest.mark.parametrize("weight", [[1.0, 1.0], [0.4, 1.6]])
def test_the_last_layer_starts_as_scikit_learns_logistic_regression(weight: list[float]) -> None:
    one = cut(region(), 20)
    chosen = choose_labels(one.labels, one.split, 6, 3)
    model, loss = started(one, chosen, torch.tensor(weight))
    features, seen = whole(model.encoder, one.series).astype(np.float64), one.series.valid.any(0)
    around = np.concatenate([features[::4, ::4][seen[::4, ::4]], features[chosen & seen]])
    scale = np.sqrt(around.var(axis=0).mean())
    known = one.labels[chosen & seen]
    stands_for = [(one.labels[chosen] == code).sum() / (known == code).sum() for code in (4, 9)]
    counts = (np.array(weight) * stands_for)[(known == 9).astype(int)]
    oracle = LogisticRegression(tol=1e-8, max_iter=1000)
    oracle.fit(features[chosen & seen] / scale, known, counts / counts.mean())
    expected = oracle.predict_proba(features.reshape(-1, 16) / scale)
    found = torch.from_numpy(whole(model, one.series)).softmax(dim=-1).reshape(-1, 2).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-3)
    own = expected.reshape(20, 20, 2)[chosen & seen, (one.labels[chosen & seen] == 9).astype(int)]
    assert loss == pytest.approx(
        np.average(-np.log(own), weights=np.array(weight)[(one.labels[chosen & seen] == 9).astype(int)]), abs=1e-3
    )


def test_features_are_those_of_the_whole_image_however_it_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    one = region()
    model = LandCoverModel(new_encoder([one.series], PRETRAIN), (4, 9))
    for weights in model.encoder.parameters():
        torch.nn.init.normal_(weights, std=0.2)
    chosen = choose_labels(one.labels, np.ones_like(one.split), 30, 0)
    seen = one.series.valid.any(0)
    expected = whole(model.encoder, one.series)[chosen & seen]
    for most in (1 << 14, 1000, 1):
        monkeypatch.setattr(head, "WINDOW_PIXELS", most)
        features, codes, _ = head._seen(model, one, chosen, 0)
        assert np.bincount(codes).tolist() == np.bincount(one.labels[chosen & seen]).tolist()
        apart = np.abs(features[:, None] - expected[None]).max(axis=2)
        assert (apart.min(axis=0) < 1e-4).all()
        assert (apart.min(axis=1) < 1e-4).all()


MARGINS = st.integers(0, 16)
SHAPE = (300, 200)


def places(least: int, most: int) -> st.SearchStrategy[list[tuple[int, int]]]:
    place = st.integers(least, most)
    return st.lists(st.tuples(place, place), min_size=1, max_size=40, unique=True)


@settings(deadline=None, derandomize=True)
@given(found=places(0, 199), margin=MARGINS)
def test_windows_cover_what_each_pixels_feature_depends_on(found: list[tuple[int, int]], margin: int) -> None:
    parts = covering(np.array(found), margin, SHAPE)
    assert sorted(map(tuple, np.concatenate([own for _, own in parts]).tolist())) == sorted(found)
    for window, own in parts:
        assert window.row % STEP == window.col % STEP == 0
        assert window.pixels <= head.WINDOW_PIXELS
        for row, col in own:
            assert window.row <= max(0, row - margin)
            assert window.col <= max(0, col - margin)
            assert min(300, row + margin + 1) <= window.row + window.height <= 300
            assert min(200, col + margin + 1) <= window.col + window.width <= 200


@settings(deadline=None, derandomize=True)
@given(found=places(16, 183), margin=MARGINS)
def test_windows_together_hold_no_more_than_one_around_each_pixel(found: list[tuple[int, int]], margin: int) -> None:
    alone = [covering(np.array([place]), margin, SHAPE)[0][0].pixels for place in found]
    assert sum(window.pixels for window, _ in covering(np.array(found), margin, SHAPE)) <= sum(alone)


def test_neighbours_share_a_window_and_distant_pixels_do_not() -> None:
    field = np.argwhere(np.ones((60, 60), bool)) + 40
    assert [len(own) for _, own in covering(field, 8, (900, 900))] == [3600]
    far = np.concatenate([field, field + 700])
    assert [len(own) for _, own in covering(far, 8, (900, 900))] == [3600, 3600]


def test_where_all_is_labelled_windows_stay_small_enough_for_any_memory() -> None:
    windows = [window for window, _ in covering(np.argwhere(np.ones(SHAPE, bool)), 8, SHAPE)]
    assert max(window.pixels for window in windows) <= head.WINDOW_PIXELS
    assert sum(window.pixels for window in windows) < 1.7 * 300 * 200


def test_a_class_that_was_never_seen_is_never_mapped() -> None:
    one = cut(region(), 20)
    one.series.valid[:, one.labels == 9] = False
    model, loss = started(one, np.ones((20, 20), bool))
    assert (whole(model, one.series).argmax(axis=-1) == 0).all()
    assert loss == pytest.approx(0, abs=1e-3)


def test_where_nothing_was_seen_all_classes_are_alike() -> None:
    one = cut(region(), 20)
    model = LandCoverModel(new_encoder([one.series], PRETRAIN), (4, 9))
    dark = dataclasses.replace(one, series=dataclasses.replace(one.series, valid=np.zeros_like(one.series.valid)))
    assert start_head(model, [dark], [np.ones((20, 20), bool)], EQUAL, 0) == pytest.approx(np.log(2))
    assert start_head(model, [dark], [np.zeros((20, 20), bool)], EQUAL, 0) == pytest.approx(np.log(2))
    assert not model.head.weight.any()
    assert not model.head.bias.any()


def test_of_very_many_pixels_so_many_of_each_class_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head, "HEAD_PIXELS", 7)
    labels = region().labels
    some = head._some_of_each_class(labels, 0)
    assert np.bincount(labels[tuple(some.T)]).tolist() == [0, 0, 0, 0, 7, 0, 0, 0, 0, 7]
    assert len({tuple(place) for place in some.tolist()}) == 14
    assert some.tolist() == head._some_of_each_class(labels, 0).tolist() != head._some_of_each_class(labels, 1).tolist()


def test_fine_tuning_starts_there_with_the_pixels_of_all_regions() -> None:
    one, two = region(0), region(1, times=4)
    encoder = new_encoder([one.series, two.series], PRETRAIN)
    budget = FinetuneSettings(labels_per_class=6, seed=3, class_balance=1.0)
    found, history = finetune(encoder, [one, two], budget)
    chosen = choose_together([one, two], 6, 3)
    expected = LandCoverModel(encoder, (4, 9))
    weight = torch.from_numpy(balanced_weights(np.array([6, 6]), 1.0))
    loss = start_head(expected, [one, two], chosen, weight, 3)
    assert history == [{"step": 0, "start_loss": loss}]
    assert same(found, expected)
