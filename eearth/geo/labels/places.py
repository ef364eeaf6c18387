"""What to say where labels and imagery lie apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyproj import CRS, Transformer
from pyproj.exceptions import ProjError
from shapely.geometry import box

if TYPE_CHECKING:
    from eearth.geo.grid import Grid

Bounds = tuple[float, float, float, float]

SWAP = "gdal vector swap-xy {} labels.gpkg"  # since GDAL 3.12


def apart(source: str, crs: Any, bounds: Bounds, grid: Grid) -> str:
    """The message for labels that lie beside the imagery: both places, and what is most likely wrong.

    Args:
        source: The label file.
        crs: Its coordinate reference system.
        bounds: (left, bottom, right, top) of the labels.
        grid: The imagery's grid.
    """
    wanted = _degrees(CRS.from_wkt(grid.crs.to_wkt()), grid.bounds)
    found = _degrees(crs, bounds)
    return (
        f"expected labels on the imagery, which covers {_shown(wanted)} (west, south, east, north), found those of "
        f"{source} in {_shown(found)}: {_advice(source, crs, bounds, wanted)}"
    )


def _degrees(crs: Any, bounds: Bounds) -> Bounds | None:
    """The same rectangle in longitude and latitude; None where it has no place there."""
    try:
        return Transformer.from_crs(crs, 4326, always_xy=True).transform_bounds(*bounds, errcheck=True)
    except ProjError:
        return None


def _shown(bounds: Bounds | None) -> str:
    return "({:.4f}, {:.4f}, {:.4f}, {:.4f})".format(*bounds) if bounds else "no place on Earth"


def _advice(source: str, crs: Any, bounds: Bounds, imagery: Bounds | None) -> str:
    left, bottom, right, top = bounds
    if _overlap(_degrees(crs, (bottom, left, top, right)), imagery):
        return f"are the coordinates swapped? `{SWAP.format(source)}` swaps them, then use labels.gpkg"
    in_degrees = CRS.from_user_input(crs).is_projected and max(map(abs, bounds)) <= 180  # noqa: PLR2004
    if in_degrees and _overlap(bounds, imagery):
        return f"they seem to be in degrees, run `ogr2ogr -a_srs EPSG:4326 labels.gpkg {source}` and use labels.gpkg"
    return "give another file, or check its CRS"


def _overlap(one: Bounds | None, other: Bounds | None) -> bool:
    return one is not None and other is not None and bool(box(*one).intersects(box(*other)))
