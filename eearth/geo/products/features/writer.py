"""A region's features as a raster: collected tile by tile, then written as a GeoTIFF or a Zarr store."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import rasterio

from eearth.geo.products.features.moments import Moments
from eearth.geo.products.features.quantisation import NODATA
from eearth.geo.products.features.store import CHUNK, create_store
from eearth.geo.products.rasters.publish import publish
from eearth.geo.products.rasters.tiled import TiledRasters
from eearth.geo.products.rasters.unfinished import CACHE_BYTES, Layer, create, overwrite

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from eearth.geo.grid import Grid, Window
    from eearth.geo.products.features.quantisation import MeasuredInt8

GEOTIFF = "features.tif"
ZARR = "features.zarr"
FILES = {"cog": GEOTIFF, "zarr": ZARR}

# Side of a block of the GeoTIFF in pixels, the smallest that the COG driver allows: a block holds all features, because
# a classifier wants whole vectors, and 128 × 128 vectors of 64 features are 4 MB already.
BLOCK = 128

# Side of the squares in which the features are read again, in pixels: 16 MB of 64 features.
SPAN = 2 * BLOCK

# What an unfinished GeoTIFF of integers is called; that of the features themselves has the final file's name.
NUMBERS = "numbers.tif"


def feature_names(count: int) -> tuple[str, ...]:
    """f00, f01, ..., with as many digits as the last one needs."""
    digits = max(2, len(str(count - 1)))
    return tuple(f"f{number:0{digits}d}" for number in range(count))


class FeatureWriter:
    """The features of a region, exactly on a grid.

    Args:
        folder: Where the finished file or store goes.
        scratch: See `TiledRasters`; the features lie there as float32, NaN where there are none.
        grid: The grid of the features.
        count: Length of a feature vector.
        tags: See `TiledRasters`.

    Raises:
        DiskError: The unfinished file could not be created.
        WorkspaceError: The unfinished files lie on another grid.
    """

    def __init__(self, folder: Path, scratch: Path, grid: Grid, count: int, tags: Mapping[str, str]) -> None:
        """Continue, or begin with nodata everywhere."""
        self.folder, self.grid, self.names, self.tags = folder, grid, feature_names(count), tags
        self._layer = Layer(
            GEOTIFF,
            "float32",
            nodata=float("nan"),
            descriptions=self.names,
            block=BLOCK,
            overviews=("mean",),
            interleave="pixel",
            predictor=True,
        )
        self._rasters = TiledRasters(folder, scratch, grid, (self._layer,), tags)
        self._path = self._rasters.partial(GEOTIFF)

    def is_done(self, index: int) -> bool:
        """See `TiledRasters.is_done`."""
        return self._rasters.is_done(index)

    def require_room(self, pixels: int) -> None:
        """See `TiledRasters.require_room`."""
        self._rasters.require_room(pixels)

    def write(self, index: int, window: Window, features: NDArray[np.float32]) -> None:
        """Put one tile, (feature, y, x), into its place; see `TiledRasters.write`."""
        self._rasters.write(index, window, {GEOTIFF: features})

    def parts(self, side: int = SPAN) -> Iterator[tuple[Window, NDArray[np.float32]]]:
        """All that was written, in squares of `side` pixels, row by row: (window, (feature, y, x))."""
        with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES), rasterio.open(self._path) as file:
            for window in self.grid.windows(side):
                yield window, file.read(window=window.rasterio)

    def moments(self) -> Moments:
        """Of all features that were written."""
        return Moments.of((features for _, features in self.parts()), len(self.names))

    def finish(self, kind: Literal["cog", "zarr"], coder: MeasuredInt8 | None) -> Path:
        """Write the file or store; what was collected stays, so that this can be done again.

        Args:
            kind: A cloud-optimised GeoTIFF or a Zarr store.
            coder: Makes integers of the features; None to write float32.

        Returns:
            The file or store.

        Raises:
            DiskError: It could not be written.
        """
        if kind == "zarr":
            self._write_store(coder)
        elif coder is None:
            publish(self._path, self._path, self.folder, self._layer, self.grid)
        else:
            self._write_numbers(coder)
        return self.folder / FILES[kind]

    def _write_numbers(self, coder: MeasuredInt8) -> None:
        code = coder.code
        layer = replace(self._layer, dtype="int8", nodata=NODATA, scales=tuple(code.scale), offsets=tuple(code.offset))
        path = self._rasters.partial(NUMBERS)
        create(path, layer, self.grid, self.tags)
        for window, features in self.parts():
            overwrite(path, window, coder.encode(features))
        publish(path, path, self.folder, layer, self.grid)
        path.unlink()

    def _write_store(self, coder: MeasuredInt8 | None) -> None:
        path = self._rasters.scratch / ZARR
        arrays = create_store(path, self.grid, self.names, coder.code if coder else None, self.tags)
        for window, features in self.parts(CHUNK):
            for array, values in zip(arrays, coder.encode(features) if coder else features, strict=True):
                array[window.slices] = values
        shutil.rmtree(self.folder / ZARR, ignore_errors=True)
        path.rename(self.folder / ZARR)
