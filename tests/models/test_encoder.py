from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from eearth.data.series import Chips
from eearth.errors import ModelError
from eearth.models.encoder import Encoder, SeasonalCompositor
from eearth.models.registry import MODELS, build, build_land_cover
from eearth.models.segmentation import LandCoverModel


def chips(times: int, height: int, width: int, *, bands: int = 2, count: int = 1, seed: int = 0) -> Chips:
    random = torch.Generator().manual_seed(seed)
    valid = torch.rand(count, times, height, width, generator=random) < 0.7
    values = torch.rand(count, times, bands, height, width, generator=random) * valid[:, :, None]
    day = torch.randint(1, 367, (count, times), generator=random).float()
    return Chips(values, valid, day)


def stirred(depth: int = 2, bands: int = 2) -> Encoder:
    """An encoder whose residual is not zero, as after training."""
    torch.manual_seed(0)
    encoder = Encoder(("a", "b", "c")[:bands], [0.5] * bands, [0.3] * bands, features=8, hidden=8, depth=depth).eval()
    for weight in encoder.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    encoder.compositor = SeasonalCompositor(12)
    return encoder


@pytest.mark.parametrize("times", [1, 2, 9])
@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (13, 7), (16, 16)])
def test_any_number_of_dates_and_any_size(times: int, shape: tuple[int, int]) -> None:
    features = stirred()(chips(times, *shape))
    assert features.shape == (1, 8, *shape)
    assert bool(features.isfinite().all())


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


def test_what_is_not_valid_does_not_matter_nor_do_filled_up_dates_or_their_order() -> None:
    encoder, drawn = stirred(), chips(6, 9, 10)
    expected = encoder(drawn)
    garbage = drawn.reflectance + 100 * ~drawn.valid[:, :, None]
    torch.testing.assert_close(encoder(drawn._replace(reflectance=garbage)), expected)
    filled = Chips(*(torch.cat([part, torch.zeros_like(part)], dim=1) for part in drawn))
    torch.testing.assert_close(encoder(filled), expected, rtol=1e-4, atol=1e-5)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(encoder(Chips(*(part[:, order] for part in drawn))), expected, rtol=1e-4, atol=1e-5)


def test_the_year_is_a_circle() -> None:
    compositor = SeasonalCompositor(4)
    eve, new_year = compositor.weights(torch.tensor([[365.0, 1.0]]))[0].unbind(1)
    torch.testing.assert_close(eve, new_year, rtol=0.2, atol=1e-3)


def test_it_starts_as_a_linear_projection_of_the_season() -> None:
    encoder = Encoder(("a", "b"), [0.5, 0.5], [0.3, 0.3], features=8)
    drawn = chips(5, 8, 8)
    composites = encoder.compositor(encoder.normalise(drawn), drawn.valid.float(), drawn.day)
    torch.testing.assert_close(encoder(drawn), encoder.project(composites))


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_feature_depends_on_nothing_beyond_the_margin(depth: int) -> None:
    encoder = stirred(depth)
    size = 4 * encoder.margin + 8
    drawn = chips(3, size, size)
    before = encoder(drawn)
    for at in range(size // 2, size // 2 + encoder.alignment):
        values = drawn.reflectance.clone()
        values[..., at, at] += 1.0 * drawn.valid[:, :, None, at, at]
        moved = (encoder(drawn._replace(reflectance=values)) - before).abs().amax(dim=(0, 1)) > 0
        rows, cols = torch.nonzero(moved, as_tuple=True)
        reach = max(int((rows - at).abs().max()), int((cols - at).abs().max()))
        assert reach <= encoder.margin
    assert reach >= encoder.margin - encoder.alignment


def test_tiles_with_a_margin_give_the_map_of_the_whole() -> None:
    encoder = stirred()
    margin = -(-encoder.margin // encoder.alignment) * encoder.alignment
    drawn = chips(4, 70, 61)
    whole = encoder(drawn)
    top, left, size = 24, 20, 16
    rows, cols = slice(top - margin, top + size + margin), slice(left - margin, left + size + margin)
    tile = encoder(Chips(drawn.reflectance[..., rows, cols], drawn.valid[..., rows, cols], drawn.day))
    inner = tile[..., margin : margin + size, margin : margin + size]
    torch.testing.assert_close(inner, whole[..., top : top + size, left : left + size], rtol=1e-4, atol=1e-5)


def test_a_chip_does_not_depend_on_its_batch() -> None:
    encoder, drawn = stirred(), chips(4, 8, 8, count=3)
    alone = encoder(Chips(*(part[1:2] for part in drawn)))
    torch.testing.assert_close(encoder(drawn)[1:2], alone, rtol=1e-4, atol=1e-5)


def test_a_network_is_made_again_from_its_description() -> None:
    model = LandCoverModel(stirred(), (1, 4, 200))
    torch.nn.init.normal_(model.head.weight)
    again = build_land_cover(json.loads(json.dumps(model.config())))
    again.load_state_dict(model.state_dict())
    drawn = chips(4, 8, 8)
    assert again.classes == (1, 4, 200)
    assert torch.equal(again(drawn), model(drawn))
    assert model(drawn).shape == (1, 3, 8, 8)


def test_what_cannot_be_built_is_refused() -> None:
    with pytest.raises(ModelError, match=next(iter(MODELS))):
        build("resnet")
    with pytest.raises(ModelError, match="description"):
        build("seasonal-unet", bands=["a"])
    with pytest.raises(ModelError, match="land cover"):
        build_land_cover({"name": "seasonal-unet"})
