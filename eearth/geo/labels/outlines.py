"""Features as flat arrays of corners in pixel coordinates: what the burning works on.

A million polygons as geometry objects take more memory than all the rasters together, and to ask each of them takes
longer than to burn it. So they are asked in portions, once, and their corners kept.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import CRS

from eearth.events import Advanced, Finished, Report, Started, silent
from eearth.geo.distance import pixel_sides

if TYPE_CHECKING:
    from collections.abc import Iterator

    import geopandas as gpd

    from eearth.geo.grid import Grid

PORTION = 50_000  # features that exist as projected geometry objects at a time
TASK = "projecting labels"


@dataclass(frozen=True)
class Edges:
    """Directed straight edges of polygons, in pixel coordinates: x in columns from the left, y in rows from the top.

    Attributes:
        feature: Position of the feature that an edge belongs to, (n,).
        x0, y0, x1, y1: Where it starts and ends, (n,).
        turn: +1 where the polygon's inside lies to the right of an edge that goes down, -1 where to the left, (n,).
    """

    feature: NDArray[np.int64]
    x0: NDArray[np.float64]
    y0: NDArray[np.float64]
    x1: NDArray[np.float64]
    y1: NDArray[np.float64]
    turn: NDArray[np.int8]

    def take(self, index: NDArray[Any]) -> Edges:
        """The edges of an index or a mask."""
        return Edges(*(getattr(self, item.name)[index] for item in fields(self)))


@dataclass(frozen=True)
class Outlines:
    """Features on a grid, in file order; all arrays by feature have the labels' length.

    Attributes:
        corners: Corners of all rings in pixel coordinates (x, y), feature by feature, each ring closed: (m, 2).
        turn: Of the edge from a corner to the next one, as in `Edges`; 0 where none begins, at a ring's last corner.
        starts: Of each feature the position of its first corner; one more at the end.
        points: Pixel coordinates of all points, (p, 2).
        point_of: The feature of each point, rising, (p,).
        meets: Whether a feature meets the grid's rectangle. Those that do not have neither corners nor points.
        placed: Whether a feature lies in the domain of the grid's CRS.
        vanished: Whether the inner buffer left nothing of a polygon.
        rows: First and last row (exclusive) that a feature's polygons reach, within the grid: (n, 2).
        load: About how many pixels of a row a feature's polygons meet, (n,).
    """

    corners: NDArray[np.float64]
    turn: NDArray[np.int8]
    starts: NDArray[np.int64]
    points: NDArray[np.float64]
    point_of: NDArray[np.int64]
    meets: NDArray[np.bool_]
    placed: NDArray[np.bool_]
    vanished: NDArray[np.bool_]
    rows: NDArray[np.int32]
    load: NDArray[np.float32]

    def edges(self, chosen: NDArray[np.int64]) -> Edges:
        """The edges of some features, rising positions."""
        counts = self.starts[chosen + 1] - self.starts[chosen]
        corner, feature = consecutive(self.starts[chosen], counts), np.repeat(chosen, counts)
        begins = self.turn[corner] != 0
        corner, feature = corner[begins], feature[begins]
        (x0, y0), (x1, y1) = self.corners[corner].T, self.corners[corner + 1].T
        return Edges(feature, x0, y0, x1, y1, self.turn[corner])


@dataclass(frozen=True)
class _Portion:
    """The same of some features; `counts` are each feature's corners, and `point_of` counts from the first of them."""

    corners: NDArray[np.float64]
    turn: NDArray[np.int8]
    counts: NDArray[np.int64]
    points: NDArray[np.float64]
    point_of: NDArray[np.int64]
    meets: NDArray[np.bool_]
    placed: NDArray[np.bool_]
    vanished: NDArray[np.bool_]
    rows: NDArray[np.int32]
    load: NDArray[np.float32]


