"""The measures that models are told apart by, against a second library's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_f1_score,
    multiclass_jaccard_index,
    multiclass_precision,
    multiclass_recall,
)

from eearth.metrics import accuracy, confusion_matrix

CODES = (2, 7, 40, 255)


@pytest.mark.parametrize("seed", range(6))
def test_all_measures_are_torchmetrics(seed: int) -> None:
    random = np.random.default_rng(seed)
    reference = random.choice([0, *CODES], (40, 30), p=[0.3, 0.4, 0.15, 0.1, 0.05])
    mapped = np.where(random.random((40, 30)) < 0.6, reference, random.choice(CODES, (40, 30)))
    mapped[reference == 0] = 2
    found = accuracy(confusion_matrix(reference, mapped, CODES), CODES)
    index = np.full(256, -1)
    index[list(CODES)] = range(4)
    truth, given = torch.from_numpy(index[reference]), torch.from_numpy(index[mapped])
    oracles = {
        "iou": multiclass_jaccard_index,
        "f1": multiclass_f1_score,
        "users_accuracy": multiclass_precision,
        "producers_accuracy": multiclass_recall,
    }
    for name, oracle in oracles.items():
        expected = oracle(given, truth, num_classes=4, average=None, ignore_index=-1)
        np.testing.assert_allclose(getattr(found, name), expected.numpy(), rtol=1e-6)
    macro = multiclass_jaccard_index(given, truth, num_classes=4, average="macro", ignore_index=-1)
    assert found.mean_iou == pytest.approx(macro.item(), rel=1e-6)
    micro = multiclass_accuracy(given, truth, num_classes=4, average="micro", ignore_index=-1)
    assert found.overall_accuracy == pytest.approx(micro.item(), rel=1e-6)
