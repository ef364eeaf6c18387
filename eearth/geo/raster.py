"""Reading one band of one file onto a grid."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import RasterioError
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform as transform_points

from eearth.errors import EearthError, SourceError, WorkspaceError
from eearth.geo.grid import Grid, Window
from eearth.geo.remote.files import Facts, Files, shared_files
from eearth.geo.remote.tiff import CorruptError
from eearth.geo.remote.transport import growing_pause
from eearth.manifest import redacted

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from eearth.geo.providers import Source

T = TypeVar("T")

# Times that a file which arrives damaged is fetched anew.
ATTEMPTS = 6
FIRST_PAUSE_SECONDS = 0.1

# Error, in pixels, that the warp may make to save time (GDAL's default is 0.125). Zero is refused by GDAL 3.10.
WARP_TOLERANCE = 1e-6

# Pixels of the file that the warp may touch around those under the grid, beyond its kernel.
WARP_MARGIN = 8

# Share of a file's rows or columns from which on the warp reads all of them (GDAL: 0.9).
WARP_WHOLE = 0.85


@dataclass(frozen=True)
class Pixels:
    """What a file holds on a grid.

    Attributes:
        values: (y, x), the file's own numbers; arbitrary where not observed.
        observed: (y, x), True where the file has data.
    """

    values: NDArray[Any]
    observed: NDArray[np.bool_]


@dataclass(frozen=True)
class Header:
    """What a file says of itself: its grid (None if it is not north-up), number type and nodata value."""

    grid: Grid | None
    dtype: str
    nodata: float | None


def read_header(source: Source) -> Header:
    """Read what a file says of itself.

    Raises:
        SourceError: The file cannot be opened.
    """

    def attempt(files: Files) -> Header:
        facts = files.facts(source)
        return Header(_grid_of(facts), facts.dtypes[source.index - 1], facts.nodatavals[source.index - 1])

    return _persistently(source, attempt)


def read_onto(
    source: Source, grid: Grid, resampling: str, *, keep: bool = True, place: NDArray[Any] | None = None
) -> Pixels:
    """Read a band onto a grid: its very pixels where the lattices agree, otherwise one warp.

    Args:
        source: What to read.
        grid: Where the pixels are wanted; may reach beyond the file.
        resampling: `nearest` or `bilinear`, used only where the lattices differ.
        keep: The ground beside the grid will be wanted, too: keep what was fetched of it, as far as memory allows.
        place: (y, x) of the grid, to be overwritten; the pixels are put there if they need no change on the way.

    Raises:
        SourceError: The file cannot be read, after several attempts.
    """

    def attempt(files: Files) -> Pixels:
        facts = files.facts(source)
        nodata = facts.nodatavals[source.index - 1]
        nodata = source.nodata if nodata is None else nodata
        window, offset = _place(source, facts, grid)
        if window is None:
            return Pixels(np.zeros(grid.shape, facts.dtypes[source.index - 1]), np.zeros(grid.shape, dtype=bool))
        if offset is None:
            with files.opened(source, window, keep=keep) as file:
                return _read_warped(file, source.index, nodata, grid, resampling)
        values, mask = _read_window(files, source, window, nodata, keep=keep, place=place)
        return _placed(values, mask, window, grid, offset)

    return _persistently(source, attempt)


def reading_costs(source: Source, grid: Grid) -> tuple[int, int] | None:
    """(requests, bytes) that reading a band onto a grid takes beyond the header; None where only reading tells.

    Raises:
        SourceError: The file cannot be opened.
    """

    def attempt(files: Files) -> tuple[int, int] | None:
        window, _ = _place(source, files.facts(source), grid)
        return (0, 0) if window is None else files.needed(source, window)

    return _persistently(source, attempt)


def forget(source: Source) -> None:
    """Read the file anew next time, whatever is remembered of it."""
    shared_files().forget(source)


def _grid_of(facts: Any) -> Grid | None:
    try:
        return Grid(facts.crs, Affine(*facts.transform[:6]), facts.height, facts.width) if facts.crs else None
    except EearthError:
        return None


def _place(source: Source, facts: Facts, grid: Grid) -> tuple[Window | None, tuple[int, int] | None]:
    """The window of the file that a grid needs (None: it lies beside), and its offset if it is on the lattice."""
    own = _grid_of(facts)
    offset = own.offset_of(grid) if own else None
    if offset is not None:
        return _clipped(facts, *offset, offset[0] + grid.height, offset[1] + grid.width), offset
    if facts.crs is None:
        msg = f"expected georeferencing in {redacted(source.href)}, found none"
        raise SourceError(msg)
    edge = grid.footprint.segmentize(max(grid.height * grid.resolution[1], grid.width * grid.resolution[0]) / 64)
    xs, ys = transform_points(grid.crs, facts.crs, *edge.exterior.xy)
    if not np.isfinite([xs, ys]).all():
        return _clipped(facts, 0, 0, facts.height, facts.width), None
    cols, rows = ~facts.transform @ (np.asarray(xs), np.asarray(ys))
    top, bottom = _read_by_warp(rows, grid.height, facts.height)
    left, right = _read_by_warp(cols, grid.width, facts.width)
    return _clipped(facts, top, left, bottom, right), None


def _read_by_warp(places: NDArray[np.float64], pixels: int, length: int) -> tuple[int, int]:
    """(first, end) of the rows or columns of a file that GDAL reads for a grid.

    It takes the ratio of the sides of the grid and of the box around it in the file for the scale, so that around a
    strip of one row, turned a little, it reads a kernel of many rows; and it reads all where that is nearly all.

    Args:
        places: Where the grid's edge lies in the file.
        pixels: How many the grid has.
        length: How many the file has.
    """
    low, high = math.floor(places.min()), math.ceil(places.max())
    margin = WARP_MARGIN + math.ceil((high - low) / pixels)
    if min(high + margin, length) - max(low - margin, 0) > WARP_WHOLE * length:
        return min(low, 0), max(high, length)
    return low - margin, high + margin


def _clipped(facts: Facts, top: int, left: int, bottom: int, right: int) -> Window | None:
    top, left = max(0, top), max(0, left)
    bottom, right = min(facts.height, bottom), min(facts.width, right)
    return Window(top, left, bottom - top, right - left) if bottom > top and right > left else None


def _read_window(
    files: Files, source: Source, window: Window, nodata: float | None, *, keep: bool, place: NDArray[Any] | None
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """(values, where there is data) of a window of the file, each (y, x)."""
    values = files.pixels(source, window, keep=keep, place=place)
    if values is not None:
        return values, _is_data(values, nodata)
    with files.opened(source, window, keep=keep) as file:
        values = file.read(source.index, window=window.rasterio)
        mask = _is_data(values, nodata)
        if nodata is None:  # there may be an internal mask or an alpha band instead
            mask &= file.read_masks(source.index, window=window.rasterio) > 0
    return values, mask


def _placed(
    values: NDArray[Any], mask: NDArray[np.bool_], window: Window, grid: Grid, offset: tuple[int, int]
) -> Pixels:
    """What a window of the file shows of a grid whose first pixel is the file's pixel `offset`."""
    if values.shape == grid.shape:
        return Pixels(values, mask)
    row, col = window.row - offset[0], window.col - offset[1]
    place = slice(row, row + window.height), slice(col, col + window.width)
    whole, observed = np.zeros(grid.shape, dtype=values.dtype), np.zeros(grid.shape, dtype=bool)
    whole[place], observed[place] = values, mask
    return Pixels(whole, observed)


