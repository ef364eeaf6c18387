"""The legend as other programs read it: a QGIS style, an OGC style and GDAL's category names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.etree import ElementTree as ET

from hypothesis import given, settings
from hypothesis import strategies as st

from eearth.geo.products.landcover.legend import write_category_names, write_qml, write_sld
from eearth.geo.products.landcover.prediction import printable

SLD = "{http://www.opengis.net/sld}"


@dataclass(frozen=True)
class Legend:
    code: int
    name: str
    colour: str


LEGENDS = st.dictionaries(
    st.integers(1, 255),
    st.tuples(st.text(st.characters(exclude_categories=("Cs",))), st.integers(0, 0xFFFFFF)),
    min_size=1,
    max_size=6,
).map(lambda found: [Legend(code, name, f"#{colour:06x}") for code, (name, colour) in found.items()])


def only(parent: ET.Element, *names: str) -> ET.Element:
    """The one element at the end of a chain of only children, as the schema orders them."""
    for name in names:
        (parent,) = parent.findall(SLD + name)
    return parent


@settings(max_examples=50, deadline=None)
@given(LEGENDS)
def test_all_styles_say_the_same_of_any_legend(classes: list[Legend]) -> None:
    expected = [(str(entry.code), printable(entry.name), entry.colour) for entry in classes]
    with TemporaryDirectory() as folder:
        raster, qml, sld = (Path(folder) / f"landcover.{end}" for end in ("tif", "qml", "sld"))
        write_qml(qml, classes)
        write_sld(sld, classes)
        palette = ET.parse(qml).iter("paletteEntry")  # noqa: S314
        assert [(e.get("value"), e.get("label"), e.get("color")) for e in palette] == expected
        style = ET.parse(sld).getroot()  # noqa: S314
        names = [entry.text or "" for entry in ET.parse(write_category_names(raster, classes)).iter("Category")]  # noqa: S314
    assert (style.tag, style.get("version")) == (f"{SLD}StyledLayerDescriptor", "1.0.0")
    colours = only(style, "NamedLayer", "UserStyle", "FeatureTypeStyle", "Rule", "RasterSymbolizer", "ColorMap")
    assert colours.get("type") == "values"
    assert [(e.get("quantity"), e.get("label"), e.get("color")) for e in colours] == expected
    assert all(entry.tag == f"{SLD}ColorMapEntry" and entry.get("opacity") == "1" for entry in colours)
    assert [names[entry.code] for entry in classes] == [printable(entry.name) for entry in classes]
