"""From an unfinished raster to a cloud-optimised GeoTIFF."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import numpy as np
import rasterio
import rasterio.shutil

from eearth.geo.products.rasters.overviews import coarser, finer, halved
from eearth.geo.products.rasters.unfinished import create, same, writing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from eearth.geo.grid import Grid
    from eearth.geo.products.rasters.unfinished import Layer

# Of each file's compression; the bytes are the same with any number. Each has blocks of its own in memory.
THREADS = "2"


def publish(described: Path, pixels: Path, folder: Path, layer: Layer, grid: Grid) -> None:
    """Turn an unfinished raster into a cloud-optimised GeoTIFF, beside it first, and move that to its folder.

    Args:
        described: The unfinished raster.
        pixels: Itself, or another raster whose pixels are shown in place of its own.
        folder: Where the file goes.
        layer: What it is.
        grid: Its grid.

    Raises:
        DiskError: The file could not be written.
    """
    copy = described.parent / layer.name
    _discard(copy)
    options = {"predictor": "yes"} if layer.predictor else {}
    options |= {} if layer.level is None else {"level": str(layer.level)}
    try:
        with writing(copy):
            levels = _levels(pixels, copy, layer, grid)
            rasterio.shutil.copy(
                _joined(described, [pixels, *levels], copy),
                copy,
                driver="COG",
                compress="deflate",
                blocksize=layer.block,
                overviews="force_use_existing",
                bigtiff="if_safer",
                num_threads=THREADS,
                **options,
            )
            _compare(pixels, copy, layer, grid)
            for path in (copy, copy.with_name(f"{copy.name}.aux.xml")):
                if path.exists():
                    path.replace(folder / path.name)
    finally:
        _discard(copy)


def _discard(copy: Path) -> None:
    """Remove what a failed or killed copy has left: the file, and temporary ones beside it."""
    for path in copy.parent.glob(f"{copy.name}*"):
        path.unlink()


def _levels(pixels: Path, copy: Path, layer: Layer, grid: Grid) -> list[Path]:
    """Write the overviews, as many as it takes to fit one into a block."""
    levels = [pixels]
    while max(grid.shape) > layer.block:
        levels.append(copy.with_name(f"{copy.name}.level{len(levels)}"))
        _coarsen(levels[-2], levels[-1], layer, grid)
        grid = coarser(grid)
    return levels[1:]


def _joined(described: Path, levels: Sequence[Path], copy: Path) -> Path:
    """A virtual raster with the metadata of one file, and the pixels and overviews of others."""
    path = copy.with_name(f"{copy.name}.vrt")
    rasterio.shutil.copy(described, path, driver="VRT")
    text = ET.parse(path)  # noqa: S314 - GDAL has just written it
    for band in text.iter("VRTRasterBand"):
        for name in band.iter("SourceFilename"):
            name.text, name.attrib["relativeToVRT"] = str(levels[0]), "0"
        for level in levels[1:]:
            overview = ET.SubElement(band, "Overview")
            ET.SubElement(overview, "SourceFilename", relativeToVRT="0").text = str(level)
            ET.SubElement(overview, "SourceBand").text = band.get("band")
    text.write(path, encoding="utf-8")
    return path


def _coarsen(fine: Path, coarse: Path, layer: Layer, grid: Grid) -> None:
    """Write the next level of a raster, square by square; what has nothing in it takes no room."""
    half = coarser(grid)
    create(coarse, layer, half, {})
    with rasterio.open(fine) as file, rasterio.open(coarse, "r+") as out:
        for window in half.windows(layer.block):
            values = file.read(window=finer(window, grid.shape).rasterio)
            if np.array_equal(values, np.broadcast_to(values.dtype.type(layer.nodata), values.shape), equal_nan=True):
                continue
            pairs = zip(values, layer.rules, strict=True)
            out.write(np.stack([halved(band, rule, layer.nodata) for band, rule in pairs]), window=window.rasterio)


def _compare(first: Path, second: Path, layer: Layer, grid: Grid) -> None:
    """Read two files square by square.

    Raises:
        OSError: They differ.
    """
    with rasterio.open(first) as one, rasterio.open(second) as other:
        for window in grid.windows(layer.span):
            here, there = (file.read(window=window.rasterio) for file in (one, other))
            if not same(here, there):
                msg = "the file does not hold what was written"
                raise OSError(msg)
