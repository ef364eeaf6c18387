from __future__ import annotations

import json
import math
import warnings
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pytest
import shapely
from pyproj import CRS, Transformer
from shapely.geometry import LineString, MultiPolygon, Point, Polygon, box, mapping

from eearth.errors import RegionError
from eearth.events import Event, Warned
from eearth.geo.aoi import LONLAT, Region, footprint_on, lonlat_footprint, parse_crs, read_region

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from shapely.geometry.base import BaseGeometry

SQUARE = box(14.55, 45.86, 14.57, 45.88)
BESIDE = box(14.60, 45.86, 14.62, 45.88)
BOW_TIE = Polygon([(14.55, 45.86), (14.57, 45.88), (14.57, 45.86), (14.55, 45.88)])


def vector(path: Path, *shapes: BaseGeometry | None, crs: Any = 4326) -> Path:
    gpd.GeoDataFrame(geometry=list(shapes), crs=crs).to_file(path)
    return path


def in_utm(shape: BaseGeometry) -> BaseGeometry:
    to_utm = Transformer.from_crs(4326, 32633, always_xy=True)
    return shapely.transform(shape, lambda xy: np.column_stack(to_utm.transform(xy[:, 0], xy[:, 1])))


def geojson(path: Path, *shapes: BaseGeometry | dict[str, Any] | None) -> Path:
    """A file as text, without a library that would tidy it up."""
    shown = [mapping(shape) if isinstance(shape, Point | Polygon | MultiPolygon) else shape for shape in shapes]
    features = [{"type": "Feature", "properties": {}, "geometry": shape} for shape in shown]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


@pytest.mark.parametrize("name", ["r.geojson", "r.gpkg", "r.shp", "r.fgb"])
def test_every_format_gives_the_same_polygon(tmp_path: Path, name: str) -> None:
    region = read_region(vector(tmp_path / name, SQUARE))
    assert region.name == "r"
    assert region.geometry.symmetric_difference(SQUARE).area < 1e-15
    assert region.bounds == pytest.approx(SQUARE.bounds, abs=1e-12)


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        ([SQUARE, BESIDE], MultiPolygon([SQUARE, BESIDE])),
        ([MultiPolygon([SQUARE, BESIDE])], MultiPolygon([SQUARE, BESIDE])),
        ([SQUARE, box(14.56, 45.86, 14.58, 45.88)], box(14.55, 45.86, 14.58, 45.88)),
        ([SQUARE, Point(14.7, 45.9), LineString([(14, 45), (15, 46)])], SQUARE),
        ([SQUARE, None], SQUARE),
        ([Polygon(SQUARE.exterior, [box(14.555, 45.865, 14.56, 45.87).exterior.coords])], None),
        ([Polygon([(*corner, 250.0) for corner in SQUARE.exterior.coords])], SQUARE),
    ],
    ids=["two", "multi", "overlapping", "mixed with points and lines", "one empty", "with a hole", "3-D"],
)
def test_features_are_united(tmp_path: Path, shapes: list[BaseGeometry | None], expected: BaseGeometry | None) -> None:
    wanted = expected if expected is not None else shapes[0]
    assert wanted is not None
    heard: list[Event] = []
    region = read_region(vector(tmp_path / "r.geojson", *shapes), heard.append)
    assert region.geometry.symmetric_difference(wanted).area < 1e-12
    assert region.geometry.is_valid
    assert heard == []


def test_a_projected_file_keeps_its_rectangle(tmp_path: Path) -> None:
    """A wide rectangle drawn on a UTM grid is still that rectangle there, edges and all."""
    drawn = box(500_000, 4_900_000, 620_000, 5_000_000)
    region = read_region(vector(tmp_path / "r.gpkg", drawn, crs=32633))
    back = region.projected(CRS.from_epsg(32633))
    assert back.bounds == pytest.approx(drawn.bounds, abs=5e-3)
    assert region.utm() == CRS.from_epsg(32633)


