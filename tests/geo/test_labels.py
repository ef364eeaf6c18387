from __future__ import annotations

import json
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.transform import Affine
from shapely.geometry import LineString, MultiPoint, Point, Polygon, box

from eearth.errors import LabelError, WorkspaceError
from eearth.events import Event, Note, Warned
from eearth.geo.colours import class_colours
from eearth.geo.grid import Grid
from eearth.geo.labels.burn import Rules, burn
from eearth.geo.labels.file import read_labels
from eearth.geo.labels.legend import LandCoverClass, read_classes, write_classes

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

PLAIN = Rules(least=None, inner_buffer=0, overlap="last")
GRID = Grid(CRS.from_epsg(32633), Affine(10, 0, 500_000, 0, -10, 5_000_000), 20, 30)
WEST, EAST = box(500_000, 4_999_800, 500_100, 5_000_000), box(500_100, 4_999_800, 500_300, 5_000_000)


def grid_of(path: Path) -> tuple[Grid, NDArray[np.uint8]]:
    with rasterio.open(path) as source:
        return Grid(source.crs, source.transform, *source.shape), source.read(1)


def frame(shapes: list[Any], classes: list[Any], crs: Any = 32633, **columns: Any) -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame({"class": classes, **columns}, geometry=shapes, crs=crs)


def written(folder: Path, table: gpd.GeoDataFrame, name: str = "l.gpkg", **options: Any) -> Path:
    table.to_file(folder / name, **options)
    return folder / name


def burnt(table: gpd.GeoDataFrame, folder: Path, grid: Grid = GRID) -> tuple[NDArray[np.uint8], list[Event]]:
    heard: list[Event] = []
    labels = read_labels(written(folder, table), report=heard.append)
    return burn(labels, grid, PLAIN, heard.append).codes, told(heard)


def told(heard: list[Event]) -> list[Event]:
    return [event for event in heard if isinstance(event, Note | Warned)]


@pytest.mark.parametrize(
    ("site", "counts"),
    [
        ("slovenia", {1: 11, 2: 7601, 3: 1777, 4: 358, 8: 198}),
        ("romania", {1: 2056, 2: 97}),
        ("brandenburg", {1: 113064, 2: 59344, 3: 5479, 4: 98829, 5: 30674, 6: 28521, 7: 14734, 8: 14399}),
        ("ethiopia", {1: 6407, 5: 10555, 6: 4202}),
    ],
)
def test_real_sites_equal_the_reference_raster(real_data: Path, site: str, counts: dict[int, int]) -> None:
    grid, expected = grid_of(real_data / site / "labels.tif")
    heard: list[Event] = []
    labels = read_labels(real_data / site / "labels.gpkg", report=heard.append)
    burnt = burn(labels, grid, PLAIN, heard.append)
    np.testing.assert_array_equal(burnt.codes, expected)
    assert burnt.codes.dtype == np.uint8
    assert {entry.code: entry.pixels for entry in burnt.classes} == counts
    contested = "1013 pixels lie in labels of different classes; the label later in the file counts"
    assert told(heard) == ([Note(text=contested)] if site == "brandenburg" else [])


def test_polygons_in_degrees_equal_the_reference_raster_of_their_utm_zone(real_data: Path) -> None:
    labels = read_labels(real_data / "india/labels.gpkg")
    rasters = sorted((real_data / "india/labels").glob("*.tif"))[::10]
    zones = set()
    for path in rasters:
        grid, expected = grid_of(path)
        zones.add(grid.crs.to_epsg())
        np.testing.assert_array_equal(burn(labels, grid, PLAIN).codes, expected)
    assert len(zones) > 1


