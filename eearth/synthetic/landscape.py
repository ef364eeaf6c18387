"""Where things are: fields between headlands, woods, ponds, a river and villages, as polygons and as a raster.

All coordinates are metres east and north of the region's lower left corner; rasters run from north to south.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.features import rasterize
from shapely.affinity import rotate, scale, translate
from shapely.geometry import LineString, Point, Polygon, box
from shapely.ops import split

if TYPE_CHECKING:
    from collections.abc import Sequence

PIXEL = 10.0  # metres

# Alphabetical: code of a class = its place in this list, counted from 1.
CLASSES = ("built-up", "forest", "grassland", "maize", "rapeseed", "sugar beet", "water", "winter cereal")

# Shares of the farmed parcels, after the lowlands of Styria and Slovenia; rapeseed and beet are rarer there, but a
# class needs some ten parcels before whole parcels can be held out for validation and test.
PARCELS = {"grassland": 0.28, "winter cereal": 0.24, "maize": 0.22, "rapeseed": 0.13, "sugar beet": 0.13}

PARCEL_AREA = 12_500.0  # square metres: the small parcels of the region that is imitated
SMALLEST_PARCEL = 2_000.0  # a smaller remnant between a wood and a road is left as headland
HEADLAND = 4.0  # metres from a parcel's edge to its crop; two neighbours leave about one pixel between them
BUILT_UP_SHARE = 0.09  # of the parcels; in clusters, as villages


@dataclass(frozen=True)
class Landscape:
    """Objects and where they lie.

    Attributes:
        polygons: One an object, disjoint.
        classes: Class name of each object.
        objects: (y, x) int32; 0 = headland or track, k = `polygons[k - 1]`, by pixel centre.
    """

    polygons: tuple[Polygon, ...]
    classes: tuple[str, ...]
    objects: NDArray[np.int32]

    @property
    def truth(self) -> NDArray[np.uint8]:
        """(y, x) class codes; 0 on headlands and tracks, which belong to no class."""
        codes = [0, *(CLASSES.index(name) + 1 for name in self.classes)]
        return np.array(codes, dtype=np.uint8)[self.objects]


def lay_out(size: int, *, seed: int, year: int) -> Landscape:
    """Draw a landscape of `size` x `size` pixels; `year` changes what the fields bear, never where they lie."""
    rng = np.random.default_rng([seed, 1])
    side = size * PIXEL
    water = [*_river(rng, side), *_blobs(rng, side, count=_count(side, 300_000), radius=(40, 65), taken=[])]
    water = _apart(water, side)
    woods = _blobs(rng, side, count=_count(side, 165_000), radius=(60, 105), taken=water)
    parcels = _parcels(rng, side, taken=[*water, *woods])
    villages, fields = _settle(rng, parcels, side)
    crops = _rotate_crops(rng, np.random.default_rng([seed, 2, year]), len(fields))
    polygons = (*water, *woods, *villages, *fields)
    classes = ("water",) * len(water) + ("forest",) * len(woods) + ("built-up",) * len(villages) + crops
    return Landscape(polygons, classes, _burn(polygons, size))


def _count(side: float, area: float) -> int:
    """How many objects to place when there is one to `area` square metres."""
    return max(2, round(side * side / area))


def _burn(polygons: Sequence[Polygon], size: int) -> NDArray[np.int32]:
    transform = Affine(PIXEL, 0, 0, 0, -PIXEL, size * PIXEL)
    shapes = [(polygon, index) for index, polygon in enumerate(polygons, start=1)]
    return np.asarray(rasterize(shapes, out_shape=(size, size), transform=transform, dtype="int32"))


def _river(rng: np.random.Generator, side: float) -> list[Polygon]:
    """One meandering river across the region, cut into reaches by bridges."""
    x = np.linspace(-100, side + 100, 12 + round(side / 40))
    phase, wave = rng.uniform(0, 2 * np.pi, 2), rng.uniform(550, 800)
    y = side * rng.uniform(0.25, 0.75) + 70 * np.sin(2 * np.pi * x / wave + phase[0]) + 35 * np.sin(x / 60 + phase[1])
    course = LineString(np.column_stack([x, y])).buffer(rng.uniform(22, 30))
    bridges = np.arange(rng.uniform(120, 280), side, 260)
    return polygons_of(course.difference(shapely.union_all([box(at, 0, at + 14, side) for at in bridges])))


def _blobs(
    rng: np.random.Generator, side: float, *, count: int, radius: tuple[float, float], taken: Sequence[Polygon]
) -> list[Polygon]:
    """Up to `count` rounded shapes that keep 30 m from each other and from what is taken; radii in metres."""
    placed: list[Polygon] = []
    for _ in range(30 * count):
        blob = _blob(rng, rng.uniform(0, side, 2), rng.uniform(*radius))
        others = [*taken, *placed]
        if not shapely.dwithin(blob, others, 30.0).any():
            placed.append(blob)
        if len(placed) == count:
            break
    return [part for blob in placed for part in polygons_of(blob.intersection(box(0, 0, side, side)))]


def _blob(rng: np.random.Generator, centre: NDArray[np.float64], radius: float) -> Polygon:
    """A circle whose radius wavers by its second to fourth harmonic, stretched and turned."""
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    radii = np.full(angle.size, radius)
    for harmonic in (2, 3, 4):
        radii += radius * rng.uniform(0, 0.12) * np.cos(harmonic * angle + rng.uniform(0, 2 * np.pi))
    shape = Polygon(np.column_stack([radii * np.cos(angle), radii * np.sin(angle)]))
    stretched = rotate(scale(shape, rng.uniform(1.0, 1.5), rng.uniform(0.75, 1.0)), rng.uniform(0, 180))
    return translate(stretched, *centre)


def _apart(polygons: Sequence[Polygon], side: float) -> list[Polygon]:
    """The polygons inside the region, without those that touch an earlier one."""
    kept: list[Polygon] = []
    for polygon in polygons:
        inside = polygon.intersection(box(0, 0, side, side))
        if not kept or not shapely.dwithin(inside, kept, HEADLAND).any():
            kept += polygons_of(inside)
    return kept


def _parcels(rng: np.random.Generator, side: float, *, taken: Sequence[Polygon]) -> list[Polygon]:
    """The land that is left, cut into parcels with a headland around each."""
    land = box(0, 0, side, side)
    obstacles = shapely.union_all(list(taken))
    shapely.prepare(obstacles)
    turned = rotate(box(-side, -side, 2 * side, 2 * side), rng.uniform(10, 35), origin=land.centroid)
    parcels: list[Polygon] = []
    for cell in _divided(rng, turned, land):
        free = cell.difference(obstacles) if obstacles.intersects(cell) else cell
        parcels += polygons_of(free.buffer(-HEADLAND, join_style="mitre").intersection(land))
    return parcels


def _divided(rng: np.random.Generator, whole: Polygon, land: Polygon) -> list[Polygon]:
    """Cut `whole` across its longer side again and again until the pieces have the size of a parcel."""
    waiting, cells = [whole], []
    while waiting:
        cell = waiting.pop()
        if not cell.intersects(land):
            continue
        if cell.area < PARCEL_AREA * rng.uniform(0.7, 1.9):
            cells.append(cell)
        else:
            waiting += [part for part in split(cell, _cut(rng, cell)).geoms if isinstance(part, Polygon)]
    return cells


def _cut(rng: np.random.Generator, cell: Polygon) -> LineString:
    """A line across the cell's longer side, off the middle and a few degrees off the right angle."""
    corners = shapely.get_coordinates(cell.minimum_rotated_rectangle)
    sides = np.diff(corners, axis=0)[:2]
    longer = int(np.argmax(np.hypot(*sides.T)))
    middle = corners[0] + sides[1 - longer] / 2 + sides[longer] * rng.uniform(0.38, 0.62)
    reach = 2 * float(np.abs(sides).max())
    heading = math.atan2(*sides[longer][::-1]) + math.pi / 2 + math.radians(rng.normal(0, 4))
    step = reach * np.array([math.cos(heading), math.sin(heading)])
    return LineString([middle - step, middle + step])


