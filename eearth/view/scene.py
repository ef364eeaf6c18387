"""Everything that the page shows of a workspace: its map, the imagery under it, and the words about them."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from pyproj import Transformer

from eearth.errors import EearthError
from eearth.events import Report, Warned, silent
from eearth.geo.aoi import LONLAT
from eearth.geo.cube import CUBE, Cube
from eearth.report.imagery import read_imagery
from eearth.report.images import palette_png
from eearth.report.sources import Held
from eearth.view.imagery import Imagery
from eearth.view.layers import CLASSES, read_layers
from eearth.view.mercator import DEEPEST, SHARPER, extent, own_zoom
from eearth.view.rasters import Rasters

if TYPE_CHECKING:
    from eearth.view.mercator import Tile
    from eearth.workspace import Workspace

# Of the compression of tiles, 0..9: on the way within one machine, time counts more than bytes.
EFFORT = 1

# Decimals of degrees: a decimetre on the ground.
DEGREE_DECIMALS = 6


class Scene:
    """What is shown of a workspace.

    Args:
        workspace: With a finished map.
        report: Receives warnings.

    Attributes:
        grid: Of the map.
        layers: Id → layer, in the order of the page.
        imagery: Under the map; None where the workspace has none.

    Raises:
        WorkspaceError: There is no map, or it cannot be read.
    """

    def __init__(self, workspace: Workspace, report: Report = silent) -> None:
        """Look at the files of the map."""
        held = Held(workspace, {"predict": workspace.require("predict")})
        self.grid, layers = read_layers(workspace.folder("predict"))
        self.layers = {layer.id: layer for layer in layers}
        item = held.document("predict", "item.json")
        self._title = str((item and item.at("/properties/title")) or "Land cover map")
        self._rasters = Rasters(self.grid)
        self.imagery, self._attributions = _imagery(workspace, report)

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready, for the page."""
        own = own_zoom(self.grid)
        return {
            "title": self._title,
            "version": version("eearth"),
            "rows": self.grid.height,
            "columns": self.grid.width,
            "metres": self.grid.pixel_metres,
            "crs": _name_of(self.grid.crs),
            "bounds": extent(self.grid),
            "zoom": own,
            "sharpest": min(own + SHARPER, DEEPEST),
            "layers": [layer.as_dict() for layer in self.layers.values()],
            "imagery": self.imagery is not None,
            "attributions": self._attributions,
        }

    def values_tile(self, layer: str, tile: Tile) -> bytes:
        """A PNG of one byte a pixel, in the layer's colours; the bytes are the values.

        Raises:
            KeyError: There is no such layer.
            RasterioError: The file is damaged.
        """
        shown = self.layers[layer]
        values = self._rasters.tile(shown, tile)
        return palette_png(values, shown.palette, transparent=shown.nodata, effort=EFFORT)

    def point(self, longitude: float, latitude: float) -> dict[str, Any]:
        """What the map says of a place, JSON-ready.

        Raises:
            RasterioError: A file is damaged.
        """
        place = {"longitude": longitude, "latitude": latitude, "position": self._position(longitude, latitude)}
        values = self._rasters.pixel(tuple(self.layers.values()), longitude, latitude)
        if values is None:
            return place | {"class": None, "facts": []}
        classes = self.layers[CLASSES]
        entry = next((entry for entry in classes.entries if entry.code == values[CLASSES]), None)
        colour = entry.colour if entry else None
        facts = [
            {"title": layer.title, "text": layer.words(values[layer.id])}
            for layer in self.layers.values()
            if layer is not classes and values[layer.id] != layer.nodata
        ]
        return place | {"class": {"name": classes.words(values[CLASSES]), "colour": colour}, "facts": facts}

    def _position(self, longitude: float, latitude: float) -> str:
        """The place in the map's own coordinates."""
        x, y = Transformer.from_crs(LONLAT, self.grid.crs.to_wkt(), always_xy=True).transform(longitude, latitude)
        decimals = DEGREE_DECIMALS if self.grid.crs.is_geographic else 1
        return f"{x:.{decimals}f}, {y:.{decimals}f} ({_name_of(self.grid.crs)})"


def _name_of(crs: Any) -> str:
    authority = crs.to_authority()
    return ":".join(authority) if authority else "own coordinate system"


def _imagery(workspace: Workspace, report: Report) -> tuple[Imagery | None, tuple[str, ...]]:
    """The imagery and whom to name for it; a map can be looked at without."""
    if not workspace.folder("download").is_dir():
        return None, ()
    try:
        held = Held(workspace, {"download": workspace.require("download")})
        found = read_imagery(held)
        return Imagery(Cube.open(workspace.folder("download") / CUBE)), found.attributions if found else ()
    except (EearthError, OSError, ValueError) as error:
        report(Warned(text=f"the map is shown without imagery: {error}"))
        return None, ()
