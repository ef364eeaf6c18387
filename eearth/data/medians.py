"""Clear-sky monthly medians: what a classifier of single pixels sees of a time series."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eearth.geo.grid import tiles_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from eearth.data.series import Series
    from eearth.geo.grid import Window

# Side of the squares whose medians are taken at once: all dates of one fit into any memory.
MEDIAN_TILE = 128


def months_of(series: Series) -> NDArray[np.int64]:
    """The calendar month of each acquisition, 0 to 11, shape (time,)."""
    months: NDArray[np.int64] = series.times.astype("datetime64[M]").astype(np.int64) % 12
    return months


def monthly_medians(
    series: Series,
    wanted: NDArray[np.bool_],
    *,
    months: Sequence[int] | None = None,
    bands: Sequence[str] | None = None,
) -> NDArray[np.float32]:
    """Median of the clear observations in each calendar month.

    A month without a clear observation of a pixel holds the median of all of the pixel's clear observations; a pixel
    that was never seen clearly is 0 throughout.

    Args:
        series: The region's imagery.
        wanted: (y, x), True where medians are wanted.
        months: Calendar months, 0 to 11; None for those with an acquisition.
        bands: Bands by name; None for all.

    Returns:
        (pixel, month * band), pixels in the order of `np.nonzero(wanted)`.
    """
    month = months_of(series)
    parts = [month == each for each in (np.unique(month) if months is None else months)]

    def of_tile(tile: Window, inside: NDArray[np.bool_]) -> NDArray[np.float32]:
        values, valid = series.read(tile, bands or series.bands)
        clear = np.where(valid[:, None], values, np.float32(np.nan))[:, :, inside]
        return _medians(clear, parts).T

    return _by_tile(wanted, MEDIAN_TILE, of_tile)


def medians_of_all(series: Sequence[Series], wanted: Sequence[NDArray[np.bool_]]) -> NDArray[np.float32]:
    """Monthly medians of several regions side by side: every month in which one of them has an acquisition.

    Args:
        series: The regions' imagery, all with the bands of the first.
        wanted: For each (y, x), True where medians are wanted.

    Returns:
        (pixel, month * band), region by region.

    Raises:
        ModelError: A region lacks a band.
    """
    months = sorted({int(month) for one in series for month in months_of(one)})
    return np.concatenate(
        [
            monthly_medians(one, place, months=months, bands=series[0].bands)
            for one, place in zip(series, wanted, strict=True)
            if place.any()
        ]
    )


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
    medians = (_median(clear[part]) if part.any() else whole for part in parts)
    return np.concatenate([np.where(np.isnan(one), whole, one) for one in medians])


def _median(clear: NDArray[np.float32]) -> NDArray[np.float32]:
    """Median over the first axis of what is not NaN; NaN where there is nothing. Sorting beats numpy's nanmedian."""
    ordered = np.sort(clear, axis=0)
    count = (~np.isnan(clear)).sum(axis=0)[None]
    middle = np.stack([np.maximum(count - 1, 0) // 2, np.minimum(count // 2, len(clear) - 1)])
    low, high = np.take_along_axis(ordered[None], middle, axis=1)[:, 0]
    return np.where(count[0] > 0, (low + high) / 2, np.float32(np.nan))
