"""Pixels of a map: as tiles, warped by rio-tiler, and one by one."""

from __future__ import annotations

from collections import defaultdict, deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from pyproj import Transformer
from rio_tiler.io import Reader

from eearth.geo.antimeridian import CIRCLE
from eearth.geo.aoi import LONLAT
from eearth.view.mercator import MERCATOR, SIDE, turned

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from eearth.geo.grid import Grid
    from eearth.view.layers import Layer
    from eearth.view.mercator import Tile


class Rasters:
    """The files of a map, open for as many threads as ask at the same time.

    GDAL's handles must not be used by two threads at once, so each is lent to one, and kept for the next.

    Args:
        grid: Of all files.
    """

    def __init__(self, grid: Grid) -> None:
        """Open nothing yet."""
        self.grid = grid
        self._idle: defaultdict[Path, deque[Reader]] = defaultdict(deque)
        self._to_grid = Transformer.from_crs(LONLAT, grid.crs.to_wkt(), always_xy=True)

    @contextmanager
    def _lent(self, path: Path) -> Iterator[Reader]:
        """An open file; one that a read failed on is not used again, for GDAL remembers some failures."""
        try:
            reader = self._idle[path].pop()
        except IndexError:
            reader = Reader(str(path))
        try:
            yield reader
        except Exception:
            reader.close()  # type: ignore[no-untyped-call]
            raise
        self._idle[path].append(reader)

    def tile(self, layer: Layer, tile: Tile) -> NDArray[np.uint8]:
        """(y, x) values, each of the pixel of the map, or of its overview, under the middle of the tile's pixel.

        Raises:
            RasterioError: The file is damaged.
        """
        with self._lent(layer.path) as reader:
            image = reader.part(
                tile.bounds,
                dst_crs=MERCATOR,
                bounds_crs=MERCATOR,
                width=SIDE,
                height=SIDE,
                indexes=(layer.band,),
                resampling_method="nearest",
                reproject_method="nearest",
                vrt_options={"src_transform": turned(self.grid, tile)},
            )
        values: NDArray[np.uint8] = image.array.filled(layer.nodata)[0]
        return values

    def pixel(self, layers: Sequence[Layer], longitude: float, latitude: float) -> dict[str, int] | None:
        """Layer's id → value of the pixel at a place, from the full-size map; None beside the map.

        Raises:
            RasterioError: A file is damaged.
        """
        place = self._place(longitude, latitude)
        if place is None:
            return None
        row, col = place
        values = {}
        for layer in layers:
            with self._lent(layer.path) as reader:
                dataset: Any = reader.dataset
                window = (row, row + 1), (col, col + 1)
                values[layer.id] = int(dataset.read(layer.band, window=window)[0, 0])
        return values

    def _place(self, longitude: float, latitude: float) -> tuple[int, int] | None:
        """(row, column) of the pixel at a place; None beside the map."""
        x, y = self._to_grid.transform(longitude, latitude)
        if not np.isfinite([x, y]).all():
            return None
        if self.grid.crs.is_geographic:
            x -= CIRCLE * np.floor((x - self.grid.bounds[0]) / CIRCLE)
        col, row = ~self.grid.transform @ (x, y)
        inside = 0 <= row < self.grid.height and 0 <= col < self.grid.width
        return (int(row), int(col)) if inside else None
