"""Label files of every kind that people send: the right labels, or one clear line."""

from __future__ import annotations

import json
import zipfile
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.transform import Affine
from shapely.geometry import GeometryCollection, LineString, MultiPolygon, Point, box
from shapely.ops import unary_union

from eearth.errors import LabelError
from eearth.events import Event, Note, Warned
from eearth.geo.grid import Grid
from eearth.geo.labels.file import read_labels
from eearth.geo.labels.geometries import clean_geometries
from eearth.geo.labels.places import apart

if TYPE_CHECKING:
    from pathlib import Path

WEST, EAST = box(500_000, 4_999_800, 500_100, 5_000_000), box(500_100, 4_999_800, 500_300, 5_000_000)
GRID = Grid(CRS.from_epsg(32633), Affine(10, 0, 500_000, 0, -10, 5_000_000), 20, 30)


def frame(shapes: list[Any], classes: list[Any], crs: Any = 32633, **columns: Any) -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame({"class": classes, **columns}, geometry=shapes, crs=crs)


def written(folder: Path, table: gpd.GeoDataFrame, name: str = "l.gpkg", **options: Any) -> Path:
    pyogrio.write_dataframe(table, folder / name, **options)
    return folder / name


def refused(path: Path, **options: Any) -> str:
    with pytest.raises(LabelError) as caught:
        read_labels(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


FOUR = frame([WEST, EAST, WEST, EAST], list("abab"), area=[1.0, 2.0, 3.0, 4.0], source=["field", "map", "map", "field"])


@pytest.mark.parametrize("name", ["l.gpkg", "l.geojson", "l.shp", "l.fgb"])
def test_a_condition_chooses_features_and_leaves_them_their_number(tmp_path: Path, name: str) -> None:
    table = FOUR.to_crs(4326) if name.endswith("json") else FOUR
    # FlatGeobuf would sort features by place, so that the order of the file is another one.
    path = written(tmp_path, table, name, **({"SPATIAL_INDEX": "NO"} if name.endswith("fgb") else {}))
    labels = read_labels(path, where="area > 1.5 AND source = 'map'")
    assert labels["class"].tolist() == ["b", "a"]
    assert labels.index.tolist() == [1, 2]
    assert read_labels(path, where="  ").index.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("name", ["l.gpkg", "l.geojson"])
@pytest.mark.parametrize("where", ["nope > 1", "area >", "class = a"])
def test_a_condition_that_is_none_is_an_error_with_the_columns(tmp_path: Path, name: str, where: str) -> None:
    path = written(tmp_path, FOUR.to_crs(4326) if name.endswith("json") else FOUR, name)
    text = refused(path, where=where)
    assert f"on the columns class, area, source of {path}, found --where `{where}`" in text


def test_a_condition_that_nothing_meets_is_an_error(tmp_path: Path) -> None:
    assert "found none that meets --where `area > 99`" in refused(written(tmp_path, FOUR), where="area > 99")


def test_columns_that_differ_by_case_are_told_apart(tmp_path: Path) -> None:
    table = FOUR.assign(Class=["w", "x", "y", "z"]).to_crs(4326)
    path = written(tmp_path, table, "l.geojson")
    assert read_labels(path)["class"].tolist() == list("abab")
    assert read_labels(path, class_column="Class")["class"].tolist() == list("wxyz")
    assert "run again with --class-column" in refused(path, class_column="CLASS")


def test_two_columns_of_one_name_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "l.csv"
    path.write_text('class,class,WKT\na,b,"POINT (1 2)"\n', encoding="utf-8")
    assert "found 2 columns of that name: rename one" in refused(path)


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([True, False], ["True", "False"]),
        ([3.0, 10.0], ["3", "10"]),
        (np.array([3.0, 10.0], dtype=np.float32), ["3", "10"]),
        (np.array([2**40, 1], dtype=np.int64), [str(2**40), "1"]),
        (['a, "b" & <b>c</b>', "d\ne\t f"], ['a, "b" & <b>c</b>', "d e f"]),
        (["🌲 forest", "<script>alert(1)</script>"], ["🌲 forest", "<script>alert(1)</script>"]),
        (["x" * 200, "'; DROP TABLE l; --"], ["x" * 200, "'; DROP TABLE l; --"]),
    ],
)
def test_values_of_any_type_are_classes(tmp_path: Path, values: Any, names: list[str]) -> None:
    assert read_labels(written(tmp_path, frame([WEST, EAST], values)))["class"].tolist() == names


