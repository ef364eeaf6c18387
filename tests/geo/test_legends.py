"""Legends: many values to one class, codes and colours, and those of known products."""

from __future__ import annotations

from typing import TYPE_CHECKING

import geopandas as gpd
import numpy as np
import pyogrio
import pytest
from rasterio.crs import CRS
from rasterio.transform import Affine
from shapely.geometry import box

from eearth.errors import LabelError
from eearth.events import Event, Note, silent
from eearth.geo.colours import class_colours
from eearth.geo.grid import Grid
from eearth.geo.labels.burn import Rules, burn
from eearth.geo.labels.file import read_labels
from eearth.geo.labels.mapping import BUILT_IN, Legend, read_legend

if TYPE_CHECKING:
    from pathlib import Path

GRID = Grid(CRS.from_epsg(32633), Affine(10, 0, 500_000, 0, -10, 5_000_000), 20, 30)
RULES = Rules(least=None, inner_buffer=0, overlap="last")

CSV = """value,name,code,colour
meadow,Grass,7,#ABCDEF
pasture,Grass,,
"oak, old",Wood,,#123456
pine,Wood,2,
road,,,
"""
TOML = """
skip = ["road"]
[[class]]
name = "Grass"
code = 7
color = "#abcdef"
values = ["meadow", "pasture"]
[[class]]
name = "Wood"
code = 2
colour = "#123456"
values = ["oak, old", "pine"]
"""


def saved(folder: Path, text: str, name: str = "legend.csv") -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


def labels_of(folder: Path, classes: list[str]) -> Path:
    shapes = [box(500_000 + 30 * n, 4_999_900, 500_030 + 30 * n, 5_000_000) for n in range(len(classes))]
    table = gpd.GeoDataFrame({"class": classes, "code": range(1, len(classes) + 1)}, geometry=shapes, crs=32633)
    pyogrio.write_dataframe(table, folder / "l.gpkg")
    return folder / "l.gpkg"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (CSV, "l.csv"),
        (CSV.replace(",", ";").replace("oak;", "oak,"), "l.csv"),
        ("\ufeff" + CSV.replace("colour", "Color"), "l.txt"),
        (CSV.replace(",", "\t").replace("oak\t", "oak,"), "l.tsv"),
        (TOML, "l.toml"),
    ],
)
def test_both_formats_say_the_same(tmp_path: Path, text: str, name: str) -> None:
    legend = read_legend(saved(tmp_path, text, name))
    assert dict(legend.codes) == {"Wood": 2, "Grass": 7}
    assert dict(legend.colours) == {"Wood": "#123456", "Grass": "#abcdef"}
    assert legend.meanings(["meadow", "PINE", "oak, old", "road", "wood", "else"]) == {
        "meadow": "Grass", "PINE": "Wood", "oak, old": "Wood", "road": None, "wood": "Wood"
    }  # fmt: skip


def test_values_become_classes_with_the_legends_codes_and_colours(tmp_path: Path) -> None:
    path = labels_of(tmp_path, ["meadow", "pine", "road", "pasture", "oak, old"])
    heard: list[Event] = []
    labels = read_labels(path, legend=read_legend(saved(tmp_path, CSV)), report=heard.append)
    assert labels["class"].tolist() == ["Grass", "Wood", "Grass", "Wood"]
    assert labels["code"].tolist() == [7, 2, 7, 2]
    assert labels.index.tolist() == [0, 1, 3, 4]
    text = f"1 features of {path} are left out as the legend {tmp_path / 'legend.csv'} says: `road`"
    assert heard == [Note(text=text)]
    burnt = burn(labels, GRID, RULES)
    assert [(c.code, c.name, c.colour, c.polygons) for c in burnt.classes] == [
        (2, "Wood", "#123456", 2), (7, "Grass", "#abcdef", 2)
    ]  # fmt: skip
    assert set(np.unique(burnt.codes)) == {0, 2, 7}


def test_values_that_the_legend_does_not_know_are_named(tmp_path: Path) -> None:
    path = labels_of(tmp_path, ["meadow", "pine", "moor", *[f"x{n}" for n in range(20)]])
    legend = read_legend(saved(tmp_path, CSV))
    with pytest.raises(LabelError, match=r"found 21 that it does not have: .*`moor`.* and 9 more: add them .* --skip"):
        read_labels(path, legend=legend)
    heard: list[Event] = []
    assert len(read_labels(path, legend=legend, skip_unmapped=True, report=heard.append)) == 2
    assert isinstance(heard[0], Note)
    assert heard[0].text.startswith("21 features")
    with pytest.raises(LabelError, match="found only `road`, which it leaves out"):
        read_labels(labels_of(tmp_path, ["road"]), legend=legend)


