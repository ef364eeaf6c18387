from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eearth.losses import barlow_twins, vicreg


def views(count: int, width: int, seed: int) -> list[torch.Tensor]:
    """Two views that agree in part, of uneven spread."""
    random = torch.Generator().manual_seed(seed)
    one, two, scale = (torch.randn(count, width, generator=random, dtype=torch.float64) for _ in range(3))
    return [one * scale[0], (one + 0.5 * two) * scale[0] + scale[1]]


def vicreg_term_by_term(first: np.ndarray, second: np.ndarray) -> float:
    count, width = first.shape
    total = 25 * sum((first[i, j] - second[i, j]) ** 2 for i in range(count) for j in range(width)) / (count * width)
    for view in (first, second):
        for i in range(width):
            total += 25 / width * max(0.0, 1 - np.sqrt(np.var(view[:, i], ddof=1) + 1e-4))
            for j in set(range(width)) - {i}:
                total += np.cov(view[:, i], view[:, j])[0, 1] ** 2 / width
    return float(total)


def barlow_term_by_term(first: np.ndarray, second: np.ndarray) -> float:
    width = first.shape[1]
    total = 0.0
    for i in range(width):
        for j in range(width):
            c = np.corrcoef(first[:, i], second[:, j])[0, 1]
            total += (1 - c) ** 2 if i == j else 5e-3 * c**2
    return float(total)


@given(count=st.integers(2, 12), width=st.integers(1, 5), seed=st.integers(0, 100))
@settings(max_examples=20, deadline=None)
def test_both_are_the_papers_formulas(count: int, width: int, seed: int) -> None:
    first, second = views(count, width, seed)
    assert vicreg(first, second).item() == pytest.approx(vicreg_term_by_term(first.numpy(), second.numpy()))
    assert barlow_twins(first, second).item() == pytest.approx(barlow_term_by_term(first.numpy(), second.numpy()))


@pytest.mark.parametrize("loss", [vicreg, barlow_twins])
def test_gradients_are_those_of_the_value(loss: object) -> None:
    first, second = (one.requires_grad_() for one in views(7, 3, 0))
    assert torch.autograd.gradcheck(loss, (first, second))


@pytest.mark.parametrize("loss", [vicreg, barlow_twins])
def test_collapse_is_dear_and_finite(loss: object) -> None:
    first, second = views(50, 4, 1)
    same = torch.full((50, 4), 0.3, dtype=torch.float64, requires_grad=True)
    assert callable(loss)
    collapsed = loss(same, same)
    collapsed.backward()
    assert collapsed.item() > loss(first, first).item()
    assert same.grad is not None
    assert same.grad.isfinite().all()
    assert loss(first[:1], second[:1]).item() == 0


@pytest.mark.parametrize("loss", [vicreg, barlow_twins])
def test_autocast_and_half_precision_features_cost_no_precision(loss: object) -> None:
    half = [one.bfloat16() for one in views(200, 6, 2)]
    assert callable(loss)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = loss(*half)
    torch.testing.assert_close(found.double(), loss(*(one.double() for one in half)), rtol=1e-5, atol=1e-6)
