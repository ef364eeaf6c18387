"""Classifiers of single pixels: a random forest, and the linear one that frozen features are probed with.

Fine-tuning starts its last layer from the same linear classifier, so that a probe says how good that start is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Callable

# Trees of the forest that few-label studies compare with; more change nothing.
TREES = 500

# Inverse strength of the probe's penalty, and when its solver stops. Features that hardly vary are learnt last, so it
# must not stop early; the iterations are more than it ever takes.
PROBE_C, PROBE_TOLERANCE, PROBE_ITERATIONS = 1.0, 1e-6, 10_000

# Least scale of features: those that do not vary at all have none.
LEAST_SCALE = 1e-6


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


def discriminant(
    features: NDArray[np.float32], codes: NDArray[np.uint8]
) -> Callable[[NDArray[np.float32]], NDArray[np.float64]]:
    """A linear discriminant analysis whose covariance is shrunk as Ledoit & Wolf (2004) do, solved in closed form.

    With correlated features and few samples it tells wrong labels better than forests and logistic regressions do, in
    a fraction of their time (docs/design/0011).

    Args:
        features: (pixel, feature) to learn from.
        codes: (pixel,) their classes; at least two, each with two pixels.

    Returns:
        Features (pixel, feature) → probabilities (pixel, class), classes by rising code.
    """
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(features.astype(np.float64), codes)
    return lambda unknown: np.asarray(model.predict_proba(unknown.astype(np.float64)))


@dataclass(frozen=True)
class Linear:
    """Scores that are linear in the features; the highest one decides.

    Attributes:
        codes: (class,) class codes, rising.
        weights: (class, feature) float64.
        biases: (class,) float64.
    """

    codes: NDArray[np.uint8]
    weights: NDArray[np.float64]
    biases: NDArray[np.float64]

    def __call__(self, features: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Features (pixel, feature) → class codes (pixel,)."""
        mapped: NDArray[np.uint8] = self.codes[(features @ self.weights.T + self.biases).argmax(axis=1)]
        return mapped


def probe(
    features: NDArray[np.float32],
    codes: NDArray[np.uint8],
    usual: NDArray[np.float32],
    counts: NDArray[np.float32] | None = None,
) -> Linear:
    """A logistic regression with an L2 penalty (C = 1), multinomial for more than two classes.

    All features are divided by one scale. A scale for each would make those that hardly vary count as much as those
    that tell classes apart: with a handful of labels that loses more than it gains (docs/design/0009).

    Args:
        features: (pixel, feature) to learn from.
        codes: (pixel,) their classes; of a single class, that class is the answer to everything.
        usual: (pixel, feature) that the scale is taken from, the root of the features' mean variance; and their mean,
            which only helps the solver.
        counts: (pixel,) how much each counts; None for 1 each.
    """
    from sklearn.linear_model import LogisticRegression

    known = np.unique(codes)
    if len(known) == 1:
        return Linear(known, np.zeros((1, features.shape[1])), np.zeros(1))
    centre = usual.mean(axis=0, dtype=np.float64)
    scale = max(float(np.sqrt(usual.var(axis=0, dtype=np.float64).mean())), LEAST_SCALE)
    model = LogisticRegression(C=PROBE_C, tol=PROBE_TOLERANCE, max_iter=PROBE_ITERATIONS)
    model.fit((features - centre) / scale, codes, counts)
    weights, biases = model.coef_ / scale, model.intercept_ - model.coef_ @ centre / scale
    if len(known) == 2:  # noqa: PLR2004 - then scikit-learn has one row, of the second class against the first
        weights, biases = (np.concatenate([-part, part]) / 2 for part in (weights, biases))
    return Linear(known, weights, biases)
