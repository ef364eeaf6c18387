"""The region of interest: read once, checked once, kept in longitude and latitude."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import shapely
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError
from shapely.geometry import MultiPolygon, Polygon, box

from eearth.errors import RegionError
from eearth.events import Report, Warned, silent

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from shapely.geometry.base import BaseGeometry

LONLAT = CRS.from_epsg(4326)

# UTM is defined between 80° S and 84° N (NGA.SIG.0012, 2014).
UTM_SOUTH, UTM_NORTH = -80.0, 84.0

# Pieces into which the longest edge is cut before it is projected. A parallel of one degree at 45° bulges by 120 m in
# UTM; a 256th of it by 2 mm.
EDGE_PARTS = 256


@dataclass(frozen=True)
class Region:
    """A polygon on the globe.

    Attributes:
        geometry: (Multi)polygon in longitude, latitude (WGS84), valid and of positive area, with vertices so dense that
            it keeps its shape in any CRS.
        name: What to call it, from the file's name.
    """

    geometry: Polygon | MultiPolygon
    name: str

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """(west, south, east, north) in degrees."""
        west, south, east, north = self.geometry.bounds
        return west, south, east, north

    def projected(self, crs: CRS) -> BaseGeometry:
        """The geometry in another CRS.

        Raises:
            RegionError: A vertex has no finite coordinates there.
        """
        to_crs = Transformer.from_crs(LONLAT, crs, always_xy=True)
        geometry: BaseGeometry = _moved(self.geometry, to_crs)
        if not all(math.isfinite(edge) for edge in geometry.bounds):
            msg = f"the region {self.name} has no place in {crs.to_string()}: choose another --crs"
            raise RegionError(msg)
        return geometry

    def utm(self) -> CRS:
        """The UTM zone of the region's centre.

        Raises:
            RegionError: The region lies beyond 84° N or 80° S.
        """
        west, south, east, north = self.bounds
        if south < UTM_SOUTH or north > UTM_NORTH:
            msg = (
                f"expected a region between 80° S and 84° N for a UTM grid, found {south:.3f}° to {north:.3f}°; "
                "give a polar --crs such as EPSG:3413 or EPSG:3031"
            )
            raise RegionError(msg)
        zone = min(60, int(((west + east) / 2 + 180) // 6) + 1)
        return CRS.from_epsg((32600 if south + north >= 0 else 32700) + zone)


def read_region(path: Path, report: Report = silent) -> Region:
    """Read a region of interest.

    Args:
        path: Any polygon file that geopandas reads; several features are united.
        report: Receives a warning where a self-crossing polygon was mended.

    Raises:
        RegionError: The file is missing, unreadable, empty, has no CRS, no polygon, or crosses the antimeridian.
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
    area = _polygons([_moved(_densified(drawn), Transformer.from_crs(frame.crs, LONLAT, always_xy=True))])
    if area is None:
        msg = f"expected coordinates of {frame.crs.name} in {path}, found {drawn.bounds}: give the file its own CRS"
        raise RegionError(msg)
    _check_antimeridian(area, path)
    return Region(area, path.stem)


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


def _check_antimeridian(area: Polygon | MultiPolygon, path: Path) -> None:
    west, _, east, _ = area.bounds
    # No region of a land cover map spans half the globe: such a width means two sides of the 180° meridian.
    if east > 180 or west < -180 or east - west > 180:  # noqa: PLR2004
        msg = (
            f"the region {path} crosses the antimeridian (longitudes {west:g} to {east:g}): "
            "split it at 180° and map each side in its own workspace"
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


def lonlat_footprint(bounds: tuple[float, float, float, float], crs: CRS) -> Polygon:
    """A box in another CRS as a polygon in longitude and latitude, its edges densified."""
    to_lonlat = Transformer.from_crs(crs, LONLAT, always_xy=True)
    outline = box(*bounds).segmentize(max(bounds[2] - bounds[0], bounds[3] - bounds[1]) / 8)
    footprint: Polygon = _moved(outline, to_lonlat)
    return footprint


def _moved(geometry: BaseGeometry, transformer: Transformer) -> Any:
    """The geometry with each vertex transformed; heights are dropped."""
    return shapely.transform(geometry, lambda xy: np.column_stack(transformer.transform(xy[:, 0], xy[:, 1])))
