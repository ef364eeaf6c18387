"""The imagery under a map: the median of each pixel's clear observations, in natural colours."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from eearth.events import Advanced, Finished, Report, Started
from eearth.geo.cube import CUBE, Cube
from eearth.geo.quicklook import COLOURS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from eearth.geo.grid import Grid
    from eearth.report.sources import Held

TASK = "imagery for the page"

# Chunks read at the same time: unpacking and sorting let other threads run.
THREADS = 4

# Percentiles of each band that become black and white.
DARKEST, BRIGHTEST = 2, 98


def read_backdrop(held: Held, grid: Grid, shape: tuple[int, int], report: Report) -> NDArray[np.uint8] | None:
    """The imagery where the map lies; None where the workspace has none of that ground.

    Args:
        held: The workspace.
        grid: The map's.
        shape: (rows, columns) of the picture.
        report: Receives progress.

    Returns:
        (y, x, 4) red, green, blue and alpha; transparent where nothing was ever seen.
    """
    if "download" not in held:
        return None
    cube = Cube.open(held.workspace.folder("download") / CUBE)
    if cube.grid.crs != grid.crs:  # the map was made of other imagery, which was not kept
        return None
    rows, cols = (
        _places(whole[_thinned(whole.size, shown)], there)
        for whole, shown, there in ((grid.y(), shape[0], cube.grid.y()), (grid.x(), shape[1], cube.grid.x()))
    )
    if not ((rows >= 0).any() and (cols >= 0).any()):
        return None
    median = median_of(cube, rows, cols, report)
    return coloured(median, *ends_of(median)) if np.isfinite(median).min(axis=-1).any() else None


def _thinned(whole: int, shown: int) -> NDArray[np.int64]:
    """Which of so many rows or columns lie in the middle of the cells that the picture shows."""
    return ((np.arange(shown) + 0.5) * whole / shown).astype(np.int64)


def _places(wanted: NDArray[np.float64], there: NDArray[np.float64]) -> NDArray[np.int64]:
    """The row or column of the cube under each of the map's; -1 beside the cube."""
    pixel = there[1] - there[0] if there.size > 1 else 1.0
    places = np.round((wanted - there[0]) / pixel).astype(np.int64)
    return np.where((places >= 0) & (places < there.size), places, -1)


def median_of(cube: Cube, rows: NDArray[np.int64], cols: NDArray[np.int64], report: Report) -> NDArray[np.float32]:
    """(y, x, band) median reflectance of the clear observations, NaN where there is none; read chunk by chunk."""
    bands = [cube.bands.index(name) for name in COLOURS] if set(COLOURS) <= set(cube.bands) else [0]
    median = np.full((rows.size, cols.size, len(bands)), np.nan, dtype=np.float32)
    height, width = cube.reflectance.chunks[-2:]
    chunks_down, chunks_across = (np.unique(part[part >= 0] // side) for part, side in ((rows, height), (cols, width)))

    def put(down: int, across: int) -> None:
        of_row, of_col = np.flatnonzero(rows // height == down), np.flatnonzero(cols // width == across)
        place = slice(down * height, (down + 1) * height), slice(across * width, (across + 1) * width)
        down_in, across_in = rows[of_row] % height, cols[of_col] % width
        values = np.asarray(cube.reflectance[:, :, *place])[:, bands][..., down_in, :][..., across_in]
        clear = np.asarray(cube.valid[:, *place])[:, None][..., down_in, :][..., across_in]
        middle = _middle(values, clear & (values != cube.encoding.fill))
        median[np.ix_(of_row, of_col)] = middle * cube.scale + cube.offset

    report(Started(task=TASK, total=len(chunks_down), unit="rows of chunks"))
    with ThreadPoolExecutor(THREADS) as pool:
        for down in chunks_down:
            list(pool.map(put, np.full(chunks_across.shape, down), chunks_across))
            report(Advanced(task=TASK))
    report(Finished(task=TASK))
    return median


def _middle(values: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(time, band, y, x) → (y, x, band): the median where valid, of two middle ones the lower; NaN without any.

    A sort of integers with what is not valid at the end is many times faster than numpy's median that leaves out NaN.
    """
    last = np.iinfo(values.dtype).max
    rising = np.sort(np.where(valid, values, last).transpose(2, 3, 1, 0), axis=-1)
    count = valid.sum(axis=0).transpose(1, 2, 0)
    middle = np.take_along_axis(rising, np.maximum(count - 1, 0)[..., None] // 2, axis=-1)[..., 0]
    return np.where(count > 0, middle, np.nan)


def ends_of(median: NDArray[np.float32]) -> tuple[float, float]:
    """The reflectances that become black and white, for all bands alike, so that colours stay natural."""
    seen = median[np.isfinite(median).min(axis=-1)]
    low, high = np.percentile(seen, (DARKEST, BRIGHTEST)) if seen.size else (0.0, 1.0)
    return float(low), float(high)


def coloured(median: NDArray[np.float32], low: float, high: float) -> NDArray[np.uint8]:
    """(y, x, band) reflectance → (y, x, 4), black at `low` and white at `high`; transparent where nothing was seen."""
    seen = np.isfinite(median).min(axis=-1)
    share = np.clip((np.nan_to_num(median) - low) / max(high - low, 1e-6), 0, 1)
    colours = np.broadcast_to((255 * share).astype(np.uint8), (*seen.shape, 3))
    return np.dstack([colours, np.where(seen, 255, 0).astype(np.uint8)])
