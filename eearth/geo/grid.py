"""The one object that carries georeferencing.

A region of interest is parsed once and a coordinate reference system is chosen once; after that only a `Grid` travels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from affine import Affine
from rasterio.crs import CRS
from rasterio.windows import Window as RasterioWindow
from shapely.geometry import Polygon, box

from eearth.errors import EearthError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

# Origins of two grids closer than this share of a pixel count as the same: far above the rounding of a float64
# coordinate in metres, far below anything that a resampling could show.
ALIGNMENT_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Window:
    """A rectangle of pixels: rows [row, row + height), columns [col, col + width)."""

    row: int
    col: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """(rows, columns), ready to index an array's last two axes."""
        return slice(self.row, self.row + self.height), slice(self.col, self.col + self.width)

    @property
    def rasterio(self) -> RasterioWindow:
        """The same rectangle as rasterio's window."""
        return RasterioWindow(self.col, self.row, self.width, self.height)

    @property
    def pixels(self) -> int:
        """Number of pixels inside."""
        return self.height * self.width

    def grown(self, halo: int, shape: tuple[int, int]) -> Window:
        """With so many pixels more on each side, as far as a raster of that shape has any."""
        top, left = max(0, self.row - halo), max(0, self.col - halo)
        bottom, right = min(shape[0], self.row + self.height + halo), min(shape[1], self.col + self.width + halo)
        return Window(top, left, bottom - top, right - left)

    def within(self, outer: Window) -> Window:
        """The same pixels, counted from the first row and column of a window around them."""
        return Window(self.row - outer.row, self.col - outer.col, self.height, self.width)


