"""Labelled polygons or points → a raster of class codes on the imagery's grid."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
import shapely.geometry
from pyproj import CRS, Transformer
from rasterio.features import rasterize

from eearth.errors import LabelError
from eearth.events import Note, Report, Warned, silent
from eearth.geo.colours import class_colours
from eearth.geo.labels.legend import MAX_CODE, LandCoverClass

if TYPE_CHECKING:
    from collections.abc import Sequence

    import geopandas as gpd
    from numpy.typing import NDArray

    from eearth.geo.grid import Grid


NO_LABEL = 0
# A point closer than this share of a pixel to a pixel edge lies on it: the rounding of a reprojected coordinate must
# not decide to which pixel it belongs.
ON_EDGE = 1e-6


def burn(
    labels: gpd.GeoDataFrame, grid: Grid, *, all_touched: bool, report: Report = silent
) -> tuple[NDArray[np.uint8], tuple[LandCoverClass, ...]]:
    """Rasterise labels onto a grid; where labels overlap, the one that comes later in the file wins.

    A polygon labels the pixels whose centre lies inside it, a point the pixel it lies in: of a point on the edge
    between two pixels the right or lower one, and none where that is outside the grid.

    Args:
        labels: From `read_labels`; reprojected here, once.
        grid: The imagery's grid.
        all_touched: Polygons label every pixel they touch.
        report: Hears of classes without a pixel, and of pixels whose labels disagree.

    Returns:
        The codes, (y, x) uint8, 0 = no label, and the legend by rising code. Codes are the file's own (column
        `code`), or 1..K in alphabetical order of all the file's classes (code-point order; numerical where every name
        is an integer). A class of the file without a pixel on the grid stays in the legend with `pixels` 0.

    Raises:
        LabelError: No label meets the grid, or fewer than two classes have a pixel on it.
    """
    codes = _numbered(labels)
    geometries = labels.geometry.to_crs(CRS.from_wkt(grid.crs.to_wkt())).to_numpy()
    placed = np.isfinite(shapely.bounds(geometries)).all(axis=1)
    if not placed.all():
        report(
            Warned(text=f"{int((~placed).sum())} labels lie outside the domain of the imagery's CRS and are left out")
        )
    meets = np.zeros(len(geometries), dtype=bool)
    meets[placed] = shapely.intersects(geometries[placed], grid.footprint)
    if not meets.any():
        raise LabelError(_no_overlap(labels, grid))
    values = labels["class"].map(codes).to_numpy()
    # rasterio would ask each geometry for its GeoJSON form in each of the two runs; asking takes longer than burning.
    forms = (shapely.geometry.mapping(geometry) for geometry in _snapped(geometries[meets], grid))
    shapes = list(zip(forms, values[meets].tolist(), strict=True))
    raster = _burn_in_order(shapes, grid, all_touched=all_touched)
    contested = int((raster != _burn_in_order(shapes[::-1], grid, all_touched=all_touched)).sum())
    if contested:
        report(Note(text=f"{contested} pixels lie in labels of different classes; the label later in the file counts"))
    pixels = np.sum([np.bincount(row, minlength=MAX_CODE + 1) for row in raster], axis=0)
    polygons = np.bincount(values[meets], minlength=MAX_CODE + 1)
    colours = class_colours(list(codes))
    classes = tuple(
        LandCoverClass(code, name, colour, int(pixels[code]), int(polygons[code]))
        for (name, code), colour in zip(codes.items(), colours, strict=True)
    )
    _check_classes(classes, labels, all_touched=all_touched, report=report)
    return raster, classes


def _burn_in_order(shapes: list[tuple[dict[str, Any], int]], grid: Grid, *, all_touched: bool) -> NDArray[np.uint8]:
    """Rasterise pairs of a GeoJSON geometry and a code, a later one over an earlier one."""
    raster: NDArray[np.uint8] = rasterize(
        shapes, out_shape=grid.shape, transform=grid.transform, fill=NO_LABEL, all_touched=all_touched, dtype="uint8"
    )
    return raster


def _numbered(labels: gpd.GeoDataFrame) -> dict[str, int]:
    """Class name → code, by rising code."""
    if "code" in labels:
        pairs = labels[["class", "code"]].drop_duplicates().sort_values("code")
        return {str(name): int(code) for name, code in pairs.itertuples(index=False)}
    names = [str(name) for name in labels["class"].unique()]
    numeric = all(re.fullmatch(r"-?\d+", name, re.ASCII) for name in names)
    ordered = sorted(names, key=int) if numeric else sorted(names)
    return {name: code for code, name in enumerate(ordered, start=1)}


def _snapped(geometries: NDArray[Any], grid: Grid) -> NDArray[Any]:
    """The same geometries with each point moved to the centre of the pixel that owns it."""
    points = np.isin(shapely.get_type_id(geometries), (shapely.GeometryType.POINT, shapely.GeometryType.MULTIPOINT))
    t = grid.transform

    def to_centre(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        cells = np.floor((xy - (t.c, t.f)) / (t.a, t.e) + ON_EDGE) + 0.5
        return cells * (t.a, t.e) + (t.c, t.f)

    moved = geometries.copy()
    moved[points] = shapely.transform(geometries[points], to_centre)
    return moved


def _check_classes(
    classes: Sequence[LandCoverClass], labels: gpd.GeoDataFrame, *, all_touched: bool, report: Report
) -> None:
    """Refuse a legend that no classifier can learn; name the classes without a pixel."""
    seen = [entry.name for entry in classes if entry.pixels]
    source = labels.attrs.get("source", "the labels")
    if len(seen) < 2:  # noqa: PLR2004 - one class leaves nothing to tell apart
        found = f"only `{seen[0]}`" if seen else "none"
        touch = "" if all_touched else " or, where polygons are smaller than a pixel, run again with --all-touched"
        msg = f"expected at least 2 classes of {source} with pixels on the imagery's grid, found {found}: "
        raise LabelError(msg + "label more of the region," * bool(touch) + (touch or "label more of the region"))
    unseen = [f"`{entry.name}`" for entry in classes if not entry.pixels]
    if unseen:
        report(Warned(text=f"classes of {source} without a pixel on the imagery's grid: {', '.join(unseen)}"))


def _no_overlap(labels: gpd.GeoDataFrame, grid: Grid) -> str:
    """What to say where labels and imagery lie apart, both in longitude and latitude."""

    def degrees(crs: Any, bounds: tuple[float, float, float, float]) -> str:
        box = Transformer.from_crs(crs, 4326, always_xy=True).transform_bounds(*bounds)
        return "({:.4f}, {:.4f}, {:.4f}, {:.4f})".format(*box)

    imagery = degrees(CRS.from_wkt(grid.crs.to_wkt()), grid.bounds)
    found = degrees(labels.crs, tuple(labels.total_bounds.tolist()))
    return (
        f"expected labels on the imagery, which covers {imagery} (west, south, east, north), found those of "
        f"{labels.attrs.get('source', 'the labels')} in {found}: give another file, or check its CRS"
    )
