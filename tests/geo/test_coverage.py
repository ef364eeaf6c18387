from __future__ import annotations

from typing import TYPE_CHECKING, Any

import exactextract
import geopandas as gpd
import numpy as np
import pytest
import shapely
from exactextract.raster import NumPyRasterSource
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.features import rasterize
from rasterio.transform import Affine
from shapely.geometry import MultiPolygon, Point, Polygon, box

from eearth.errors import UsageError
from eearth.geo.grid import Grid
from eearth.geo.labels.coverage import by_area, covered, least_share
from eearth.geo.labels.outlines import outlines_of

if TYPE_CHECKING:
    from eearth.geo.labels.coverage import Spans

SIDE = 10
GRID = Grid(CRS.from_epsg(32633), Affine(SIDE, 0, 500_000, 0, -SIDE, 5_000_000), 12, 17)


def on_grid(shape: Any) -> Any:
    """A shape drawn in pixels, x to the right and y down, as it lies on the ground."""
    return shapely.transform(shape, lambda xy: xy * (SIDE, -SIDE) + (500_000, 5_000_000))


def frame(shapes: list[Any]) -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame({"class": ["a"] * len(shapes)}, geometry=shapes, crs=32633)


def filled(spans: Spans, number: int) -> np.ndarray:
    shares = np.zeros((number, *GRID.shape))
    for feature, row, left, right, share in zip(
        spans.feature, spans.row, spans.left, spans.right, spans.share, strict=True
    ):
        assert (shares[feature, row, left:right] == 0).all()  # no pixel twice
        shares[feature, row, left:right] = share
    return shares


def shares_of(shapes: list[Any], strip: int = 12) -> np.ndarray:
    """Share of each pixel that each shape covers, (shape, y, x), computed in strips of some rows."""
    outlines = outlines_of(frame(shapes), GRID)
    edges = outlines.edges(np.arange(len(shapes)))
    strips = [range(row, min(row + strip, GRID.height)) for row in range(0, GRID.height, strip)]
    return np.sum([filled(by_area(edges, rows, GRID.width), len(shapes)) for rows in strips], axis=0)


def pixels_of(shapes: list[Any], coverage: str) -> np.ndarray:
    edges = outlines_of(frame(shapes), GRID).edges(np.arange(len(shapes)))
    spans = covered(edges, range(GRID.height), GRID.width, least_share(coverage))
    found = np.zeros((len(shapes), *GRID.shape), dtype=bool)
    for feature, row, left, right in zip(spans.feature, spans.row, spans.left, spans.right, strict=True):
        found[feature, row, left:right] = True
    return found


def shares_by_shapely(shapes: list[Any]) -> np.ndarray:
    x, y = np.meshgrid(GRID.x(), GRID.y())
    pixels = shapely.box(x - SIDE / 2, y - SIDE / 2, x + SIDE / 2, y + SIDE / 2)
    return np.stack([shapely.area(shapely.intersection(pixels, shape)) / SIDE**2 for shape in shapes])


def shares_by_exactextract(shapes: list[Any]) -> np.ndarray:
    left, bottom, right, top = GRID.bounds
    table = frame(shapes)
    source = NumPyRasterSource(
        np.zeros(GRID.shape), xmin=left, ymin=bottom, xmax=right, ymax=top, srs_wkt=table.crs.to_wkt()
    )
    shares = np.zeros((len(shapes), GRID.height * GRID.width))
    for number, found in enumerate(exactextract.exact_extract(source, table, ["cell_id", "coverage"])):
        cells = found["properties"]
        shares[number, np.asarray(cells["cell_id"], dtype=int)] = cells["coverage"]
    return shares.reshape(-1, *GRID.shape)


# Whole and half numbers make corners and edges that lie on pixel edges, on centres and on each other.
places = st.one_of(
    st.integers(-4, 20).map(float),
    st.integers(-8, 40).map(lambda n: n / 2),
    st.floats(-6, 24).map(lambda place: round(place, 5)),
)
corners = st.tuples(places, places)


def areas_of(shape: Any) -> list[Any]:
    """A valid shape's polygons as one polygon or multipolygon; none where it has no area to speak of."""
    whole = shapely.union_all([part for part in shapely.get_parts(shape) if part.geom_type == "Polygon"])
    return [whole] if whole.area > 1e-4 and whole.is_valid else []


@st.composite
def shapes(draw: st.DrawFn) -> list[Any]:
    """Polygons, polygons with holes, multipolygons and specks, some of which share edges."""
    found: list[Any] = []
    for _ in range(draw(st.integers(1, 4))):
        ring = Polygon(draw(st.lists(corners, min_size=3, max_size=9)))
        mended = shapely.make_valid(ring)
        kind = draw(st.sampled_from(["plain", "level", "holed", "two", "speck", "split"]))
        if kind == "level":  # edges along rows and columns
            mended = mended.envelope
        elif kind == "holed":
            mended = mended.difference(Point(draw(corners)).buffer(draw(st.floats(0.1, 4)), quad_segs=3))
        elif kind == "two":
            mended = mended.union(Point(draw(corners)).buffer(draw(st.floats(0.05, 3)), quad_segs=2))
        elif kind == "speck":
            mended = Point(draw(corners)).buffer(draw(st.floats(0.02, 0.4)), quad_segs=2)
        elif kind == "split":
            half = Polygon([draw(corners), (40, 30), (-20, 35)]).buffer(0)
            found += [on_grid(area) for area in areas_of(mended.intersection(half))]
            mended = mended.difference(half)
        found += [on_grid(area) for area in areas_of(mended)]
    return [shape for shape in found if shape.is_valid]


