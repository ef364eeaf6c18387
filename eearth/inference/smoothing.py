"""Bayesian smoothing: each pixel's probabilities together with what its neighbours say.

The empirical Bayes estimate of Camara et al. 2024, "Bayesian inference for post-processing of remote-sensing image
classification", Remote Sensing 16(23), 4572, https://doi.org/10.3390/rs16234572, as `sits_smooth` of the R package sits
has it (https://e-sensing.github.io/sitsbook/cl_smoothing.html).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

# Variance of a pixel's logits about what the ground there is: sits's default. The less its neighbours' logits vary in
# comparison, the more they count.
VARIANCE = 20.0

# Share of the neighbours that count, those with the highest probabilities of a class: sits's default. Across the edge
# of a field lie the others, so that edges stay where they are.
SHARE = 0.5

# sits keeps probabilities as multiples of this. A network may be sure beyond any measure: 0 and 1 have no logit.
LEAST_PROBABILITY = 1e-4

# Pixels whose neighbours are sorted at once: some 20 MB for windows of 9 pixels.
PIXELS_AT_ONCE = 65_536


def smoothing_halo(window: int) -> int:
    """Pixels around a tile that its smoothed probabilities depend on.

    Args:
        window: Side of the neighbourhood in pixels, odd.
    """
    return window // 2


def smoothed(
    probabilities: NDArray[np.float32], seen: NDArray[np.bool_], window: int, variance: float = VARIANCE
) -> NDArray[np.float32]:
    """Smooth the class probabilities of a tile and its halo.

    For each class, the logit x of a pixel becomes (s² x + σ² m) / (s² + σ²), the posterior mean: m and s² are mean and
    variance of the highest half of the logits of that class around it, itself among them, and σ² is `variance`. Then
    the probabilities are scaled to sum to 1. What lies beyond the array counts as never observed; a pixel with less
    than two values to take mean and variance of keeps its probabilities.

    Args:
        probabilities: (class, y, x), summing to 1 over the classes.
        seen: (y, x), True where the pixel was ever observed; others neither give nor take.
        window: Side of the neighbourhood in pixels, odd; 1 changes nothing.
        variance: See `VARIANCE`.

    Returns:
        (class, y, x); right as far as `smoothing_halo` inside the array's edges, where the map goes on beyond them.
    """
    logits = [np.where(seen, _logit(values), -np.inf) for values in probabilities]
    counts = _around(seen, window, fill=False).sum(axis=(2, 3), dtype=np.int32)
    taken = np.ceil(SHARE * counts).astype(np.int32)
    result = probabilities.copy()
    for rows in _strips(seen.shape):
        takes = seen[rows] & (taken[rows] > 1)
        posterior = np.stack([_posterior(logit, rows, taken[rows], window, variance) for logit in logits])
        likely = 1 / (1 + np.exp(-posterior))
        result[:, rows] = np.where(takes, likely / likely.sum(axis=0), result[:, rows])
    return result


def _logit(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    clipped = np.clip(probabilities, LEAST_PROBABILITY, 1 - LEAST_PROBABILITY, dtype=np.float64)
    return np.log(clipped / (1 - clipped)).astype(np.float32)


def _strips(shape: tuple[int, int]) -> Iterator[slice]:
    """Rows that are smoothed at once."""
    step = max(1, PIXELS_AT_ONCE // shape[1])
    for row in range(0, shape[0], step):
        yield slice(row, min(row + step, shape[0]))


def _around(values: NDArray[np.generic], window: int, fill: float) -> NDArray[np.generic]:
    """(y, x, window, window): each pixel's neighbourhood, `fill` beyond the edges."""
    padded = np.pad(values, smoothing_halo(window), constant_values=fill)
    return sliding_window_view(padded, (window, window))


def _posterior(
    logits: NDArray[np.float32], rows: slice, taken: NDArray[np.int32], window: int, variance: float
) -> NDArray[np.float32]:
    """(y, x) posterior mean of one class's logits, −∞ where never observed; of some rows.

    The sums run over one neighbour after the other, so that a pixel's do not depend on where it lies in the array.
    """
    # Lowest first, so that the pixels that were never observed stay out of the highest ones.
    highest = np.sort(_around(logits, window, -np.inf)[rows].reshape(*taken.shape, -1), axis=-1)[..., ::-1]
    most = int(taken.max(initial=0))
    there = [(index < taken, highest[..., index]) for index in range(most)]
    mean = sum((np.where(use, value, 0) for use, value in there), np.zeros(taken.shape, np.float32))
    mean /= np.maximum(taken, 1)
    spread = sum((np.where(use, value - mean, 0) ** 2 for use, value in there), np.zeros(taken.shape, np.float32))
    spread /= np.maximum(taken - 1, 1)
    own = np.where(np.isfinite(logits[rows]), logits[rows], 0)
    return np.asarray((spread * own + variance * mean) / (spread + variance), dtype=np.float32)