def test_points_burn_the_pixel_they_lie_in_on_a_sinusoidal_grid(real_data: Path) -> None:
    item = min((real_data / "brazil/assets").iterdir())
    grid, _ = grid_of(item / "red.tif")
    labels = read_labels(real_data / "brazil/points.geojson")
    burnt = burn(labels, grid, PLAIN)
    raster, classes = burnt.codes, burnt.classes
    moved = labels.to_crs(grid.crs.to_wkt())
    expected = np.zeros(grid.shape, np.uint8)
    for point, code in zip(moved.geometry, labels["code"], strict=True):
        column, row = ~grid.transform @ (point.x, point.y)
        expected[int(np.floor(row)), int(np.floor(column))] = code
    np.testing.assert_array_equal(raster, expected)
    assert (raster > 0).sum() == 336
    assert [(entry.name, entry.polygons) for entry in classes] == [
        ("Cotton-fallow", 68), ("Forest", 138), ("Soybean-cotton", 79), ("Soybean-maize", 134), ("Soybean-millet", 184)
    ]  # fmt: skip


def triangles() -> st.SearchStrategy[list[Polygon]]:
    corner = st.tuples(st.floats(499_950, 500_350), st.floats(4_999_750, 5_000_050))
    return st.lists(st.tuples(corner, corner, corner).map(Polygon).filter(lambda p: p.area > 1), min_size=2, max_size=6)


@settings(max_examples=40, deadline=None)
@given(triangles())
def test_pixel_centres_decide_and_the_later_polygon_wins(shapes: list[Polygon]) -> None:
    table = frame([*shapes, WEST, EAST], [*(f"c{number}" for number in range(len(shapes))), "w", "e"])
    table = table.iloc[::-1]
    burnt = burn(table, GRID, PLAIN)
    names = {entry.code: entry.name for entry in burnt.classes}
    x, y = np.meshgrid(GRID.x(), GRID.y())
    # A centre on an edge belongs to whom rounding says; pixels so near an edge are left out of the comparison.
    clear = np.ones(GRID.shape, dtype=bool)
    expected = np.full(GRID.shape, "", dtype=object)
    for shape, name in zip(table.geometry, table["class"], strict=True):
        clear &= shapely.distance(shape.boundary, shapely.points(x, y)) > 1e-3
        expected[shapely.contains_xy(shape, x, y)] = name
    found = np.vectorize(lambda code: names.get(code, ""), otypes=[object])(burnt.codes)
    assert (found == expected)[clear].all()


def test_codes_of_the_file_are_kept_and_need_not_be_contiguous(tmp_path: Path) -> None:
    raster, _ = burnt(frame([WEST, EAST], ["b", "a"], code=[200, 7]), tmp_path)
    assert set(np.unique(raster)) == {7, 200}
    assert raster[0, 0] == 200


@pytest.mark.parametrize(
    ("codes", "fault"),
    [([0, 1], "outside"), ([1, 256], "outside"), ([4, 4], "one code of its own"), ([1.5, 2], "not whole")],
)
def test_codes_that_cannot_be_used_give_way_to_the_alphabet(tmp_path: Path, codes: list[float], fault: str) -> None:
    raster, heard = burnt(frame([WEST, EAST], ["b", "a"], code=codes), tmp_path)
    assert raster[0, 0] == 2
    assert raster[0, -1] == 1
    assert any(isinstance(event, Warned) and fault in event.text for event in heard)


def test_whole_floats_are_classes_in_numerical_order(tmp_path: Path) -> None:
    labels = read_labels(written(tmp_path, frame([WEST, EAST], [10.0, 9.0])))
    assert labels["class"].tolist() == ["10", "9"]
    assert [entry.name for entry in burn(labels, GRID, PLAIN).classes] == ["9", "10"]


def test_names_keep_their_marks_and_lose_odd_blanks(tmp_path: Path) -> None:
    names = ['crop, "dry"\n  (rain-fed)', " wood\u200b\tland ", "cafe\u0301", "caf\u00e9"]
    labels = read_labels(written(tmp_path, frame([WEST, EAST, WEST, EAST], names)))
    assert labels["class"].tolist() == ['crop, "dry" (rain-fed)', "wood land", "caf\u00e9", "caf\u00e9"]