def test_a_parallel_is_followed_where_it_bulges(tmp_path: Path) -> None:
    """One degree of a parallel at 45° rises over 100 m above the line between its ends in UTM."""
    region = read_region(geojson(tmp_path / "r.geojson", box(14.5, 44.5, 15.5, 45.5)))
    to_utm = Transformer.from_crs(4326, 32633, always_xy=True)
    _x, y = to_utm.transform(np.linspace(14.5, 15.5, 10_001), np.full(10_001, 44.5))
    assert y.min() < min(y[0], y[-1]) - 50
    assert region.projected(CRS.from_epsg(32633)).bounds[1] == pytest.approx(y.min(), abs=0.01)


def test_a_bow_tie_is_mended_with_a_warning(tmp_path: Path) -> None:
    heard: list[Event] = []
    region = read_region(geojson(tmp_path / "r.geojson", BOW_TIE), heard.append)
    assert region.geometry.is_valid
    assert region.geometry.area == pytest.approx(SQUARE.area / 2)
    assert len(heard) == 1
    assert isinstance(heard[0], Warned)
    assert "cross themselves" in heard[0].text


def _nothing(folder: Path) -> Path:
    return folder / "r.geojson"


def _text(content: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / "r.geojson").write_text(content)
        return folder / "r.geojson"

    return write


def _features(*shapes: BaseGeometry | dict[str, Any] | None) -> Callable[[Path], Path]:
    return lambda folder: geojson(folder / "r.geojson", *shapes)


def _shapefile_without_prj(folder: Path) -> Path:
    vector(folder / "r.shp", in_utm(SQUARE), crs=32633)
    (folder / "r.prj").unlink()
    return folder / "r.shp"


def _table(folder: Path) -> Path:
    (folder / "r.csv").write_text("a,b\n1,2\n")
    return folder / "r.csv"


