from __future__ import annotations

import numpy as np
import pytest
import torch
from random_chips import chips
from scipy import stats
from torch import nn

from eearth.models.convlstm_unet import ConvLSTM, rising
from eearth.models.layers import (
    Ascent,
    Descent,
    PixelNorm,
    SeasonScores,
    box_means,
    halved,
    harmonics,
    robust_composite,
    unet_reach,
    weighted_mean,
)
from eearth.models.temporal_attention_unet import attend
from eearth.models.tsvit import Attention, TemporalLayer, _around, _unite, _windows
from eearth.models.unet3d import UNet3D, YearConvolution, slot_weights


def test_harmonics_turn_once_a_year_and_close_it() -> None:
    day = torch.tensor([1.0, 92.0, 366.2425])
    found = harmonics(day, 3)
    angle = 2 * np.pi * day.double().numpy() / 365.2425
    expected = [[*np.cos(np.arange(1, 4) * one), *np.sin(np.arange(1, 4) * one)] for one in angle]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)
    torch.testing.assert_close(found[0], found[2], atol=1e-5, rtol=0)


def test_weighted_mean_is_numpys_and_zero_without_weight() -> None:
    values, weights = torch.rand(2, 4, 3, 2, 2), torch.rand(2, 4, 1, 2, 2)
    weights[0, :, :, 0, 0] = 0
    found = weighted_mean(values, weights)
    assert bool((found[0, :, 0, 0] == 0).all())
    full = weights.expand_as(values).numpy()
    expected = np.average(values[1].numpy(), axis=0, weights=full[1])
    np.testing.assert_allclose(found[1].numpy(), expected, rtol=1e-5)


def test_a_robust_composite_is_a_mean_taken_again_with_cauchys_weights() -> None:
    random = np.random.default_rng(0)
    values, weights = random.normal(size=(2, 7, 3, 4, 5)) * 2, random.random((2, 6, 7))
    clear = (random.random((2, 7, 4, 5)) < 0.6) * random.choice([0.5, 1.0], (2, 7, 4, 5))
    clear[0, :, 1, 1] = 0
    weights[:, 2] = 0
    tensors = (torch.from_numpy(part).float() for part in (weights, values, clear))
    found = robust_composite(*tensors, torch.tensor(0.7)).numpy()
    expected = np.zeros((2, 6, 3, 4, 5))
    for chip, slot, row, col in np.ndindex(2, 6, 4, 5):
        own, counts = values[chip, :, :, row, col], weights[chip, slot] * clear[chip, :, row, col]
        if counts.any():
            far = ((own - np.average(own, axis=0, weights=counts)) ** 2).mean(axis=1)
            expected[chip, slot, :, row, col] = np.average(own, axis=0, weights=counts / (1 + far / 0.7**2))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_box_means_are_those_of_the_seen_pixels_of_each_square() -> None:
    random = np.random.default_rng(0)
    seen = random.random((2, 1, 9, 7)) < 0.3
    seen[1, :, :, :5] = False
    values = random.normal(size=(2, 3, 9, 7)) * seen
    found = box_means(torch.from_numpy(values), torch.from_numpy(seen), (1, 3, 7)).numpy()
    for chip, row, col in np.ndindex(2, 9, 7):
        for k, reach in enumerate((0, 1, 3)):
            near = np.s_[max(0, row - reach) : row + reach + 1, max(0, col - reach) : col + reach + 1]
            inside = values[chip, :, *near][:, seen[chip, 0, *near]]
            expected = inside.mean(axis=1) if inside.size else np.zeros(3)
            np.testing.assert_allclose(found[chip, 3 * k : 3 * k + 3, row, col], expected, atol=1e-6)


def test_halved_is_the_clear_share_of_each_block() -> None:
    clear = (torch.rand(1, 3, 8, 8) < 0.5).float()
    levels = halved(clear, 2)
    assert [part.shape[-1] for part in levels] == [8, 4, 2]
    for row, col in np.ndindex(2, 2):
        block = clear[..., 4 * row : 4 * row + 4, 4 * col : 4 * col + 4]
        torch.testing.assert_close(levels[2][..., row, col], block.mean(dim=(-2, -1)))


