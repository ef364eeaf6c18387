"""The region of interest: read once, checked once, kept in longitude and latitude.

A region across the antimeridian is one shape here, with longitudes beyond 180° or -180°.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import shapely
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError
from shapely.geometry import MultiPolygon, Polygon, box

from eearth.errors import RegionError
from eearth.events import Report, Warned, silent
from eearth.geo.antimeridian import HALF_CIRCLE, Bounds, boxes_of, near, unwrapped, wrapped

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray
    from shapely.geometry.base import BaseGeometry

LONLAT = CRS.from_epsg(4326)

# UTM is defined between 80° S and 84° N (NGA.SIG.0012, 2014).
UTM_SOUTH, UTM_NORTH = -80.0, 84.0

# Pieces into which the longest edge is cut before it is projected. A parallel of one degree at 45° bulges by 120 m in
# UTM; a 256th of it by 2 mm.
EDGE_PARTS = 256

# A projection that is cut somewhere, as Mercator is at 180° from its centre, throws points on either side of the cut
# apart: farther than this, and farther than this many times their distance on the ground.
TORN_METRES, TORN_FACTOR = 1000.0, 100.0

# Mean radius of the Earth (IUGG).
EARTH_METRES = 6_371_008.8

# Wider than any projection of the Earth.
EVERYWHERE_METRES = 1e9


@dataclass(frozen=True)
class Region:
    """A polygon on the globe.

    Attributes:
        geometry: (Multi)polygon in longitude, latitude (WGS84), valid and of positive area, with vertices so dense that
            it keeps its shape in any CRS. Across the antimeridian its longitudes go on beyond 180° or -180°; the
            middle of its bounds lies in -180° ≤ longitude < 180°.
        name: What to call it, from the file's name.
    """

    geometry: Polygon | MultiPolygon
    name: str

    @property
    def bounds(self) -> Bounds:
        """(west, south, east, north) in degrees; west may be below -180°, east above 180°."""
        west, south, east, north = self.geometry.bounds
        return west, south, east, north

    @property
    def longitude(self) -> float:
        """The middle of the bounds, in degrees: where to look at other geometries from, see `unwrapped`."""
        return (self.bounds[0] + self.bounds[2]) / 2

    @property
    def boxes(self) -> tuple[Bounds, ...]:
        """The bounds within -180° to 180°, west first: one box, or two across the antimeridian."""
        return boxes_of(self.bounds)

    def projected(self, crs: CRS) -> BaseGeometry:
        """The geometry in another CRS.

        Raises:
            RegionError: A vertex has no finite coordinates there, or the CRS is cut inside the region.
        """
        geometry = _projected(self.geometry, crs, self.longitude)
        if geometry is None:
            msg = f"the region {self.name} has no place in {crs.to_string()}: choose another --crs"
            raise RegionError(msg)
        return geometry

    def utm(self) -> CRS:
        """The UTM zone of the region's centre.

        Raises:
            RegionError: The region lies beyond 84° N or 80° S.
        """
        _, south, _, north = self.bounds
        if south < UTM_SOUTH or north > UTM_NORTH:
            msg = (
                f"expected a region between 80° S and 84° N for a UTM grid, found {south:.3f}° to {north:.3f}°; "
                "give a polar --crs such as EPSG:3413 or EPSG:3031"
            )
            raise RegionError(msg)
        zone = min(60, int((self.longitude + 180) // 6) + 1)
        return CRS.from_epsg((32600 if south + north >= 0 else 32700) + zone)


def read_region(path: Path, report: Report = silent) -> Region:
    """Read a region of interest.

    Args:
        path: Any polygon file that geopandas reads; several features are united. Across the antimeridian: cut in two
            at ±180°, or in one piece with longitudes beyond 180° or -180°, or in a projected CRS.
        report: Receives a warning where a self-crossing polygon was mended.

    Raises:
        RegionError: The file is missing, unreadable, empty, has no CRS, no polygon, or is more than 180° wide.
    """
    frame = _read(path)
    if frame.crs is None:
        msg = f"expected a coordinate reference system in {path}, found none: set it, for instance with ogr2ogr -a_srs"
        raise RegionError(msg)
    frame = frame[frame.geometry.notna() & ~frame.geometry.is_empty]
    _check_lonlat_range(frame, path)
    crossed = int((~frame.geometry.is_valid).sum())
    if crossed:
        report(Warned(text=f"{path}: {crossed} polygon(s) cross themselves and were mended; look at the result"))
    drawn = _polygons(frame.geometry)
    if drawn is None:
        kinds = sorted(set(frame.geometry.geom_type))
        msg = f"expected at least one polygon with an area in {path}, found {', '.join(kinds) or 'no geometry'}"
        raise RegionError(msg)
    # mended and united before vertices are added: rounded, these would no longer lie on a common or a crossing edge
    area = _in_one_piece(_moved(_densified(drawn), _transformer(frame.crs, LONLAT)))
    if area is None:
        msg = f"expected coordinates of {frame.crs.name} in {path}, found {drawn.bounds}: give the file its own CRS"
        raise RegionError(msg)
    _check_width(area, path)
    return Region(area, path.stem)


def _in_one_piece(area: BaseGeometry) -> Polygon | MultiPolygon | None:
    """The densified area with what lies on either side of ±180° together; None if it has no finite place.

    Up to a width of 180°, every vertex lies within 180° of the first one. A wider ring has vertices at all longitudes,
    so that it stays wider.
    """
    if not np.isfinite(area.bounds).all():
        return None
    joined = near(area, float(shapely.get_coordinates(area)[0, 0]))
    west, _, east, _ = joined.bounds
    return _polygons([near(joined, wrapped((west + east) / 2)) if east - west <= HALF_CIRCLE else area])


def _densified(geometry: BaseGeometry) -> BaseGeometry:
    """The same geometry with more vertices: an edge that is straight in one CRS is a curve in another."""
    west, south, east, north = geometry.bounds
    side = max(east - west, north - south)
    return geometry.segmentize(side / EDGE_PARTS) if side > 0 else geometry


def _read(path: Path) -> gpd.GeoDataFrame:
    if not path.exists():
        msg = f"expected a region file, found nothing at {path}"
        raise RegionError(msg)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pyogrio warns about rings it closes; validity is checked below
            frame = gpd.read_file(path)
    except Exception as error:  # geopandas lets through the errors of whichever engine read the file
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        msg = f"expected a polygon file that geopandas reads at {path}, found: {reason}"
        raise RegionError(msg) from error
    if not isinstance(frame, gpd.GeoDataFrame) or frame.empty:
        msg = f"expected at least one polygon in {path}, found an empty file or a table without geometry"
        raise RegionError(msg)
    return frame


def _check_lonlat_range(frame: gpd.GeoDataFrame, path: Path) -> None:
    """Coordinates in metres under a lon/lat CRS, or swapped axes, show as degrees out of range."""
    if not frame.crs.is_geographic or frame.empty:
        return
    west, south, east, north = (float(edge) for edge in frame.total_bounds)
    if not (-360 <= west <= east <= 360 and -90 <= south <= north <= 90):  # noqa: PLR2004 - degrees on the globe
        swapped = "; longitude and latitude seem swapped" if abs(south) > 90 >= abs(west) else ""  # noqa: PLR2004
        msg = (
            f"expected longitudes and latitudes in degrees in {path}, found x {west:g} to {east:g}, "
            f"y {south:g} to {north:g}{swapped}; if the file is projected, give it its CRS"
        )
        raise RegionError(msg)


def _check_width(area: Polygon | MultiPolygon, path: Path) -> None:
    """No region of a land cover map spans half the globe: such a ring was meant to cross ±180°, or is a mistake."""
    west, _, east, _ = area.bounds
    if east - west > HALF_CIRCLE:
        msg = (
            f"expected a region less than 180° wide in {path}, found longitudes {west:g} to {east:g}: if it crosses "
            "the antimeridian, cut it in two at ±180° (RFC 7946), or give longitudes beyond 180°"
        )
        raise RegionError(msg)


def _polygons(geometries: Iterable[BaseGeometry]) -> Polygon | MultiPolygon | None:
    """The union's polygonal part; None if there is none, or no finite one."""
    geometries = [shape for shape in geometries if np.isfinite(shape.bounds).all()]
    united = shapely.make_valid(shapely.union_all([shapely.make_valid(shape) for shape in geometries]))
    parts = [part for part in getattr(united, "geoms", [united]) if isinstance(part, Polygon | MultiPolygon)]
    area = shapely.union_all(parts)
    return area if isinstance(area, Polygon | MultiPolygon) and area.area > 0 else None


