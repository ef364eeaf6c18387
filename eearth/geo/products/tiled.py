"""Writes rasters tile by tile, in constant memory, and turns them into cloud-optimised GeoTIFFs.

Until a product is finished its pixels lie in plain tiled GeoTIFFs of their final size, whose blocks are overwritten in
place: a killed run leaves files that are whole and can be continued.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import rasterio
import rasterio.shutil
from rasterio._err import CPLE_BaseError  # what rasterio.shutil.copy raises has no public name
from rasterio.errors import RasterioError, RasterioIOError

from eearth.errors import DiskError, WorkspaceError
from eearth.geo.grid import Grid
from eearth.geo.products.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from eearth.geo.grid import Window

FINISHED = "finished-tiles.txt"

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
        overviews: How GDAL resamples for the overviews, such as "mode".
        interleave: A block holds one band ("band"), or all of them ("pixel").
        predictor: Compress the differences of neighbours: for numbers that are a quantity.
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
    overviews: str
    interleave: Literal["band", "pixel"] = "band"
    predictor: bool = False
    units: tuple[str, ...] = ()
    scales: tuple[float, ...] = ()
    offsets: tuple[float, ...] = ()
    colours: Mapping[int, tuple[int, int, int, int]] | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def span(self) -> int:
        """Side in pixels of the squares in which the file is read from end to end."""
        return BLOCKS_AT_ONCE * self.block


class TiledRasters:
    """The rasters of a product, exactly on a grid.

    Args:
        folder: Where the finished files go.
        scratch: Where the unfinished files lie, on the same file system. If an earlier writer of the same
            tags left its files there, they are continued.
        grid: The grid of the product.
        layers: The rasters.
        tags: Provenance, kept as metadata of all files.

    Raises:
        DiskError: There is no room for the product.
        WorkspaceError: The unfinished files lie on another grid.
    """

    def __init__(
        self, folder: Path, scratch: Path, grid: Grid, layers: Sequence[Layer], tags: Mapping[str, str]
    ) -> None:
        """Continue, or reserve the whole product's room on the disk and fill it with nodata."""
        self.folder, self.scratch, self.grid = folder, scratch, grid
        self._layers = {layer.name: layer for layer in layers}
        with writing(scratch):
            self._finished = Journal(scratch / FINISHED, _product(layers, tags))
            if not self._continues():
                self._finished.remove()  # first: its files are about to be replaced
                for layer in layers:
                    create(self.partial(layer.name), layer, grid, tags)
                self._finished.begin()

    @property
    def count(self) -> int:
        """Finished tiles."""
        return len(self._finished)

    def is_done(self, index: int) -> bool:
        """Whether a tile is finished and need not be computed again."""
        return index in self._finished

    def partial(self, name: str) -> Path:
        """Where the unfinished file of a layer lies."""
        return self.scratch / f"partial-{name}"

    def _continues(self) -> bool:
        """Whether an earlier writer's files are there, and whole."""
        with suppress(RasterioIOError):
            if self._finished.begun:
                self._check()
                return True
        return False

    def _check(self) -> None:
        for path in map(self.partial, self._layers):
            with rasterio.open(path) as file:
                found = Grid(file.crs, file.transform, file.height, file.width)
            if found.shape != self.grid.shape or self.grid.offset_of(found) != (0, 0):
                msg = f"expected {path} on the map's grid, found another one: remove {self.scratch} and run again"
                raise WorkspaceError(msg)

    def write(self, index: int, window: Window, values: Mapping[str, NDArray[Any]]) -> None:
        """Put one tile into its place; once this returns, a killed process does not lose it.

        Args:
            index: Position of the tile in the walk over the grid; tiles come in any order, and some may never come,
                for they lie outside the region.
            window: The tile's pixels.
            values: Layer → (band, y, x).

        Raises:
            DiskError: The tile could not be written.
        """
        for name, pixels in values.items():
            overwrite(self.partial(name), window, pixels)
        with writing(self.scratch):
            self._finished.add(index)

    def finish(self) -> None:
        """Write the cloud-optimised files, check them against what was collected, and remove the unfinished ones.

        Raises:
            DiskError: The files could not be written.
        """
        for layer in self._layers.values():
            publish(self.partial(layer.name), self.folder, layer, self.grid)
        self._finished.remove()  # first: finished tiles without their files could not be continued
        for path in self.scratch.glob("partial-*"):
            path.unlink()


