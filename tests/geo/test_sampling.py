"""Maps of classes, their areas, and random pixels of each class."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Geod, Transformer
from rasterio.crs import CRS
from scenery import utm_grid, write_tif
from scipy import stats

from eearth.errors import EearthError, WorkspaceError
from eearth.geo.grid import Grid, Window
from eearth.geo.sampling import classmap
from eearth.geo.sampling.areas import PixelAreas
from eearth.geo.sampling.classmap import classes_at, read_map
from eearth.geo.sampling.draw import draw_pixels

if TYPE_CHECKING:
    from pathlib import Path

GEOD = Geod(ellps="WGS84")


def geodesic(grid: Grid, row: int, col: int) -> float:
    """Area of a pixel as geographiclib has it."""
    outline = grid.crop(Window(row, col, 1, 1)).footprint.segmentize(grid.resolution[0] / 200)
    lon, lat = Transformer.from_crs(grid.crs.to_wkt(), 4326, always_xy=True).transform(*outline.exterior.xy)
    return abs(GEOD.polygon_area_perimeter(lon, lat)[0])


@settings(max_examples=20, deadline=None)
@given(st.floats(-89, 88), st.floats(0.0005, 0.5))
def test_pixels_in_degrees_have_the_area_of_their_cell(south: float, side: float) -> None:
    grid = Grid(CRS.from_epsg(4326), Affine(side, 0, 20, 0, -side, south + 2 * side), 2, 3)
    found = PixelAreas(grid).at(np.array([0, 1]), np.array([0, 2]))
    assert found == pytest.approx([geodesic(grid, 0, 0), geodesic(grid, 1, 2)], rel=2e-6)


@pytest.mark.parametrize(("epsg", "lon", "lat"), [(3857, 25, 60), (3857, 179.999, -40), (3395, 10, 45), (4087, 10, 55)])
def test_a_projection_that_distorts_areas_is_seen_through(epsg: int, lon: float, lat: float) -> None:
    x, y = Transformer.from_crs(4326, epsg, always_xy=True).transform(lon, lat)
    grid = Grid(CRS.from_epsg(epsg), Affine(30, 0, x, 0, -30, y), 40, 50)
    places = [(0, 0), (5, 3), (39, 49)]  # of the grid at 180°, the second lies across it
    found = PixelAreas(grid).at(*np.array(places).T)
    assert found == pytest.approx([geodesic(grid, *place) for place in places], rel=1e-6)
    assert found[0] < 0.95 * 900


@pytest.mark.parametrize(("epsg", "x", "y"), [(32633, 500_000, 5_000_000), (3035, 4_321_000, 3_210_000)])
def test_a_projection_that_keeps_areas_has_square_pixels(epsg: int, x: float, y: float) -> None:
    grid = Grid(CRS.from_epsg(epsg), Affine(20, 0, x, 0, -20, y), 40, 50)
    areas = PixelAreas(grid)
    assert areas.at(np.array([3]), np.array([4])).tolist() == [400]
    assert areas.of_rows(Window(5, 5, 3, 9)).tolist() == [400, 400, 400]
    assert geodesic(grid, 3, 4) == pytest.approx(400, rel=1e-3)


def test_feet_are_metres_in_the_end() -> None:
    x, y = Transformer.from_crs(4326, 2263, always_xy=True).transform(-74, 40.7)
    grid = Grid(CRS.from_epsg(2263), Affine(100, 0, x, 0, -100, y), 4, 5)
    assert PixelAreas(grid).at(np.array([0]), np.array([0]))[0] == pytest.approx(geodesic(grid, 0, 0), rel=1e-3)


def test_a_grid_off_the_globe_is_refused() -> None:
    grid = Grid(CRS.from_epsg(3035), Affine(1e6, 0, 5e7, 0, -1e6, 5e7), 4, 5)
    with pytest.raises(EearthError, match="on the globe"):
        PixelAreas(grid)


def land(height: int = 70, width: int = 90, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).choice([0, 1, 2, 7, 255], (height, width), p=[0.2, 0.4, 0.3, 0.09, 0.01])
    return values.astype(np.uint8)


def test_a_map_is_counted_tile_by_tile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = land()
    monkeypatch.setattr(classmap, "TILE", 32)
    found = read_map(write_tif(tmp_path / "map.tif", values, utm_grid(70, 90)))
    assert [s.code for s in found.strata] == [1, 2, 7, 255]
    for stratum in found.strata:
        assert stratum.pixels == (values == stratum.code).sum()
        assert stratum.area == pytest.approx(100 * stratum.pixels)
        np.testing.assert_array_equal(found.rows[stratum.code], (values == stratum.code).sum(axis=1))


def test_areas_in_degrees_are_summed_row_by_row(tmp_path: Path) -> None:
    values = land()
    grid = Grid(CRS.from_epsg(4326), Affine(0.1, 0, 5, 0, -0.1, 60), 70, 90)
    found = read_map(write_tif(tmp_path / "map.tif", values, grid))
    rows = np.array([geodesic(grid, row, 0) for row in range(70)])
    for stratum in found.strata:
        assert stratum.area == pytest.approx(float((values == stratum.code).sum(axis=1) @ rows), rel=2e-6)


def test_maps_of_other_number_types_and_other_nodata(tmp_path: Path) -> None:
    values = land().astype(np.int16) * 111
    values[values == 0] = -9999
    found = read_map(write_tif(tmp_path / "map.tif", values, utm_grid(70, 90), nodata=-9999))
    assert {s.code: s.pixels for s in found.strata} == {c: (values == c).sum() for c in (111, 222, 777, 28305)}
    bare = read_map(write_tif(tmp_path / "bare.tif", land(), utm_grid(70, 90), nodata=None))
    assert [s.code for s in bare.strata] == [0, 1, 2, 7, 255]
    with rasterio.open(tmp_path / "bare.tif", "r+") as file:
        file.write_mask(land() != 7)
    masked = read_map(tmp_path / "bare.tif")
    assert [s.code for s in masked.strata] == [0, 1, 2, 255]


def test_the_legend_is_the_files_own_or_a_given_one(tmp_path: Path) -> None:
    path = write_tif(tmp_path / "map.tif", land(), utm_grid(70, 90))
    assert [s.name for s in read_map(path).strata] == ["1", "2", "7", "255"]
    with rasterio.open(path, "r+") as file:
        file.update_tags(CLASS_1="water", CLASS_2="forest", CLASS_9="moor")
        file.write_colormap(1, {1: (0, 0, 255, 255), 2: (0, 99, 0, 255)})
    named = read_map(path)
    assert [(s.code, s.name, s.pixels > 0) for s in named.strata] == [
        (1, "water", True), (2, "forest", True), (7, "7", True), (9, "moor", False), (255, "255", True),
    ]  # fmt: skip
    assert named.strata[0].colour == "#0000ff"
    legend = tmp_path / "classes.json"
    legend.write_text(json.dumps([{"code": 7, "name": "bog", "colour": "#aabbcc", "pixels": 0, "polygons": 0}]))
    assert [(s.name, s.colour) for s in read_map(path, legend).strata if s.code == 7] == [("bog", "#aabbcc")]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_text("no raster"), "expected a map in a raster file"),
        (lambda path: write_tif(path, np.zeros((9, 9), np.float32), utm_grid(9, 9)), "whole numbers .* found float32"),
        (lambda path: write_tif(path, np.zeros((9, 9), np.uint8), utm_grid(9, 9)), "found no pixel with data"),
        (
            lambda path: write_tif(path, np.arange(1, 901, dtype=np.uint16).reshape(30, 30), utm_grid(30, 30)),
            "at most 255 classes",
        ),
    ],
)
def test_what_is_no_map_of_classes_is_refused_in_a_line(tmp_path: Path, make: object, message: str) -> None:
    make(tmp_path / "map.tif")  # type: ignore[operator]
    with pytest.raises(WorkspaceError, match=message) as caught:
        read_map(tmp_path / "map.tif")
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_map_that_lies_nowhere_or_upside_down_is_refused(tmp_path: Path) -> None:
    profile = {"driver": "GTiff", "count": 1, "height": 4, "width": 4, "dtype": "uint8"}
    with rasterio.open(tmp_path / "nowhere.tif", "w", **profile) as file:
        file.write(np.ones((1, 4, 4), np.uint8))
    with pytest.raises(WorkspaceError, match="coordinate reference system"):
        read_map(tmp_path / "nowhere.tif")
    with rasterio.open(
        tmp_path / "up.tif", "w", **profile, crs="EPSG:32633", transform=Affine(1, 0, 0, 0, 1, 0)
    ) as file:
        file.write(np.ones((1, 4, 4), np.uint8))
    with pytest.raises(WorkspaceError, match="north-up"):
        read_map(tmp_path / "up.tif")


def test_drawn_pixels_are_of_their_class_once_each_and_as_many_as_asked(tmp_path: Path) -> None:
    values = land()
    found = read_map(write_tif(tmp_path / "map.tif", values, utm_grid(70, 90)))
    wanted = {1: 200, 2: 5, 7: 1, 255: int((values == 255).sum())}
    drawn = draw_pixels(found, wanted, seed=3)
    np.testing.assert_array_equal(values[drawn.rows, drawn.cols], drawn.codes)
    assert len(np.unique(drawn.rows * 90 + drawn.cols)) == sum(wanted.values())
    assert {int(code): int((drawn.codes == code).sum()) for code in np.unique(drawn.codes)} == wanted
    assert not (np.diff(drawn.codes) >= 0).all()  # their order tells an interpreter nothing
    assert not (np.diff(drawn.rows) >= 0).all()
    np.testing.assert_array_equal(classes_at(found.path, drawn.rows, drawn.cols), drawn.codes)
    assert classes_at(found.path, np.array([-1, 70, 0]), np.array([0, 0, 90])).tolist() == [-1, -1, -1]


def test_a_draw_depends_on_the_seed_alone_not_on_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values, grid = land(), utm_grid(70, 90)
    write_tif(tmp_path / "one.tif", values, grid)
    with rasterio.open(tmp_path / "one.tif") as file:
        profile = file.profile
    for name in ("blockxsize", "blockysize", "tiled"):
        profile.pop(name)
    with rasterio.open(tmp_path / "strips.tif", "w", **profile) as file:  # strips of some rows instead of tiles
        file.write(values, 1)
    wanted = {1: 50, 2: 40, 7: 30}
    drawn = draw_pixels(read_map(tmp_path / "one.tif"), wanted, seed=0)
    monkeypatch.setattr(classmap, "TILE", 17)
    again = draw_pixels(read_map(tmp_path / "strips.tif"), wanted, seed=0)
    for name in ("codes", "rows", "cols"):
        np.testing.assert_array_equal(getattr(drawn, name), getattr(again, name))
    other = draw_pixels(read_map(tmp_path / "one.tif"), wanted, seed=1)
    assert (drawn.rows != other.rows).any()
    fewer = draw_pixels(read_map(tmp_path / "one.tif"), {2: 40}, seed=0)  # a class's points are its own
    assert set(zip(fewer.rows, fewer.cols, strict=True)) == {
        (row, col) for code, row, col in zip(drawn.codes, drawn.rows, drawn.cols, strict=True) if code == 2
    }


def test_classes_are_drawn_apart_from_each_other(tmp_path: Path) -> None:
    values = np.ones((50, 60), np.uint8)
    values[:, 30:] = 2
    found = read_map(write_tif(tmp_path / "map.tif", values, utm_grid(50, 60)))
    drawn = draw_pixels(found, {1: 40, 2: 40}, 0)
    left, right = (
        {(row, col % 30) for row, col in zip(drawn.rows[own], drawn.cols[own], strict=True)}
        for own in (drawn.codes == 1, drawn.codes == 2)
    )
    assert len(left & right) < 10


def test_every_pixel_of_a_class_is_as_likely_as_any_other(tmp_path: Path) -> None:
    values = np.where(land(8, 9) == 1, 1, 2).astype(np.uint8)
    found = read_map(write_tif(tmp_path / "map.tif", values, utm_grid(8, 9)))
    times = np.zeros((8, 9))
    for seed in range(400):
        drawn = draw_pixels(found, {1: 3}, seed)
        times[drawn.rows, drawn.cols] += 1
    assert times[values == 2].sum() == 0
    assert stats.chisquare(times[values == 1]).pvalue > 0.01


def test_a_map_that_changes_meanwhile_is_noticed(tmp_path: Path) -> None:
    path = write_tif(tmp_path / "map.tif", land(), utm_grid(70, 90))
    found = read_map(path)
    shutil.copy(write_tif(tmp_path / "other.tif", land(seed=1), utm_grid(70, 90)), path)
    with pytest.raises(WorkspaceError, match="changed while it was read"):
        draw_pixels(found, {1: 50}, 0)
