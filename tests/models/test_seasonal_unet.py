from __future__ import annotations

import numpy as np
import pytest
import torch
from random_chips import chips
from scipy.linalg import expm
from sklearn.decomposition import PCA

from eearth.errors import ModelError
from eearth.models import seasonal_unet
from eearth.models.contrast import Recipe
from eearth.models.seasonal_unet import SeasonalCompositor, SeasonalUNet


def test_a_composite_is_the_mean_of_the_clear_dates_without_what_lies_far_from_it() -> None:
    compositor = SeasonalCompositor(12)
    drawn = chips(7, 4, 5)
    found = compositor(drawn.reflectance, drawn.valid.float(), drawn.day)[0].reshape(12, 2, 4, 5)
    for kernel in range(12):
        centre = (kernel + 0.5) / 12 * 365.2425
        apart = np.abs(drawn.day[0].numpy() - centre)
        weight = np.exp(-0.5 * (np.minimum(apart, 365.2425 - apart) / 25) ** 2)
        for row, col in np.ndindex(4, 5):
            clear = drawn.valid[0, :, row, col].numpy()
            values = drawn.reflectance[0, clear, :, row, col].numpy().astype(np.float64)
            expected = np.zeros(2)
            if clear.any():
                first = np.average(values, axis=0, weights=weight[clear])
                far = ((values - first) ** 2).mean(axis=1)
                expected = np.average(values, axis=0, weights=weight[clear] / (1 + far))
            np.testing.assert_allclose(found[kernel, :, row, col].detach().numpy(), expected, rtol=1e-3, atol=1e-5)


def test_a_cloud_that_the_mask_missed_hardly_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.full((1, 8, 1, 1, 1), 0.1)
    values[0, 3] = 5.0
    days = torch.linspace(100, 130, 8)[None]
    compositor = SeasonalCompositor(12)
    robust = compositor(values, torch.ones(1, 8, 1, 1), days)[0, 3].item()
    monkeypatch.setattr(seasonal_unet, "TOLERANCE", 1e4)
    plain = compositor(values, torch.ones(1, 8, 1, 1), days)[0, 3].item()
    assert plain > 0.6
    assert robust < 0.2


def test_a_date_half_a_year_away_is_still_a_composite() -> None:
    values = torch.full((1, 1, 1, 1, 1), 0.3)
    found = SeasonalCompositor(12)(values, torch.ones(1, 1, 1, 1), torch.tensor([[200.0]]))
    torch.testing.assert_close(found, torch.full_like(found, 0.3))


def test_the_year_is_a_circle() -> None:
    compositor = SeasonalCompositor(4)
    eve, new_year = compositor.weights(torch.tensor([[365.0, 1.0]]))[0].unbind(1)
    torch.testing.assert_close(eve, new_year, rtol=0.2, atol=1e-3)


def test_it_starts_as_a_linear_map_of_the_season_at_three_scales() -> None:
    encoder = SeasonalUNet(("a", "b"), [0.5, 0.5], [0.3, 0.3], features=8)
    drawn = chips(5, 8, 8)
    encoder.get_used_to([drawn])
    clear = drawn.valid.float()
    composites = encoder.compositor(encoder.normalise(drawn), clear, drawn.day)
    seen = drawn.valid.any(dim=1)[0].numpy()
    standard = ((composites - encoder.usual) / encoder.spread)[0].detach().numpy()
    assert standard[:, seen].mean(axis=1) == pytest.approx(0, abs=1e-4)
    assert standard[:, seen].std(axis=1) == pytest.approx(1, abs=1e-3)
    profile = np.zeros((3, 24, 8, 8))
    for k, reach in enumerate((0, 1, 3)):
        for row, col in np.ndindex(8, 8):
            near = np.s_[max(0, row - reach) : row + reach + 1, max(0, col - reach) : col + reach + 1]
            if seen[near].any():
                profile[k, :, row, col] = standard[:, *near][:, seen[near]].mean(axis=1)
    expected = encoder.project(torch.from_numpy(profile.reshape(1, 72, 8, 8)).float())
    torch.testing.assert_close(encoder(drawn), expected, rtol=1e-4, atol=1e-5)