def test_pixel_norm_sees_one_pixel_at_a_time() -> None:
    volume = torch.randn(2, 5, 3, 4, 4)
    found = PixelNorm(5)(volume)
    pixel = torch.nn.functional.layer_norm(volume[1, :, 2, 3, 0], (5,))
    torch.testing.assert_close(found[1, :, 2, 3, 0], pixel)


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_unets_levels_halve_and_come_back(depth: int) -> None:
    levels = Descent(3, 4, depth)(torch.randn(2, 3, 8, 12))
    assert [tuple(part.shape) for part in levels] == [(2, 4, 8 >> n, 12 >> n) for n in range(depth + 1)]
    assert Ascent(4, depth)(levels).shape == (2, 4, 8, 12)
    assert [unet_reach(n) for n in range(3)] == [1, 5, 13]


def test_without_its_convolutions_a_unet_adds_the_means_of_blocks() -> None:
    down, up, images = Descent(3, 4, 2), Ascent(4, 2), torch.randn(1, 3, 8, 8)
    for block in (*down.blocks, *up.blocks):
        nn.init.zeros_(block[1].weight)  # type: ignore[index]
    fine = down.enter(images)
    blocks = [fine.unfold(2, side, side).unfold(3, side, side).mean(dim=(-2, -1)) for side in (1, 2, 4)]
    expected = sum(part.repeat_interleave(1 << n, 2).repeat_interleave(1 << n, 3) for n, part in enumerate(blocks))
    torch.testing.assert_close(up(down(images)), expected)


def test_attention_is_a_softmax_over_the_clear_dates_alone() -> None:
    scores, clear = 20 * torch.randn(1, 6, 2, 3, 3), (torch.rand(1, 6, 3, 3) < 0.6).float()
    clear[..., 0, 0] = 0
    found = attend(scores, clear)
    for head, row, col in np.ndindex(2, 3, 3):
        seen = clear[0, :, row, col] > 0
        expected = torch.zeros(6)
        if seen.any():
            expected[seen] = torch.softmax(scores[0, seen, head, row, col], dim=0)
        torch.testing.assert_close(found[0, :, head, row, col], expected)


def test_new_heads_look_at_their_own_part_of_the_year() -> None:
    angle = 2 * np.pi * np.arange(1, 366) / 365.2425
    for head, scores in enumerate(SeasonScores(6)(torch.arange(1.0, 366.0)).detach().numpy().T):
        density = stats.vonmises((6 / np.pi) ** 2, loc=2 * np.pi * (head + 0.5) / 6)
        expected = density.logpdf(angle) - density.logpdf(angle[0])
        np.testing.assert_allclose(scores - scores[0], expected, atol=1e-4)


def test_slots_share_a_date_linearly_around_the_year() -> None:
    day = torch.tensor([[1.0, 45.7, 200.0, 366.0]])
    found = slot_weights(day, 8)
    middles = (np.arange(8) + 0.5) / 8 * 365.2425
    for slot in range(8):
        expected = np.interp(day[0].numpy(), middles, np.eye(8)[slot], period=365.2425)
        np.testing.assert_allclose(found[0, slot].numpy(), expected, atol=1e-5)


def test_the_mean_over_the_year_is_over_the_parts_that_a_pixel_was_seen_in() -> None:
    torch.manual_seed(0)
    encoder, drawn = UNet3D(("a", "b"), [0.5, 0.5], [0.3, 0.3], features=3, hidden=4, slots=8, depth=1), chips(3, 4, 4)
    kept: list[torch.Tensor] = []
    encoder.up[-1].register_forward_hook(lambda _module, _given, found: kept.append(found.detach()))
    features = encoder(drawn)
    middles = (np.arange(8) + 0.5) / 8 * 365.2425
    shares = np.stack([np.interp(drawn.day[0].numpy(), middles, one, period=365.2425) for one in np.eye(8)])
    for row, col in np.ndindex(4, 4):
        seen = np.minimum(shares @ drawn.valid[0, :, row, col].numpy(), 1)
        weights = seen if seen.any() else np.ones(8)
        mean = np.average(kept[0][0, :, :, row, col].numpy(), axis=1, weights=weights)
        expected = encoder.leave.weight[:, :, 0, 0].detach().numpy() @ mean + encoder.leave.bias.detach().numpy()  # type: ignore[union-attr]
        np.testing.assert_allclose(features[0, :, row, col].detach().numpy(), expected, atol=1e-5)


