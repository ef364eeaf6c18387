"""Reading one band of one file onto a grid, over a network that fails.

GDAL does not retry a truncated body, and remembers a failed open for the rest of the process; so the retries are here.
"""

from __future__ import annotations

import random
import re
import time
from contextlib import contextmanager
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
from rasterio.windows import Window as RasterioWindow

from eearth.errors import EearthError, SourceError, WorkspaceError
from eearth.geo.grid import Grid
from eearth.manifest import redacted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from eearth.geo.providers import Source

T = TypeVar("T")

ATTEMPTS = 5
FIRST_PAUSE_SECONDS = 0.5

# Error, in pixels, that the warp may make to save time (GDAL's default is 0.125). Zero is refused by GDAL 3.10.
WARP_TOLERANCE = 1e-6

GDAL_OPTIONS = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",  # 3 requests to open and read, instead of 13
    "GDAL_HTTP_MAX_RETRY": "4",
    "GDAL_HTTP_RETRY_DELAY": "0.5",
    "GDAL_HTTP_CONNECTTIMEOUT": "10",
    "GDAL_HTTP_LOW_SPEED_TIME": "10",  # a stalled transfer is given up after 10 s below 1 kB/s
    "GDAL_HTTP_LOW_SPEED_LIMIT": "1000",
    "GDAL_NUM_THREADS": "1",  # GDAL's own read threads switch its retries off (OSGeo/gdal#12933)
}


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
    """Open a file and read what it says of itself.

    Raises:
        SourceError: The file cannot be opened.
    """

    def attempt(path: str) -> Header:
        with rasterio.open(path) as file:
            return Header(_grid_of(file), file.dtypes[source.index - 1], file.nodatavals[source.index - 1])

    return _persistently(source.href, attempt)


def read_onto(source: Source, grid: Grid, resampling: str) -> Pixels:
    """Read a band onto a grid: its very pixels where the lattices agree, otherwise one warp.

    Args:
        source: What to read.
        grid: Where the pixels are wanted; may reach beyond the file.
        resampling: `nearest` or `bilinear`, used only where the lattices differ.

    Raises:
        SourceError: The file cannot be read, after several attempts.
    """

    def attempt(path: str) -> Pixels:
        with rasterio.open(path) as file:
            nodata = file.nodatavals[source.index - 1]
            nodata = source.nodata if nodata is None else nodata
            own = _grid_of(file)
            offset = own.offset_of(grid) if own else None
            if own is not None and offset is not None:
                return _read_aligned(file, source.index, nodata, grid, offset)
            return _read_warped(file, source.index, nodata, grid, resampling)

    return _persistently(source.href, attempt)


def _grid_of(file: Any) -> Grid | None:
    try:
        return Grid(file.crs, Affine(*file.transform[:6]), file.height, file.width) if file.crs else None
    except EearthError:
        return None


def _read_aligned(file: Any, index: int, nodata: float | None, grid: Grid, offset: tuple[int, int]) -> Pixels:
    """Copy the overlap of the file and the grid; `offset` is the grid's first (row, column) in the file."""
    row, col = offset
    top, left = max(0, row), max(0, col)
    bottom, right = min(file.height, row + grid.height), min(file.width, col + grid.width)
    values = np.zeros(grid.shape, dtype=file.dtypes[index - 1])
    observed = np.zeros(grid.shape, dtype=bool)
    if bottom > top and right > left:
        window = RasterioWindow(left, top, right - left, bottom - top)
        part = file.read(index, window=window)
        place = slice(top - row, bottom - row), slice(left - col, right - col)
        values[place] = part
        observed[place] = _is_data(part, nodata)
        if nodata is None:  # there may be an internal mask or an alpha band instead
            observed[place] &= file.read_masks(index, window=window) > 0
    return Pixels(values, observed)


def _read_warped(file: Any, index: int, nodata: float | None, grid: Grid, resampling: str) -> Pixels:
    """Warp once, with all but exact coordinates, so that a block's edges do not show in the result."""
    if file.crs is None:
        msg = f"expected georeferencing in {redacted(file.name)}, found none"
        raise SourceError(msg)
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
        **_kernel(file, grid),
    ) as warped:
        values = warped.read(index)
        observed = _is_data(values, nodata) if nodata is not None else warped.dataset_mask() > 0
    return Pixels(values, observed)


def _kernel(file: Any, grid: Grid) -> dict[str, float]:
    """How many pixels of the grid a file's pixel spans, taken in the middle of the file.

    GDAL measures this anew for each block, from the block's bounding boxes, so that a neighbouring block is smoothed
    otherwise and pixels of the same size in a rotated CRS are smoothed at all.
    """
    col, row = file.width / 2, file.height / 2
    corners = [file.transform @ point for point in ((col, row), (col + 1, row), (col, row + 1))]
    xs, ys = transform_points(file.crs, grid.crs, *zip(*corners, strict=True))
    (x0, x1, x2), (y0, y1, y2) = zip(*(~grid.transform @ point for point in zip(xs, ys, strict=True)), strict=True)
    to_grid = np.array([[x1 - x0, x2 - x0], [y1 - y0, y2 - y0]])
    if not np.isfinite(to_grid).all() or abs(np.linalg.det(to_grid)) == 0:
        return {}
    across, down = np.linalg.norm(np.linalg.inv(to_grid), axis=1)
    return {"XSCALE": float(1 / across), "YSCALE": float(1 / down)}


def _is_data(values: NDArray[Any], nodata: float | None) -> NDArray[np.bool_]:
    observed = np.isfinite(values) if values.dtype.kind == "f" else np.full(values.shape, fill_value=True)
    if nodata is not None:
        observed &= values != nodata
    return observed


def _persistently(href: str, attempt: Callable[[str], T]) -> T:
    """Try several times, with a growing, jittered pause; the last failure becomes a SourceError."""
    reason = ""
    for number in range(ATTEMPTS):
        try:
            with _reading(href, fresh=number > 0):
                return attempt(href)
        except (RasterioError, OSError) as error:
            reason = str(error.__cause__ or error)
            if _is_final(href, reason) or number == ATTEMPTS - 1:
                break
            time.sleep(FIRST_PAUSE_SECONDS * 2**number * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
    msg = f"{redacted(href)} cannot be read: {redacted(reason)}"
    raise SourceError(msg)


@contextmanager
def _reading(href: str, *, fresh: bool) -> Iterator[None]:
    """GDAL's settings; `fresh` makes it forget what it remembers of this URL."""
    options = dict(GDAL_OPTIONS)
    if fresh and "://" in href:
        options["CPL_VSIL_CURL_NON_CACHED"] = f"/vsicurl/{href}"
    with rasterio.Env(**options):
        yield


def _is_final(href: str, reason: str) -> bool:
    """A missing or foreign local file will not heal; a URL may, unless the server says 401, 403, 404 or 410."""
    return "://" not in href or re.search(r"response code: (401|403|404|410)", reason) is not None


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