def test_what_was_never_seen_is_nothing_to_get_used_to() -> None:
    encoder, drawn = SeasonalUNet(("a", "b"), [0.5, 0.5], [0.3, 0.3], features=8), chips(5, 8, 8)
    encoder.get_used_to([drawn._replace(valid=torch.zeros_like(drawn.valid))])
    assert not encoder.usual.any()
    assert bool((encoder.spread == 1).all())


def test_what_never_varies_is_not_blown_up() -> None:
    encoder, drawn = SeasonalUNet(("a", "b"), [0.5, 0.5], [0.3, 0.3], features=8), chips(5, 8, 8)
    encoder.get_used_to([drawn._replace(reflectance=torch.full_like(drawn.reflectance, 0.5))])
    encoded = encoder(drawn._replace(reflectance=torch.full_like(drawn.reflectance, 0.5)))
    assert bool((encoded.abs() < 1e-2).all())


def test_pairs_of_neighbours_turn_its_directions_and_nothing_else() -> None:
    encoder, drawn = SeasonalUNet(("a", "b"), [0.5, 0.5], [0.3, 0.3], features=8), chips(5, 16, 16)
    encoder.get_used_to([drawn])
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    recipe = Recipe(evening=0.5, agreement=0.75)
    found = encoder.contrast_neighbours([drawn, drawn], recipe, np.random.default_rng(0))
    changed = {name for name, value in encoder.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"metric", "project.weight", "project.bias"}
    torch.testing.assert_close(encoder.project.weight[:, :, 0, 0].double(), found.weight, rtol=1e-6, atol=1e-6)
    again = encoder.contrast_neighbours([drawn, drawn], recipe, np.random.default_rng(0))
    assert torch.equal(again.weight, found.weight)


def test_elsewhere_it_turns_to_the_axes_there_under_half_of_its_metric() -> None:
    encoder, there, here = (
        SeasonalUNet(("a", "b"), [0.5, 0.5], [0.3, 0.3], features=8),
        chips(5, 16, 16),
        chips(4, 20, 20),
    )
    encoder.get_used_to([there])
    encoder.contrast_neighbours([there], Recipe(evening=0.5, agreement=0.75), np.random.default_rng(0))
    metric = encoder.metric.double().numpy()
    encoder.get_used_to([here])
    encoder.settle([here], np.random.default_rng(0))
    profiles = encoder._neighbours(here, np.random.default_rng(0))[0].double()
    features = (
        (profiles @ encoder.project.weight[:, :, 0, 0].double().T + encoder.project.bias.double()).detach().numpy()
    )
    under = (profiles - profiles.mean(dim=0)).numpy() @ expm(metric / 4)
    axes = PCA(8, svd_solver="full").fit_transform(under)
    scale = np.sqrt(axes.var(axis=0).mean())
    assert np.abs(features) == pytest.approx(np.abs(axes) / scale, abs=1e-3)
    assert encoder.metric.double().numpy() == pytest.approx(metric)  # and elsewhere again it is this one's half


def test_after_steps_or_without_pairs_it_keeps_its_directions_elsewhere() -> None:
    encoder, there, here = (
        SeasonalUNet(("a", "b"), [0.5, 0.5], [0.3, 0.3], features=8),
        chips(5, 16, 16),
        chips(4, 20, 20),
    )
    start = encoder.project.weight.clone()
    encoder.settle([here], np.random.default_rng(0))
    assert torch.equal(encoder.project.weight, start)
    encoder.contrast_neighbours([there], Recipe(evening=0.5, agreement=0.75), np.random.default_rng(0))
    encoder.begin_steps()
    learnt = encoder.project.weight.clone()
    encoder.settle([here], np.random.default_rng(0))
    assert torch.equal(encoder.project.weight, learnt)


def test_neighbours_that_were_never_seen_are_named() -> None:
    encoder, drawn = SeasonalUNet(("a", "b"), [0.5, 0.5], [0.3, 0.3], features=8), chips(5, 16, 16)
    hidden = drawn._replace(valid=torch.zeros_like(drawn.valid))
    with pytest.raises(ModelError, match="expected neighbouring pixels that were both seen, found none"):
        encoder.contrast_neighbours([hidden], Recipe(evening=0.5, agreement=0.75), np.random.default_rng(0))
