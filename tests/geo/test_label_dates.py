"""Dates from when to when labels are true, against those of the imagery."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapely.geometry import Point, box

from eearth.errors import LabelError
from eearth.events import Event, Note, Warned
from eearth.geo.labels.file import read_labels
from eearth.geo.labels.validity import Validity, days, in_force

if TYPE_CHECKING:
    from pathlib import Path

SEASON = Validity(np.datetime64("2010-09-14T10:00"), np.datetime64("2011-08-29T10:00"), "start", "end")


def holding(rows: list[tuple[Any, Any]], validity: Validity = SEASON) -> list[bool]:
    frame = pd.DataFrame(rows, columns=["start", "end"])
    return in_force(frame, validity, "file", lambda _: None).tolist()  # type: ignore[arg-type]


def written(folder: Path, rows: list[tuple[Any, Any]], name: str = "l.gpkg") -> Path:
    shapes = [box(number, 0, number + 1, 1) for number in range(len(rows))]
    start, end = zip(*rows, strict=True)
    classes = ["ab"[number % 2] for number in range(len(rows))]
    table = gpd.GeoDataFrame({"class": classes, "start": start, "end": end}, geometry=shapes, crs=4326)
    pyogrio.write_dataframe(table, folder / name)
    return folder / name


def test_the_crop_year_of_real_points_is_the_imagerys(real_data: Path) -> None:
    path = real_data / "brazil" / "points.geojson"
    heard: list[Event] = []
    labels = read_labels(path, validity=SEASON, report=heard.append)
    every = pyogrio.read_dataframe(path)
    expected = np.flatnonzero(every["start"] == "2010-09-01")
    np.testing.assert_array_equal(labels.index, expected)
    assert len(expected) == 232
    text = f"371 of 603 features of {path} do not hold for the imagery's dates (2010-09-14 to 2011-08-29)"
    assert heard == [Note(text=f"{text} and are left out")]


def test_dates_that_nobody_asked_to_heed_are_mentioned(real_data: Path) -> None:
    heard: list[Event] = []
    unheeded = Validity(SEASON.first, SEASON.last)
    assert len(read_labels(real_data / "brazil" / "points.geojson", validity=unheeded, report=heard.append)) == 603
    assert isinstance(heard[0], Warned)
    assert heard[0].text.startswith("371 of 603 features")
    assert heard[0].text.endswith("run again with --start-column start --end-column end to leave them out")
    within = Validity(np.datetime64("2000-01-01"), np.datetime64("2020-01-01"))
    heard.clear()
    read_labels(real_data / "brazil" / "points.geojson", validity=within, report=heard.append)
    assert heard == []


@pytest.mark.parametrize(
    ("start", "end", "holds"),
    [
        ("2010-09-01", "2011-09-01", True),  # the crop year
        ("2009-09-01", "2010-10-01", False),  # the one before, which shares two weeks
        ("2005-01-01", "2020-12-31", True),  # a forest, mapped for long
        ("2010-11-01", "2011-02-28", True),  # a crop's months
        ("2011-01-15", "2011-01-15", True),  # the day of a visit
        ("2011-08-30", "2011-08-30", False),  # a day too late
        ("2011-08-29", "2011-08-29", True),
        (None, None, True),
        (None, "2010-12-31", False),  # a third of the imagery
        (None, "2011-03-31", True),
        ("2011-01-01", None, True),
        ("2011-06-01", "", False),
    ],
)
def test_a_label_counts_if_it_shares_half_of_the_shorter_period(start: Any, end: Any, *, holds: bool) -> None:
    assert holding([(start, end), ("2010-09-01", "2011-09-01")]) == [holds, True]


def dates() -> st.SearchStrategy[date]:
    return st.dates(date(2010, 1, 1), date(2012, 12, 31))


@given(dates(), dates(), dates(), dates())
def test_days_are_counted_as_a_loop_counts_them(a: date, b: date, c: date, d: date) -> None:
    (a, b), (c, d) = sorted((a, b)), sorted((c, d))
    validity = Validity(np.datetime64(a), np.datetime64(b), "start", "end")
    imagery = {a + timedelta(n) for n in range((b - a).days + 1)}
    label = {c + timedelta(n) for n in range((d - c).days + 1)}
    expected = 2 * len(imagery & label) >= min(len(imagery), len(label))
    assert holding([(str(c), str(d)), (None, None)], validity)[0] == expected


@pytest.mark.parametrize(
    ("value", "first", "end"),
    [
        ("2019-05-31", "2019-05-31", "2019-06-01"),
        ("2019/5/31", "2019-05-31", "2019-06-01"),
        (" 2019-05 ", "2019-05-01", "2019-06-01"),
        ("2019", "2019-01-01", "2020-01-01"),
        ("20190531", "2019-05-31", "2019-06-01"),
        ("2019-05-31T23:00:00+02:00", "2019-05-31", "2019-06-01"),
        ("2019-05-31 12:00", "2019-05-31", "2019-06-01"),
        (2019, "2019-01-01", "2020-01-01"),
        (2019.0, "2019-01-01", "2020-01-01"),
        (20190531, "2019-05-31", "2019-06-01"),
        (date(2019, 5, 31), "2019-05-31", "2019-06-01"),
        (pd.Timestamp("2019-05-31T12:00"), "2019-05-31", "2019-06-01"),
        (pd.Timestamp("2019-06-01T00:30", tz="Europe/Berlin"), "2019-05-31", "2019-06-01"),
    ],
)
def test_dates_of_all_kinds(value: Any, first: str, end: str) -> None:
    for last, expected in ((False, first), (True, end)):
        found = days(pd.Series([value, None]), "file", last=last)  # type: ignore[arg-type]
        assert np.datetime64(int(found[0]), "D") == np.datetime64(expected)
        assert found[1] == (np.inf if last else -np.inf)


@pytest.mark.parametrize("value", ["31.05.2019", "May 2019", "2019-13-01", "2019-02-30", "1.5", 1.5, 12, True, "0000"])
def test_what_is_no_date_is_one_line(value: Any) -> None:
    with pytest.raises(LabelError, match="expected dates such as 2019-05-31, or years, in the column `start` of file"):
        holding([("2019", "2019"), (value, "2030")])


@pytest.mark.parametrize("name", ["l.gpkg", "l.geojson"])
@pytest.mark.parametrize("kind", ["text", "date", "datetime", "year"])
def test_dates_survive_their_files(tmp_path: Path, name: str, kind: str) -> None:
    rows: list[tuple[Any, Any]] = [("2010-01-01", "2010-12-31"), ("2011-01-01", "2011-12-31"), ("2011", "2012")]
    turn = {"text": str, "date": pd.Timestamp, "datetime": lambda t: pd.Timestamp(f"{t}T11:30:00Z"), "year": int}[kind]
    rows = [tuple(turn(day[:4] if kind == "year" else f"{day}-01-01"[:10]) for day in row) for row in rows]
    validity = Validity(np.datetime64("2011-02-01"), np.datetime64("2011-10-01"), "start", "end")
    assert read_labels(written(tmp_path, rows, name), validity=validity).index.tolist() == [1, 2]


def test_a_year_in_one_column(tmp_path: Path) -> None:
    validity = Validity(np.datetime64("2011-02-01"), np.datetime64("2011-10-01"), "start", "start")
    assert read_labels(written(tmp_path, [(2010, 1), (2011, 1), (2012, 1)]), validity=validity).index.tolist() == [1]


def test_columns_and_periods_that_cannot_be_meant(tmp_path: Path) -> None:
    path = written(tmp_path, [("2011-05-01", "2010-05-01"), ("1999", "2000")])
    with pytest.raises(LabelError, match="found 1 that do not, such as 2011-05-01 to 2010-05-01: are --start-column"):
        read_labels(path, validity=SEASON)
    with pytest.raises(LabelError, match=r"expected a column `begin` with dates .* with --start-column NAME"):
        read_labels(path, validity=Validity(SEASON.first, SEASON.last, "begin"))
    path = written(tmp_path, [("1999", "2000"), ("2001", "2003")], "old.gpkg")
    with pytest.raises(LabelError, match=r"found none among the 2 of .*, which span 1999-01-01 to 2003-12-31"):
        read_labels(path, validity=SEASON)


def test_a_warning_where_imagery_shows_more_seasons_than_a_label(tmp_path: Path) -> None:
    heard: list[Event] = []
    path = written(tmp_path, [("2011", "2011"), ("2009", "2013")])
    years = Validity(np.datetime64("2010-01-01"), np.datetime64("2012-12-31"), "start", "end")
    assert len(read_labels(path, validity=years, report=heard.append)) == 2
    assert [event.text.split(" of /")[0] for event in heard if isinstance(event, Warned)] == ["1 features"]
    heard.clear()
    path = written(tmp_path, [("2011-05-01", "2011-05-02"), ("2011", "2011")], "visits.gpkg")
    assert len(read_labels(path, validity=SEASON, report=heard.append)) == 2
    assert heard == []


def test_one_scene_is_shorter_than_any_label() -> None:
    scene = Validity(np.datetime64("2017-02-16"), np.datetime64("2017-02-16"), "start", "end")
    assert holding([("2017-02-16", "2017-02-16"), ("2017-02-17", "2017-02-17"), ("2017", "2017")], scene) == [
        True,
        False,
        True,
    ]


def test_points_may_have_dates_too(tmp_path: Path) -> None:
    table = gpd.GeoDataFrame({"class": ["a", "b"], "day": ["2010-10-01", "2019-10-01"]}, geometry=[Point(0, 0)] * 2)
    pyogrio.write_dataframe(table.set_crs(4326), tmp_path / "p.gpkg")
    visits = Validity(SEASON.first, SEASON.last, "day", "day")
    assert read_labels(tmp_path / "p.gpkg", validity=visits)["class"].tolist() == ["a"]
