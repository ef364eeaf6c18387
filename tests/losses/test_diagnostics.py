from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from eearth.losses import alignment, uniformity


@pytest.mark.parametrize("count", [2, 3, 1500])
@pytest.mark.parametrize("sharpness", [0.5, 2.0])
def test_uniformity_is_that_of_all_pairs_of_distances(count: int, sharpness: float) -> None:
    features = torch.randn(count, 6, generator=torch.Generator().manual_seed(count)) + 0.3
    squared = torch.pdist(F.normalize(features.double())).square()
    expected = (-sharpness * squared).exp().mean().log().item()
    assert uniformity(features, sharpness=sharpness).item() == pytest.approx(expected, abs=1e-5)
    assert uniformity(features.double(), sharpness=sharpness).item() == pytest.approx(expected, abs=1e-12)


def test_uniformity_from_collapse_to_opposite_poles() -> None:
    assert uniformity(torch.ones(40, 3)).item() == pytest.approx(0, abs=1e-6)
    assert uniformity(torch.tensor([[1.0, 0.0], [-5.0, 0.0]])).item() == pytest.approx(-8)
    assert math.isnan(uniformity(torch.ones(1, 3)).item())


def test_alignment_is_a_mean_distance() -> None:
    first, second = torch.randn(2, 30, 5, generator=torch.Generator().manual_seed(0)).double()
    cosine = torch.cosine_similarity(first, second)
    torch.testing.assert_close(alignment(first, second), (2 - 2 * cosine).mean())
    torch.testing.assert_close(alignment(first, second, power=1), (2 - 2 * cosine).sqrt().mean())
    assert alignment(first, 3 * first).item() == pytest.approx(0, abs=1e-15)
    assert alignment(first, -first).item() == pytest.approx(4)


def test_both_have_the_gradients_of_their_values() -> None:
    first, second = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0)).double().unbind()
    assert torch.autograd.gradcheck(alignment, (first.requires_grad_(), second.requires_grad_()))
    assert torch.autograd.gradcheck(uniformity, (first,))