def polygons_of(shape: shapely.Geometry, smallest: float = SMALLEST_PARCEL) -> list[Polygon]:
    """The polygons of a shape that have at least `smallest` square metres."""
    pieces = shapely.get_parts(shape)
    return [piece for piece in pieces if isinstance(piece, Polygon) and piece.area >= smallest]


def _settle(rng: np.random.Generator, parcels: list[Polygon], side: float) -> tuple[list[Polygon], list[Polygon]]:
    """Parcels nearest to a few village centres become built-up; the others stay fields."""
    centres = [Point(*rng.uniform(0.1 * side, 0.9 * side, 2)) for _ in range(_count(side, 400_000))]
    distance = [min(parcel.distance(centre) for centre in centres) for parcel in parcels]
    built = set(np.argsort(distance, kind="stable")[: max(4, round(BUILT_UP_SHARE * len(parcels)))].tolist())
    villages = [parcel for index, parcel in enumerate(parcels) if index in built]
    return villages, [parcel for index, parcel in enumerate(parcels) if index not in built]


def _rotate_crops(place: np.random.Generator, season: np.random.Generator, count: int) -> tuple[str, ...]:
    """Classes of `count` fields in exact shares: meadows stay where they are, crops change with the season."""
    order = place.permutation(count)
    meadows = round(PARCELS["grassland"] * count)
    arable = {name: share for name, share in PARCELS.items() if name != "grassland"}
    edges = np.cumsum(list(arable.values())) / sum(arable.values())
    ranks = (season.permutation(count - meadows) + 0.5) / (count - meadows)
    crops = [list(arable)[index] for index in np.searchsorted(edges[:-1], ranks)]
    classes = np.empty(count, dtype=object)
    classes[order] = ["grassland"] * meadows + crops
    return tuple(classes.tolist())