def parse_crs(text: str) -> CRS:
    """A CRS from what a user types.

    Raises:
        RegionError: It is unknown.
    """
    try:
        return CRS.from_user_input(text)
    except CRSError as error:
        msg = f"expected a coordinate reference system such as EPSG:32633 for --crs, found {text!r}"
        raise RegionError(msg) from error


def lonlat_footprint(bounds: Bounds, crs: CRS) -> BaseGeometry:
    """A box in another CRS in longitude and latitude, its edges densified; in one piece across ±180°."""
    left, bottom, right, top = bounds
    to_lonlat = _transformer(crs, LONLAT)
    middle, _ = to_lonlat.transform((left + right) / 2, (bottom + top) / 2)
    outline = box(*bounds).segmentize(max(right - left, top - bottom) / 8)
    return near(_moved(outline, to_lonlat), wrapped(middle))


def footprint_on(geometry: BaseGeometry, crs: CRS, region_longitude: float) -> BaseGeometry:
    """An item's footprint in the CRS of a grid, to be tested against pieces of the grid.

    Args:
        geometry: Longitude and latitude in degrees, in any form that `unwrapped` reads.
        crs: The grid's CRS.
        region_longitude: Longitude of the middle of the region.

    Returns:
        The footprint, its edges densified; all of the plane where the footprint as a whole has no place in the CRS,
        so that nothing is ever missed.
    """
    # A quarter of the globe on either side is more than any grid shows, and less than what folds over in a projection.
    window = box(region_longitude - 90, -90, region_longitude + 90, 90)
    seen = unwrapped(geometry, region_longitude)
    if not window.covers(seen):
        seen = shapely.intersection(shapely.make_valid(seen), window)
    if seen.is_empty:
        return seen
    everywhere = box(-EVERYWHERE_METRES, -EVERYWHERE_METRES, EVERYWHERE_METRES, EVERYWHERE_METRES)
    return _projected(_densified(seen), crs, region_longitude) or everywhere


