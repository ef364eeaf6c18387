from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eearth.data.chips import LabelledChips, LabelledPixels, LabelledSeries, choose_labels, choose_together
from eearth.data.series import Series
from eearth.errors import LabelError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eearth.data.views import View


def labelled(seed: int = 0, height: int = 30, width: int = 24) -> LabelledSeries:
    """Imagery whose single band is the label."""
    random = np.random.default_rng(seed)
    labels = random.choice(np.array([0, 3, 7, 200], np.uint8), (height, width), p=[0.4, 0.4, 0.18, 0.02])
    split = random.integers(0, 4, labels.shape).astype(np.uint8)
    values = np.repeat(labels[None, None].astype(np.int16), 5, axis=0)
    dates = np.datetime64("2020-01-01", "ns") + np.arange(5) * np.timedelta64(30, "D")
    return LabelledSeries(Series(values, np.ones((5, height, width), bool), dates, ("label",)), labels, split)


@given(seed=st.integers(0, 500), per_class=st.integers(1, 30))
def test_a_budget_holds_for_every_class_and_touches_only_training_pixels(seed: int, per_class: int) -> None:
    one = labelled()
    chosen = choose_labels(one.labels, one.split, per_class, seed)
    assert (one.split[chosen] == 1).all()
    for code in (3, 7, 200):
        available = int(((one.labels == code) & (one.split == 1)).sum())
        assert int((one.labels[chosen] == code).sum()) == min(per_class, available)
    assert not (one.labels[chosen] == 0).any()
    larger = choose_labels(one.labels, one.split, per_class + 3, seed)
    assert not (chosen & ~larger).any()


@given(seed=st.integers(0, 500), per_class=st.integers(1, 30), count=st.integers(1, 3))
def test_a_budget_of_several_regions_holds_for_all_of_them_together(seed: int, per_class: int, count: int) -> None:
    """As if their labels, one below the other, were those of one region."""
    regions = [labelled(k, height=10 + k) for k in range(count)]
    chosen = choose_together(regions, per_class, seed)
    labels, split = (np.concatenate([getattr(one, name) for one in regions]) for name in ("labels", "split"))
    np.testing.assert_array_equal(np.concatenate(chosen), choose_labels(labels, split, per_class, seed))


def test_no_budget_means_all_training_pixels() -> None:
    one = labelled()
    np.testing.assert_array_equal(choose_labels(one.labels, one.split, None, 0), (one.split == 1) & (one.labels > 0))


def test_targets_lie_on_the_imagery_of_their_class() -> None:
    regions = [labelled(0), labelled(1, 17, 40)]
    chosen = [choose_labels(one.labels, one.split, 5, 0) for one in regions]
    pixels = LabelledPixels(regions, chosen, (3, 7, 200))
    batch = pixels.draw(np.random.default_rng(0), bands=("label",), chips=30, size=12, dates=5)
    known = batch.target >= 0
    codes = torch.tensor([3, 7, 200])[batch.target[known]]
    shown = batch.chips.reflectance.amax(1)[:, 0]
    assert bool(known.any(dim=2).any(dim=1).all())
    assert torch.equal(shown[known].long(), codes)


class Noted(LabelledPixels):
    """Remembers what the last batch was cut from."""

    def _cut(self, views: Sequence[View], bands: Sequence[str], size: int) -> LabelledChips:
        self.views = views
        return super()._cut(views, bands, size)


def test_a_batch_is_the_imagery_turned_and_on_some_dates() -> None:
    """Against `Series.chips` and `Turn.apply`, window by window; the bands in another order, and with a scale."""
    random = np.random.default_rng(3)
    plain = labelled()
    values = random.integers(0, 5000, (9, 3, *plain.labels.shape)).astype(np.uint16)
    valid = random.random((9, *plain.labels.shape)) < 0.3
    dates = np.datetime64("2020-01-01", "ns") + np.arange(9) * np.timedelta64(30, "D")
    series = Series(values, valid, dates, ("a", "b", "c"), 1e-4, -0.1)
    one = LabelledSeries(series, plain.labels, plain.split)
    pixels = Noted([one], [choose_labels(one.labels, one.split, 5, 0)], (3, 7, 200))
    batch = pixels.draw(np.random.default_rng(5), bands=("c", "a"), chips=8, size=12, dates=4)
    assert len({view.turn for view in pixels.views}) > 3
    for i, view in enumerate(pixels.views):
        expected = series.chips([view.window], [view.dates], ("c", "a"))
        count = len(view.dates)
        assert torch.equal(batch.chips.reflectance[i, :count], view.turn.apply(expected.reflectance)[0])
        assert torch.equal(batch.chips.valid[i, :count], view.turn.apply(expected.valid)[0])
        assert torch.equal(batch.chips.day[i, :count], expected.day[0])
        assert not batch.chips.valid[i, count:].any()
        assert not batch.chips.reflectance[i, count:].any()
        never = ~batch.chips.valid[i].any(dim=0)
        assert never.any()
        target = view.turn.apply(torch.from_numpy(pixels.targets[0][view.window.slices].astype(np.int64)))
        assert torch.equal(batch.target[i], target.masked_fill(never, -1))


def test_classes_are_drawn_alike() -> None:
    one = labelled()
    pixels = LabelledPixels([one], [choose_labels(one.labels, one.split, None, 0)], (3, 7, 200))
    batch = pixels.draw(np.random.default_rng(0), bands=("label",), chips=90, size=1, dates=5)
    assert np.bincount(batch.target.flatten().numpy()).tolist() == [30, 30, 30]


def test_a_pixel_never_seen_clearly_teaches_nothing() -> None:
    one = labelled()
    one.series.valid[:] = False  # type: ignore[index]
    pixels = LabelledPixels([one], [choose_labels(one.labels, one.split, None, 0)], (3, 7, 200))
    batch = pixels.draw(np.random.default_rng(0), bands=("label",), chips=4, size=8, dates=5)
    assert bool((batch.target == -1).all())


def test_nothing_to_learn_is_refused() -> None:
    one = labelled()
    with pytest.raises(LabelError, match="rasterize"):
        LabelledPixels([one], [np.zeros(one.labels.shape, bool)], (3, 7))


def test_labels_of_another_grid_are_refused() -> None:
    one = labelled()
    with pytest.raises(LabelError, match="grid"):
        LabelledSeries(one.series, one.labels[1:], one.split)