def test_points_on_an_edge_belong_to_the_right_and_lower_pixel(tmp_path: Path) -> None:
    edge = Point(500_010, 4_999_990)
    corners = MultiPoint([(500_000, 5_000_000), (500_300, 5_000_000), (500_295, 4_999_801), (500_100, 4_999_800)])
    raster, _ = burnt(frame([edge, corners], ["edge", "corner"]), tmp_path)
    assert np.argwhere(raster == 2).tolist() == [[1, 1]]
    assert np.argwhere(raster == 1).tolist() == [[0, 0], [19, 29]]


def test_heights_are_dropped(tmp_path: Path) -> None:
    labels = read_labels(written(tmp_path, frame([shapely.force_3d(WEST, 9), EAST], ["a", "b"])))
    assert not labels.has_z.any()


def test_polygons_that_cross_themselves_are_repaired(tmp_path: Path) -> None:
    bow = Polygon([(500_000, 5_000_000), (500_100, 4_999_800), (500_100, 5_000_000), (500_000, 4_999_800)])
    sliver = Polygon([(500_000, 5_000_000), (500_050, 5_000_000), (500_000, 5_000_000)])
    spot = Polygon([(500_205, 4_999_995)] * 4)
    heard: list[Event] = []
    labels = read_labels(written(tmp_path, frame([bow, EAST, sliver, spot], list("abcd"))), report=heard.append)
    assert labels.is_valid.all()
    assert labels["class"].tolist() == ["a", "b"]
    assert labels.area.iloc[0] == pytest.approx(10_000)
    assert [event.text.split(" of ")[0] for event in heard] == ["3 polygons", "2 polygons"]


def test_empty_geometries_are_left_out(tmp_path: Path) -> None:
    raster, heard = burnt(frame([WEST, None, Polygon(), EAST], list("abcd")), tmp_path)
    assert len(np.unique(raster)) == 2
    assert heard == [Warned(text=f"2 features of {tmp_path / 'l.gpkg'} have no geometry and are left out")]


def test_lines_are_an_error_that_names_them(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="found 1 of the type LineString"):
        read_labels(written(tmp_path, frame([WEST, LineString([(0, 0), (1, 1)])], ["a", "b"])))


def test_collections_keep_their_areas(tmp_path: Path) -> None:
    mixed = shapely.GeometryCollection([EAST, LineString([(500_000, 5_000_000), (500_100, 5_000_000)])])
    dots = shapely.GeometryCollection([Point(500_005, 4_999_995)])
    raster, _ = burnt(frame([WEST, mixed, dots], ["a", "b", "c"]), tmp_path)
    assert raster[0, 0] == 3
    assert (raster == 2).sum() == 400


def test_curves_are_made_straight(tmp_path: Path) -> None:
    path = tmp_path / "curves.csv"
    circle = "CURVEPOLYGON(CIRCULARSTRING(500050 4999900, 500150 4999900, 500050 4999900))"
    path.write_text(f'class,WKT\nround,"{circle}"\nwhole,"{EAST.wkt}"\n', encoding="utf-8")
    labels = pyogrio.read_dataframe(path).set_crs(32633)
    read = read_labels(written(tmp_path, labels))
    assert read.area.iloc[0] == pytest.approx(np.pi * 50**2, rel=0.01)


def test_a_class_without_pixels_stays_in_the_legend(tmp_path: Path) -> None:
    tiny, far = Point(500_006, 4_999_994).buffer(0.1), box(0, 0, 1, 1)
    heard: list[Event] = []
    labels = read_labels(written(tmp_path, frame([WEST, EAST, tiny, far], ["a", "b", "tiny", "far"])))
    burnt = burn(labels, GRID, PLAIN, heard.append)
    assert [(entry.name, entry.pixels, entry.polygons) for entry in burnt.classes] == [
        ("a", 200, 1), ("b", 400, 1), ("far", 0, 0), ("tiny", 0, 1)
    ]  # fmt: skip
    unseen, beside = told(heard)
    assert beside.text == "1 of 4 features lie outside the imagery"
    assert unseen.text.split(": ")[1] == "`far`, `tiny`"


def test_labels_far_outside_the_projection_do_no_harm(tmp_path: Path) -> None:
    here = frame([WEST, EAST], ["a", "b"]).to_crs(4326)
    pole = Polygon([(-75, -90), (105, 0), (-75, 90)])
    raster, _ = burnt(frame([*here.geometry, pole], ["a", "b", "c"], crs=4326), tmp_path)
    assert (raster > 0).all()


