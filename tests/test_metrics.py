from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics as sklearn_metrics
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_f1_score,
    multiclass_jaccard_index,
    multiclass_precision,
    multiclass_recall,
)

from eearth.metrics import accuracy, confusion_matrix

if TYPE_CHECKING:
    from collections.abc import Callable

CODES = (2, 7, 40, 255)
reference_maps = arrays(np.uint8, (6, 7), elements=st.sampled_from((0, *CODES)))


@given(reference_maps, reference_maps)
def test_all_measures_agree_with_scikit_learn(reference: np.ndarray, predicted: np.ndarray) -> None:
    labelled = reference > 0
    if not labelled.any():
        return
    truth, mapped = reference[labelled], predicted[labelled]
    # scikit-learn sees "no data" as one more class, which the reference never has.
    everything = [*CODES, 0]
    found = accuracy(confusion_matrix(reference, predicted, CODES), CODES)
    oracle = sklearn_metrics.confusion_matrix(truth, mapped, labels=everything)
    np.testing.assert_array_equal(found.confusion, oracle[:-1])
    precision, recall, f1, support = sklearn_metrics.precision_recall_fscore_support(
        truth, mapped, labels=CODES, zero_division=np.nan
    )
    np.testing.assert_allclose(found.users_accuracy, precision)
    np.testing.assert_allclose(found.producers_accuracy, recall)
    np.testing.assert_allclose(found.f1, f1)
    np.testing.assert_array_equal(found.support, support)
    assert found.overall_accuracy == pytest.approx(sklearn_metrics.accuracy_score(truth, mapped))
    occurs = np.isin(CODES, np.concatenate([truth, mapped]))
    iou = sklearn_metrics.jaccard_score(truth, mapped, labels=np.array(CODES)[occurs], average=None, zero_division=0)
    np.testing.assert_allclose(found.iou[occurs], iou)
    assert np.isnan(found.iou[~occurs]).all()
    macro = sklearn_metrics.jaccard_score(truth, mapped, labels=np.unique(truth), average="macro", zero_division=0)
    assert found.mean_iou == pytest.approx(macro)


@given(reference_maps, reference_maps)
def test_all_measures_agree_with_torchmetrics(reference: np.ndarray, predicted: np.ndarray) -> None:
    labelled = reference > 0
    if not labelled.any():
        return
    place = {code: k for k, code in enumerate((*CODES, 0))}  # "no data" is a class that the reference never has
    truth, mapped = (torch.tensor([place[int(code)] for code in values[labelled]]) for values in (reference, predicted))
    found = accuracy(confusion_matrix(reference, predicted, CODES), CODES)
    classes = len(CODES) + 1

    def of_each(metric: Callable[..., torch.Tensor], **settings: float) -> np.ndarray:
        return metric(mapped, truth, num_classes=classes, average="none", **settings).numpy()[:-1]

    overall = multiclass_accuracy(mapped, truth, num_classes=classes, average="micro")
    assert found.overall_accuracy == pytest.approx(float(overall), abs=1e-6)
    shown = ~np.isnan(found.iou)
    np.testing.assert_allclose(found.iou[shown], of_each(multiclass_jaccard_index)[shown], atol=1e-6)
    np.testing.assert_allclose(found.f1[shown], of_each(multiclass_f1_score)[shown], atol=1e-6)
    np.testing.assert_allclose(
        np.nan_to_num(found.users_accuracy), of_each(multiclass_precision, zero_division=0), atol=1e-6
    )
    np.testing.assert_allclose(
        np.nan_to_num(found.producers_accuracy), of_each(multiclass_recall, zero_division=0), atol=1e-6
    )
    occurs = found.support > 0
    assert found.mean_iou == pytest.approx(float(of_each(multiclass_jaccard_index)[occurs].mean()), abs=1e-6)


def test_a_map_without_data_is_wrong_where_there_is_a_label() -> None:
    found = accuracy(confusion_matrix([1, 1, 2, 0], [1, 0, 0, 0], (1, 2)), (1, 2))
    assert found.confusion.tolist() == [[1, 0, 1], [0, 0, 1]]
    assert found.overall_accuracy == pytest.approx(1 / 3)
    assert found.mean_iou == pytest.approx(0.25)


def test_matrix_of_olofsson_2014() -> None:
    # Olofsson et al. 2014, table 8, transposed: there the map is in the rows.
    matrix = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]]).T
    found = accuracy(matrix, (1, 2, 3, 4))
    np.testing.assert_allclose(found.users_accuracy, [0.88, 0.7333, 0.9273, 0.9631], atol=5e-5)
    assert found.overall_accuracy == pytest.approx(587 / 640)


def test_measures_without_a_value_become_null_in_json() -> None:
    found = accuracy([[3, 0], [0, 0]], (1, 9)).as_dict()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["iou"] == [1.0, None]
    assert found["mean_iou"] == 1.0
    assert accuracy(np.zeros((2, 3)), (1, 2)).as_dict()["overall_accuracy"] is None


def test_codes_may_be_in_any_order() -> None:
    straight = confusion_matrix([1, 5, 9, 9], [1, 9, 9, 0], (1, 5, 9))
    turned = confusion_matrix([1, 5, 9, 9], [1, 9, 9, 0], (9, 1, 5))
    np.testing.assert_array_equal(turned, straight[[2, 0, 1]][:, [2, 0, 1, 3]])


@pytest.mark.parametrize(
    ("reference", "predicted", "codes", "message"),
    [
        ([1, 2], [1], (1, 2), "one shape"),
        ([1, 3], [1, 1], (1, 2), r"reference holds the codes \[3\]"),
        ([1, 2], [1, 77], (1, 2), r"predicted holds the codes \[77\]"),
        ([1], [1], (0, 1), "without 0"),
        ([1], [1], (1, 1), "each once"),
        ([1], [1], (), "each once"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(
    reference: list[int], predicted: list[int], codes: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        confusion_matrix(reference, predicted, codes)


def test_a_matrix_that_does_not_fit_the_codes_is_refused() -> None:
    with pytest.raises(ValueError, match="2 x 3"):
        accuracy(np.ones((3, 3)), (1, 2))