def test_codes_that_are_not_given_are_the_free_ones_in_order(tmp_path: Path) -> None:
    legend = read_legend(saved(tmp_path, "value,name,code\nx,b,\ny,a,\nz,c,1\nw,d,3\n"))
    assert dict(legend.codes) == {"c": 1, "a": 2, "d": 3, "b": 4}
    numbers = read_legend(saved(tmp_path, "value,name\nx,10\ny,9\n"))
    assert dict(numbers.codes) == {"9": 1, "10": 2}


def test_other_classes_get_colours_that_differ_from_those_given() -> None:
    given = {"forest": "#e69f00", "b": "#56b4e9"}
    colours = class_colours(["a", "b", "forest", "c"], given)
    assert (colours[1], colours[2]) == ("#56b4e9", "#e69f00")
    assert len(set(colours)) == 4


def test_upper_and_lower_case_count_where_nothing_else_differs(tmp_path: Path) -> None:
    legend = read_legend(saved(tmp_path, "value,name\nOak,tall\noak,small\nPine,tall\n"))
    assert legend.meanings(["Oak", "oak", "OAK", "pine"]) == {"Oak": "tall", "oak": "small", "pine": "tall"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "found nothing"),
        ("class,title\na,b\n", "found `class`, `title`"),
        ("value,name,kolour\na,b,c\n", "found `value`, `name`, `kolour`"),
        ("value,name\n,b\n", "none before `b`"),
        ("value,name,code\na,b,0\n", "codes from 1 to 255 .* found `0`"),
        ("value,name,code\na,b,1.5\n", "found `1.5`"),
        ("value,name,code\na,b,1\nc,d,1\n", "each code for one class .* `1` for several"),
        ("value,name,code\na,b,1\nc,b,2\n", "one code for `b` .* found 1 and 2"),
        ("value,name,colour\na,b,red\n", "colours such as #1f77b4 .* found `red`"),
        ("value,name\na,b\na,c\n", "one class for each value .* `a` for several"),
        ("value,name\na,b\na,\n", "one class for each value"),
        ("value,name\n" + "".join(f"v{n},c{n}\n" for n in range(256)), "1 to 255 classes .* found 256"),
    ],
)
def test_faults_of_a_table_are_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(LabelError, match=message) as caught:
        read_legend(saved(tmp_path, text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("class = 1", "found none"),
        ("[[klass]]", "found none"),
        ("[[class]]\nvalue = 'a'", "found `value`"),
        ("[[class]]\ncode = 1", "a name for each class"),
        ("[[class]]\nname = 'a'\ncode = true", "found `True`"),
        ("[[class]]\nname = 'a'\nvalues = 'b'", "a list of texts or whole numbers as values"),
        ("[[class]]\nname = 'a'\n[[class]]\nname = 'a'", "each name for one class"),
        ("[[class]\nname", "expected TOML"),
    ],
)
def test_faults_of_a_toml_file_are_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(LabelError, match=message) as caught:
        read_legend(saved(tmp_path, text, "l.toml"))
    assert "\n" not in str(caught.value)


def test_a_legend_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match=r"or one of worldcover, corine, .* found no file at corinne"):
        read_legend("corinne")
    (tmp_path / "l.csv").write_bytes(b"value,name\n\xe9,b\n")
    with pytest.raises(LabelError, match="expected a legend in UTF-8"):
        read_legend(str(tmp_path / "l.csv"))


# --- the built-in ones ---


def of(legend: Legend) -> dict[int, tuple[str, str]]:
    return {code: (name, legend.colours[name]) for name, code in legend.codes.items()}


def test_worldcover() -> None:
    # ESA WorldCover v200, Product User Manual V2.0, table 3.
    assert of(read_legend("worldcover")) == {
        10: ("Tree cover", "#006400"), 20: ("Shrubland", "#ffbb22"), 30: ("Grassland", "#ffff4c"),
        40: ("Cropland", "#f096ff"), 50: ("Built-up", "#fa0000"), 60: ("Bare / sparse vegetation", "#b4b4b4"),
        70: ("Snow and ice", "#f0f0f0"), 80: ("Permanent water bodies", "#0064c8"),
        90: ("Herbaceous wetland", "#0096a0"), 95: ("Mangroves", "#00cf75"), 100: ("Moss and lichen", "#fae6a0"),
    }  # fmt: skip


def test_dynamic_world_moves_water_away_from_zero() -> None:
    legend = read_legend("dynamic-world")
    # Brown et al. 2022, table 2, and the Earth Engine catalogue's class table.
    assert [legend.colours[name] for name in legend.codes] == [
        "#397d49", "#88b053", "#7a87c6", "#e49635", "#dfc35a", "#c4281b", "#a59b8f", "#b39fe1", "#419bdf"
    ]  # fmt: skip
    values = [str(value) for value in range(9)]
    codes = [legend.codes[name] for name in legend.meanings(values, raster=True).values() if name]
    assert codes == [9, 1, 2, 3, 4, 5, 6, 7, 8]
    assert legend.meanings(["Shrub & scrub", "built", "flooded_vegetation"]) == {
        "Shrub & scrub": "Shrub and scrub", "built": "Built area", "flooded_vegetation": "Flooded vegetation"
    }  # fmt: skip


