"""Writes rasters tile by tile, in constant memory, and turns them into cloud-optimised GeoTIFFs.

Until a product is finished its pixels lie in plain tiled GeoTIFFs, whose blocks are overwritten in place: a killed run
leaves files that can be continued, and only tiles that were written take room.
"""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import rasterio
from rasterio.errors import RasterioIOError

from eearth.errors import WorkspaceError
from eearth.geo.grid import Grid
from eearth.geo.products.rasters.journal import Journal
from eearth.geo.products.rasters.publish import publish
from eearth.geo.products.rasters.unfinished import create, overwrite, require_room, settle, writing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from eearth.geo.grid import Window
    from eearth.geo.products.rasters.unfinished import Layer

FINISHED = "finished-tiles.txt"

# Layers that are compressed at the same time: more than two processors are rare where a map is made on one machine, and
# each takes memory.
AT_ONCE = 2


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
        DiskError: The unfinished files could not be created.
        WorkspaceError: The unfinished files lie on another grid.
    """

    def __init__(
        self, folder: Path, scratch: Path, grid: Grid, layers: Sequence[Layer], tags: Mapping[str, str]
    ) -> None:
        """Continue, or begin with nodata everywhere."""
        self.folder, self.scratch, self.grid = folder, scratch, grid
        self._layers = {layer.name: layer for layer in layers}
        with writing(scratch):
            self._finished = Journal(scratch / FINISHED, _product(layers, tags))
            if not self._continues():
                self._finished.remove()  # first: its files are about to be replaced
                for layer in layers:
                    self.partial(layer.name).unlink(missing_ok=True)
                for layer in layers:
                    create(self.partial(layer.name), layer, grid, tags)
                self._finished.begin()

    def is_done(self, index: int) -> bool:
        """Whether a tile is finished and need not be computed again."""
        return index in self._finished

    def require_room(self, pixels: int) -> None:
        """Say at once that there is no room for so many pixels more, until the product is finished.

        Raises:
            DiskError: There is none.
        """
        with writing(self.scratch):
            require_room(self.scratch, pixels * sum(layer.pixel_bytes for layer in self._layers.values()))

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
            for name in values:
                settle(self.partial(name))
            self._finished.add(index)

    def finish(self, instead: Mapping[str, Path] | None = None) -> None:
        """Write the cloud-optimised files, and check them; what was collected stays, so that this can be done again.

        Args:
            instead: Layer → the raster whose pixels it shows in place of those that were collected.

        Raises:
            DiskError: The files could not be written.
        """

        def finished(layer: Layer) -> None:
            collected = self.partial(layer.name)
            publish(collected, (instead or {}).get(layer.name, collected), self.folder, layer, self.grid)

        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(finished, self._layers.values()))


def _product(layers: Sequence[Layer], tags: Mapping[str, str]) -> str:
    """What tells one product's unfinished files from those of another."""
    held = [(layer.name, layer.dtype, layer.descriptions) for layer in layers]
    return hashlib.sha256(json.dumps([held, dict(tags)], sort_keys=True).encode()).hexdigest()
