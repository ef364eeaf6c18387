"""The names and colours that a raster of class codes carries along."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pyogrio
import rasterio
import rasterio.shutil
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from eearth.geo.labels.naming import tidy

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# What GDAL's raster attribute tables call the uses of their columns (GDALRATFieldUsage).
USES = {"2": "name", "5": "value", "6": "red", "7": "green", "8": "blue"}
# What such columns are mostly called where the table does not say what they are for, in order of preference.
CALLED = {
    "value": r"value",
    "name": r"(class|label|category|land_?cover|name|legend|descr).*",
    "red": r"r(ed)?",
    "green": r"g(reen)?",
    "blue": r"b(lue)?",
}
# Esri's side file with such a table; the GDAL of today's rasterio wheels does not read it.
VAT = ".vat.dbf"


@dataclass(frozen=True)
class Categories:
    """What a raster says of its values.

    Attributes:
        names: Value → class name.
        colours: Value → "#rrggbb".
    """

    names: dict[int, str]
    colours: dict[int, str]


def read_categories(path: Path) -> Categories:
    """Category names, attribute table and colour table of a raster's first band, from the file and its side files.

    rasterio reads neither names nor attribute tables; GDAL writes both, whatever the format, into a virtual copy of the
    raster, which is XML. An attribute table counts more than the names, and its colours more than the colour table.
    """
    try:
        band = _described(path)
        colours = _palette(path)
    except (RasterioError, OSError, ET.ParseError):
        return Categories({}, {})  # whoever reads the codes says what is wrong with the file
    names = {} if band is None else _listed(band)
    table = [] if band is None else _attributes(band)
    table = table or _esri(path)
    names |= {int(float(row["value"])): tidy(row["name"]) for row in table if row.get("name")}
    coloured = [row for row in table if {"red", "green", "blue"} <= set(row)]
    colours |= {int(float(row["value"])): _hex(row) for row in coloured}
    return Categories({value: name for value, name in names.items() if name}, colours)


def _described(path: Path) -> ET.Element | None:
    """What GDAL writes of the first band into a virtual copy."""
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        copy = Path(folder) / "copy.vrt"
        rasterio.shutil.copy(path, copy, driver="VRT")
        text = copy.read_text(encoding="utf-8")
    return ET.fromstring(text).find("VRTRasterBand")  # noqa: S314 - GDAL wrote it


def _listed(band: ET.Element) -> dict[int, str]:
    """GDAL's category names: one for each value from 0 on."""
    return {value: tidy(entry.text or "") for value, entry in enumerate(band.iterfind("CategoryNames/Category"))}


def _attributes(band: ET.Element) -> list[dict[str, Any]]:
    """The rows of an attribute table: value, name, red, green and blue, as far as it has them."""
    columns = [
        (column.findtext("Name", ""), column.findtext("Usage", ""), column.findtext("Type", ""))
        for column in band.iterfind("GDALRasterAttributeTable/FieldDefn")
    ]
    texts = [kind == "2" for _, _, kind in columns]
    uses = _uses([name for name, _, _ in columns], texts, [USES.get(use, "") for _, use, _ in columns])
    rows = ([cell.text or "" for cell in row] for row in band.iterfind("GDALRasterAttributeTable/Row"))
    return _rows(rows, uses)


def _esri(path: Path) -> list[dict[str, Any]]:
    side = path.with_name(path.name + VAT)
    if not side.is_file():
        return []
    frame = pyogrio.read_dataframe(side, read_geometry=False)
    texts = [frame[column].dtype.kind not in "iuf" for column in frame.columns]
    uses = _uses([str(column) for column in frame.columns], texts, [""] * len(texts))
    return _rows(([str(cell) for cell in row] for row in frame.itertuples(index=False)), uses)


def _uses(columns: Sequence[str], texts: Sequence[bool], said: Sequence[str]) -> dict[str, int]:
    """What is wanted → the number of its column: by what the table says, by its name; a name by its type, too."""
    found = {use: said.index(use) for use in CALLED if use in said}
    for use, pattern in CALLED.items():
        fitting = [
            number
            for number, column in enumerate(columns)
            if re.fullmatch(pattern, column, re.IGNORECASE) and texts[number] == (use == "name")
        ]
        if use not in found and fitting:
            found[use] = fitting[0]
    if "name" not in found and True in texts:
        found["name"] = texts.index(True)
    return found


def _rows(rows: Iterable[Sequence[str]], uses: dict[str, int]) -> list[dict[str, Any]]:
    named = ({use: row[column] for use, column in uses.items() if column < len(row)} for row in rows)
    return [row for row in named if _whole(row.get("value", ""))]


def _whole(text: str) -> bool:
    return re.fullmatch(r"-?\d+(\.0*)?", text) is not None


def _hex(row: dict[str, Any]) -> str:
    """#rrggbb of 0 to 255, or of Imagine's 0 to 1, which it writes with a decimal point."""
    channels = [float(row[channel]) for channel in ("red", "green", "blue")]
    scale = 255 if all("." in row[channel] for channel in ("red", "green", "blue")) and max(channels) <= 1 else 1
    return "#" + "".join(f"{min(255, max(0, round(channel * scale))):02x}" for channel in channels)


def _palette(path: Path) -> dict[int, str]:
    """The colours of a colour table; those of values that it leaves black are no choice of anybody's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as file:
            try:
                table = file.colormap(1)
            except ValueError:
                return {}
    colours = {value: f"#{red:02x}{green:02x}{blue:02x}" for value, (red, green, blue, _) in table.items()}
    black = [value for value, colour in colours.items() if colour == "#000000"]
    return colours if len(black) == 1 else {value: c for value, c in colours.items() if c != "#000000"}
