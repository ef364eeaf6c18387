"""Class names and colours for the programs that open the map: GDAL's side file, a QGIS style and an OGC style."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from eearth.geo.products.landcover.prediction import printable
from eearth.manifest import write_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from eearth.geo.products.landcover.prediction import MapClass

SLD_NAMESPACE = "http://www.opengis.net/sld"
XML_DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'
QGIS_DOCTYPE = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"


def _text(root: ET.Element) -> str:
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"


def write_category_names(raster: Path, classes: Sequence[MapClass]) -> Path:
    """Write the side file from which GDAL, and all that reads through it, takes the class names of a raster.

    GDAL's "persistent auxiliary metadata" lists one category for each pixel value from 0 on; a GeoTIFF has no tag for
    them. Copies that GDAL makes of the raster get their own side file.

    Args:
        raster: The raster, one band of class codes.
        classes: The legend.

    Returns:
        `<raster>.aux.xml`.
    """
    names = {entry.code: printable(entry.name) for entry in classes}
    root = ET.Element("PAMDataset")
    categories = ET.SubElement(ET.SubElement(root, "PAMRasterBand", band="1"), "CategoryNames")
    for code in range(max(names) + 1):
        ET.SubElement(categories, "Category").text = names.get(code, "")
    path = raster.with_name(raster.name + ".aux.xml")
    write_text(path, _text(root))
    return path


def write_qml(path: Path, classes: Sequence[MapClass]) -> None:
    """Write a QGIS 3 style: a paletted raster, one entry a class; a style of the raster's name is applied unasked.

    The elements are those of QGIS's own `QgsRasterPipe::writeXml`, as far as they say something here.

    Args:
        path: `<name>.qml` beside `<name>.tif`.
        classes: The legend, in the order to show.
    """
    root = ET.Element("qgis", version="3.28.0", styleCategories="Symbology|Rendering", hasScaleBasedVisibilityFlag="0")
    pipe = ET.SubElement(root, "pipe")
    ET.SubElement(
        ET.SubElement(pipe, "provider"),
        "resampling",
        enabled="false",
        maxOversampling="2",
        zoomedInResamplingMethod="nearestNeighbour",
        zoomedOutResamplingMethod="nearestNeighbour",
    )
    renderer = ET.SubElement(pipe, "rasterrenderer", type="paletted", band="1", opacity="1", alphaBand="-1")
    renderer.set("nodataColor", "")
    ET.SubElement(renderer, "rasterTransparency")
    palette = ET.SubElement(renderer, "colorPalette")
    for entry in classes:
        ET.SubElement(
            palette,
            "paletteEntry",
            value=str(entry.code),
            label=printable(entry.name),
            color=entry.colour,
            alpha="255",
        )
    ET.SubElement(pipe, "brightnesscontrast", brightness="0", contrast="0", gamma="1")
    ET.SubElement(pipe, "huesaturation", saturation="0", grayscaleMode="0", colorizeOn="0")
    ET.SubElement(pipe, "rasterresampler", maxOversampling="2")
    ET.SubElement(root, "blendMode").text = "0"
    write_text(path, QGIS_DOCTYPE + _text(root))


def write_sld(path: Path, classes: Sequence[MapClass]) -> None:
    """Write an OGC style (Styled Layer Descriptor 1.0.0): one entry a class, for map servers such as GeoServer.

    `type="values"`, each value its own colour and what has no entry transparent, is GeoServer's word for it, which QGIS
    writes as well; without it, colours between the entries would be mixed.

    Args:
        path: The file; its name without the suffix is that of the style.
        classes: The legend, in the order to show.
    """
    root = ET.Element("StyledLayerDescriptor", version="1.0.0", xmlns=SLD_NAMESPACE)
    layer = ET.SubElement(root, "NamedLayer")
    ET.SubElement(layer, "Name").text = path.stem
    style = ET.SubElement(layer, "UserStyle")
    ET.SubElement(style, "Name").text = path.stem
    rule = ET.SubElement(ET.SubElement(style, "FeatureTypeStyle"), "Rule")
    colours = ET.SubElement(ET.SubElement(rule, "RasterSymbolizer"), "ColorMap", type="values")
    for entry in classes:
        ET.SubElement(
            colours,
            "ColorMapEntry",
            color=entry.colour,
            quantity=str(entry.code),
            label=printable(entry.name),
            opacity="1",
        )
    write_text(path, XML_DECLARATION + _text(root))
