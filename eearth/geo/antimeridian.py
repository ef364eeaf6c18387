"""Longitudes on a circle: geometries across 180°, however they are written.

A shape across the antimeridian comes in three forms: cut in two at ±180° (as RFC 7946 wants it), in one piece with
longitudes beyond 180°, or in one ring that jumps from 179.9° to -179.9°. All three become the same thing here.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import shapely
from shapely.geometry import box

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

Bounds = tuple[float, float, float, float]

CIRCLE, HALF_CIRCLE = 360.0, 180.0

# Latitudes that no geometry reaches, for a window that only cuts longitudes.
ALL_LATITUDES = 1e3


def wrapped(longitude: float) -> float:
    """The same longitude in -180 ≤ longitude < 180, in degrees."""
    return longitude - CIRCLE * math.floor((longitude + HALF_CIRCLE) / CIRCLE)


def boxes_of(bounds: Bounds) -> tuple[Bounds, ...]:
    """(West, south, east, north) within -180° to 180°, west first: one box, or two across the antimeridian."""
    west, south, east, north = bounds
    if west >= -HALF_CIRCLE and east <= HALF_CIRCLE:
        return (bounds,)
    return (wrapped(west), south, HALF_CIRCLE, north), (-HALF_CIRCLE, south, wrapped(east), north)


def near(geometry: BaseGeometry, longitude: float) -> BaseGeometry:
    """The geometry with each vertex shifted by a multiple of 360° to lie within 180° of `longitude`.

    Right for a shape that is less than 180° wide and holds `longitude`, or lies near it. Heights are dropped.
    """
    moved: BaseGeometry = shapely.transform(
        geometry, lambda xy: np.column_stack([xy[:, 0] - CIRCLE * np.round((xy[:, 0] - longitude) / CIRCLE), xy[:, 1]])
    )
    return moved


def unwrapped(geometry: BaseGeometry, longitude: float) -> BaseGeometry:
    """The geometry as seen from `longitude`: between 180° west and 180° east of it, in one piece where it is one there.

    Shapes are only shifted by multiples of 360°, and cut where they reach across the far side. As seen from longitude 0
    a geometry is cut at ±180°, as RFC 7946 wants it.

    Args:
        geometry: Longitude and latitude in degrees, in any of the three forms. A ring of more than 180° with a jump is
            read as a narrow shape across ±180°; a box of the whole globe stays one.
        longitude: Where to look from, in degrees.

    Returns:
        The geometry, without heights, valid if it had to be cut.
    """
    west, east = longitude - HALF_CIRCLE, longitude + HALF_CIRCLE
    parts = [_untorn(part) for part in shapely.get_parts(shapely.force_2d(geometry)) if not part.is_empty]
    inside = [piece for part in parts for piece in _seen(part, west, east)]
    if len(inside) == 1:
        return inside[0]
    united: BaseGeometry = shapely.union_all(
        [piece if piece.is_valid else shapely.make_valid(piece) for piece in inside]
    )
    return united


def _untorn(part: BaseGeometry) -> BaseGeometry:
    """A ring that jumps across ±180° in one piece; anything else as it is."""
    west, _, east, _ = part.bounds
    if east - west <= HALF_CIRCLE:
        return part
    mended = near(part, float(shapely.get_coordinates(part)[0, 0]))
    width = mended.bounds[2] - mended.bounds[0]
    return mended if 0 < width <= HALF_CIRCLE else part


def _seen(part: BaseGeometry, west: float, east: float) -> list[BaseGeometry]:
    """What of the part, and of its copies one turn or more away, lies between two longitudes one circle apart."""
    left, _, right, _ = part.bounds
    turns = range(math.ceil((west - right) / CIRCLE), math.floor((east - left) / CIRCLE) + 1)
    copies = [_shifted(part, CIRCLE * turn) for turn in turns]
    whole = [copy for copy in copies if west <= copy.bounds[0] and copy.bounds[2] <= east]
    if whole:
        return whole[:1]
    window = box(west, -ALL_LATITUDES, east, ALL_LATITUDES)
    return [shapely.intersection(copy if copy.is_valid else shapely.make_valid(copy), window) for copy in copies]


def _shifted(part: BaseGeometry, degrees: float) -> BaseGeometry:
    shifted: BaseGeometry = shapely.transform(part, lambda xy: xy + (degrees, 0.0))  # noqa: RUF005 - a sum of vectors
    return shifted
