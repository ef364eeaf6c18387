from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import rasterio.transform
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Geod
from rasterio.crs import CRS
from rasterio.transform import Affine
from rasterio.warp import transform_bounds
from scenery import UTM33, utm_grid

from eearth.errors import EearthError
from eearth.geo.grid import ALIGNMENT_TOLERANCE, Grid, Window

Bounds = tuple[float, float, float, float]


@st.composite
def bounds(draw: st.DrawFn) -> Bounds:
    left, bottom = draw(st.floats(-6e6, 6e6)), draw(st.floats(-6e6, 1e7))
    width, height = draw(st.floats(1e-3, 5e4)), draw(st.floats(1e-3, 5e4))
    return left, bottom, left + width, bottom + height


RESOLUTIONS = st.sampled_from([0.5, 2.5, 9.99479222007154, 10.0, 20.0, 30.0, 120.0])
WINDOWS = st.builds(Window, st.integers(-50, 50), st.integers(-50, 50), st.integers(1, 60), st.integers(1, 60))
GRIDS = st.builds(
    lambda left, top, side, height, width: utm_grid(height, width, left=left, top=top, side=side),
    st.floats(-6e6, 6e6),
    st.floats(-6e6, 1e7),
    RESOLUTIONS,
    st.integers(1, 60),
    st.integers(1, 60),
)


def assert_smallest_cover(grid: Grid, wanted: Bounds) -> None:
    """The grid covers the bounds but for the tolerance, and loses them with one row or column less on any side."""
    width, height = grid.resolution
    slack_x, slack_y = 1.01 * ALIGNMENT_TOLERANCE * width, 1.01 * ALIGNMENT_TOLERANCE * height
    left, bottom, right, top = grid.bounds
    assert left <= wanted[0] + slack_x
    assert bottom <= wanted[1] + slack_y
    assert right >= wanted[2] - slack_x
    assert top >= wanted[3] - slack_y
    if grid.width > 1:
        assert left + width > wanted[0] + 0.99 * ALIGNMENT_TOLERANCE * width
        assert right - width < wanted[2] - 0.99 * ALIGNMENT_TOLERANCE * width
    if grid.height > 1:
        assert bottom + height > wanted[1] + 0.99 * ALIGNMENT_TOLERANCE * height
        assert top - height < wanted[3] - 0.99 * ALIGNMENT_TOLERANCE * height


@given(bounds(), RESOLUTIONS)
def test_a_snapped_grid_is_the_smallest_cover_on_whole_multiples(wanted: Bounds, resolution: float) -> None:
    grid = Grid.snapped(wanted, crs=UTM33, resolution=resolution)
    assert_smallest_cover(grid, wanted)
    for edge in grid.bounds:
        assert abs(edge / resolution - round(edge / resolution)) < 1e-6
    assert Grid.snapped(grid.bounds, crs=UTM33, resolution=resolution).shape == grid.shape
    assert grid.offset_of(Grid.snapped(grid.bounds, crs=UTM33, resolution=resolution)) == (0, 0)


def test_rounding_adds_no_row_or_column() -> None:
    exact = Grid.snapped((500_000, 4_999_000, 501_000, 5_000_000), crs=UTM33, resolution=10)
    nudged = Grid.snapped(
        (500_000 - 4e-3, 4_999_000 - 4e-3, 501_000 + 4e-3, 5_000_000 + 4e-3), crs=UTM33, resolution=10
    )
    assert exact.shape == nudged.shape == (100, 100)
    assert exact == nudged
    assert Grid.snapped((500_000, 4_999_000, 501_000.2, 5_000_000), crs=UTM33, resolution=10).shape == (100, 101)


@given(GRIDS, WINDOWS)
def test_crop_and_offset_are_inverse(grid: Grid, window: Window) -> None:
    cropped = grid.crop(window)
    assert cropped.shape == (window.height, window.width)
    assert grid.offset_of(cropped) == (window.row, window.col)
    assert cropped.offset_of(grid) == (-window.row, -window.col)


@given(GRIDS, bounds())
def test_over_is_the_smallest_cover_on_the_same_lattice(grid: Grid, wanted: Bounds) -> None:
    # near the grid, as a region near its imagery is: far away the last digit of a float64 is no longer below a pixel
    left, top = grid.bounds[0], grid.bounds[3]
    near = (left + wanted[0] / 100, top + wanted[1] / 100, left + wanted[2] / 100, top + wanted[3] / 100)
    found = grid.over(near)
    assert grid.offset_of(found) is not None
    assert_smallest_cover(found, near)
    assert grid.over(found.bounds).shape == found.shape
    assert found.offset_of(grid.over(found.bounds)) == (0, 0)
    assert grid.over(grid.bounds) == grid