def test_corine() -> None:
    legend = read_legend("corine")
    found = of(legend)
    assert sorted(found) == list(range(1, 45))
    # Some lines of the EEA's clc_legend.csv: GRID_CODE, CLC_CODE, LABEL3, RGB.
    for grid_code, clc_code, label, rgb in (
        (1, "111", "Continuous urban fabric", "230-000-077"),
        (11, "142", "Sport and leisure facilities", "255-230-255"),
        (12, "211", "Non-irrigated arable land", "255-255-168"),
        (21, "243", "Land principally occupied by agriculture, with significant areas of natural vegetation",
         "230-204-077"),
        (24, "312", "Coniferous forest", "000-166-000"),
        (33, "334", "Burnt areas", "000-000-000"),
        (39, "423", "Intertidal flats", "166-166-230"),
        (44, "523", "Sea and ocean", "230-242-255"),
    ):  # fmt: skip
        colour = "#" + "".join(f"{int(channel):02x}" for channel in rgb.split("-"))
        assert found[grid_code] == (label, colour)
        assert legend.meanings([clc_code, str(grid_code)]) == {clc_code: label}
        assert legend.meanings([str(grid_code)], raster=True) == {str(grid_code): label}
    codes = [value for value, name in legend.values.items() if name and value.isdigit()]
    assert {level: sum(code[0] == level for code in codes) for level in "12345"} == {
        "1": 11, "2": 11, "3": 12, "4": 5, "5": 5
    }  # fmt: skip


def test_coarser_levels_of_corine_take_in_all_finer_codes() -> None:
    level3, level2, level1 = (read_legend(name) for name in ("corine", "corine-2", "corine-1"))
    assert sorted(level2.codes.values()) == [11, 12, 13, 14, 21, 22, 23, 24, 31, 32, 33, 41, 42, 51, 52]
    assert sorted(level1.codes.values()) == [1, 2, 3, 4, 5]
    for value, name3 in level3.values.items():
        if not name3 or not value.isdigit():
            continue
        for legend, digits in ((level2, 2), (level1, 1)):
            name = legend.meanings([value])[value]
            assert name
            assert legend.codes[name] == int(value[:digits])
        grid_code = str(level3.codes[name3])
        of_raster = level2.meanings([grid_code, "44"], raster=True)[grid_code]  # 44 is a grid code only
        assert of_raster
        assert level2.codes[of_raster] == int(value[:2])


def test_grid_codes_count_in_rasters_and_where_nothing_contradicts_them() -> None:
    legend = read_legend("corine-2")
    either = ["12", "23", "24"]
    assert list(legend.meanings([*either, "2"], raster=True).values())[:3] == ["Arable land", "Forests", "Forests"]
    assert list(legend.meanings(either).values())[1] == "Pastures"
    assert legend.meanings(["311", "523"], raster=True) == {"311": "Forests", "523": "Marine waters"}
    assert legend.meanings(["1", "44"]) == {"1": "Urban fabric", "44": "Marine waters"}
    assert "1" not in legend.meanings([*either, "1"])


@pytest.mark.parametrize("name", ["corine-2", "corine-1"])
def test_no_value_changes_what_another_one_means(name: str) -> None:
    legend, rng = read_legend(name), np.random.default_rng(0)
    for raster in (True, False):
        said: dict[frozenset[str], dict[str, str | None]] = {}
        for _ in range(300):
            values = rng.choice(np.arange(1, 60), rng.integers(1, 5), replace=False).astype(str).tolist()
            for some in (values, values[:-1], values[1:]):
                try:
                    said[frozenset(some)] = legend.meanings(some, raster=raster)
                except LabelError:
                    assert raster
        for more, meanings in said.items():
            for fewer in (more - {value} for value in more):
                for value, meaning in said.get(fewer, {}).items():
                    assert meanings.get(value, meaning) == meaning, (raster, more, value)


def test_a_raster_that_can_be_read_in_two_ways_is_refused() -> None:
    legend = read_legend("corine-2")
    with pytest.raises(LabelError, match=r"`11`, `21`.*`11` is `Artificial, .*` or `Urban fabric`.* CSV") as caught:
        legend.meanings(["11", "21"], raster=True)
    assert "\n" not in str(caught.value)
    assert legend.meanings(["11", "51"], raster=True) == {"11": "Urban fabric", "51": "Inland waters"}


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_legends_work_on_a_file_of_their_codes(tmp_path: Path, name: str) -> None:
    legend = read_legend(name)
    labels = read_labels(labels_of(tmp_path, list(legend.codes)[:5]), legend=legend, report=silent)
    assert labels["code"].tolist() == list(legend.codes.values())[:5]
