"""Rasters that are written tile by tile: plain tiled GeoTIFFs, which take room on the disk only where something is."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import rasterio
from rasterio._err import CPLE_BaseError  # what rasterio.shutil.copy raises has no public name
from rasterio.errors import RasterioError

from eearth.errors import DiskError
from eearth.geo.products.rasters.overviews import Rule

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from rasterio.io import DatasetWriter

    from eearth.geo.grid import Grid, Window

# GDAL's default is to keep blocks up to 5 % of the machine's memory. Every block is used once here: few will do.
CACHE_BYTES = 64 * 2**20

# Files are read in squares of so many blocks a side.
BLOCKS_AT_ONCE = 4


@dataclass(frozen=True)
class Layer:
    """One raster of a product.

    Attributes:
        name: Its file, such as "landcover.tif".
        dtype: Type of its numbers.
        nodata: The number that says that there is none.
        descriptions: What each band is; there are as many bands.
        block: Side of a block in pixels.
        overviews: How each band is made coarser for the overviews, see `halved`; one rule stands for all bands.
        interleave: A block holds one band ("band"), or all of them ("pixel").
        predictor: Compress the differences of neighbours: for numbers that are a quantity.
        level: How hard deflate tries, 1..9; None for GDAL's own choice, 6.
        units: Of each band; empty for none.
        scales: Quantity = number * scale + offset, for each band; empty where the numbers are the quantity.
        offsets: See `scales`.
        colours: Number → (red, green, blue, alpha); None for no colour table.
        tags: Metadata of this file alone.
    """

    name: str
    dtype: str
    nodata: float
    descriptions: tuple[str, ...]
    block: int
    overviews: tuple[Rule, ...]
    interleave: Literal["band", "pixel"] = "band"
    predictor: bool = False
    level: int | None = None
    units: tuple[str, ...] = ()
    scales: tuple[float, ...] = ()
    offsets: tuple[float, ...] = ()
    colours: Mapping[int, tuple[int, int, int, int]] | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def rules(self) -> tuple[Rule, ...]:
        """How each band is made coarser."""
        return self.overviews * len(self.descriptions) if len(self.overviews) == 1 else self.overviews

    @property
    def pixel_bytes(self) -> int:
        """What a pixel takes uncompressed."""
        return len(self.descriptions) * np.dtype(self.dtype).itemsize

    @property
    def span(self) -> int:
        """Side in pixels of the squares in which the file is read from end to end."""
        return BLOCKS_AT_ONCE * self.block


def create(path: Path, layer: Layer, grid: Grid, tags: Mapping[str, str]) -> None:
    """Create a GeoTIFF full of nodata, of which nothing is on the disk but its header.

    A block takes its room when it is first written, at the end of the file. Without compression it stays there, so that
    it can be written again in place: a killed process spoils no block but the one that it was writing.

    Raises:
        DiskError: It could not be created.
    """
    with (
        writing(path.parent),
        rasterio.open(
            path,
            "w",
            driver="GTiff",
            dtype=layer.dtype,
            count=len(layer.descriptions),
            nodata=layer.nodata,
            crs=grid.crs,
            transform=grid.transform,
            height=grid.height,
            width=grid.width,
            tiled=True,
            blockxsize=layer.block,
            blockysize=layer.block,
            interleave=layer.interleave,
            bigtiff="if_safer",
            sparse_ok=True,
        ) as file,
    ):
        _describe(file, layer, tags)


def _describe(file: Any, layer: Layer, tags: Mapping[str, str]) -> None:
    if layer.colours is not None:
        file.write_colormap(1, dict(layer.colours))
    file.descriptions = layer.descriptions
    for name in ("units", "scales", "offsets"):
        if values := getattr(layer, name):
            setattr(file, name, values)
    file.update_tags(**tags, **layer.tags)


def require_room(folder: Path, needed: int) -> None:
    """Say at once that something does not fit, not once the disk is full of most of it.

    Args:
        folder: Where it is to be written.
        needed: Bytes.

    Raises:
        OSError: It does not fit.
    """
    if needed > shutil.disk_usage(folder).free:
        msg = f"until it is finished it takes {needed / 1e6:,.0f} MB"
        raise OSError(msg)


def overwrite(path: Path, window: Window, values: NDArray[Any]) -> None:
    """Write (band, y, x) values, and read them back: GDAL reports some failures only to its log, when it closes.

    Raises:
        DiskError: They could not be written.
    """
    with writing(path):
        with rasterio.open(path, "r+") as file:
            _ask_for_room(path, _bytes_of_blocks(file, window))
            file.write(values, window=window.rasterio)
        with rasterio.open(path) as file:
            if not same(file.read(window=window.rasterio), values):
                msg = "the file does not hold what was written"
                raise OSError(msg)


def _bytes_of_blocks(file: DatasetWriter, window: Window) -> int:
    """What the blocks take into which a window reaches."""
    spans = zip(window.slices, file.block_shapes[0], strict=True)
    pixels: int = math.prod((-(-span.stop // side) - span.start // side) * side for span, side in spans)
    itemsize: int = np.dtype(file.dtypes[0]).itemsize
    return pixels * int(file.count) * itemsize


def _ask_for_room(path: Path, needed: int) -> None:
    """Have the system refuse what would not fit, be it for the disk or for a quota, before anything is written.

    GDAL would go on, and note a block that is not there: one that no later run could complete.

    Raises:
        OSError: It does not fit.
    """
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        try:
            with suppress(AttributeError):  # not every system has the call
                os.posix_fallocate(file.fileno(), size, needed)
        finally:
            file.truncate(size)


def same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Whether two arrays hold the same (band, y, x), NaN like NaN; band by band, which stays in the cache."""
    return all(np.array_equal(*pair, equal_nan=True) for pair in zip(one, other, strict=True))


def settle(path: Path) -> None:
    """Have what was written to a file on the disk itself, before anything says that it is there."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say it in one line where writing fails; GDAL's own lines go to rasterio's log."""
    try:
        with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES):
            yield
    except (CPLE_BaseError, RasterioError, OSError, SystemError) as error:  # the last: GDAL does not say why
        free = shutil.disk_usage(path if path.is_dir() else path.parent).free / 1e6
        msg = (
            f"could not write {path} ({error.__cause__ or error}), {free:.0f} MB are free there: "
            "make room and run the command again"
        )
        raise DiskError(msg) from error
