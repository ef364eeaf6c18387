"""The area of a pixel on the ground."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from pyproj import CRS, Transformer

from eearth.errors import EearthError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from eearth.geo.grid import Grid, Window

# A projection that keeps areas this well (UTM: within 0.2 % in its zone) has pixels of one area, the square of their
# side, as everybody counts them; in another one, such as Web Mercator, each pixel has its own.
FAITHFUL = 0.005
SQUARE_KILOMETRE = 1e6  # square metres

PROBES = 9  # places to a side of the grid at which that is looked at

CORNERS = ((0, 0), (0, 1), (1, 1), (1, 0))  # of a pixel, (down, right), in turn


class PixelAreas:
    """Areas of a grid's pixels in square metres.

    In degrees: of the cell between two parallels and two meridians on the ellipsoid, exactly. Projected: the square of
    the side; where the projection makes that wrong by more than 0.5 % somewhere on the grid, the area on the ellipsoid.

    Args:
        grid: The grid.

    Raises:
        EearthError: Part of a projected grid lies off the globe.
    """

    def __init__(self, grid: Grid) -> None:
        """Look at the projection once."""
        self._grid, self._crs = grid, CRS.from_wkt(grid.crs.to_wkt())
        self._to_lonlat = Transformer.from_crs(self._crs, self._crs.geodetic_crs, always_xy=True)
        self._scaled, self._nominal = False, math.nan
        if not self._crs.is_geographic:
            self._nominal = math.prod(grid.resolution) * float(grid.crs.linear_units_factor[1]) ** 2
            rows, cols = np.meshgrid(*(np.linspace(0, side - 1, PROBES) for side in grid.shape), indexing="ij")
            probed = self._on_ground(rows.ravel(), cols.ravel())
            self._scaled = bool((abs(probed / self._nominal - 1) > FAITHFUL).any())

    def at(self, rows: NDArray[np.int64], cols: NDArray[np.int64]) -> NDArray[np.float64]:
        """Areas of the pixels at (row, column), in square metres."""
        if self._crs.is_geographic:
            return self._cells(rows.astype(np.float64))
        return self._on_ground(rows, cols) if self._scaled else np.full(rows.shape, self._nominal)

    def of_rows(self, window: Window) -> NDArray[np.float64]:
        """Areas of a pixel of each row of a window, in square metres; of the middle column, where columns differ."""
        rows = np.arange(window.row, window.row + window.height)
        return self.at(rows, np.full(rows.shape, window.col + window.width // 2))

    def _cells(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Cells between two parallels."""
        t, unit = self._grid.transform, float(self._crs.axis_info[0].unit_conversion_factor)
        north, south = (np.clip((t.f + t.e * edge) * unit, -math.pi / 2, math.pi / 2) for edge in (rows, rows + 1))
        ellipsoid = _ellipsoid(self._crs)
        return t.a * unit * (_from_equator(north, *ellipsoid) - _from_equator(south, *ellipsoid))

    def _on_ground(self, rows: NDArray[Any], cols: NDArray[Any]) -> NDArray[np.float64]:
        """Areas from the pixels' corners in longitude and latitude, on the ellipsoid's surface."""
        t = self._grid.transform
        ys = np.stack([t.f + t.e * (rows + down) for down, _ in CORNERS])
        xs = np.stack([t.c + t.a * (cols + right) for _, right in CORNERS])
        lon, lat = (np.radians(angle) for angle in self._to_lonlat.transform(xs, ys))
        if not (np.isfinite(lon).all() and np.isfinite(lat).all()):
            msg = f"expected a map on the globe, found parts of it outside the domain of {self._crs.name}: cut it"
            raise EearthError(msg)
        lon = (lon - lon[0] + math.pi) % (2 * math.pi) - math.pi  # also across the antimeridian
        middle = lat.mean(axis=0)
        lat = lat - middle
        doubled = (lon * np.roll(lat, -1, axis=0) - np.roll(lon, -1, axis=0) * lat).sum(axis=0)
        axis, squared = _ellipsoid(self._crs)
        curved = 1 - squared * np.sin(middle) ** 2
        return np.asarray(abs(doubled) / 2 * np.cos(middle) * axis**2 * (1 - squared) / curved**2)


def _ellipsoid(crs: CRS) -> tuple[float, float]:
    """(semi-major axis in metres, squared eccentricity)."""
    ellipsoid = crs.ellipsoid
    assert ellipsoid is not None  # noqa: S101 - for mypy: every CRS on the Earth has one
    axis, minor = float(ellipsoid.semi_major_metre), float(ellipsoid.semi_minor_metre)
    return axis, 1 - (minor / axis) ** 2


def _from_equator(latitude: NDArray[np.float64], axis: float, squared: float) -> NDArray[np.float64]:
    """Area between the equator and a parallel, for a radian of longitude (Snyder 1987, USGS PP 1395, 3-12)."""
    sine, e = np.sin(latitude), math.sqrt(squared)
    rest = np.arctanh(e * sine) / e if e else sine
    return np.asarray(axis**2 / 2 * (1 - squared) * (sine / (1 - squared * sine**2) + rest))
