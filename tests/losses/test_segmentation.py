from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchmetrics.functional.segmentation import dice_score

from eearth.losses import dice, focal, summed, weighted_cross_entropy

if TYPE_CHECKING:
    from eearth.losses.segmentation import SegmentationLoss

LOSSES = {"cross_entropy": weighted_cross_entropy, "dice": dice, "focal": focal}
WEIGHT = torch.tensor([0.1, 1.0, 5.0], dtype=torch.float64)


def pixels(count: int = 60, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores in float64, and targets of which about a fifth are to be ignored."""
    random = torch.Generator().manual_seed(seed)
    scores = 3 * torch.randn(count, 3, generator=random, dtype=torch.float64)
    target = torch.randint(0, 3, (count,), generator=random)
    target[torch.rand(count, generator=random) < 0.2] = -1
    return scores.requires_grad_(), target


@pytest.mark.parametrize("seed", range(5))
def test_cross_entropy_is_torchs_weighted_mean_with_ignore(seed: int) -> None:
    scores, target = pixels(seed=seed)
    expected = F.cross_entropy(scores, target, weight=WEIGHT, ignore_index=-1)
    found = weighted_cross_entropy(scores, target, WEIGHT)
    assert found.dtype == torch.float64
    assert abs(found.item() - expected.item()) < 1e-7
    slopes = (torch.autograd.grad(loss, scores, retain_graph=True)[0] for loss in (found, expected))
    torch.testing.assert_close(*slopes, rtol=0, atol=1e-12)


def naive_focal(scores: torch.Tensor, target: torch.Tensor, gamma: float) -> float:
    total = weights = 0.0
    for row, true in zip(scores.detach().tolist(), target.tolist(), strict=True):
        if true >= 0:
            p = math.exp(row[true]) / sum(map(math.exp, row))
            total -= WEIGHT[true].item() * (1 - p) ** gamma * math.log(p)
            weights += WEIGHT[true].item()
    return total / weights


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
def test_focal_is_the_published_formula(gamma: float) -> None:
    scores, target = pixels()
    assert focal(scores, target, WEIGHT, gamma).item() == pytest.approx(naive_focal(scores, target, gamma), abs=1e-12)
    if gamma == 0:
        torch.testing.assert_close(focal(scores, target, WEIGHT, 0.0), weighted_cross_entropy(scores, target, WEIGHT))


def test_focal_has_a_slope_where_a_pixel_is_surely_right() -> None:
    scores = torch.tensor([[200.0, 0.0, 0.0]], requires_grad=True)
    focal(scores, torch.tensor([0]), WEIGHT.float(), 0.5).backward()
    assert scores.grad is not None
    assert scores.grad.isfinite().all()


def test_dice_is_torchmetrics_score_where_all_is_decided_and_the_formula_where_not() -> None:
    scores, target = pixels()
    known = target >= 0
    decided = F.one_hot(scores.argmax(dim=1), 3)[known].T[None], F.one_hot(target[known], 3).T[None]
    score = dice_score(*decided, num_classes=3, average="none", input_format="one-hot")[0]
    found = dice(1e4 * scores, target, WEIGHT)
    assert found.item() == pytest.approx(1 - np.average(score.numpy(), weights=WEIGHT.numpy()), abs=1e-6)
    p, t = scores.detach().softmax(dim=1)[known].numpy(), np.eye(3)[target[known].numpy()]
    soft = [2 * (p[:, k] * t[:, k]).sum() / (p[:, k].sum() + t[:, k].sum()) for k in range(3)]
    assert dice(scores, target, WEIGHT).item() == pytest.approx(1 - np.average(soft, weights=WEIGHT.numpy()))


def test_dice_leaves_out_a_class_that_is_not_there() -> None:
    scores, target = torch.zeros(4, 3), torch.tensor([0, 0, 1, 1])
    assert dice(scores, target, torch.ones(3)).item() == pytest.approx(1 - 2 * (2 / 3) / (4 / 3 + 2))


@pytest.mark.parametrize("loss", [*LOSSES.values(), summed(tuple(LOSSES))])
@pytest.mark.parametrize("case", ["no pixel", "all ignored", "no weight"])
def test_where_nothing_counts_the_loss_is_0_with_a_gradient_of_0(loss: SegmentationLoss, case: str) -> None:
    scores, target = torch.randn(6, 3, requires_grad=True), torch.tensor([0, 1, 2, 0, 1, 2])
    weight = torch.zeros(3) if case == "no weight" else torch.ones(3)
    if case == "no pixel":
        found = loss(scores[:0], target[:0], weight)
    else:
        found = loss(scores, torch.full_like(target, -1) if case == "all ignored" else target, weight)
    found.backward()
    assert found.item() == 0
    assert scores.grad is not None
    assert not scores.grad.any()


@pytest.mark.parametrize("loss", LOSSES.values())
def test_ignored_pixels_change_nothing(loss: SegmentationLoss) -> None:
    scores, target = pixels()
    other = torch.where((target < 0)[:, None], 50.0, scores)
    assert loss(other, target, WEIGHT).item() == loss(scores, target, WEIGHT).item()
    assert loss(scores[target >= 0], target[target >= 0], WEIGHT).item() == loss(scores, target, WEIGHT).item()


def test_a_sum_is_the_sum_of_its_terms_and_its_gamma_reaches_the_focal_one() -> None:
    scores, target = pixels()
    found = summed(("dice", "focal"), gamma=4.0)(scores, target, WEIGHT)
    expected = dice(scores, target, WEIGHT) + focal(scores, target, WEIGHT, 4.0)
    torch.testing.assert_close(found, expected)
    alone = summed(("cross_entropy",))(scores, target, WEIGHT)
    assert alone.item() == weighted_cross_entropy(scores, target, WEIGHT).item()


def test_half_precision_is_widened() -> None:
    scores, target = pixels()
    assert weighted_cross_entropy(scores.bfloat16(), target, WEIGHT.float()).dtype == torch.float32