def test_a_convolution_over_the_year_is_torchs_with_time_wrapped() -> None:
    layer, volume = YearConvolution(3, 4), torch.randn(2, 3, 5, 6, 6)
    wrapped = torch.nn.functional.pad(volume, (0, 0, 0, 0, 1, 1), mode="circular")
    plain = torch.nn.functional.conv3d(wrapped, layer.convolve.weight, layer.convolve.bias, padding=(0, 1, 1))
    expected = torch.nn.functional.gelu(torch.nn.functional.layer_norm(plain.movedim(1, -1), (4,)).movedim(-1, 1))
    torch.testing.assert_close(layer(volume), expected)


def test_rising_puts_dates_in_order_and_the_same_day_together() -> None:
    found = rising(torch.tensor([[200.0, 30.0, 200.0, 8.0]]))
    assert found[0].tolist() == [[0, 0, 0, 1], [0, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]


def test_a_convlstm_of_one_pixel_is_torchs_lstm() -> None:
    torch.manual_seed(0)
    ours, oracle = ConvLSTM(3), nn.LSTM(3, 3, batch_first=True)
    swapped = torch.cat([torch.arange(3) + 3 * gate for gate in (0, 1, 3, 2)])  # torch's output gate comes last
    with torch.no_grad():
        oracle.weight_ih_l0.copy_(ours.look.weight[swapped, :, 1, 1])
        oracle.bias_ih_l0.copy_(ours.look.bias[swapped])  # type: ignore[index]
        oracle.weight_hh_l0.copy_(ours.recall.weight[swapped, :, 0, 0])
        oracle.bias_hh_l0.zero_()
    series = torch.randn(2, 5, 3)
    found = ours(series.reshape(10, 3, 1, 1), torch.ones(2, 5, 1, 1))
    torch.testing.assert_close(found[..., 0, 0], oracle(series)[0][:, -1])


def test_a_half_clear_block_moves_the_state_half_way() -> None:
    memory, series = ConvLSTM(3), torch.randn(1, 3, 1, 1)
    whole, half = (memory(series, torch.full((1, 1, 1, 1), share)) for share in (1.0, 0.5))
    torch.testing.assert_close(half, whole / 2)


def test_windows_and_their_rings_lie_where_a_loop_finds_them() -> None:
    grid = torch.rand(2, 4, 6, 3)
    windows, around = _windows(grid), _around(grid, -1.0)
    assert torch.equal(_unite(windows, grid.shape), grid)
    for row, col in np.ndindex(2, 3):
        assert torch.equal(windows[:, row, col], grid[:, 2 * row :, 2 * col :][:, :2, :2].reshape(2, 4, 3))
        for index, (down, across) in enumerate(np.ndindex(6, 6)):
            y, x = 2 * row + down - 2, 2 * col + across - 2
            expected = grid[:, y, x] if 0 <= y < 4 and 0 <= x < 6 else torch.full((2, 3), -1.0)
            assert torch.equal(around[:, row, col, index], expected)


def test_attention_is_torchs_multi_head_attention() -> None:
    ours, oracle = Attention(8, 2), nn.MultiheadAttention(8, 2, bias=False, batch_first=True)
    with torch.no_grad():
        oracle.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.keys.weight]))
        oracle.out_proj.weight.copy_(ours.leave.weight)
        torch.nn.init.zeros_(ours.leave.bias)
    tokens, others = torch.randn(3, 4, 8), torch.randn(3, 7, 8)
    mask = torch.randn(4, 7)
    torch.testing.assert_close(ours(tokens, others, mask), oracle(tokens, others, others, attn_mask=mask)[0])


def test_masked_tokens_are_as_if_they_were_not_there() -> None:
    layer, tokens = TemporalLayer(8, 2), torch.randn(1, 6, 8)
    seen = torch.tensor([True, True, False, True, False, True])
    mask = torch.zeros(1, 1, 1, 6).masked_fill(~seen, float("-inf"))
    kept = layer(tokens[:, seen], torch.zeros(1, 1, 1, 4), 4)
    torch.testing.assert_close(layer(tokens, mask, 6)[:, seen], kept)
    torch.testing.assert_close(layer(tokens, mask, 2), kept[:, :2])