def _read_warped(file: Any, index: int, nodata: float | None, grid: Grid, resampling: str) -> Pixels:
    """Warp once, with all but exact coordinates, so that a block's edges do not show in the result."""
    spans = _spans(file, grid)
    with WarpedVRT(
        file,
        crs=grid.crs,
        transform=grid.transform,
        height=grid.height,
        width=grid.width,
        resampling=Resampling[resampling],
        src_nodata=nodata,
        nodata=nodata,
        add_alpha=nodata is None and ColorInterp.alpha not in file.colorinterp,
        tolerance=WARP_TOLERANCE,
        **({"XSCALE": 1 / spans[0], "YSCALE": 1 / spans[1]} if spans else {}),
    ) as warped:
        values = warped.read(index)
        observed = _is_data(values, nodata) if nodata is not None else warped.dataset_mask() > 0
    return Pixels(values, observed)


def _spans(file: Any, grid: Grid) -> tuple[float, float] | None:
    """How many pixels of the file a pixel of the grid spans, (across, down), taken in the middle of the file.

    GDAL measures this anew for each block, from the block's bounding boxes, so that a neighbouring block is smoothed
    otherwise and pixels of the same size in a rotated CRS are smoothed at all.
    """
    col, row = file.width / 2, file.height / 2
    corners = [file.transform @ point for point in ((col, row), (col + 1, row), (col, row + 1))]
    xs, ys = transform_points(file.crs, grid.crs, *zip(*corners, strict=True))
    (x0, x1, x2), (y0, y1, y2) = zip(*(~grid.transform @ point for point in zip(xs, ys, strict=True)), strict=True)
    to_grid = np.array([[x1 - x0, x2 - x0], [y1 - y0, y2 - y0]])
    if not np.isfinite(to_grid).all() or abs(np.linalg.det(to_grid)) == 0:
        return None
    across, down = np.linalg.norm(np.linalg.inv(to_grid), axis=1)
    return float(across), float(down)


