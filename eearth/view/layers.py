"""What there is to show: the bands of a map, each with its legend, its colours and its words."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
from rasterio.errors import RasterioError

from eearth.errors import EearthError, WorkspaceError, innermost
from eearth.geo.grid import Grid
from eearth.geo.products.landcover.prediction import OUTSIDE, Reason, rgb
from eearth.geo.products.landcover.writer import CONFIDENCE, LANDCOVER
from eearth.report.images import confidence_colours
from eearth.report.landcover import MOST_UNFAMILIAR

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The id of the layer that shows the classes.
CLASSES = "landcover"

# Of each class, the map's file says the name in a tag that begins so, and goes on with the code.
NAME_TAG = "CLASS_"

# Rows and columns of a band, at most, that are looked at for what it holds.
LOOKED_AT = 512

GREY = "#8a8f8d"


@dataclass(frozen=True)
class Entry:
    """A value with a meaning of its own.

    Attributes:
        code: The value.
        name: What it means.
        colour: "#rrggbb".
    """

    code: int
    name: str
    colour: str


@dataclass(frozen=True)
class Layer:
    """A band to show.

    Attributes:
        id: In addresses.
        title: For people.
        path: The file.
        band: Its number there, from 1.
        nodata: The value that shows nothing.
        entries: Values with a meaning of their own.
        high: All others are quantities from 0 to this; None where there are no others.
        unit: Of these.
    """

    id: str
    title: str
    path: Path
    band: int
    nodata: int
    entries: tuple[Entry, ...]
    high: int | None = None
    unit: str = ""

    @property
    def ramp(self) -> list[str]:
        """Colours of the quantities from 0 on, "#rrggbb"."""
        return [] if self.high is None else confidence_colours(self.high + 1)

    @property
    def palette(self) -> NDArray[np.uint8]:
        """(256, 3) red, green and blue of each value; quantities beyond the highest look like it."""
        colours = np.zeros((256, 3), dtype=np.uint8)
        ramp = [rgb(colour) for colour in self.ramp]
        if ramp:
            colours[:] = ramp[-1]
            colours[: len(ramp)] = ramp
        for entry in self.entries:
            colours[entry.code] = rgb(entry.colour)
        return colours

    def words(self, value: int) -> str:
        """What a value says."""
        named = {entry.code: entry.name for entry in self.entries}
        if value in named:
            return named[value]
        return "no data" if value == self.nodata or self.high is None else f"{value} {self.unit}".strip()

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready, for the page."""
        entries = [{"code": entry.code, "name": entry.name, "colour": entry.colour} for entry in self.entries]
        shared = {"id": self.id, "title": self.title, "nodata": self.nodata, "entries": entries}
        return shared | {"high": self.high, "unit": self.unit, "ramp": self.ramp}


NEVER = Entry(0, "never observed", GREY)

# Description of a band of the map's other file → its title, and values with a meaning of their own.
QUANTITIES = {
    "confidence": ("Confidence", (NEVER,)),
    "clear observations": ("Clear observations", (NEVER,)),
    "margin": ("Margin over the second class", (NEVER,)),
}

UNFAMILIARITY = "unfamiliarity"

REASON = "reason"

# After Okabe & Ito (2008), whose colours colour-blind readers tell apart, but for the quiet first.
REASONS = (
    Entry(Reason.MAPPED, "mapped", "#cfd8d3"),
    Entry(Reason.NEVER_OBSERVED, NEVER.name, "#0072b2"),
    Entry(Reason.REJECTED, "not confident enough", "#d55e00"),
    Entry(Reason.CHANGED, "changed with small patches", "#e69f00"),
)


def read_layers(folder: Path) -> tuple[Grid, tuple[Layer, ...]]:
    """The grid of a map, and its layers, the classes first.

    Raises:
        WorkspaceError: A file cannot be read, or is no map.
    """
    try:
        with rasterio.open(folder / LANDCOVER) as file:
            grid = Grid(file.crs, file.transform, file.height, file.width)
            layers = [_classes(file, folder / LANDCOVER)]
            _look_at_end(file)
        if (folder / CONFIDENCE).is_file():
            with rasterio.open(folder / CONFIDENCE) as file:
                found = (_other(file, folder / CONFIDENCE, band) for band in file.indexes)
                layers += [layer for layer in found if layer]
                _look_at_end(file)
    except (RasterioError, EearthError, ValueError) as error:
        msg = f"expected the rasters of a map in {folder}, found: {innermost(error)}: run `eearth predict` again"
        raise WorkspaceError(msg) from error
    return grid, tuple(layers)


def _look_at_end(file: Any) -> None:
    """Read a pixel of the last block: a file that was cut short has a whole header, but not that."""
    if set(file.dtypes) != {"uint8"}:
        msg = f"pixels of {file.dtypes[0]} in {file.name}"
        raise ValueError(msg)
    file.read(file.count, window=((file.height - 1, file.height), (file.width - 1, file.width)))


def _classes(file: Any, path: Path) -> Layer:
    """The class map, with the colours of its colour table and the names of its tags."""
    colours = file.colormap(1)
    names = {int(key[len(NAME_TAG) :]): name for key, name in file.tags().items() if key.startswith(NAME_TAG)}
    entries = tuple(
        Entry(code, names[code], "#{:02x}{:02x}{:02x}".format(*colours.get(code, (127, 127, 127))[:3]))
        for code in sorted(names)
    )
    return Layer(CLASSES, "Land cover", path, 1, 0, entries)


def _other(file: Any, path: Path, band: int) -> Layer | None:
    """A band beside the classes; None where it holds nothing."""
    name = file.descriptions[band - 1] or f"band {band}"
    key = name.replace(" ", "-")
    if name == REASON:
        return Layer(key, "Reason", path, band, Reason.OUTSIDE_REGION, REASONS)
    values = file.read(band, out_shape=tuple(min(LOOKED_AT, side) for side in (file.height, file.width)))
    if (values == OUTSIDE).all():
        return None
    if name == UNFAMILIARITY:
        return Layer(key, "Unfamiliarity", path, band, OUTSIDE, (), MOST_UNFAMILIAR, "%")
    title, entries = QUANTITIES.get(name, (name.capitalize(), ()))
    if file.units[band - 1] == "percent":
        return Layer(key, title, path, band, OUTSIDE, entries, 100, "%")
    return Layer(key, title, path, band, OUTSIDE, entries, max(1, int(values[values != OUTSIDE].max())))
