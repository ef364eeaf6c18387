"""Pixels on the ground: against geodesics on the ellipsoid."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from pyproj import Geod, Transformer
from rasterio.crs import CRS
from rasterio.transform import Affine

from eearth.geo.distance import pixel_sides
from eearth.geo.grid import Grid
from eearth.geo.splits.split import split_blocks

GEOD = Geod(ellps="WGS84")
# Web Mercator at 60 degrees north; degrees at the equator and far north; two equal-area projections, one sheared here.
STRETCHED = [
    (3857, Affine(10, 0, 1.1e6, 0, -10, 8.4e6)),
    (4326, Affine(1e-4, 0, 10, 0, -1e-4, 0.003)),
    (4326, Affine(2e-4, 0, 10, 0, -1e-4, 65)),
    (6933, Affine(10, 0, 1.1e6, 0, -10, 6.0e6)),
    (8857, Affine(10, 0, 9e6, 0, -10, 6.0e6)),
]


def geodesic(grid: Grid, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Metres between pixel centres at (row, column)."""
    to_lonlat = Transformer.from_crs(grid.crs.to_wkt(), 4326, always_xy=True)
    places = [to_lonlat.transform(grid.x()[at[:, 1]], grid.y()[at[:, 0]]) for at in (one, other)]
    metres: np.ndarray = GEOD.inv(*places[0], *places[1])[2]
    return metres


@pytest.mark.parametrize(("epsg", "transform"), STRETCHED)
def test_no_distance_on_the_ground_is_shorter_than_its_sides_say(epsg: int, transform: Affine) -> None:
    grid = Grid(CRS.from_epsg(epsg), transform, 60, 60)
    height, width = pixel_sides(grid)
    steps = np.array(list(itertools.product(range(8), range(-7, 8))))[8:]
    for start in itertools.product((7, 30, 52), repeat=2):
        one = np.broadcast_to(start, steps.shape)
        said = np.hypot(steps[:, 0] * height, steps[:, 1] * width)
        assert (geodesic(grid, one, one + steps) >= said * (1 - 1e-5)).all()


def test_conformal_sides_are_those_on_the_ground() -> None:
    grid = Grid(CRS.from_epsg(3857), STRETCHED[0][1], 60, 60)
    one, other = np.array([[0, 0], [0, 0]]), np.array([[1, 0], [0, 1]])  # the pixels furthest north are the smallest
    assert pixel_sides(grid) == pytest.approx(tuple(geodesic(grid, one, other)), rel=1e-4)
    assert pixel_sides(grid)[0] == pytest.approx(5.0, abs=0.3)


@pytest.mark.parametrize(("epsg", "transform"), STRETCHED)
def test_a_buffer_in_a_stretched_projection_is_kept_on_the_ground(epsg: int, transform: Affine) -> None:
    rng = np.random.default_rng(0)
    grid, labels = Grid(CRS.from_epsg(epsg), transform, 60, 60), np.zeros((60, 60), np.uint8)
    for row, column in rng.integers(0, 55, (60, 2)):
        labels[row : row + 5, column : column + 5] = rng.integers(1, 4)
    buffer = 3 * max(pixel_sides(grid))
    given = {"block_size": None, "test_fraction": 0.2, "validation_fraction": 0.2, "seed": 0}
    found = split_blocks(labels, grid, buffer=buffer, **given)
    train, test = (np.argwhere(found.part == code) for code in (1, 3))
    pairs = np.array(list(itertools.product(range(len(train)), range(len(test)))))
    close = np.abs(train[pairs[:, 0]] - test[pairs[:, 1]]).max(axis=1) < 12
    metres = geodesic(grid, train[pairs[close, 0]], test[pairs[close, 1]])
    assert metres.min() > buffer * (1 - 1e-5)
    assert metres.min() >= found.min_distance_m * (1 - 1e-5)


@pytest.mark.parametrize("side", [10.0, 9.994666, 30.48])
@pytest.mark.parametrize("x", [166_000.0, 500_000.0, 800_000.0])
def test_sides_in_utm_are_those_of_the_grid(side: float, x: float) -> None:
    grid = Grid(CRS.from_epsg(32633), Affine(side, 0, x, 0, -2 * side, 5e6), 300, 300)
    assert pixel_sides(grid) == (2 * side, side)


def test_sides_off_the_globe_are_those_of_the_grid() -> None:
    grid = Grid(CRS.from_epsg(3035), Affine(1e6, 0, 5e7, 0, -1e6, 5e7), 4, 5)
    assert pixel_sides(grid) == (1e6, 1e6)
