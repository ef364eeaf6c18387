"""Writes a map tile by tile, in constant memory, and turns it into cloud-optimised GeoTIFFs.

Until the map is finished its pixels lie in plain tiled GeoTIFFs of their final size, whose blocks are overwritten in
place: a killed run leaves files that are whole and can be continued.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
import rasterio.shutil
from rasterio._err import CPLE_BaseError  # what rasterio.shutil.copy raises has no public name
from rasterio.errors import RasterioError

from eearth.errors import DiskError, WorkspaceError
from eearth.geo.grid import Grid
from eearth.geo.products.legend import write_category_names
from eearth.geo.products.prediction import OUTSIDE, printable, rgb
from eearth.manifest import write_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from eearth.geo.grid import Window
    from eearth.geo.products.prediction import MapClass, Prediction

LANDCOVER = "landcover.tif"
CONFIDENCE = "confidence.tif"
PROGRESS = "progress.json"

# Side of a block in pixels: 512 is the COG driver's own default; a map that fits into one such block gets smaller ones.
BLOCK = 512
SMALL_BLOCK = 256

# GDAL's default is to keep blocks up to 5 % of the machine's memory. Every block is used once here: few will do.
CACHE_BYTES = 64 * 2**20


class LandCoverWriter:
    """The two rasters of a map, `landcover.tif` and `confidence.tif`, exactly on a grid.

    `landcover.tif` holds class codes with a colour table and class names; nodata 0. `confidence.tif` holds two bands,
    the confidence in percent and the number of clear observations, both as `Prediction` describes them; nodata 255.

    Args:
        folder: Where the finished files go.
        scratch: Where the unfinished files lie, on the same file system. If an earlier writer of the same
            tags left its files there, they are continued.
        grid: The grid of the map.
        classes: The legend.
        tags: Provenance, kept as metadata of both files.

    Attributes:
        done: Tiles that need not be computed again: the index of the first one to write.

    Raises:
        DiskError: There is no room for the map.
        WorkspaceError: The unfinished files lie on another grid.
    """

    def __init__(
        self,
        folder: Path,
        scratch: Path,
        grid: Grid,
        classes: Sequence[MapClass],
        tags: Mapping[str, str],
    ) -> None:
        """Continue, or reserve the whole map's room on the disk and fill it with "outside the region"."""
        self.folder, self.scratch, self.grid = folder, scratch, grid
        self._partial = {name: scratch / f"partial-{name}" for name in (LANDCOVER, CONFIDENCE)}
        self._map = hashlib.sha256(json.dumps(dict(tags), sort_keys=True).encode()).hexdigest()
        with suppress(OSError, ValueError, KeyError):
            kept = json.loads((scratch / PROGRESS).read_text(encoding="utf-8"))
            if kept["map"] == self._map:
                self.done = int(kept["tiles"])
                self._check()
                return
        with _writing(scratch):
            self._create_landcover(classes, tags)
            self._create_confidence(tags)
        self._note(0)

    def _create_landcover(self, classes: Sequence[MapClass], tags: Mapping[str, str]) -> None:
        path = self._partial[LANDCOVER]
        names = {f"CLASS_{entry.code}": printable(entry.name) for entry in classes}
        with self._create(path, count=1, nodata=0) as file:
            file.write_colormap(1, {0: (0, 0, 0, 0)} | {entry.code: (*rgb(entry.colour), 255) for entry in classes})
            file.set_band_description(1, "land cover")
            file.update_tags(**tags, **names)
        self._reserve(path, bands=1)
        write_category_names(path, classes)

    def _create_confidence(self, tags: Mapping[str, str]) -> None:
        path = self._partial[CONFIDENCE]
        with self._create(path, count=2, nodata=OUTSIDE) as file:
            file.descriptions = ("confidence", "clear observations")
            file.units = ("percent", "count")
            file.update_tags(**tags)
        self._reserve(path, bands=2)

    def _create(self, path: Path, *, count: int, nodata: int) -> Any:
        """A new GeoTIFF. Without compression every block has its final place and size from the beginning."""
        return rasterio.open(
            path,
            "w",
            driver="GTiff",
            dtype="uint8",
            count=count,
            nodata=nodata,
            crs=self.grid.crs,
            transform=self.grid.transform,
            height=self.grid.height,
            width=self.grid.width,
            tiled=True,
            blockxsize=self._block,
            blockysize=self._block,
            interleave="band",
            bigtiff="if_safer",
        )

    @property
    def _block(self) -> int:
        return BLOCK if max(self.grid.shape) > BLOCK else SMALL_BLOCK

    def _reserve(self, path: Path, *, bands: int) -> None:
        """Take the file's room on the disk now: a new file's empty blocks are holes that take none.

        Raises:
            OSError: There is not that much room, or GDAL has failed to create the whole file without saying so.
        """
        blocks = bands * math.prod(math.ceil(side / self._block) for side in self.grid.shape)
        size = path.stat().st_size
        if size < blocks * self._block**2:
            msg = f"only {size} bytes were written"
            raise OSError(msg)
        with path.open("r+b") as file, suppress(AttributeError):  # not every system has the call
            os.posix_fallocate(file.fileno(), 0, size)

    def _check(self) -> None:
        for path in self._partial.values():
            with rasterio.open(path) as file:
                found = Grid(file.crs, file.transform, file.height, file.width)
            if found.shape != self.grid.shape or self.grid.offset_of(found) != (0, 0):
                msg = f"expected {path} on the map's grid, found another one: remove {self.scratch} and run again"
                raise WorkspaceError(msg)

    def _note(self, done: int) -> None:
        self.done = done
        with _writing(self.scratch):
            write_json(self.scratch / PROGRESS, {"tiles": done, "map": self._map})

    def write(self, index: int, window: Window, prediction: Prediction) -> None:
        """Put one tile into its place; once this returns, a killed process does not lose it.

        Args:
            index: Position of the tile in the walk over the grid; tiles come in rising order, gaps are tiles outside
                the region.
            window: The tile's pixels.
            prediction: Their map.

        Raises:
            DiskError: The tile could not be written.
        """
        _overwrite(self._partial[LANDCOVER], window, prediction.landcover[np.newaxis])
        _overwrite(self._partial[CONFIDENCE], window, np.stack([prediction.confidence, prediction.observations]))
        self._note(index + 1)

    def finish(self) -> tuple[Path, Path]:
        """Write the cloud-optimised files, check them against what was collected, and remove the unfinished ones.

        Overviews show the most frequent class, and the mean of confidence and count.

        Returns:
            (landcover, confidence) paths.

        Raises:
            DiskError: The files could not be written.
        """
        self._publish(LANDCOVER, "mode")
        self._publish(CONFIDENCE, "average")
        for path in self.scratch.glob("partial-*"):
            path.unlink()
        (self.scratch / PROGRESS).unlink()
        return self.folder / LANDCOVER, self.folder / CONFIDENCE

    def _publish(self, name: str, resampling: str) -> None:
        source, copy = self._partial[name], self.scratch / name
        self._discard(name)
        try:
            with _writing(copy):
                rasterio.shutil.copy(
                    source,
                    copy,
                    driver="COG",
                    compress="deflate",
                    blocksize=self._block,
                    overview_resampling=resampling,
                    bigtiff="if_safer",
                )
                _compare(source, copy, self.grid)
                for path in self.scratch.glob(f"{name}*"):
                    path.replace(self.folder / path.name)
        finally:
            self._discard(name)

    def _discard(self, name: str) -> None:
        """Remove what a failed or killed copy has left: the file, and GDAL's temporary ones beside it."""
        for path in self.scratch.glob(f"{name}*"):
            path.unlink()


@contextmanager
def _writing(path: Path) -> Iterator[None]:
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


def _overwrite(path: Path, window: Window, values: NDArray[np.uint8]) -> None:
    """Write (band, y, x) values and read them back: GDAL reports some failures only to its log, when it closes."""
    with _writing(path):
        with rasterio.open(path, "r+") as file:
            file.write(values, window=window.rasterio)
        with rasterio.open(path) as file:
            if not np.array_equal(file.read(window=window.rasterio), values):
                msg = "the file does not hold what was written"
                raise OSError(msg)


def _compare(first: Path, second: Path, grid: Grid) -> None:
    """Read two files strip by strip.

    Raises:
        OSError: They differ.
    """
    with rasterio.open(first) as one, rasterio.open(second) as other:
        for window in grid.windows(4 * BLOCK):
            if not np.array_equal(one.read(window=window.rasterio), other.read(window=window.rasterio)):
                msg = "the file does not hold what was written"
                raise OSError(msg)