def consecutive(starts: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The numbers start, start + 1, ..., start + count - 1 of each pair, one after the other."""
    ends = np.cumsum(counts)
    numbers: NDArray[np.int64] = np.repeat(starts - (ends - counts), counts)
    numbers += np.arange(numbers.size)
    return numbers


def outlines_of(
    labels: gpd.GeoDataFrame, grid: Grid, *, inner_buffer: float = 0.0, report: Report = silent
) -> Outlines:
    """Reproject labels, shrink their polygons, and take their corners.

    Args:
        labels: From `read_labels`.
        grid: The grid in whose pixels corners are wanted.
        inner_buffer: Metres that each polygon loses along its edge. A metre is that of the grid's CRS, as for the
            buffer of a split; points stay.
        report: Hears of the progress.
    """
    portions = [_portion(geometries, grid, inner_buffer) for geometries in _projected(labels, grid, report)]
    joined: dict[str, Any] = {
        item.name: np.concatenate([getattr(portion, item.name) for portion in portions]) for item in fields(_Portion)
    }
    firsts = np.arange(len(portions)) * PORTION
    joined["point_of"] += np.repeat(firsts, [len(portion.points) for portion in portions])
    joined["starts"] = np.concatenate([[0], np.cumsum(joined.pop("counts"))])
    return Outlines(**joined)


def _projected(labels: gpd.GeoDataFrame, grid: Grid, report: Report) -> Iterator[NDArray[Any]]:
    """The labels' geometries in the grid's CRS, in portions."""
    crs = CRS.from_wkt(grid.crs.to_wkt())
    report(Started(task=TASK, total=len(labels), unit="features"))
    for first in range(0, len(labels), PORTION):
        portion = labels.geometry.iloc[first : first + PORTION]
        yield portion.to_crs(crs).to_numpy()
        report(Advanced(task=TASK, steps=len(portion)))
    report(Finished(task=TASK))


def _portion(geometries: NDArray[Any], grid: Grid, inner_buffer: float) -> _Portion:
    """The corners of a portion's features."""
    placed = np.asarray(np.isfinite(shapely.bounds(geometries)).all(axis=1))
    meets = placed.copy()
    meets[placed] = shapely.intersects(geometries[placed], grid.footprint)
    area = (shapely.get_dimensions(geometries) == 2) & meets  # noqa: PLR2004 - polygons
    points, point_of = shapely.get_coordinates(geometries[meets & ~area], return_index=True)
    owners, shapes = np.flatnonzero(area), geometries[area]
    if inner_buffer > 0:
        shapes = _shrunk(shapes, grid, inner_buffer)
    there = ~shapely.is_empty(shapes)
    vanished = np.zeros(len(geometries), dtype=bool)
    vanished[owners[~there]] = True
    owners, shapes = owners[there], shapes[there]
    corners, turn, counts, sizes = _corners(shapes, grid)
    return _Portion(
        corners, turn, _spread(counts, owners, len(geometries)),
        _in_pixels(points, grid), np.flatnonzero(meets & ~area)[point_of],
        meets, placed, vanished,
        _spread(_rows(shapes, grid), owners, len(geometries)), _spread(sizes, owners, len(geometries)),
    )  # fmt: skip


def _spread(values: NDArray[Any], owners: NDArray[np.int64], length: int) -> NDArray[Any]:
    """Values of some features as an array of all of them, 0 of the others."""
    whole = np.zeros((length, *values.shape[1:]), dtype=values.dtype)
    whole[owners] = values
    return whole


def _in_pixels(xy: NDArray[np.float64], grid: Grid) -> NDArray[np.float64]:
    t = grid.transform
    moved: NDArray[np.float64] = (xy - (t.c, t.f)) / (t.a, t.e)
    return moved


def _shrunk(polygons: NDArray[Any], grid: Grid, metres: float) -> NDArray[Any]:
    """The polygons without what lies nearer to their edge than so many metres; empty where nothing is left."""
    height, width = pixel_sides(grid)
    resolution = np.array(grid.resolution)
    scale = np.array([width, height]) / resolution  # metres a unit of the CRS
    if scale[0] == scale[1]:
        shrunk: NDArray[Any] = shapely.buffer(polygons, -metres / scale[0])
    else:
        flat = shapely.transform(polygons, lambda xy: xy * scale)
        shrunk = shapely.transform(shapely.buffer(flat, -metres), lambda xy: xy / scale)
    return shrunk


def _corners(
    polygons: NDArray[Any], grid: Grid
) -> tuple[NDArray[np.float64], NDArray[np.int8], NDArray[np.int64], NDArray[np.float32]]:
    """(corners, turn, corners of each polygon, its load) of polygons and multipolygons."""
    if not len(polygons):
        return np.zeros((0, 2)), np.zeros(0, np.int8), np.zeros(0, np.int64), np.zeros(0, np.float32)
    _, raw, offsets = shapely.to_ragged_array(polygons, include_z=False)
    rings, outer, *whole = (offset.astype(np.int64) for offset in offsets)
    features = outer[whole[0]] if whole else outer  # multipolygons have one more level
    corners = _in_pixels(raw, grid)
    twice = _twice_area(corners, rings)
    hole = np.ones(len(rings) - 1, dtype=bool)
    hole[outer[:-1]] = False
    turn = np.repeat(np.where(hole, np.sign(twice), -np.sign(twice)).astype(np.int8), np.diff(rings))
    turn[rings[1:] - 1] = 0
    counts = np.diff(rings[features])
    area = np.add.reduceat(np.where(hole, -1, 1) * np.abs(twice) / 2, features[:-1])
    return corners, turn, counts, _load(corners, turn, rings[features[:-1]], area, grid)


def _load(
    corners: NDArray[np.float64],
    turn: NDArray[np.int8],
    firsts: NDArray[np.int64],
    area: NDArray[np.float64],
    grid: Grid,
) -> NDArray[np.float32]:
    """About how many pixels of a row each polygon meets: those inside, and those along its edge."""
    steps = np.where(turn != 0, np.abs(np.diff(corners, axis=0, append=corners[-1:])).sum(axis=1) + 1, 0.0)
    y = corners[:, 1]
    height = np.maximum(np.maximum.reduceat(y, firsts) - np.minimum.reduceat(y, firsts), 1.0)
    inside = np.minimum(area / height, grid.width)
    load: NDArray[np.float32] = (inside + np.add.reduceat(steps, firsts) / height).astype(np.float32)
    return load


def _twice_area(corners: NDArray[np.float64], rings: NDArray[np.int64]) -> NDArray[np.float64]:
    """Twice the signed area of each ring (shoelace formula), from its first corner: far from the origin it rounds."""
    x, y = (corners - np.repeat(corners[rings[:-1]], np.diff(rings), axis=0)).T
    cross = np.zeros(len(corners))
    cross[:-1] = x[:-1] * y[1:] - x[1:] * y[:-1]
    cross[rings[1:] - 1] = 0
    area: NDArray[np.float64] = np.add.reduceat(cross, rings[:-1])
    return area


def _rows(polygons: NDArray[Any], grid: Grid) -> NDArray[np.int32]:
    """First and last row (exclusive) that each polygon reaches within the grid, (n, 2)."""
    bounds = shapely.bounds(polygons).reshape(-1, 4)
    low, high = ((bounds[:, side] - grid.transform.f) / grid.transform.e for side in (3, 1))
    return np.stack([np.clip(np.floor(low), 0, grid.height), np.clip(np.ceil(high), 0, grid.height)], 1).astype(
        np.int32
    )
