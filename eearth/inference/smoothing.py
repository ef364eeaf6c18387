"""Bayesian smoothing: each pixel's probabilities together with what its neighbours say.

The empirical Bayes estimate of Camara et al. 2024, "Bayesian inference for post-processing of remote-sensing image
classification", Remote Sensing 16(23), 4572, https://doi.org/10.3390/rs16234572, as `sits_smooth` of the R package sits
has it (https://e-sensing.github.io/sitsbook/cl_smoothing.html).
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

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

# Pixels whose neighbours are sorted at once: few enough for the processor's cache.
PIXELS_AT_ONCE = 16_384


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
    whole = slice(0, seen.shape[0])
    taken = np.ceil(SHARE * sum(part.astype(np.int32) for part in _around(seen, whole, window, 0))).astype(np.int32)
    result = probabilities.copy()
    for rows in _strips(seen.shape):
        takes = seen[rows] & (taken[rows] > 1)
        posterior = np.stack([_posterior(logit, rows, taken[rows], window, variance) for logit in logits])
        likely = 1 / (1 + np.exp(-posterior))
        result[:, rows] = np.where(takes, likely / likely.sum(axis=0), result[:, rows])
    return result


def _logit(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    clipped = np.clip(probabilities, LEAST_PROBABILITY, 1 - LEAST_PROBABILITY, dtype=np.float64)
    return np.asarray(np.log(clipped / (1 - clipped)), dtype=np.float32)


def _strips(shape: tuple[int, int]) -> Iterator[slice]:
    """Rows that are smoothed at once."""
    step = max(1, PIXELS_AT_ONCE // shape[1])
    for row in range(0, shape[0], step):
        yield slice(row, min(row + step, shape[0]))


def _around(values: NDArray[Any], rows: slice, window: int, fill: float) -> Iterator[NDArray[Any]]:
    """(y, x) of some rows, for each place in the neighbourhood: what lies there; `fill` beyond the array's edges."""
    reach, (height, width) = smoothing_halo(window), values.shape
    padded = np.full((rows.stop - rows.start + 2 * reach, width + 2 * reach), fill, values.dtype)
    first, stop = max(0, rows.start - reach), min(height, rows.stop + reach)
    top = first - (rows.start - reach)
    padded[top : top + stop - first, reach : reach + width] = values[first:stop]
    for row in range(window):
        for col in range(window):
            yield padded[row : row + rows.stop - rows.start, col : col + width].copy()


def _posterior(
    logits: NDArray[np.float32], rows: slice, taken: NDArray[np.int32], window: int, variance: float
) -> NDArray[np.float32]:
    """(y, x) posterior mean of one class's logits, −∞ where never observed; of some rows.

    The sums run over one neighbour after the other, so that a pixel's do not depend on where it lies in the array.
    """
    highest = _highest(list(_around(logits, rows, window, -np.inf)), int(taken.max(initial=0)))
    there = [(index < taken, values) for index, values in enumerate(highest)]
    mean = sum((np.where(use, values, 0) for use, values in there), np.zeros(taken.shape, np.float32))
    mean /= np.maximum(taken, 1)
    spread = sum((np.where(use, values - mean, 0) ** 2 for use, values in there), np.zeros(taken.shape, np.float32))
    spread /= np.maximum(taken - 1, 1)
    own = np.where(np.isfinite(logits[rows]), logits[rows], 0)
    return np.asarray((spread * own + variance * mean) / (spread + variance), dtype=np.float32)


def _highest(values: list[NDArray[np.float32]], most: int) -> list[NDArray[np.float32]]:
    """For each pixel the highest of its values, in falling order; all pixels at once, in a third of `np.sort`'s time.

    Args:
        values: Arrays of one shape, one value a pixel each; they are overwritten.
        most: How many are wanted.
    """
    spare = np.empty_like(values[0])
    for high, low in _exchanges(len(values), most):
        np.maximum(values[high], values[low], out=spare)
        np.minimum(values[high], values[low], out=values[low])
        values[high], spare = spare, values[high]
    return values[:most]


@cache
def _exchanges(count: int, most: int) -> list[tuple[int, int]]:
    """Pairs to put in order, one after the other, after which the highest of so many values stand first.

    Batcher's merge exchange (Knuth, The Art of Computer Programming 3, 5.2.2, algorithm M), without the pairs that
    only matter for the lower ones.
    """
    top = 1 << max(0, (count - 1).bit_length() - 1)
    pairs, p = [], top if count > 1 else 0
    while p:
        q, r, d = top, 0, p
        while d:
            pairs += [(i, i + d) for i in range(count - d) if i & p == r]
            d, q, r = q - p, q >> 1, p
        p >>= 1
    wanted, kept = set(range(most)), []
    for pair in reversed(pairs):
        if wanted & {*pair}:
            wanted |= {*pair}
            kept.append(pair)
    return kept[::-1]