@dataclass(frozen=True)
class Grid:
    """A north-up pixel grid.

    Attributes:
        crs: Coordinate reference system of the coordinates.
        transform: (column, row) of a pixel corner → (x, y); no rotation, y falls with the row.
        height: Rows, at least 1.
        width: Columns, at least 1.

    Raises:
        EearthError: The transform is rotated or flipped, or the grid is empty.
    """

    crs: CRS
    transform: Affine
    height: int
    width: int

    def __post_init__(self) -> None:
        """Refuse at birth what every later reader would have to check."""
        t = self.transform
        if t.b != 0 or t.d != 0 or t.a <= 0 or t.e >= 0:
            msg = f"expected a north-up grid, found the transform {tuple(t)[:6]}"
            raise EearthError(msg)
        if self.height < 1 or self.width < 1:
            msg = f"expected a grid of at least one pixel, found {self.height} rows x {self.width} columns"
            raise EearthError(msg)

    @classmethod
    def snapped(cls, bounds: tuple[float, float, float, float], *, crs: CRS, resolution: float) -> Grid:
        """The smallest grid of square pixels over `bounds` (left, bottom, right, top) with edges on whole multiples.

        Edges that lie on a multiple but for rounding stay there, so that a region drawn on the grid keeps its size.
        """
        left, bottom, right, top = (edge / resolution for edge in bounds)
        col0, row0 = math.floor(left + ALIGNMENT_TOLERANCE), math.ceil(top - ALIGNMENT_TOLERANCE)
        width = max(1, math.ceil(right - ALIGNMENT_TOLERANCE) - col0)
        height = max(1, row0 - math.floor(bottom + ALIGNMENT_TOLERANCE))
        transform = Affine(resolution, 0.0, col0 * resolution, 0.0, -resolution, row0 * resolution)
        return cls(crs, transform, height, width)

    def over(self, bounds: tuple[float, float, float, float]) -> Grid:
        """The smallest grid on this grid's pixel lattice that covers `bounds` (left, bottom, right, top)."""
        left, top = ~self.transform @ (bounds[0], bounds[3])
        right, bottom = ~self.transform @ (bounds[2], bounds[1])
        col0, row0 = math.floor(left + ALIGNMENT_TOLERANCE), math.floor(top + ALIGNMENT_TOLERANCE)
        width = max(1, math.ceil(right - ALIGNMENT_TOLERANCE) - col0)
        height = max(1, math.ceil(bottom - ALIGNMENT_TOLERANCE) - row0)
        return Grid(self.crs, self.transform @ Affine.translation(col0, row0), height, width)

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.height, self.width

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """(left, bottom, right, top) of the outer pixel edges, in the grid's CRS."""
        t = self.transform
        return t.c, t.f + t.e * self.height, t.c + t.a * self.width, t.f

    @property
    def resolution(self) -> tuple[float, float]:
        """(pixel width, pixel height), both positive, in units of the CRS."""
        return self.transform.a, -self.transform.e

    @property
    def pixel_metres(self) -> float:
        """The side of a pixel in metres (geometric mean); of the grid's centre where the CRS is in degrees."""
        width, height = self.resolution
        if not self.crs.is_geographic:
            factor = float(self.crs.linear_units_factor[1])
            return math.sqrt(width * height) * factor
        latitude = math.radians((self.bounds[1] + self.bounds[3]) / 2)
        # One degree of latitude on the WGS84 mean sphere (R = 6,371,008.8 m, IUGG).
        return math.sqrt(width * height * math.cos(latitude)) * 111_195.08

    @cached_property
    def footprint(self) -> Polygon:
        """The outer edge as a polygon in the grid's CRS."""
        return box(*self.bounds)

    @property
    def window(self) -> Window:
        """All pixels."""
        return Window(0, 0, self.height, self.width)

    def crop(self, window: Window) -> Grid:
        """The grid of one window of this grid."""
        return Grid(self.crs, self.transform @ Affine.translation(window.col, window.row), window.height, window.width)

    def offset_of(self, other: Grid) -> tuple[int, int] | None:
        """(row, column) of `other`'s first pixel on this grid's lattice; None where the lattices differ.

        The result may be negative or beyond the edge: it speaks of the lattice, not of the extent.
        """
        if self.crs != other.crs:
            return None
        pixels = max(other.height, other.width, self.height, self.width)
        for mine, theirs in zip(self.resolution, other.resolution, strict=True):
            if abs(mine - theirs) * pixels > ALIGNMENT_TOLERANCE * mine:
                return None
        col, row = ~self.transform @ (other.transform.c, other.transform.f)
        if max(abs(col - round(col)), abs(row - round(row))) > ALIGNMENT_TOLERANCE:
            return None
        return round(row), round(col)

    def x(self) -> NDArray[np.float64]:
        """Pixel-centre x coordinates, shape (width,)."""
        return self.transform.c + self.transform.a * (np.arange(self.width, dtype=np.float64) + 0.5)

    def y(self) -> NDArray[np.float64]:
        """Pixel-centre y coordinates, shape (height,), falling."""
        return self.transform.f + self.transform.e * (np.arange(self.height, dtype=np.float64) + 0.5)

    def windows(self, size: int) -> Iterator[Window]:
        """Tiles of `size` pixels, row by row, cut at the far edges: each pixel lies in exactly one."""
        return tiles_of(self.shape, size)

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready description; `from_dict` reads it back."""
        return {
            "crs": self.crs.wkt,  # which it remembers
            "transform": list(self.transform)[:6],
            "height": self.height,
            "width": self.width,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Grid:
        """Read what `as_dict` wrote."""
        return cls(CRS.from_wkt(data["crs"]), Affine(*data["transform"]), data["height"], data["width"])


def tiles_of(shape: tuple[int, int], size: int) -> Iterator[Window]:
    """Tiles of `size` pixels over (rows, columns), row by row, cut at the far edges: each pixel lies in exactly one."""
    height, width = shape
    for row in range(0, height, size):
        for col in range(0, width, size):
            yield Window(row, col, min(size, height - row), min(size, width - col))


def projection_fields(raster: Any) -> dict[str, Any]:
    """A grid or an open file in the words of STAC's projection extension; a CRS without a code is given as WKT2."""
    authority = raster.crs.to_authority()
    return {
        "proj:code": ":".join(authority) if authority else None,
        **({} if authority else {"proj:wkt2": raster.crs.to_wkt(version="WKT2_2019")}),
        "proj:shape": list(raster.shape),
        "proj:transform": list(raster.transform)[:6],
        "proj:bbox": list(raster.bounds),
    }
