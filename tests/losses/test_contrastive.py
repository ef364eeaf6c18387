from __future__ import annotations

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from eearth.errors import UsageError
from eearth.losses import info_nce
from eearth.losses.exponentials import number_type
from eearth.settings import PretrainSettings

ALL = slice(None)
# Prints how many bytes a step of the loss adds to the peak of its process.
PEAK = """
import resource, torch
from eearth.losses import info_nce

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

def step(count):
    first, second = torch.randn(2, count, 8).unbind()
    place = torch.arange(3 * count).reshape(count, 3) % 500
    info_nce(first.requires_grad_(), second.requires_grad_(), place, temperature=0.5, exclusion=30).backward()

torch.set_num_threads(1)
step(100)
before = peak()
step(8192)
print(peak() - before)
"""


def draw(count: int, width: int, seed: int, *, extra: int = 0) -> tuple[list[Tensor], Tensor, Tensor]:
    """Two views, with further keys where asked for, all float64; places in three regions; a reach for each pixel."""
    random = torch.Generator().manual_seed(seed)
    features = [torch.randn(size, width, generator=random, dtype=torch.float64) for size in (count, count, extra)]
    place = torch.stack([torch.randint(-1, high, (count,), generator=random) for high in (2, 12, 12)], dim=1)
    return features, place, torch.randint(-1, 9, (count,), generator=random).double()


def naive(
    first: Tensor,
    second: Tensor,
    place: Tensor,
    *,
    temperature: float,
    exclusion: Tensor,
    rows: slice = ALL,
    extra: Tensor | None = None,
) -> Tensor:
    """As the formula reads, with all logits at once."""
    apart = (place[:, None, 1:] - place[:, 1:]).abs().amax(dim=2)
    near = (place[:, None, 0] == place[:, 0]) & (apart <= exclusion[:, None])
    total = first.new_zeros(())
    for one, other in ((first, second), (second, first)):
        query, key = F.normalize(one, dim=1), F.normalize(other, dim=1)
        positive = (query * key).sum(dim=1, keepdim=True) / temperature
        terms = [positive, (query @ key.T / temperature).masked_fill(near, -torch.inf)]
        if extra is not None:
            terms.append(query @ F.normalize(extra, dim=1).T / temperature)
        total = total + (torch.logsumexp(torch.cat(terms, dim=1), dim=1) - positive[:, 0])[rows].sum()
    return total / (2 * len(first))


def gradients(loss: Tensor, *inputs: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, inputs))


def leaves(features: list[Tensor]) -> list[Tensor]:
    return [one.detach().clone().requires_grad_() for one in features[:2]]