@pytest.mark.parametrize(
    "other",
    [
        utm_grid(10, 10, left=500_005),
        utm_grid(10, 10, top=5_000_000.1),
        utm_grid(10, 10, side=20),
        utm_grid(10, 10, side=10.01),
        utm_grid(10, 10, crs=CRS.from_epsg(32634)),
    ],
)
def test_another_lattice_has_no_offset(other: Grid) -> None:
    assert utm_grid(10, 10).offset_of(other) is None


def test_a_drift_over_a_wide_grid_is_another_lattice() -> None:
    drifting = utm_grid(10_000, 10_000, side=10 * (1 + 1e-6))
    assert utm_grid(10, 10).offset_of(drifting) is None
    assert utm_grid(10, 10).offset_of(utm_grid(10, 10, side=10 * (1 + 1e-6))) == (0, 0)


@given(GRIDS, st.integers(1, 70))
def test_windows_hold_each_pixel_once(grid: Grid, size: int) -> None:
    seen = np.zeros(grid.shape, dtype=int)
    for window in grid.windows(size):
        assert window.height <= size
        assert window.width <= size
        assert seen[window.slices].shape == (window.height, window.width)
        seen[window.slices] += 1
    assert (seen == 1).all()


@pytest.mark.filterwarnings("ignore:Use `@` matmul")  # affine 3.1 warns of what rasterio 1.4 does
@given(GRIDS, WINDOWS)
def test_coordinates_are_rasterios(grid: Grid, window: Window) -> None:
    rows, cols = np.arange(grid.height), np.arange(grid.width)
    x, _ = rasterio.transform.xy(grid.transform, np.zeros_like(cols), cols, offset="center")
    _, y = rasterio.transform.xy(grid.transform, rows, np.zeros_like(rows), offset="center")
    np.testing.assert_allclose(grid.x(), x, rtol=1e-12)
    np.testing.assert_allclose(grid.y(), y, rtol=1e-12)
    np.testing.assert_allclose(
        grid.bounds, rasterio.transform.array_bounds(grid.height, grid.width, grid.transform), rtol=1e-12, atol=1e-6
    )
    theirs = rasterio.windows.transform(window.rasterio, grid.transform)
    np.testing.assert_allclose(grid.crop(window).transform, theirs, rtol=1e-12, atol=1e-6)


@given(GRIDS)
def test_json_keeps_every_digit(grid: Grid) -> None:
    assert Grid.from_dict(json.loads(json.dumps(grid.as_dict()))) == grid


@pytest.mark.parametrize(
    ("transform", "shape"),
    [
        (Affine(10, 1, 0, 0, -10, 0), (5, 5)),
        (Affine(10, 0, 0, 1, -10, 0), (5, 5)),
        (Affine(-10, 0, 0, 0, -10, 0), (5, 5)),
        (Affine(10, 0, 0, 0, 10, 0), (5, 5)),
        (Affine(10, 0, 0, 0, -10, 0), (0, 5)),
        (Affine(10, 0, 0, 0, -10, 0), (5, 0)),
    ],
)
def test_what_is_not_north_up_or_empty_is_refused(transform: Any, shape: tuple[int, int]) -> None:
    with pytest.raises(EearthError, match="expected a"):
        Grid(UTM33, transform, *shape)


@pytest.mark.parametrize("latitude", [0.0, 45.0, -60.0, 80.0])
def test_pixel_size_of_degrees_is_the_geodesic_one(latitude: float) -> None:
    side = 1e-3
    grid = Grid(CRS.from_epsg(4326), Affine(side, 0, 15, 0, -side, latitude + side / 2), 1, 1)
    geod = Geod(ellps="WGS84")
    east = geod.inv(15, latitude, 15 + side, latitude)[2]
    north = geod.inv(15, latitude - side / 2, 15, latitude + side / 2)[2]
    assert grid.pixel_metres == pytest.approx(math.sqrt(east * north), rel=5e-3)


def test_pixel_size_of_feet_is_in_metres() -> None:
    feet = Grid(CRS.from_epsg(2263), Affine(100, 0, 1e6, 0, -100, 2e5), 1, 1)
    assert feet.pixel_metres == pytest.approx(30.48006, rel=1e-6)


def test_the_footprint_is_the_outer_edge() -> None:
    grid = utm_grid(20, 30)
    assert grid.footprint.bounds == grid.bounds
    assert grid.footprint.area == 20 * 30 * 100
    assert transform_bounds(grid.crs, UTM33, *grid.footprint.bounds) == pytest.approx(grid.bounds)
