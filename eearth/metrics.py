"""Accuracy of a map against reference labels, from the confusion matrix alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence


def _positions(values: NDArray[Any], codes: NDArray[np.int64], *, of_zero: int, what: str) -> NDArray[np.int64]:
    """The place of each value in `codes`; `of_zero` for 0."""
    order = np.argsort(codes)
    place = np.searchsorted(codes, values, sorter=order).clip(max=codes.size - 1)
    found = order[place]
    unknown = (codes[found] != values) & (values != 0)
    if unknown.any():
        msg = f"{what} holds the codes {np.unique(values[unknown]).tolist()}, which are not among {codes.tolist()}"
        raise ValueError(msg)
    return np.where(values == 0, of_zero, found)


def confusion_matrix(reference: ArrayLike, predicted: ArrayLike, codes: Sequence[int]) -> NDArray[np.int64]:
    """Count pixels by reference class and mapped class.

    Args:
        reference: Class codes, any shape; 0 = no label, such pixels are left out.
        predicted: Class codes of the map, same shape; 0 = the map has no data there.
        codes: The K class codes, each once, without 0.

    Returns:
        Counts, (K, K + 1): row = reference class, column = mapped class, both in the order of `codes`. The last
        column counts the labelled pixels that the map leaves empty: they are errors of their reference class, so
        that a map cannot gain by keeping silent.

    Raises:
        ValueError: The shapes differ, `codes` is no list of class codes, or an array holds a code outside it.
    """
    truth, mapped, known = np.asarray(reference), np.asarray(predicted), np.asarray(codes, dtype=np.int64)
    if truth.shape != mapped.shape:
        msg = f"reference and map must have one shape, found {truth.shape} and {mapped.shape}"
        raise ValueError(msg)
    if known.size == 0 or (known == 0).any() or np.unique(known).size != known.size:
        msg = f"expected class codes without 0, each once, found {known.tolist()}"
        raise ValueError(msg)
    labelled = truth != 0
    rows = _positions(truth[labelled], known, of_zero=0, what="reference")
    columns = _positions(mapped[labelled], known, of_zero=known.size, what="predicted")
    width = known.size + 1
    return np.bincount(rows * width + columns, minlength=known.size * width).reshape(known.size, width)


@dataclass(frozen=True)
class Accuracy:
    """Accuracy measures; arrays are float64 of shape (K,) in the order of `codes` unless said otherwise.

    A measure that has no value is NaN: the producer's accuracy of a class without reference pixels, the user's
    accuracy of a class that the map never shows, and IoU and F1 of a class that neither of them shows.

    Attributes:
        codes: The K class codes.
        confusion: Pixel counts, (K, K + 1) int64, row = reference, last column = no data in the map.
        overall_accuracy: Share of the labelled pixels whose mapped class is right.
        iou: Intersection over union, TP / (TP + FP + FN); FP among labelled pixels only.
        f1: 2 TP / (2 TP + FP + FN).
        producers_accuracy: TP / reference pixels (recall; 1 - omission error).
        users_accuracy: TP / mapped pixels (precision; 1 - commission error).
        support: Reference pixels, int64.
        mean_iou: Unweighted mean of `iou` over the classes that occur in the reference.
    """

    codes: tuple[int, ...]
    confusion: NDArray[np.int64]
    overall_accuracy: float
    iou: NDArray[np.float64]
    f1: NDArray[np.float64]
    producers_accuracy: NDArray[np.float64]
    users_accuracy: NDArray[np.float64]
    support: NDArray[np.int64]
    mean_iou: float

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready: arrays as lists, NaN as None."""
        return {
            "codes": list(self.codes),
            "overall_accuracy": _or_none(self.overall_accuracy),
            "mean_iou": _or_none(self.mean_iou),
            "iou": [_or_none(value) for value in self.iou],
            "f1": [_or_none(value) for value in self.f1],
            "producers_accuracy": [_or_none(value) for value in self.producers_accuracy],
            "users_accuracy": [_or_none(value) for value in self.users_accuracy],
            "support": self.support.tolist(),
            "confusion": self.confusion.tolist(),
        }


def _or_none(value: float) -> float | None:
    """JSON has no NaN."""
    return None if np.isnan(value) else float(value)


def _share(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    """Divide; NaN where `whole` is 0."""
    share = np.full(part.shape, np.nan)
    np.divide(part, whole, out=share, where=whole > 0)
    return share


@dataclass(frozen=True)
class Measures:
    """The measures of one confusion matrix or of many, (...); those of classes have a last axis more, (..., K).

    What each of them is, and where it is NaN, stands at `Accuracy`.
    """

    overall_accuracy: NDArray[np.float64]
    mean_iou: NDArray[np.float64]
    iou: NDArray[np.float64]
    f1: NDArray[np.float64]
    producers_accuracy: NDArray[np.float64]
    users_accuracy: NDArray[np.float64]


def measures(confusion: NDArray[np.int64]) -> Measures:
    """Accuracy measures of confusion matrices, (..., K, K + 1) as from `confusion_matrix`."""
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    support, mapped = confusion.sum(axis=-1), confusion[..., :-1].sum(axis=-2)
    iou = _share(right, support + mapped - right)
    occurs = support > 0
    number = np.asarray(occurs.sum(axis=-1), dtype=np.float64)
    mean = np.divide(np.where(occurs, iou, 0).sum(axis=-1), number, out=np.full_like(number, np.nan), where=number > 0)
    return Measures(
        overall_accuracy=_share(np.asarray(right.sum(axis=-1)), np.asarray(support.sum(axis=-1))),
        mean_iou=mean,
        iou=iou,
        f1=_share(2 * right, support + mapped),
        producers_accuracy=_share(right, support),
        users_accuracy=_share(right, mapped),
    )


def accuracy(confusion: ArrayLike, codes: Sequence[int]) -> Accuracy:
    """All measures that follow from a confusion matrix.

    Args:
        confusion: Counts with the reference in rows: (K, K + 1) as from `confusion_matrix`, or (K, K).
        codes: The K class codes, in the order of the rows.

    Raises:
        ValueError: The matrix does not fit the codes.
    """
    counts = np.asarray(confusion, dtype=np.int64)
    classes = len(codes)
    if counts.shape == (classes, classes):
        counts = np.pad(counts, ((0, 0), (0, 1)))
    if counts.shape != (classes, classes + 1):
        msg = f"expected a confusion matrix of {classes} x {classes + 1}, found {counts.shape}"
        raise ValueError(msg)
    found = measures(counts)
    return Accuracy(
        codes=tuple(int(code) for code in codes),
        confusion=counts,
        overall_accuracy=float(found.overall_accuracy),
        iou=found.iou,
        f1=found.f1,
        producers_accuracy=found.producers_accuracy,
        users_accuracy=found.users_accuracy,
        support=counts.sum(axis=1),
        mean_iou=float(found.mean_iou),
    )