@given(
    count=st.integers(1, 14),
    more=st.integers(0, 4),
    seed=st.integers(0, 1000),
    tau=st.floats(0.004, 2.0),
    chunk=st.integers(1, 15),
    rows=st.none() | st.builds(slice, st.integers(0, 7), st.integers(7, 14)),
)
@settings(max_examples=60, deadline=None)
def test_value_and_gradient_are_the_formulas(
    count: int, more: int, seed: int, tau: float, chunk: int, *, rows: slice | None
) -> None:
    features, place, exclusion = draw(count, 5, seed, extra=more)
    if seed % 2:  # every other time, one reach for all
        exclusion[:] = exclusion[0]
    mine, theirs = leaves(features), leaves(features)
    options = {"temperature": tau, "exclusion": exclusion, "extra": features[2]}
    loss = info_nce(*mine, place, chunk=chunk, rows=rows, **options)
    expected = naive(*theirs, place, rows=rows or ALL, **options)
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=1e-10)
    for found, wanted in zip(gradients(loss, *mine), gradients(expected, *theirs), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("rows", [None, slice(300, 1500)])
def test_many_pixels_in_many_tiles(rows: slice | None) -> None:
    features, place, _ = draw(2048, 16, 0, extra=700)
    place[:, 1:] *= torch.randint(1, 20, (2048, 2), generator=torch.Generator().manual_seed(1))
    exclusion = torch.tensor([3.0, 0.0, 40.0], dtype=torch.float64)[place[:, 0]]
    mine, theirs = leaves(features), leaves(features)
    options = {"temperature": 0.2, "exclusion": exclusion, "extra": features[2]}
    loss = info_nce(*mine, place, rows=rows, **options)
    expected = naive(*theirs, place, rows=rows or ALL, **options)
    assert abs(loss - expected) < 1e-6
    for found, wanted in zip(gradients(loss, *mine), gradients(expected, *theirs), strict=True):
        assert ((found - wanted).norm() / wanted.norm()) < 1e-6


def test_processes_add_up_to_one() -> None:
    features, place, exclusion = draw(50, 6, 3, extra=9)
    whole, parts = leaves(features), leaves(features)
    options = {"temperature": 0.3, "exclusion": exclusion, "extra": features[2], "chunk": 16}
    loss = info_nce(*whole, place, **options)
    pieces = [info_nce(*parts, place, rows=rows, **options) for rows in (slice(11), slice(11, 40), slice(40, None))]
    torch.testing.assert_close(sum(pieces), loss)
    for found, wanted in zip(gradients(sum(pieces), *parts), gradients(loss, *whole), strict=True):
        torch.testing.assert_close(found, wanted)


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
    [grad] = gradients(info_nce(near, near * 2, torch.zeros(3, 3), temperature=0.5), near)
    assert grad.isfinite().all()


@pytest.mark.parametrize("factor", [10_000, 10**9])
def test_distances_are_exact_however_large(factor: int) -> None:
    features, place, exclusion = draw(40, 6, 5)
    scaled = place * torch.tensor([1, factor, factor])
    near = info_nce(*features[:2], place, temperature=0.4, exclusion=exclusion)
    far = info_nce(*features[:2], scaled, temperature=0.4, exclusion=exclusion * factor)
    torch.testing.assert_close(near, far)


def test_an_infinite_exclusion_leaves_other_regions_only() -> None:
    features, place, _ = draw(40, 6, 6)
    reach = torch.full((40,), torch.inf)
    found = info_nce(*features[:2], place, temperature=0.4, exclusion=torch.inf, chunk=7)
    torch.testing.assert_close(found, naive(*features[:2], place, temperature=0.4, exclusion=reach))


@pytest.mark.parametrize(("tau", "tolerance"), [(0.5, 1e-5), (0.05, 1e-4), (0.004, 1e-5)])
def test_autocast_and_half_precision_features_cost_no_precision(tau: float, tolerance: float) -> None:
    features, place, exclusion = draw(300, 32, 7)
    features[1] = features[0] + features[1]
    half = [one.bfloat16().requires_grad_() for one in features[:2]]
    full = [one.detach().double().requires_grad_() for one in half]
    expected = naive(*full, place, temperature=tau, exclusion=exclusion)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        wide = [one.float() for one in half]
        loss = info_nce(*wide, place, temperature=tau, exclusion=exclusion, chunk=128)
        found = gradients(loss, *wide)
        torch.testing.assert_close(info_nce(*half, place, temperature=tau, exclusion=exclusion, chunk=128), loss)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-6)
    for one, other in zip(found, gradients(expected, *full), strict=True):
        assert ((one.double() - other).norm() / other.norm()) < tolerance


def test_a_temperature_beyond_float64_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at least 1/300, found 0\.001"):
        info_nce(torch.ones(2, 3), torch.ones(2, 3), torch.zeros(2, 3), temperature=0.001)


def test_what_comes_in_from_elsewhere_gets_no_gradient() -> None:
    features, place, _ = draw(10, 4, 8, extra=5)
    extra = features[2].requires_grad_()
    mine = leaves(features)
    info_nce(*mine, place, temperature=0.5, extra=extra).backward()  # type: ignore[no-untyped-call]
    assert extra.grad is None
    [grad] = gradients(info_nce(mine[0], features[1], place, temperature=0.5), mine[0])
    torch.testing.assert_close(grad, gradients(info_nce(*mine, place, temperature=0.5), mine[0])[0])


def test_a_step_never_holds_all_logits() -> None:
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 8192**2 * 4 / 4  # the logits of one direction are 268 MB


def test_every_temperature_that_may_be_set_can_be_computed() -> None:
    with pytest.raises(UsageError, match=r"temperature of at least 0\.004"):
        PretrainSettings(temperature=0.001)
    assert number_type(torch.float32, PretrainSettings(temperature=0.004).temperature) == torch.float64
