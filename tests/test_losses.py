from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from eearth.losses import info_nce, weighted_cross_entropy


def places(count: int, seed: int) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randint(0, high, (count,), generator=random) for high in (2, 12, 12)], dim=1)


def naive(first: torch.Tensor, second: torch.Tensor, place: torch.Tensor, tau: float, exclusion: float) -> torch.Tensor:
    """Term by term, as the formula reads."""
    total = torch.zeros((), dtype=first.dtype)
    for one, other in ((first, second), (second, first)):
        for i in range(len(one)):
            positive = torch.cosine_similarity(one[i], other[i], dim=0) / tau
            terms = [positive]
            for j in range(len(one)):
                apart = int((place[i, 1:] - place[j, 1:]).abs().max())
                if place[i, 0] != place[j, 0] or apart > exclusion:
                    terms.append(torch.cosine_similarity(one[i], other[j], dim=0) / tau)
            total = total + torch.logsumexp(torch.stack(terms), 0) - positive
    return total / (2 * len(first))


@given(
    count=st.integers(1, 12),
    seed=st.integers(0, 100),
    tau=st.floats(0.1, 2.0),
    exclusion=st.integers(0, 12),
    chunk=st.integers(1, 13),
)
@settings(max_examples=15, deadline=None)
def test_value_and_gradient_are_the_formulas(count: int, seed: int, tau: float, exclusion: int, chunk: int) -> None:
    random = torch.Generator().manual_seed(seed)
    mine = [torch.randn(count, 5, generator=random).requires_grad_() for _ in range(2)]
    theirs = [one.detach().double().requires_grad_() for one in mine]
    place = places(count, seed)
    loss = info_nce(*mine, place, temperature=tau, exclusion=exclusion, chunk=chunk)
    expected = naive(*theirs, place, tau, exclusion)
    loss.backward()  # type: ignore[no-untyped-call]
    expected.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(loss.double(), expected, rtol=1e-4, atol=1e-5)
    for one, other in zip(mine, theirs, strict=True):
        assert one.grad is not None
        torch.testing.assert_close(one.grad.double(), other.grad, rtol=1e-3, atol=1e-5)


def test_it_is_torchs_cross_entropy_where_nothing_is_left_out() -> None:
    first, second = torch.randn(2, 20, 8, generator=torch.Generator().manual_seed(0))
    place = torch.stack([torch.arange(20), torch.zeros(20), torch.zeros(20)], dim=1)
    logits = F.normalize(first) @ F.normalize(second).T / 0.3
    target = torch.arange(20)
    expected = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    torch.testing.assert_close(info_nce(first, second, place, temperature=0.3), expected)


def test_no_pixel_and_no_negative_give_zero_and_a_gradient() -> None:
    nothing = torch.zeros(0, 4, requires_grad=True)
    loss = info_nce(nothing, nothing, torch.zeros(0, 3), temperature=0.5)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0
    near = torch.randn(3, 4, requires_grad=True)
    assert info_nce(near, near * 2, torch.zeros(3, 3), temperature=0.5).item() == pytest.approx(0, abs=1e-6)


def test_logits_are_never_held_all_at_once() -> None:
    held: list[int] = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        held.append(tensor.numel())
        return tensor

    first, second = torch.randn(2, 2000, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        info_nce(first, second, places(2000, 0), temperature=0.5, chunk=100)
    assert sum(held) < 2000 * 2000 / 4


def test_weights_are_divided_by_their_sum() -> None:
    random = torch.Generator().manual_seed(0)
    scores, target = torch.randn(30, 3, generator=random), torch.randint(0, 3, (30,), generator=random)
    weight = torch.tensor([0.1, 1.0, 5.0])
    each = F.cross_entropy(scores, target, reduction="none") * weight[target]
    torch.testing.assert_close(weighted_cross_entropy(scores, target, weight), each.sum() / weight[target].sum())
    assert weighted_cross_entropy(scores[:0], target[:0], weight).item() == 0