def _projected(geometry: BaseGeometry, crs: CRS, longitude: float) -> BaseGeometry | None:
    """A geometry in longitude and latitude in another CRS; None if it has no place there, or not one place."""
    moved: BaseGeometry = _moved(geometry, _transformer(LONLAT, crs))
    if not all(math.isfinite(edge) for edge in moved.bounds):
        return None
    if crs.is_geographic:
        return near(moved, longitude)
    unit = next((float(axis.unit_conversion_factor) for axis in crs.axis_info), 1.0)
    jumps = unit * np.hypot(*np.diff(shapely.get_coordinates(moved), axis=0).T)
    steps = _ground_metres(shapely.get_coordinates(geometry))
    return None if ((jumps > TORN_METRES) & (jumps > TORN_FACTOR * steps)).any() else moved


def _ground_metres(lonlat: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distances between points (n, 2) in degrees and the next ones, on a sphere (haversine), shape (n - 1,)."""
    longitude, latitude = np.radians(lonlat).T
    chord = np.sin(np.diff(latitude) / 2) ** 2
    chord += np.cos(latitude[1:]) * np.cos(latitude[:-1]) * np.sin(np.diff(longitude) / 2) ** 2
    distances: NDArray[np.float64] = 2 * EARTH_METRES * np.arcsin(np.sqrt(np.clip(chord, 0, 1)))
    return distances


@lru_cache(maxsize=64)
def _transformer(source: CRS, target: CRS) -> Transformer:
    """Made once for all items of a search: making one takes longer than projecting a footprint."""
    return Transformer.from_crs(source, target, always_xy=True)


def _moved(geometry: BaseGeometry, transformer: Transformer) -> Any:
    """The geometry with each vertex transformed; heights are dropped."""
    return shapely.transform(geometry, lambda xy: np.column_stack(transformer.transform(xy[:, 0], xy[:, 1])))
