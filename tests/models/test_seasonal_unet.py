from __future__ import annotations

import numpy as np
import torch
from random_chips import chips

from eearth.models.seasonal_unet import SeasonalCompositor, SeasonalUNet


def test_a_composite_is_the_weighted_mean_of_the_clear_dates() -> None:
    compositor = SeasonalCompositor(12, width=30.0)
    drawn = chips(7, 4, 5)
    found = compositor(drawn.reflectance, drawn.valid.float(), drawn.day)[0].reshape(12, 2, 4, 5)
    for kernel in range(12):
        centre = (kernel + 0.5) / 12 * 365.2425
        apart = np.abs(drawn.day[0].numpy() - centre)
        weight = np.exp(-0.5 * (np.minimum(apart, 365.2425 - apart) / 30) ** 2)
        for row, col in np.ndindex(4, 5):
            clear = drawn.valid[0, :, row, col].numpy()
            values = drawn.reflectance[0, clear, :, row, col].numpy()
            expected = (weight[clear, None] * values).sum(0) / weight[clear].sum() if clear.any() else np.zeros(2)
            np.testing.assert_allclose(found[kernel, :, row, col].detach().numpy(), expected, rtol=1e-3, atol=1e-5)


def test_a_date_half_a_year_away_is_still_a_finite_composite_with_a_finite_gradient() -> None:
    compositor = SeasonalCompositor(12)
    torch.nn.init.constant_(compositor.log_width, -20.0)
    values = torch.full((1, 1, 1, 1, 1), 0.3)
    found = compositor(values, torch.ones(1, 1, 1, 1), torch.tensor([[200.0]]))
    found.sum().backward()
    torch.testing.assert_close(found, torch.full_like(found, 0.3))
    assert all(bool(weight.grad.isfinite().all()) for weight in compositor.parameters() if weight.grad is not None)


def test_the_year_is_a_circle() -> None:
    compositor = SeasonalCompositor(4)
    eve, new_year = compositor.weights(torch.tensor([[365.0, 1.0]]))[0].unbind(1)
    torch.testing.assert_close(eve, new_year, rtol=0.2, atol=1e-3)


def test_it_starts_as_a_linear_projection_of_the_season() -> None:
    encoder = SeasonalUNet(("a", "b"), [0.5, 0.5], [0.3, 0.3], features=8)
    drawn = chips(5, 8, 8)
    composites = encoder.compositor(encoder.normalise(drawn), drawn.valid.float(), drawn.day)
    torch.testing.assert_close(encoder(drawn), encoder.project(composites))


def test_the_files_of_the_first_version_hold_the_same_network() -> None:
    torch.manual_seed(1)
    encoder = SeasonalUNet(("a", "b"), [0.5, 0.4], [0.3, 0.2], features=16, depth=1)
    assert list(encoder.state_dict()) == [
        "mean", "std", "compositor.angle", "compositor.log_width", "project.weight", "project.bias",
        "residual.enter.0.weight", "residual.enter.0.bias", "residual.enter.1.weight", "residual.enter.1.bias",
        *(f"residual.{way}.{part}.{kind}" for way in ("down.0", "down.1", "up.0")
          for part in (0, 1) for kind in ("weight", "bias")),
        "residual.leave.weight", "residual.leave.bias",
    ]  # fmt: skip
    with torch.no_grad():
        for weight in encoder.parameters():
            weight.add_(0.1 * torch.randn(weight.shape))
        found = encoder(chips(5, 13, 7)).flatten()[::331]
    expected = [-1.612837, 0.859934, -0.071777, -1.296371, 1.768811]
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-4, atol=1e-4)