def test_missing_classes_are_counted_and_can_be_left_out(tmp_path: Path) -> None:
    path = written(tmp_path, frame([WEST, EAST, WEST, EAST], ["a", None, " ", "b"]))
    with pytest.raises(LabelError, match=r"found 2 of 4 features .* --skip-null"):
        read_labels(path)
    heard: list[Event] = []
    assert read_labels(path, skip_null=True, report=heard.append)["class"].tolist() == ["a", "b"]
    assert isinstance(heard[0], Note)


def test_missing_classes_do_not_spoil_codes(tmp_path: Path) -> None:
    path = written(tmp_path, frame([WEST, EAST, WEST], ["a", None, "b"], code=[5, None, 3]))
    assert read_labels(path, skip_null=True)["code"].tolist() == [5, 3]


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        (frame([WEST, EAST], ["a", "b"]), {"class_column": "Klass"}, "columns class: run again with .* class$"),
        (frame([WEST, EAST], ["a", "b"]), {"class_column": "geometry"}, "columns class"),
        (frame([WEST, EAST], [1.5, 2]), {}, "not whole, such as 1.5"),
        (frame([WEST] * 256, [f"c{n}" for n in range(256)]), {}, "at most 255 classes, found 256"),
        (frame([WEST, EAST], ["a", "b"], crs=4326), {}, "longitudes and latitudes .* up to 5000000"),
        (frame([], []), {}, "found no features"),
        (frame([None], ["a"]), {}, "found none that can be used"),
        (frame([WEST], [None]), {"skip_null": True}, "found none that can be used"),
    ],
)
def test_files_that_cannot_be_used(
    tmp_path: Path, table: gpd.GeoDataFrame, options: dict[str, Any], message: str
) -> None:
    path = written(tmp_path, table, geometry_type="Polygon")
    with pytest.raises(LabelError, match=message) as caught:
        read_labels(path, **options)
    assert "\n" not in str(caught.value)


def test_a_file_without_a_crs_is_an_error(tmp_path: Path) -> None:
    path = written(tmp_path, frame([WEST, EAST], ["a", "b"]), "l.shp")
    path.with_suffix(".prj").unlink()
    with pytest.raises(LabelError, match=r"found none in .* -a_srs EPSG:<code>"):
        read_labels(path)


def test_a_missing_or_foreign_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="found nothing at"):
        read_labels(tmp_path / "none.gpkg")
    (tmp_path / "text.gpkg").write_text("no database", encoding="utf-8")
    with pytest.raises(LabelError, match="cannot be read"):
        read_labels(tmp_path / "text.gpkg")
    (tmp_path / "table.csv").write_text("class,code\na,1\n", encoding="utf-8")
    with pytest.raises(LabelError, match="no layer with geometries"):
        read_labels(tmp_path / "table.csv")


def test_the_layer_is_chosen_by_name_or_because_it_is_the_only_one(tmp_path: Path) -> None:
    one, other = frame([WEST, EAST], ["a", "b"]), frame([WEST, EAST], ["c", "d"])
    path = written(tmp_path, one, layer="fields")
    pyogrio.write_dataframe(one.drop(columns="geometry"), path, layer="layer_styles")
    assert read_labels(path)["class"].tolist() == ["a", "b"]
    written(tmp_path, other, layer="sites")
    with pytest.raises(LabelError, match="found fields, sites: run `ogr2ogr -nln labels"):
        read_labels(path)
    written(tmp_path, other, layer="labels")
    assert read_labels(path)["class"].tolist() == ["c", "d"]


def test_geojson_is_longitude_and_latitude(tmp_path: Path) -> None:
    path = written(tmp_path, frame([WEST, EAST], ["a", "b"]).to_crs(4326), "l.geojson")
    content = json.loads(path.read_text(encoding="utf-8"))
    content.pop("crs", None)
    path.write_text(json.dumps(content), encoding="utf-8")
    raster = burn(read_labels(path), GRID, PLAIN).codes
    assert (raster[:, :10] == 1).all()
    assert (raster[:, 10:] == 2).all()


