"""Classifiers of single pixels: a random forest, and a linear probe of frozen features."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

# Trees of the forest that few-label studies compare with; more change nothing.
TREES = 500

# Iterations of the probe's solver: more than it ever takes on standardised features.
PROBE_ITERATIONS = 10_000


def forest(
    features: NDArray[np.float32], codes: NDArray[np.uint8], seed: int
) -> Callable[[NDArray[np.float32]], NDArray[np.uint8]]:
    """A random forest.

    Args:
        features: (pixel, feature) to learn from.
        codes: (pixel,) their classes.
        seed: Of the trees.

    Returns:
        Features (pixel, feature) → class codes (pixel,).
    """
    from sklearn.ensemble import RandomForestClassifier

    model = RandomForestClassifier(TREES, random_state=seed).fit(features, codes)
    return lambda unknown: model.predict(unknown).astype(np.uint8)


def probe(
    features: NDArray[np.float32], codes: NDArray[np.uint8], usual: NDArray[np.float32]
) -> Callable[[NDArray[np.float32]], NDArray[np.uint8]]:
    """A logistic regression on standardised features.

    Args:
        features: (pixel, feature) to learn from.
        codes: (pixel,) their classes.
        usual: (pixel, feature) whose mean and standard deviation are the standard: a handful of pixels has none.

    Returns:
        Features (pixel, feature) → class codes (pixel,).
    """
    from sklearn.linear_model import LogisticRegression

    mean, std = usual.mean(axis=0, dtype=np.float64), np.maximum(usual.std(axis=0, dtype=np.float64), 1e-6)
    model = LogisticRegression(max_iter=PROBE_ITERATIONS).fit((features - mean) / std, codes)
    return lambda unknown: model.predict((unknown - mean) / std).astype(np.uint8)