def _is_data(values: NDArray[Any], nodata: float | None) -> NDArray[np.bool_]:
    if values.dtype.kind == "f":
        finite: NDArray[np.bool_] = np.isfinite(values)
        return finite if nodata is None else finite & (values != nodata)
    if nodata is None:
        return np.ones(values.shape, dtype=bool)
    # rasterio gives a float, and to compare whole numbers with one takes six times as long
    data: NDArray[np.bool_] = values != (int(nodata) if float(nodata).is_integer() else nodata)
    return data


def _persistently(source: Source, attempt: Callable[[Files], T]) -> T:
    """Try again with fresh bytes where they were damaged; the last failure becomes a SourceError."""
    files = shared_files()
    for number in range(ATTEMPTS):
        try:
            return attempt(files)
        except (RasterioError, CorruptError, OSError) as error:
            reason = str(error.__cause__ or error) or type(error).__name__
            files.forget(source)
            if "://" not in source.href or number == ATTEMPTS - 1:  # a damaged local file will not heal
                break
            time.sleep(growing_pause(FIRST_PAUSE_SECONDS, number + 1))
    msg = f"{redacted(source.href)} cannot be read: {redacted(reason)}"
    raise SourceError(msg)


def write_raster(path: Path, values: NDArray[Any], grid: Grid, *, nodata: int) -> None:
    """Write one band as a tiled, compressed GeoTIFF; values are (y, x) on the grid."""
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        dtype=values.dtype,
        count=1,
        height=grid.height,
        width=grid.width,
        crs=grid.crs,
        transform=grid.transform,
        nodata=nodata,
        compress="deflate",
        zlevel=4,  # a third of the time of the usual 6, for a tenth more bytes at most
        tiled=True,
        blockxsize=256,
        blockysize=256,
    ) as file:
        file.write(values, 1)


def read_raster(path: Path, grid: Grid) -> NDArray[Any]:
    """Read one band that must lie on the grid, shape (y, x).

    Raises:
        WorkspaceError: The file cannot be read, or lies on another grid.
    """
    values: NDArray[Any]
    try:
        with rasterio.open(path) as file:
            own, values = _grid_of(file), file.read(1)
    except RasterioError as error:
        msg = f"expected a raster at {path}, found: {error}"
        raise WorkspaceError(msg) from error
    if own is None or own.shape != grid.shape or own.offset_of(grid) != (0, 0):
        msg = f"expected {path} on the imagery's grid ({grid.height} x {grid.width}), found another one"
        raise WorkspaceError(msg)
    return values


def count_values(path: Path) -> NDArray[np.int64]:
    """How often each value 0..255 occurs in the first band of a uint8 raster, read block by block."""
    counts = np.zeros(256, dtype=np.int64)
    with rasterio.open(path) as file:
        for _, window in file.block_windows(1):
            counts += np.bincount(file.read(1, window=window).ravel(), minlength=256)
    return counts
