from __future__ import annotations

import torch
import torch.nn.functional as F

from eearth.losses import weighted_cross_entropy


def test_weights_are_divided_by_their_sum() -> None:
    random = torch.Generator().manual_seed(0)
    scores, target = torch.randn(30, 3, generator=random), torch.randint(0, 3, (30,), generator=random)
    weight = torch.tensor([0.1, 1.0, 5.0])
    each = F.cross_entropy(scores, target, reduction="none") * weight[target]
    torch.testing.assert_close(weighted_cross_entropy(scores, target, weight), each.sum() / weight[target].sum())
    assert weighted_cross_entropy(scores[:0], target[:0], weight).item() == 0