def test_columns_that_cannot_be_classes(tmp_path: Path) -> None:
    dates = pd.to_datetime(["2020-01-01", "2021-01-01"])
    table = frame([WEST, EAST], [1.5, 2], day=dates, remark=["y" * 201, "z"], gap=[np.nan, np.nan])
    path = written(tmp_path, table)
    assert "not whole, such as 1.5" in refused(path)
    assert "found dates" in refused(path, class_column="day")
    assert f"found one of 201 (`{'y' * 40}…`)" in refused(path, class_column="remark")
    assert "found 2 of 2 features without one" in refused(path, class_column="gap")


# --- geometries ---


def test_heights_and_measures_are_dropped_without_a_word(tmp_path: Path) -> None:
    path = tmp_path / "l.csv"
    ring = "((0 0 {0}, 9 0 {0}, 9 9 {0}, 0 0 {0}))"
    kinds = {
        "a": "POLYGON Z " + ring.format("5"),
        "b": "POLYGON M " + ring.format("5"),
        "c": "POLYGON ZM " + ring.format("5 6"),
        "d": "POINT Z (1 2 3)",
    }
    path.write_text("class,WKT\n" + "\n".join(f'{name},"{wkt}"' for name, wkt in kinds.items()), encoding="utf-8")
    heard: list[Event] = []
    labels = read_labels(with_crs(tmp_path, path), report=heard.append)
    assert heard == []
    assert not labels.has_z.any()
    assert not shapely.has_m(labels.geometry.to_numpy()).any()
    assert labels.area.tolist() == [40.5, 40.5, 40.5, 0]


def test_measures_that_a_layer_declares_are_dropped_without_a_word(tmp_path: Path) -> None:
    path = tmp_path / "l.csv"
    path.write_text('class,WKT\na,"POLYGON M ((0 0 1, 9 0 1, 9 9 1, 0 0 1))"\n', encoding="utf-8")
    heard: list[Event] = []
    assert len(read_labels(with_crs(tmp_path, path, kind="wkbPolygonM"), report=heard.append)) == 1
    assert heard == []


def with_crs(folder: Path, csv: Path, kind: str = "wkbUnknown") -> Path:
    """An OGR virtual file that gives a CSV its reference system."""
    path = folder / "l.vrt"
    path.write_text(
        f'<OGRVRTDataSource><OGRVRTLayer name="{csv.stem}"><SrcDataSource>{csv}</SrcDataSource>'
        f"<LayerSRS>EPSG:32633</LayerSRS><GeometryType>{kind}</GeometryType></OGRVRTLayer></OGRVRTDataSource>",
        encoding="utf-8",
    )
    return path


def test_curves_of_every_kind_are_made_straight(tmp_path: Path) -> None:
    arc = "CIRCULARSTRING(500050 4999900, 500150 4999900, 500050 4999900)"
    half = "COMPOUNDCURVE(CIRCULARSTRING(0 0, 50 50, 100 0), (100 0, 0 0))"
    kinds = [f"CURVEPOLYGON({arc})", f"CURVEPOLYGON({half})", f"MULTISURFACE(CURVEPOLYGON({arc}))"]
    path = tmp_path / "l.csv"
    path.write_text("class,WKT\n" + "\n".join(f'c,"{kind}"' for kind in kinds), encoding="utf-8")
    labels = read_labels(with_crs(tmp_path, path))
    circle = np.pi * 50**2
    np.testing.assert_allclose(labels.area, [circle, circle / 2, circle], rtol=0.01)
    assert set(labels.geom_type) <= {"Polygon", "MultiPolygon"}


