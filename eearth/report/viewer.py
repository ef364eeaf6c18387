"""What the page's script needs to show the map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyproj import Geod, Transformer

from eearth.geo.aoi import LONLAT
from eearth.report.backdrop import read_backdrop
from eearth.report.images import class_image, confidence_colours, percent_image, photograph
from eearth.report.landcover import MOST_UNFAMILIAR, lonlat_lattice

if TYPE_CHECKING:
    from eearth.events import Report
    from eearth.geo.grid import Grid
    from eearth.report.landcover import Landcover
    from eearth.report.sources import Held

# Steps of the colour bar under the map.
RAMP = 21


@dataclass(frozen=True)
class Viewer:
    """The map on the page.

    Attributes:
        classes: Data address of the map's picture.
        imagery: Of the imagery under it; None where the workspace has none.
        confidence: Of the confidence; None where the map has none.
        unfamiliarity: Of the unfamiliarity; None where the map has none.
        ramp: Colours of the confidence from 0 to 100 %, and of the unfamiliarity from 0 to its most, "#rrggbb".
        data: For the script, JSON-ready.
        reduced: How many pixels of the map's longer side one of the picture stands for; 1 where all are shown.
    """

    classes: str
    imagery: str | None
    confidence: str | None
    unfamiliarity: str | None
    ramp: list[str]
    data: dict[str, Any]
    reduced: float


def make_viewer(held: Held, landcover: Landcover, report: Report) -> Viewer:
    """Draw the pictures of the map, its imagery and its confidence, and say where they lie."""
    height, width = landcover.codes.shape
    imagery = read_backdrop(held, landcover.grid, (height, width), report)
    confidence, strange = landcover.confidence, landcover.unfamiliarity
    return Viewer(
        classes=class_image(landcover.codes, [(entry.code, entry.colour) for entry in landcover.classes]),
        imagery=None if imagery is None else photograph(imagery),
        confidence=None if confidence is None else percent_image(confidence),
        unfamiliarity=None if strange is None else percent_image(strange, MOST_UNFAMILIAR),
        ramp=confidence_colours(RAMP),
        data={
            "across": landcover.grid.width,
            "down": landcover.grid.height,
            "metres": _pixel_width(landcover.grid),
            "ramp": confidence_colours(RAMP),
            "most": {"confidence": 100, "unfamiliarity": MOST_UNFAMILIAR},
            "lonlat": lonlat_lattice(landcover.grid),
            "classes": {entry.code: {"name": entry.name, "colour": entry.colour} for entry in landcover.classes},
        },
        reduced=max(landcover.grid.shape) / max(height, width),
    )


def _pixel_width(grid: Grid) -> float:
    """Metres on the ground across the pixel in the middle of the map."""
    to_lonlat = Transformer.from_crs(grid.crs.to_wkt(), LONLAT, always_xy=True)
    row, col = grid.height / 2, grid.width / 2
    ends = [to_lonlat.transform(*(grid.transform @ (place, row))) for place in (col - 0.5, col + 0.5)]
    return float(Geod(ellps="WGS84").inv(*ends[0], *ends[1])[2])
