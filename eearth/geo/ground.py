"""A grid's pixels on the ground: their corners on the ellipsoid, and the sides that they have there at least."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from pyproj import CRS, Transformer

from eearth.geo.aoi import LONLAT

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from eearth.geo.grid import Grid

# A projection that keeps sizes this well (UTM: within 0.2 % in its zone) has pixels of one size, as everybody counts
# them; in another one, such as Web Mercator, each pixel has its own.
FAITHFUL = 0.005
PROBES = 9  # places to a side of the grid at which that is looked at
CORNERS = ((0, 0), (0, 1), (1, 1), (1, 0))  # of a pixel, (down, right), in turn
BESIDE_POLE = math.radians(1e-6)  # at a pole a degree of longitude has no length: this much beside it stands for it


class Ground:
    """Where a grid's pixels lie on the ellipsoid.

    Args:
        grid: The grid.

    Attributes:
        crs: Its CRS.
        ellipsoid: (semi-major axis in metres, squared eccentricity).
    """

    def __init__(self, grid: Grid) -> None:
        """Look at the projection once."""
        self._grid, self.crs = grid, CRS.from_wkt(grid.crs.to_wkt())
        self._to_lonlat = Transformer.from_crs(self.crs, self.crs.geodetic_crs, always_xy=True)
        ellipsoid = self.crs.ellipsoid
        assert ellipsoid is not None  # noqa: S101 - for mypy: every CRS on the Earth has one
        axis, minor = float(ellipsoid.semi_major_metre), float(ellipsoid.semi_minor_metre)
        self.ellipsoid = axis, 1 - (minor / axis) ** 2

    def probes(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """(rows, columns) of some places all over the grid, its corners among them."""
        rows, cols = np.meshgrid(*(np.linspace(0, side - 1, PROBES) for side in self._grid.shape), indexing="ij")
        return rows.ravel(), cols.ravel()

    def corners(self, rows: NDArray[Any], cols: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """(longitude from the pixel's first corner, latitude), (corner, pixel) radians; not finite off the globe."""
        t = self._grid.transform
        ys = np.stack([t.f + t.e * (rows + down) for down, _ in CORNERS])
        xs = np.stack([t.c + t.a * (cols + right) for _, right in CORNERS])
        lon, lat = (np.radians(angle) for angle in self._to_lonlat.transform(xs, ys))
        with np.errstate(invalid="ignore"):  # infinite off the globe
            return (lon - lon[0] + math.pi) % (2 * math.pi) - math.pi, lat  # also across the antimeridian

    def radii(self, latitude: Any) -> tuple[Any, Any]:
        """Radii of curvature in metres, (along a meridian, across it), at a latitude in radians (Snyder 1987, 4-18)."""
        axis, squared = self.ellipsoid
        curved = 1 - squared * np.sin(latitude) ** 2
        return axis * (1 - squared) / curved**1.5, axis / np.sqrt(curved)

    def cell(self) -> tuple[float, float]:
        """(height, width) in metres of a pixel in degrees, each where on the grid it is smallest."""
        unit = float(self.crs.axis_info[0].unit_conversion_factor)
        width, height = (side * unit for side in self._grid.resolution)
        south, north = self._grid.bounds[1] * unit, self._grid.bounds[3] * unit
        nearest = max(south, -north, 0.0)  # to the equator, where meridians curve most
        farthest = min(max(abs(south), abs(north)), math.pi / 2 - BESIDE_POLE)
        along, across = float(self.radii(nearest)[0]), float(self.radii(farthest)[1])
        return height * along, width * across * math.cos(farthest)

    def sides(self) -> NDArray[np.float64]:
        """((height, width), probe) metres of a projected grid's pixels, for distances that are never too long.

        A pixel that the projection shears counts as a rectangle whose sides are shorter by as much as brings two of its
        corners nearer: with the angle t between the sides a and b, |ma + nb|² >= (1 - |cos t|) (m²a² + n²b²).
        Probes off the globe are left out.
        """
        lon, lat = self.corners(*self.probes())
        there = np.isfinite(lat).all(axis=0) & np.isfinite(lon).all(axis=0)
        lon, lat = lon[:, there], lat[:, there]
        middle = lat.mean(axis=0)
        along, across = self.radii(middle)
        places = np.stack([lon * across * np.cos(middle), (lat - middle) * along])  # (east and north, corner, probe)
        right = (places[:, 1] - places[:, 0] + places[:, 2] - places[:, 3]) / 2
        down = (places[:, 3] - places[:, 0] + places[:, 2] - places[:, 1]) / 2
        found = np.stack([np.hypot(*down), np.hypot(*right)])
        cosine = abs((down * right).sum(axis=0)) / found.prod(axis=0)
        return np.asarray(found * np.sqrt(1 - np.minimum(cosine, 1)))


def lonlat_of(grid: Grid, rows: Any, columns: Any) -> tuple[Any, Any]:
    """(longitudes, latitudes) in degrees of the centres of pixels, one or an array of them."""
    to_lonlat = Transformer.from_crs(grid.crs.to_wkt(), LONLAT, always_xy=True)
    longitudes, latitudes = to_lonlat.transform(grid.x()[columns], grid.y()[rows])
    return longitudes, latitudes


def differs(true: NDArray[Any], nominal: Any) -> bool:
    """Whether sizes on the ground are others than the nominal ones, see `FAITHFUL`."""
    return bool((abs(true / nominal - 1) > FAITHFUL).any())
