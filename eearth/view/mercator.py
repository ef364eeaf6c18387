"""Where map tiles lie: squares of 256 pixels in Web Mercator, EPSG:3857, halved from zoom to zoom."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from affine import Affine
from pyproj import Transformer
from rasterio.crs import CRS

from eearth.geo.antimeridian import CIRCLE, HALF_CIRCLE
from eearth.geo.aoi import LONLAT

if TYPE_CHECKING:
    from eearth.geo.antimeridian import Bounds
    from eearth.geo.grid import Grid

MERCATOR = CRS.from_epsg(3857)

# Pixels on a side of a tile.
SIDE = 256

# Half the side of the square world, in metres: half of the equator of WGS 84, π · 6,378,137.
HALF_WORLD = math.pi * 6_378_137

# Where the square ends, in degrees of latitude.
NORTH_END = 85.051129

# Zooms beyond that of the map's own pixels: its squares then come out as squares, to an eighth of their side.
SHARPER = 3

# The deepest zoom that servers of tiles know: pixels of 4 cm.
DEEPEST = 22

# Points on each side of a map's edge at which its longitudes and latitudes are looked up.
EDGE_POINTS = 65


@dataclass(frozen=True)
class Tile:
    """A tile by its zoom, column from 180° W and row from the north."""

    z: int
    x: int
    y: int

    @property
    def exists(self) -> bool:
        """Whether it lies in the world."""
        return 0 <= self.z <= DEEPEST and 0 <= self.x < 2**self.z and 0 <= self.y < 2**self.z

    @property
    def bounds(self) -> Bounds:
        """(left, bottom, right, top) in metres of EPSG:3857."""
        side = 2 * HALF_WORLD / 2**self.z
        left, top = self.x * side - HALF_WORLD, HALF_WORLD - self.y * side
        return left, top - side, left + side, top


def turned(grid: Grid, tile: Tile) -> Affine:
    """The grid's transform, in degrees shifted by as many circles as bring it nearest to the tile.

    A grid in degrees may go on beyond 180°, where tiles begin again at -180°; projected coordinates know no turns.
    """
    if not grid.crs.is_geographic:
        return grid.transform
    middle = CIRCLE * ((tile.x + 0.5) / 2**tile.z) - HALF_CIRCLE
    centre = (grid.bounds[0] + grid.bounds[2]) / 2
    return Affine.translation(-CIRCLE * round((centre - middle) / CIRCLE), 0) @ grid.transform


def extent(grid: Grid) -> Bounds:
    """(West, south, east, north) of a grid in degrees, as far as tiles reach; east is beyond 180° across ±180°."""
    share = np.linspace(0, 1, EDGE_POINTS)
    cols, rows = (part.ravel() for part in np.meshgrid(share * grid.width, share * grid.height))
    to_lonlat = Transformer.from_crs(grid.crs.to_wkt(), LONLAT, always_xy=True)
    place = grid.transform
    longitude, latitude = to_lonlat.transform(place.c + place.a * cols, place.f + place.e * rows)
    known = np.isfinite(longitude) & np.isfinite(latitude)
    if not known.any():
        return -HALF_CIRCLE, -NORTH_END, HALF_CIRCLE, NORTH_END
    longitude, latitude = longitude[known], np.clip(latitude[known], -NORTH_END, NORTH_END)
    longitude = longitude - CIRCLE * np.round((longitude - longitude[0]) / CIRCLE)
    turns = CIRCLE * math.floor((longitude.min() + HALF_CIRCLE) / CIRCLE)
    west, east = longitude.min() - turns, longitude.max() - turns
    if east - west >= CIRCLE - 1:
        west, east = -HALF_CIRCLE, HALF_CIRCLE
    return float(west), float(latitude.min()), float(east), float(latitude.max())


def own_zoom(grid: Grid) -> int:
    """The zoom from which on a pixel of a tile is no larger than one of the grid, in its middle."""
    _, south, _, north = extent(grid)
    metres = grid.pixel_metres / math.cos(math.radians((south + north) / 2))
    return min(max(0, math.ceil(math.log2(2 * HALF_WORLD / SIDE / metres))), DEEPEST)
