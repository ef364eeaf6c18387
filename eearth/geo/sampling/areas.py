"""The area of a pixel on the ground."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from eearth.errors import EearthError
from eearth.geo.ground import Ground, differs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from eearth.geo.grid import Grid, Window

SQUARE_KILOMETRE = 1e6  # square metres
HECTARE = 1e4


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
        self._grid, self._ground = grid, Ground(grid)
        self._degrees = self._ground.crs.is_geographic
        self._scaled, self._nominal = False, math.nan
        if not self._degrees:
            self._nominal = math.prod(grid.resolution) * float(grid.crs.linear_units_factor[1]) ** 2
            self._scaled = differs(self._on_ground(*self._ground.probes()), self._nominal)

    def at(self, rows: NDArray[np.int64], cols: NDArray[np.int64]) -> NDArray[np.float64]:
        """Areas of the pixels at (row, column), in square metres."""
        if self._degrees:
            return self._cells(rows.astype(np.float64))
        return self._on_ground(rows, cols) if self._scaled else np.full(rows.shape, self._nominal)

    def of_rows(self, window: Window) -> NDArray[np.float64]:
        """Areas of a pixel of each row of a window, in square metres; of the middle column, where columns differ."""
        rows = np.arange(window.row, window.row + window.height)
        return self.at(rows, np.full(rows.shape, window.col + window.width // 2))

    def _cells(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Cells between two parallels."""
        t, unit = self._grid.transform, float(self._ground.crs.axis_info[0].unit_conversion_factor)
        north, south = (np.clip((t.f + t.e * edge) * unit, -math.pi / 2, math.pi / 2) for edge in (rows, rows + 1))
        north, south = (_from_equator(edge, *self._ground.ellipsoid) for edge in (north, south))
        return t.a * unit * (north - south)

    def _on_ground(self, rows: NDArray[Any], cols: NDArray[Any]) -> NDArray[np.float64]:
        """Areas from the pixels' corners in longitude and latitude, on the ellipsoid's surface."""
        lon, lat = self._ground.corners(rows, cols)
        if not (np.isfinite(lon).all() and np.isfinite(lat).all()):
            name = self._ground.crs.name
            msg = f"expected a map on the globe, found parts of it outside the domain of {name}: cut it"
            raise EearthError(msg)
        middle = lat.mean(axis=0)
        lat = lat - middle
        doubled = (lon * np.roll(lat, -1, axis=0) - np.roll(lon, -1, axis=0) * lat).sum(axis=0)
        along, across = self._ground.radii(middle)
        return np.asarray(abs(doubled) / 2 * np.cos(middle) * along * across)


def _from_equator(latitude: NDArray[np.float64], axis: float, squared: float) -> NDArray[np.float64]:
    """Area between the equator and a parallel, for a radian of longitude (Snyder 1987, USGS PP 1395, 3-12)."""
    sine, e = np.sin(latitude), math.sqrt(squared)
    rest = np.arctanh(e * sine) / e if e else sine
    return np.asarray(axis**2 / 2 * (1 - squared) * (sine / (1 - squared * sine**2) + rest))