@settings(max_examples=60, deadline=None)
@given(shapes(), st.integers(1, 12))
def test_shares_are_the_exact_areas(drawn: list[Any], strip: int) -> None:
    if drawn:
        found = shares_of(drawn, strip)
        np.testing.assert_allclose(found, shares_by_shapely(drawn), atol=1e-8)
        np.testing.assert_allclose(found, shares_by_exactextract(drawn), atol=1e-6)  # which counts in float32


@settings(max_examples=50, deadline=None)
@given(shapes(), st.floats(0.01, 1))
def test_a_pixel_is_labelled_from_the_share_on(drawn: list[Any], least: float) -> None:
    if not drawn:
        return
    exact = shares_by_shapely(drawn)
    clear = np.abs(exact - least) > 2e-6
    np.testing.assert_array_equal(pixels_of(drawn, str(least))[clear], (exact >= least)[clear])
    clear = (exact == 0) | (exact > 2e-6)
    np.testing.assert_array_equal(pixels_of(drawn, "touched")[clear], (exact > 0)[clear])


@settings(max_examples=60, deadline=None)
@given(shapes())
def test_centres_are_those_of_gdal(drawn: list[Any]) -> None:
    x, y = np.meshgrid(GRID.x(), GRID.y())
    centres = shapely.points(x, y)
    for shape, found in zip(drawn, pixels_of(drawn, "centre") if drawn else (), strict=True):
        expected = rasterize([shape], GRID.shape, transform=GRID.transform).astype(bool)
        clear = shapely.distance(shape.boundary, centres) > 1e-6  # of a centre on an edge see below
        np.testing.assert_array_equal(found[clear], expected[clear])


def test_a_centre_on_a_common_edge_belongs_to_one_of_two() -> None:
    whole = box(2.5, 1.5, 8.5, 9.5)
    parts = [on_grid(part) for part in (box(2.5, 1.5, 5.5, 9.5), box(5.5, 1.5, 8.5, 5.5), box(5.5, 5.5, 8.5, 9.5))]
    found = pixels_of([*parts, on_grid(whole)], "centre")
    assert (found[:3].sum(axis=0) == found[3]).all()
    assert found[3].sum() == 6 * 8


def test_a_share_that_is_met_but_for_rounding_counts() -> None:
    third = on_grid(box(3, 4, 3 + 1 / 3, 5))
    for coverage, number in (("0.3333333", 1), ("33.3333333333%", 1), ("0.3334", 0)):
        assert pixels_of([third], coverage).sum() == number


def test_touching_an_edge_is_not_touching_a_pixel() -> None:
    assert pixels_of([on_grid(box(3, 4, 6, 5))], "touched").sum() == 3
    assert pixels_of([on_grid(box(2.99, 4, 6.01, 5.01))], "touched").sum() == 5 * 2


def test_holes_and_parts_are_those_of_the_feature() -> None:
    ring = box(1, 1, 8, 8).difference(box(3, 3, 6, 6))
    both = MultiPolygon([ring, box(4, 4, 5, 5)])
    (found,) = shares_of([on_grid(both)])
    assert found.sum() == pytest.approx(49 - 9 + 1)
    assert found[3, 3] == pytest.approx(0)
    assert found[4, 4] == pytest.approx(1)


def test_what_reaches_beyond_the_grid_is_cut_there() -> None:
    found = shares_of([on_grid(box(-1e6, -1e6, 1e6, 1e6)), on_grid(box(-5, 2, 0, 4)), on_grid(box(16.5, -3, 30, 0.5))])
    assert found[0] == pytest.approx(1)
    assert found[1].sum() == 0
    assert found[2].sum() == found[2, 0, 16] == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("text", "share"),
    [("centre", None), ("touched", 0.0), (" Centre ", None), ("0.5", 0.5), ("50%", 0.5), ("12.5 %", 0.125), ("1", 1.0)],
)
def test_rules_as_they_are_written(text: str, share: float | None) -> None:
    assert least_share(text) == share


@pytest.mark.parametrize("text", ["", "all", "0", "1.5", "101%", "-0.5", "nan", "inf", "50 percent", "%"])
def test_what_is_no_rule_is_an_error(text: str) -> None:
    with pytest.raises(UsageError, match=r"expected --coverage centre, touched, or a share such as 0\.5 or 50%, found"):
        least_share(text)


def test_a_comb_of_many_teeth_in_one_row() -> None:
    x = np.linspace(0, 17, 2001)
    comb = np.column_stack([x, np.where(np.arange(x.size) % 2, 0.1, 0.9)])
    shape = on_grid(Polygon([*comb, (17, 3), (0, 3)]))
    np.testing.assert_allclose(shares_of([shape]), shares_by_shapely([shape]), atol=1e-9)
