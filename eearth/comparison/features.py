"""What classifiers of single pixels look at: clear-sky monthly medians, or the features of a frozen encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eearth.geo.grid import tiles_of
from eearth.geo.lattice import margin_for
from eearth.inference import EVALUATION_BATCH, EVALUATION_TILE, EVALUATION_WINDOW, encode_tile

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from eearth.data.series import Series
    from eearth.geo.grid import Window
    from eearth.models.encoder import Encoder

# Side of the squares whose medians are taken at once: all dates of one fit into any memory.
MEDIAN_TILE = 128


def monthly_medians(series: Series, wanted: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Median of the clear observations in each calendar month that has an acquisition.

    A month without a clear observation of a pixel holds the median of all of the pixel's clear observations; a pixel
    that was never seen clearly is 0 throughout.

    Args:
        series: The region's imagery.
        wanted: (y, x), True where medians are wanted.

    Returns:
        (pixel, month * band), pixels in the order of `np.nonzero(wanted)`.
    """
    month = series.times.astype("datetime64[M]").astype(int) % 12
    parts = [month == each for each in np.unique(month)]

    def of_tile(tile: Window, inside: NDArray[np.bool_]) -> NDArray[np.float32]:
        values, valid = series.read(tile, series.bands)
        clear = np.where(valid[:, None], values, np.float32(np.nan))[:, :, inside]
        return _medians(clear, parts).T

    return _by_tile(wanted, MEDIAN_TILE, of_tile)


def encoded(series: Series, encoder: Encoder, wanted: NDArray[np.bool_], device: str) -> NDArray[np.float32]:
    """An encoder's features, as a map would see them.

    Args:
        series: The region's imagery.
        encoder: The encoder; moved to `device`.
        wanted: (y, x), True where features are wanted.
        device: Where the network runs.

    Returns:
        (pixel, feature), pixels in the order of `np.nonzero(wanted)`; 0 where a pixel was never seen clearly.
    """
    encoder.to(device)

    def of_tile(tile: Window, inside: NDArray[np.bool_]) -> NDArray[np.float32]:
        found = encode_tile(
            encoder,
            series,
            tile,
            size=EVALUATION_WINDOW,
            margin=margin_for(encoder.margin),
            device=device,
            batch=EVALUATION_BATCH,
            bands=encoder.bands,
            inside=inside,
        )
        return np.nan_to_num(found[:, inside]).T

    return _by_tile(wanted, EVALUATION_TILE, of_tile)


def _by_tile(
    wanted: NDArray[np.bool_], size: int, of_tile: Callable[[Window, NDArray[np.bool_]], NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Put together what `of_tile` gives for each tile, (pixel, feature), in the order of the whole region's pixels."""
    places, parts = [], []
    for tile in tiles_of(wanted.shape, size):
        inside = wanted[tile.slices]
        if inside.any():
            rows, cols = np.nonzero(inside)
            places.append((rows + tile.row) * wanted.shape[1] + cols + tile.col)
            parts.append(of_tile(tile, inside))
    return np.concatenate(parts)[np.argsort(np.concatenate(places))]


def _medians(clear: NDArray[np.float32], parts: list[NDArray[np.bool_]]) -> NDArray[np.float32]:
    """(time, band, pixel), NaN where not clear → (month * band, pixel)."""
    whole = np.nan_to_num(_median(clear))
    medians = [_median(clear[part]) for part in parts]
    return np.concatenate([np.where(np.isnan(one), whole, one) for one in medians])


def _median(clear: NDArray[np.float32]) -> NDArray[np.float32]:
    """Median over the first axis of what is not NaN; NaN where there is nothing. Sorting beats numpy's nanmedian."""
    ordered = np.sort(clear, axis=0)
    count = (~np.isnan(clear)).sum(axis=0)[None]
    middle = np.stack([np.maximum(count - 1, 0) // 2, np.minimum(count // 2, len(clear) - 1)])
    low, high = np.take_along_axis(ordered[None], middle, axis=1)[:, 0]
    return np.where(count[0] > 0, (low + high) / 2, np.float32(np.nan))