def test_a_collection_counts_as_its_polygons_and_as_its_points(tmp_path: Path) -> None:
    nested = GeometryCollection([WEST, GeometryCollection([Point(1, 2), LineString([(0, 0), (1, 1)])])])
    flat = GeometryCollection([EAST, Point(3, 4)])
    path = written(tmp_path, frame([EAST, nested, flat, Point(5, 6)], ["a", "b", "c", "d"]))
    heard: list[Event] = []
    labels = read_labels(path, report=heard.append)
    assert labels.index.tolist() == [0, 1, 1, 2, 2, 3]
    assert labels["class"].tolist() == ["a", "b", "b", "c", "c", "d"]
    for number, (area, point) in {1: (WEST, Point(1, 2)), 2: (EAST, Point(3, 4))}.items():
        assert {shape.normalize() for shape in labels.geometry[number]} == {area.normalize(), point}
    text = f"1 collections of {path} hold lines beside polygons or points; the lines are left out"
    assert heard == [Note(text=text)]


def test_a_collection_of_lines_alone_is_a_line(tmp_path: Path) -> None:
    lines = GeometryCollection([LineString([(0, 0), (1, 1)])])
    assert "found 1 of the type GeometryCollection" in refused(written(tmp_path, frame([WEST, lines], ["a", "b"])))


def test_coordinates_without_a_place_are_left_out() -> None:
    nowhere = [Point(np.inf, 1), shapely.Polygon([(0, 0), (np.inf, 1), (1, 1)])]
    heard: list[Event] = []
    labels = clean_geometries(frame([*nowhere, WEST], ["a", "b", "c"]), "file", heard.append)  # type: ignore[arg-type]
    assert labels["class"].tolist() == ["c"]
    assert heard == [Warned(text="2 features of file have infinite coordinates and are left out")]


def test_parts_of_a_multipolygon_that_overlap_are_united(tmp_path: Path) -> None:
    both = MultiPolygon([box(0, 0, 2, 2), box(1, 1, 3, 3)])
    labels = read_labels(written(tmp_path, frame([both, GeometryCollection(both.geoms)], ["a", "b"])))
    assert labels.area.tolist() == [7, 7]


def polygons() -> st.SearchStrategy[Any]:
    corner = st.tuples(st.integers(0, 20), st.integers(0, 20))
    return st.lists(corner, min_size=3, max_size=7).map(shapely.Polygon)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.one_of(polygons(), st.lists(polygons(), min_size=1, max_size=3)), min_size=1, max_size=5))
def test_mended_polygons_equal_a_loop_over_shapely(shapes: list[Any]) -> None:
    geometries = [GeometryCollection(shape) if isinstance(shape, list) else shape for shape in shapes]
    expected = {}
    for number, geometry in enumerate(geometries):
        parts = [shapely.make_valid(part) for part in getattr(geometry, "geoms", [geometry])]
        areas = [a for part in parts for a in getattr(part, "geoms", [part]) if shapely.get_dimensions(a) == 2]
        if areas:
            expected[number] = unary_union(areas)
    given_labels = frame([*geometries, box(0, 0, 1, 1)], [str(n) for n in range(len(geometries) + 1)])
    try:
        labels = clean_geometries(given_labels, "file", lambda _: None)  # type: ignore[arg-type]
    except LabelError as error:  # a collection that is a line, after all
        assert "of the type" in str(error)  # noqa: PT017
        return
    found = dict(zip(labels.index, labels.geometry, strict=True))
    assert found.pop(len(geometries)).area == 1
    assert set(found) == set(expected)
    for number, geometry in found.items():
        assert geometry.is_valid
        assert geometry.symmetric_difference(expected[number]).area < 1e-9


# --- files ---


def test_a_zipped_shapefile_is_read(tmp_path: Path) -> None:
    written(tmp_path, FOUR, "l.shp")
    with zipfile.ZipFile(tmp_path / "l.zip", "w") as archive:
        for side in tmp_path.glob("l.[sdp]*"):
            archive.write(side, side.name)
    assert read_labels(tmp_path / "l.zip")["class"].tolist() == list("abab")