def test_labels_elsewhere_are_an_error_with_both_places(tmp_path: Path) -> None:
    labels = read_labels(written(tmp_path, frame([box(0, 0, 1, 1), box(1, 0, 2, 1)], ["a", "b"], crs=4326)))
    with pytest.raises(LabelError, match=r"\(15\.0000, 45\.\d+, 15\.\d+, 45\.\d+\).*\(0\.0000, 0\.0000, 2\.0000, 1"):
        burn(labels, GRID, PLAIN)


def test_fewer_than_two_classes_are_an_error(tmp_path: Path) -> None:
    labels = read_labels(written(tmp_path, frame([WEST, EAST], ["a", "a"])))
    with pytest.raises(LabelError, match=r"at least 2 classes .* only `a`.*--coverage touched"):
        burn(labels, GRID, PLAIN)


CLASSES = (
    LandCoverClass(3, 'crop, "dry"', "#f096ff", 17, 2),
    LandCoverClass(255, "forêt", "#006400", 0, 0),
)


def test_legend_survives_its_file(tmp_path: Path) -> None:
    write_classes(tmp_path / "classes.json", CLASSES)
    assert read_classes(tmp_path / "classes.json") == CLASSES
    first = json.loads((tmp_path / "classes.json").read_text(encoding="utf-8"))[0]
    assert first == {"code": 3, "name": 'crop, "dry"', "colour": "#f096ff", "pixels": 17, "polygons": 2}


@pytest.mark.parametrize(
    "change",
    [{"code": 0}, {"code": 256}, {"code": "3"}, {"code": 255}, {"name": ""}, {"name": "forêt"}, {"colour": "red"},
     {"colour": "#F096FF"}, {"pixels": -1}, {"polygons": 1.5}, {"extra": 1}],
)  # fmt: skip
def test_a_broken_legend_is_an_error(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "classes.json"
    write_classes(path, CLASSES)
    entries = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps([{**entries[0], **change}, entries[1]]), encoding="utf-8")
    with pytest.raises(WorkspaceError, match="run `eearth rasterize` again"):
        read_classes(path)


@pytest.mark.parametrize("text", ["", "[]", "{}", "[1]", "null", '{"code": 1}'])
def test_what_is_no_legend_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "classes.json").write_text(text, encoding="utf-8")
    with pytest.raises(WorkspaceError, match="expected a list of classes"):
        read_classes(tmp_path / "classes.json")
    with pytest.raises(WorkspaceError, match="expected a list of classes"):
        read_classes(tmp_path / "none.json")


def test_customary_colours() -> None:
    names = ["Open Water", "broadleaf forest", "built-up", "Herbaceous wetland", "winter barley", "watermelon", "Rice"]
    colours = class_colours(names)
    assert colours[:4] == ("#0064c8", "#006400", "#fa0000", "#0096a0")
    assert not set(colours[4:]) & {"#0064c8", "#f0f0f0", "#b4b4b4"}


def test_classes_of_one_kind_get_shades_of_its_colour() -> None:
    pine, oak, meadow, grass = class_colours(["pine forest", "oak forest", "meadow", "grass"])
    assert (pine, meadow) == ("#006400", "#ffff4c")
    assert (oak, grass) == ("#4c924c", "#b2b235")


@given(st.lists(st.sampled_from(["forest", "water", "crop", "bare", "x", "y"]), max_size=12))
def test_colours_are_unique_and_always_the_same(names: list[str]) -> None:
    colours = class_colours(names)
    assert len(set(colours)) == len(names)
    assert colours == class_colours(names)


def test_255_colours_differ_visibly() -> None:
    colours = class_colours([f"class {number}" for number in range(255)])
    values = np.array([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in colours])
    assert len({*colours}) == 255
    gaps = np.abs(values[:, None] - values[None]).max(axis=2)[~np.eye(255, dtype=bool)]
    assert gaps.min() > 10
    assert all(one != other for one, other in pairwise(colours))