def _product(layers: Sequence[Layer], tags: Mapping[str, str]) -> str:
    """What tells one product's unfinished files from those of another."""
    held = [(layer.name, layer.dtype, layer.descriptions) for layer in layers]
    return hashlib.sha256(json.dumps([held, dict(tags)], sort_keys=True).encode()).hexdigest()


def create(path: Path, layer: Layer, grid: Grid, tags: Mapping[str, str]) -> None:
    """Create a GeoTIFF full of nodata, with its room on the disk.

    Without compression every block has its final place and size from the beginning.

    Raises:
        DiskError: There is no room for it.
    """
    with writing(path.parent):
        with rasterio.open(
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
        ) as file:
            _describe(file, layer, tags)
        _reserve(path, layer, grid)


def _describe(file: Any, layer: Layer, tags: Mapping[str, str]) -> None:
    if layer.colours is not None:
        file.write_colormap(1, dict(layer.colours))
    file.descriptions = layer.descriptions
    for name in ("units", "scales", "offsets"):
        if values := getattr(layer, name):
            setattr(file, name, values)
    file.update_tags(**tags, **layer.tags)


def _reserve(path: Path, layer: Layer, grid: Grid) -> None:
    """Take the file's room on the disk now: a new file's empty blocks are holes that take none.

    Raises:
        OSError: There is not that much room, or GDAL has failed to create the whole file without saying so.
    """
    blocks = len(layer.descriptions) * math.prod(math.ceil(side / layer.block) for side in grid.shape)
    size = path.stat().st_size
    if size < blocks * layer.block**2 * np.dtype(layer.dtype).itemsize:
        msg = f"only {size} bytes were written"
        raise OSError(msg)
    with path.open("r+b") as file, suppress(AttributeError):  # not every system has the call
        os.posix_fallocate(file.fileno(), 0, size)


def overwrite(path: Path, window: Window, values: NDArray[Any]) -> None:
    """Write (band, y, x) values and read them back: GDAL reports some failures only to its log, when it closes.

    Raises:
        DiskError: They could not be written.
    """
    with writing(path):
        with rasterio.open(path, "r+") as file:
            file.write(values, window=window.rasterio)
        with rasterio.open(path) as file:
            if not np.array_equal(file.read(window=window.rasterio), values, equal_nan=True):
                msg = "the file does not hold what was written"
                raise OSError(msg)


def publish(source: Path, folder: Path, layer: Layer, grid: Grid) -> None:
    """Turn an unfinished raster into a cloud-optimised GeoTIFF, beside it first, and move that to its folder.

    Raises:
        DiskError: The file could not be written.
    """
    scratch = source.parent
    copy = scratch / layer.name
    _discard(copy)
    options = {"predictor": "yes"} if layer.predictor else {}
    try:
        with writing(copy):
            rasterio.shutil.copy(
                source,
                copy,
                driver="COG",
                compress="deflate",
                blocksize=layer.block,
                overview_resampling=layer.overviews,
                bigtiff="if_safer",
                **options,
            )
            _compare(source, copy, layer, grid)
            for path in scratch.glob(f"{layer.name}*"):
                path.replace(folder / path.name)
    finally:
        _discard(copy)


def _discard(copy: Path) -> None:
    """Remove what a failed or killed copy has left: the file, and GDAL's temporary ones beside it."""
    for path in copy.parent.glob(f"{copy.name}*"):
        path.unlink()


def _compare(first: Path, second: Path, layer: Layer, grid: Grid) -> None:
    """Read two files square by square.

    Raises:
        OSError: They differ.
    """
    with rasterio.open(first) as one, rasterio.open(second) as other:
        for window in grid.windows(layer.span):
            here, there = (file.read(window=window.rasterio) for file in (one, other))
            if not np.array_equal(here, there, equal_nan=True):
                msg = "the file does not hold what was written"
                raise OSError(msg)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say it in one line where writing fails; GDAL's own lines go to rasterio's log."""
    try:
        with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES):
            yield
    except (CPLE_BaseError, RasterioError, OSError) as error:
        free = shutil.disk_usage(path if path.is_dir() else path.parent).free / 1e6
        msg = (
            f"could not write {path} ({error.__cause__ or error}), {free:.0f} MB are free there: "
            "make room and run the command again"
        )
        raise DiskError(msg) from error
