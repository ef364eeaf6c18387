from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from shapely.geometry import GeometryCollection, LineString, MultiPoint, MultiPolygon, Point, Polygon, box

from eearth.geo.antimeridian import boxes_of, near, unwrapped, wrapped

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

# Hundredths of a degree, so that a shift by 360 is exact enough to compare by.
longitudes = st.integers(-18_000, 17_999).map(lambda number: number / 100)


@st.composite
def shapes(draw: st.DrawFn) -> Polygon:
    """A convex polygon less than 180 degrees wide, anywhere, with continuous longitudes."""
    middle, width = draw(longitudes), draw(st.integers(10, 8500)) / 100
    corners = st.tuples(st.integers(-100, 100), st.integers(-80, 80))
    drawn = draw(st.lists(corners, min_size=3, max_size=8, unique=True))
    hull = MultiPoint([(middle + x * width / 100, y) for x, y in drawn]).convex_hull
    return hull if isinstance(hull, Polygon) else box(middle - width, -10, middle + width, 10)


def shifted(shape: BaseGeometry, turns: int) -> BaseGeometry:
    return shapely.transform(shape, lambda xy: xy + (360 * turns, 0))  # noqa: RUF005


def cut(shape: BaseGeometry, west: float) -> BaseGeometry:
    """The oracle: all copies of the shape, cut to one circle."""
    copies = shapely.union_all([shifted(shape, turns) for turns in range(-3, 4)])
    return copies.intersection(box(west, -90, west + 360, 90))


def jumping(shape: Polygon) -> Polygon:
    """Every vertex in -180..180, whatever becomes of the ring."""
    return shapely.transform(shape, lambda xy: np.column_stack([(xy[:, 0] + 180) % 360 - 180, xy[:, 1]]))


@given(shapes(), longitudes, st.integers(-2, 2), st.sampled_from(["continuous", "cut", "jumping"]))
def test_every_form_of_a_shape_is_the_same_shape(shape: Polygon, seen_from: float, turns: int, form: str) -> None:
    written = {"continuous": shifted(shape, turns), "cut": cut(shape, -180), "jumping": jumping(shape)}[form]
    seen = unwrapped(written, seen_from)
    assert seen.is_valid
    assert seen.symmetric_difference(cut(shape, seen_from - 180)).area < 1e-6
    west, _, east, _ = seen.bounds
    assert seen_from - 180 - 1e-9 <= west <= east <= seen_from + 180 + 1e-9


@given(shapes(), longitudes)
def test_seen_from_inside_a_shape_is_in_one_piece(shape: Polygon, side: float) -> None:
    inside = shape.representative_point().x
    whole = unwrapped(cut(shape, -180), inside)
    assert whole.buffer(1e-9).geom_type == "Polygon"
    assert near(jumping(shape), inside + side / 1e6).symmetric_difference(whole).area < 1e-6


@given(st.floats(-1e4, 1e4))
def test_a_longitude_wraps_into_one_circle(longitude: float) -> None:
    once = wrapped(longitude)
    assert -180 <= once < 180 or longitude == pytest.approx(once)
    assert np.exp(1j * np.radians(once)) == pytest.approx(np.exp(1j * np.radians(longitude)), abs=1e-9)


@given(shapes(), longitudes)
def test_boxes_hold_the_shape_and_no_more(shape: Polygon, at: float) -> None:
    moved = near(shape, shape.centroid.x - 360 * round(shape.centroid.x / 360))
    boxes = boxes_of(moved.bounds)
    assert len(boxes) == 1 + (moved.bounds[0] < -180 or moved.bounds[2] > 180)
    assert all(-180 <= west <= east <= 180 for west, _, east, _ in boxes)
    west, south, east, north = moved.bounds
    around = any((at + turn >= west) and (at + turn <= east) for turn in (-360, 0, 360))
    assert any(box[0] <= at <= box[2] for box in boxes) == around
    assert {(box[1], box[3]) for box in boxes} == {(south, north)}


@pytest.mark.parametrize("seen_from", [0, 100, -180, 179.5])
@pytest.mark.parametrize(
    "globe",
    [box(-180, -60, 180, 80), box(0, -60, 360, 80), box(-180, -60, 180, 80).segmentize(10),
     MultiPolygon([box(-180, -60, 0, 80), box(0, -60, 180, 80)])],
)  # fmt: skip
def test_a_whole_globe_stays_one(globe: BaseGeometry, seen_from: float) -> None:
    seen = unwrapped(globe, seen_from)
    assert seen.bounds == pytest.approx((seen_from - 180, -60, seen_from + 180, 80))
    assert seen.area == pytest.approx(360 * 140)


def test_other_geometries_and_heights() -> None:
    assert unwrapped(Point(-179, 1, 250), 179) == Point(181, 1)
    assert unwrapped(LineString([(179, 0), (-179, 1)]), -179) == LineString([(-181, 0), (-179, 1)])
    both = unwrapped(GeometryCollection([Point(-179, 1), Polygon(), box(178, 0, 179, 1)]), 179)
    assert both.bounds == (178, 0, 181, 1)
    assert unwrapped(Polygon(), 0).is_empty


def test_a_ring_that_crosses_itself_is_no_obstacle() -> None:
    bow_tie = Polygon([(170, 0), (190, 10), (190, 0), (170, 10)])
    for seen_from in (0.0, 180.0):
        assert unwrapped(bow_tie, seen_from).is_valid == (seen_from == 0)
        assert unwrapped(bow_tie, seen_from).intersects(Point(180, 5))