def test_a_table_with_well_known_text_needs_a_reference_system(tmp_path: Path) -> None:
    path = tmp_path / "l.csv"
    path.write_text(f'class,WKT\na,"{WEST.wkt}"\n', encoding="utf-8")
    assert "found none in" in refused(path)
    assert read_labels(with_crs(tmp_path, path))["class"].tolist() == ["a"]


@pytest.mark.parametrize("content", ["", "hello", "{}", '{"type": "FeatureCollection"', "a,b\n1,2\n"])
@pytest.mark.parametrize("name", ["l.gpkg", "l.geojson", "l.shp", "l.csv", "l.txt", "l.parquet", "l.tif"])
def test_files_that_hold_something_else_are_one_line(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    text = refused(tmp_path / name)
    assert str(tmp_path / name) in text
    assert text.startswith("expected ")


def test_folders_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    assert "cannot be read" in refused(tmp_path / "folder")


def test_geojson_without_features_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "l.geojson"
    path.write_text('{"type": "FeatureCollection", "features": []}', encoding="utf-8")
    assert "found no columns beside the geometry" in refused(path)


def geojson(folder: Path, crs: str | None, *points: tuple[float, float]) -> Path:
    features = [
        {"type": "Feature", "properties": {"class": name}, "geometry": {"type": "Point", "coordinates": point}}
        for name, point in zip("abcdefgh", points, strict=False)
    ]
    content: dict[str, Any] = {"type": "FeatureCollection", "features": features}
    if crs:
        content["crs"] = {"type": "name", "properties": {"name": crs}}
    path = folder / "l.geojson"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_an_unknown_reference_system_of_geojson_means_degrees(tmp_path: Path) -> None:
    assert read_labels(geojson(tmp_path, "urn:ogc:def:crs:EPSG::99999", (15, 45))).crs.is_geographic
    assert "longitudes and latitudes" in refused(geojson(tmp_path, "nonsense", (500_000, 5_000_000)))


def test_swapped_coordinates_are_named(tmp_path: Path) -> None:
    assert "found coordinates up to 139: are longitude and latitude swapped?" in refused(
        geojson(tmp_path, None, (35.5, 139.0), (36, 139))
    )
    swapped = read_labels(geojson(tmp_path, None, (44.99, 15.001), (45.16, 15.002)))
    text = apart("l.geojson", swapped.crs, tuple(swapped.total_bounds), GRID)
    assert text.endswith(
        "are the coordinates swapped? `gdal vector swap-xy l.geojson labels.gpkg` swaps them, then use labels.gpkg"
    )
    apart_both_ways = read_labels(geojson(tmp_path, None, (10, 45), (11, 45)))
    assert apart("x", apart_both_ways.crs, tuple(apart_both_ways.total_bounds), GRID).endswith("or check its CRS")


def test_degrees_that_pose_as_metres_are_named(tmp_path: Path) -> None:
    labels = read_labels(geojson(tmp_path, "urn:ogc:def:crs:EPSG::32633", (15.001, 45.15), (15.002, 45.152)))
    assert "they seem to be in degrees" in apart("x", labels.crs, tuple(labels.total_bounds), GRID)


def test_only_what_is_wanted_is_handed_on(tmp_path: Path) -> None:
    assert list(read_labels(written(tmp_path, FOUR)).columns) == ["class", "geometry"]
    assert list(read_labels(written(tmp_path, FOUR), where="area > 0").columns) == ["class", "geometry"]


def test_many_polygons_of_all_kinds_keep_their_order(tmp_path: Path) -> None:
    shapes = [WEST, MultiPolygon([EAST]), Point(1, 2), shapely.MultiPoint([(1, 2), (3, 4)])] * 50
    labels = read_labels(written(tmp_path, frame(shapes, [f"c{n % 7}" for n in range(200)])))
    assert labels.index.tolist() == list(range(200))
    assert labels["class"].tolist() == [f"c{n % 7}" for n in range(200)]