def _geopackage_without_crs(folder: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pyogrio says what is meant here
        return vector(folder / "r.gpkg", in_utm(SQUARE), crs=None)


def _swapped(shape: BaseGeometry) -> BaseGeometry:
    return shapely.transform(shape, lambda xy: xy[:, ::-1])


BAD: dict[str, tuple[Callable[[Path], Path], list[str]]] = {
    "missing": (_nothing, ["expected a region file", "found nothing"]),
    "empty file": (_text(""), ["expected a polygon file"]),
    "not a vector file": (_text("just words"), ["expected a polygon file"]),
    "broken JSON": (_text('{"type": "FeatureCollection", "features": ['), ["expected a polygon file"]),
    "empty collection": (_features(), ["expected at least one polygon", "found"]),
    "a table": (_table, ["expected at least one polygon", "table without geometry"]),
    "only points": (_features(Point(14, 45)), ["expected at least one polygon", "found Point"]),
    "only lines": (
        _features({"type": "LineString", "coordinates": [[14, 45], [15, 46]]}),
        ["expected at least one polygon", "found LineString"],
    ),
    "null geometry": (_features(None), ["expected at least one polygon", "no geometry"]),
    "zero area": (_features(Polygon([(14, 45), (15, 46), (14, 45)])), ["expected at least one polygon", "area"]),
    "no CRS, gpkg": (
        _geopackage_without_crs,
        ["expected a coordinate reference system", "found none", "ogr2ogr"],
    ),
    "no CRS, shp": (_shapefile_without_prj, ["expected a coordinate reference system", "found none", "ogr2ogr"]),
    "metres as degrees": (_features(in_utm(SQUARE)), ["degrees", "found x 46", "give it its CRS"]),
    "beyond its CRS": (
        lambda folder: vector(folder / "r.gpkg", box(1e9, 1e9, 2e9, 2e9), crs=32633),
        ["expected coordinates of WGS 84 / UTM zone 33N", "give the file its own CRS"],
    ),
    "swapped axes": (_features(_swapped(box(120.1, 14.2, 120.2, 14.3))), ["swapped", "found x 14"]),
    "all around but two degrees": (
        _features(box(-179, -17, 179, -16)),
        ["less than 180° wide", "found longitudes -179 to 179", "cut it in two at ±180°"],
    ),
    "one ring that jumps at 180°": (
        _features(Polygon([(179, -17), (-179, -17), (-170, -16), (179, -16)])),
        ["less than 180° wide", "longitudes beyond 180°"],
    ),
    "all around": (_features(box(-180, -60, 180, 80)), ["less than 180° wide", "-180 to 180"]),
    "around the pole": (
        lambda folder: vector(folder / "r.gpkg", box(-1e6, -1e6, 2e6, 2e6), crs=3031),
        ["less than 180° wide"],
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_gives_one_clear_line(tmp_path: Path, case: str) -> None:
    make, words = BAD[case]
    path = make(tmp_path)
    with pytest.raises(RegionError) as caught:
        read_region(path)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400
    for word in (*words, path.name):
        assert word in message


@pytest.mark.parametrize(
    ("west", "south", "code"),
    [(14.0, 45.0, 32633), (14.0, -45.0, 32733), (-179.9, 10.0, 32601), (179.5, 10.0, 32660), (5.9, 60.0, 32631)],
)
def test_the_utm_zone_is_that_of_the_centre(west: float, south: float, code: int) -> None:
    assert Region(box(west, south, west + 0.1, south + 0.1), "r").utm() == CRS.from_epsg(code)


@pytest.mark.parametrize("south", [83.9, -80.05])
def test_the_poles_have_no_utm_zone(south: float) -> None:
    with pytest.raises(RegionError, match=r"expected a region between 80° S and 84° N .* --crs such as EPSG:3413"):
        Region(box(14, south, 15, south + 0.2), "r").utm()


def test_a_crs_that_does_not_reach_the_region_is_refused() -> None:
    with pytest.raises(RegionError, match="choose another --crs"):
        Region(box(14, -90, 15, -89), "r").projected(CRS.from_epsg(3408))


def test_an_unknown_crs_is_refused() -> None:
    assert parse_crs("EPSG:32633") == CRS.from_epsg(32633)
    with pytest.raises(RegionError, match=r"EPSG:32633 for --crs, found 'EPSG:999999'"):
        parse_crs("EPSG:999999")


def test_boxes_become_degrees_edges_and_all() -> None:
    bounds = 300_000.0, 7_000_000.0, 700_000.0, 7_400_000.0
    crs = CRS.from_epsg(32633)
    to_lonlat = Transformer.from_crs(crs, LONLAT, always_xy=True)
    edge = np.linspace(0, 1, 2001)
    x = np.concatenate([300_000 + 400_000 * edge, np.full(2001, 300_000.0), np.full(2001, 700_000.0)])
    y = np.concatenate([np.full(2001, 7_400_000.0), 7_000_000 + 400_000 * edge, 7_000_000 + 400_000 * edge])
    lon, lat = to_lonlat.transform(x, y)
    footprint = lonlat_footprint(bounds, crs)
    west, south, east, north = footprint.bounds
    assert (west, east) == pytest.approx((lon.min(), lon.max()), abs=1e-2)
    assert (south, north) == pytest.approx((lat.min(), lat.max()), abs=1e-2)
    assert footprint.bounds[3] > max(to_lonlat.transform(300_000, 7_400_000)[1], to_lonlat.transform(7e5, 7.4e6)[1])
    assert all(math.isfinite(edge) for edge in footprint.bounds)


# --- Across the antimeridian

TAVEUNI = box(179.8, -17.05, 180.2, -16.65)
WEST, EAST = box(179.8, -17.05, 180, -16.65), box(-180, -17.05, -179.8, -16.65)
ACROSS: dict[str, tuple[list[BaseGeometry], int]] = {
    "cut in two": ([MultiPolygon([WEST, EAST])], 4326),
    "cut in two, the other first": ([MultiPolygon([EAST, WEST])], 4326),
    "two features": ([EAST, WEST], 4326),
    "past 180": ([TAVEUNI], 4326),
    "past -180": ([shapely.transform(TAVEUNI, lambda xy: xy - (360, 0))], 4326),
    "on another datum": ([TAVEUNI], 4167),
}


@pytest.mark.parametrize(
    ("case", "name"), [*((case, "r.gpkg") for case in ACROSS), *((case, "r.geojson") for case in list(ACROSS)[:5])]
)
def test_a_region_across_180_degrees_is_one_shape_however_it_is_written(tmp_path: Path, case: str, name: str) -> None:
    shapes, epsg = ACROSS[case]
    path = geojson(tmp_path / name, *shapes) if name == "r.geojson" else vector(tmp_path / name, *shapes, crs=epsg)
    region = read_region(path)
    assert isinstance(region.geometry, Polygon)
    assert region.bounds == pytest.approx((-180.2, -17.05, -179.8, -16.65), abs=1e-4)
    assert region.geometry.area == pytest.approx(TAVEUNI.area, rel=1e-6)
    assert region.longitude == pytest.approx(-180, abs=1e-4)
    west, east = region.boxes
    assert west == pytest.approx((179.8, -17.05, 180, -16.65), abs=1e-4)
    assert east == pytest.approx((-180, -17.05, -179.8, -16.65), abs=1e-4)
    assert (west[2], east[0]) == (180, -180)


@pytest.mark.parametrize("epsg", [32760, 32701, 3832, 3460, 3994])
def test_a_projected_region_across_180_degrees_keeps_its_rectangle(tmp_path: Path, epsg: int) -> None:
    crs = CRS.from_epsg(epsg)
    x, y = Transformer.from_crs(LONLAT, crs, always_xy=True).transform(180, -16.8)
    drawn = box(round(x) - 20_000, round(y) - 10_000, round(x) + 30_000, round(y) + 10_000)
    region = read_region(vector(tmp_path / "r.gpkg", drawn, crs=epsg))
    assert region.projected(crs).bounds == pytest.approx(drawn.bounds, abs=5e-3)
    assert len(region.boxes) == 2
    assert region.bounds[2] - region.bounds[0] < 1
    assert -180 <= region.longitude < 180


@pytest.mark.parametrize(
    ("west", "east", "code"), [(179.5, 180.2, 32760), (179.9, 180.5, 32701), (-180.5, -179.9, 32760), (180, 181, 32701)]
)
def test_across_180_degrees_the_zone_is_that_of_the_true_centre(
    tmp_path: Path, west: float, east: float, code: int
) -> None:
    region = read_region(geojson(tmp_path / "r.geojson", box(west, -17, east, -16)))
    zone = CRS.from_epsg(code)
    assert region.utm() == zone
    left, bottom, right, top = region.projected(zone).bounds
    assert (right - left) / 1000 == pytest.approx(111.3 * (east - west) * math.cos(math.radians(16.5)), rel=0.05)
    assert (top - bottom) / 1000 == pytest.approx(111, rel=0.05)


def test_longitudes_from_0_to_360_are_the_usual_ones(tmp_path: Path) -> None:
    region = read_region(geojson(tmp_path / "r.geojson", box(190, 1, 191, 2)))
    assert region.bounds == pytest.approx((-170, 1, -169, 2))
    assert region.boxes == (region.bounds,)


def test_islands_on_both_sides_are_one_region(tmp_path: Path) -> None:
    region = read_region(geojson(tmp_path / "r.geojson", box(-179.5, -18, -179, -17), box(178, -18, 178.5, -17)))
    assert region.bounds == pytest.approx((178, -18, 181, -17))
    assert region.geometry.area == pytest.approx(1)


def test_a_crs_that_is_cut_inside_the_region_is_refused(tmp_path: Path) -> None:
    region = read_region(geojson(tmp_path / "r.geojson", TAVEUNI))
    with pytest.raises(RegionError, match=r"has no place in EPSG:3857: choose another --crs"):
        region.projected(CRS.from_epsg(3857))
    west, _, east, _ = region.projected(LONLAT).bounds
    assert (west, east) == pytest.approx((-180.2, -179.8))


# --- Footprints of items on a grid

FOOTPRINTS: dict[str, BaseGeometry] = {
    "cut in two": MultiPolygon([box(179.5, -17.5, 180, -16.5), box(-180, -17.5, -179.5, -16.5)]),
    "a ring that jumps": Polygon([(179.5, -17.5), (-179.5, -17.5), (-179.5, -16.5), (179.5, -16.5)]),
    "past 180": box(179.5, -17.5, 180.5, -16.5),
    "past -180": box(-180.5, -17.5, -179.5, -16.5),
}


@pytest.mark.parametrize("region_longitude", [-179.9, 179.9, 180.1, 175, -171])
@pytest.mark.parametrize("epsg", [32760, 32701, 3832, 3460, 4326, 4721, 3994])
@pytest.mark.parametrize("form", FOOTPRINTS)
def test_a_footprint_holds_just_the_points_it_should(form: str, epsg: int, region_longitude: float) -> None:
    crs = CRS.from_epsg(epsg)
    footprint = footprint_on(FOOTPRINTS[form], crs, region_longitude)
    rng = np.random.default_rng(1)
    lon, lat = rng.uniform(178.5, 181.5, 500), rng.uniform(-18.5, -15.5, 500)
    inside = (np.abs(lon - 180) < 0.5) & (np.abs(lat + 17) < 0.5)
    x, y = Transformer.from_crs(LONLAT, crs, always_xy=True).transform(lon, lat)
    if crs.is_geographic:
        x = region_longitude + (np.asarray(x) - region_longitude + 180) % 360 - 180
    assert shapely.contains_xy(footprint, x, y).tolist() == inside.tolist()
    assert inside.sum() > 30


@pytest.mark.parametrize("epsg", [32760, 3832, 3857, 4326, 3031, 3035, 3413, 6933])
@pytest.mark.parametrize("globe", [box(-180, -90, 180, 90), box(-180, -60, 180, 80), box(0, -60, 360, 80)])
def test_the_footprint_of_a_whole_globe_misses_nothing(epsg: int, globe: BaseGeometry) -> None:
    crs = CRS.from_epsg(epsg)
    at = {32760: (179.9, -17), 3832: (-179.9, -17), 3031: (120, -59), 3035: (20, 50), 3413: (-45, 79)}
    longitude, latitude = at.get(epsg, (100, 14))
    x, y = Transformer.from_crs(LONLAT, crs, always_xy=True).transform(longitude, latitude)
    assert footprint_on(globe, crs, longitude).intersects(Point(x, y).buffer(1e-3))


def test_a_footprint_across_the_cut_of_the_grids_crs_misses_nothing() -> None:
    crs = CRS.from_epsg(3857)
    x, y = Transformer.from_crs(LONLAT, crs, always_xy=True).transform(179.7, -17)
    for footprint in FOOTPRINTS.values():
        assert footprint_on(footprint, crs, 179.7).intersects(Point(x, y))


def test_a_footprint_elsewhere_is_elsewhere() -> None:
    crs = CRS.from_epsg(32760)
    grid = box(800_000, 8_100_000, 850_000, 8_150_000)
    assert not footprint_on(box(178, -15, 179, -14), crs, 180).intersects(grid)
    assert not footprint_on(box(0, -17, 1, -16), crs, 180).intersects(grid)
    assert footprint_on(Polygon(), crs, 180).is_empty
