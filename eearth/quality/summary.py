"""What became of the labels, as figures: `quality.json`, tables for the console, and outlines of the suspects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import geopandas as gpd
import numpy as np
import rasterio.features
from numpy.typing import NDArray
from shapely.geometry import shape

from eearth.events import Table
from eearth.geo.aoi import LONLAT
from eearth.geo.grid import Grid, Window
from eearth.geo.ground import lonlat_of
from eearth.geo.labels.legend import LandCoverClass
from eearth.geo.splits.attempts import tally_codes
from eearth.geo.splits.blocks import BUFFER, NAMES, strips_of
from eearth.geo.splits.footprints import Footprints
from eearth.geo.splits.split import Split
from eearth.manifest import write_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from eearth.quality.suspects import Suspect

SHOWN = 10  # suspects in the console
TOO_NEAR = "within the buffer of another part"


@dataclass(frozen=True)
class Dropped:
    """Labels that are not used.

    Attributes:
        reason: Why.
        features: How many; None where they are not counted.
        pixels: How many; None where they are not counted.
    """

    reason: str
    features: int | None
    pixels: int | None


@dataclass(frozen=True)
class Labelling:
    """Labels on the grid, and their split.

    Attributes:
        labels: (y, x) class codes, 0 = no label.
        classes: The legend.
        footprints: The features on the grid.
        split: Which pixel serves what.
        grid: Where they lie.
    """

    labels: NDArray[np.uint8]
    classes: tuple[LandCoverClass, ...]
    footprints: Footprints
    split: Split
    grid: Grid


@dataclass(frozen=True)
class Quality:
    """What there is to say of the labels.

    Attributes:
        classes: For each class its figures, see docs/workspace.md.
        dropped: What is not used, and why.
        conflicts: Pixels, and features, on which labels disagree.
        checked: Features that were compared with the imagery.
        suspects: Those that look like another class, the clearest cases first.
        split: What the split promises.
        unit: What was compared: features, or the patches of a map, which has none.
    """

    classes: tuple[dict[str, Any], ...]
    dropped: tuple[dict[str, Any], ...]
    conflicts: dict[str, int]
    checked: dict[str, int]
    suspects: tuple[dict[str, Any], ...]
    split: dict[str, Any]
    unit: Literal["features", "patches"] = "features"

    def write(self, path: Path) -> None:
        """Write `quality.json`."""
        write_json(path, {name: getattr(self, name) for name in self.__dataclass_fields__})

    def tables(self) -> list[Table]:
        """What to show of it beside the table of the classes."""
        tables = []
        if self.dropped:
            rows = tuple((one["reason"], _text(one["features"]), _text(one["pixels"])) for one in self.dropped)
            tables.append(Table(title="labels that are not used", columns=("why", self.unit, "pixels"), rows=rows))
        if self.suspects:
            tables.append(self._suspects())
        return tables

    def _suspects(self) -> Table:
        rows = tuple(
            (str(one["feature"]), one["class"], one["looks_like"], f"{one['confidence']:.2f}", str(one["pixels"]))
            for one in self.suspects[:SHOWN]
        )
        shown = f"the clearest {len(rows)} of {len(self.suspects)}" if len(self.suspects) > SHOWN else f"{len(rows)}"
        title = f"labels worth a look ({shown}; {self.checked['features']} {self.unit} compared with the imagery)"
        one = {"features": "feature", "patches": "patch"}[self.unit]
        return Table(title=title, columns=(one, "class", "looks like", "confidence", "pixels"), rows=rows)


def left_out(by_reason: Mapping[str, int], vanished: int, claimed: int, footprints: Footprints) -> list[Dropped]:
    """What was lost on the way to the grid.

    Args:
        by_reason: Features that were left out when the file was read.
        vanished: Those of which the inner buffer leaves nothing.
        claimed: Those that meet the grid.
        footprints: Those that have a pixel on it.
    """
    hidden = claimed - vanished - int(np.count_nonzero(footprints.pixels))
    lost = {
        **by_reason,
        "within the inner buffer": vanished,
        "on the imagery, but without a pixel of their own": hidden,
    }
    return [Dropped(reason, count, None) for reason, count in lost.items() if count > 0]


def _text(number: int | None) -> str:
    return "" if number is None else str(number)


def summarise(
    made: Labelling,
    *,
    clear: Mapping[int, dict[str, int]],
    dropped: Sequence[Dropped],
    conflicts: tuple[int, int],
    checked: int,
    suspects: Sequence[Suspect],
) -> Quality:
    """Put the figures together.

    Args:
        made: The labels.
        clear: Class code → least and median number of clear observations.
        dropped: What was left out on the way to the grid; what the buffer takes is added here.
        conflicts: Pixels and features on which labels disagree.
        checked: How many features were compared with the imagery.
        suspects: Those that look like another class.
    """
    names = {entry.code: entry.name for entry in made.classes}
    counts = tally_codes(made.labels, made.split.part)
    split = made.split
    return Quality(
        classes=tuple(_class(entry, counts[entry.code], clear.get(entry.code)) for entry in made.classes),
        dropped=tuple(vars(one) for one in [*dropped, *_too_near(made)]),
        conflicts={"pixels": conflicts[0], "features": conflicts[1]},
        checked={"features": checked},
        suspects=tuple(_described(one, names, made) for one in suspects),
        split={
            "block_size_m": split.block_size_m,
            "block_pixels": split.block_pixels,
            "buffer_m": split.buffer_m,
            "min_distance_m": split.min_distance_m,
            "divided_features": len(split.divided),
        },
    )


def _class(entry: LandCoverClass, parts: NDArray[np.int64], clear: dict[str, int] | None) -> dict[str, Any]:
    return {
        "code": entry.code,
        "name": entry.name,
        "colour": entry.colour,
        "features": entry.polygons,
        "pixels": entry.pixels,
        **{name: int(parts[code]) for code, name in NAMES.items()},
        "clear_observations": clear or {"least": None, "median": None},
    }


def _too_near(made: Labelling) -> list[Dropped]:
    """What the buffer takes."""
    taken, touched = 0, np.zeros(made.footprints.pixels.size, dtype=bool)
    for strip in strips_of(made.labels):
        near = made.split.part[strip] == BUFFER
        taken += int(near.sum())
        touched[made.footprints.raster[strip][near]] = True
    features = int(touched[1:].sum())
    return [Dropped(TOO_NEAR, features or None, taken)] if taken else []


def _window(feature: int, footprints: Footprints) -> Window:
    """A part of the grid that holds the whole feature."""
    middle = footprints.row[feature], footprints.column[feature]
    reach = int(footprints.height[feature]), int(footprints.width[feature])
    top, left = (max(0, int(at) - by) for at, by in zip(middle, reach, strict=True))
    bottom, right = (
        min(length, int(at) + by + 1) for at, by, length in zip(middle, reach, footprints.raster.shape, strict=True)
    )
    return Window(top, left, bottom - top, right - left)


def _described(suspect: Suspect, names: Mapping[int, str], made: Labelling) -> dict[str, Any]:
    """A suspect for `quality.json`; its place is the pixel nearest to its middle."""
    number, window = suspect.feature, _window(suspect.feature, made.footprints)
    rows, columns = np.nonzero(made.footprints.raster[window.slices] == number)
    rows, columns = rows + window.row, columns + window.col
    nearest = np.hypot(rows - made.footprints.row[number], columns - made.footprints.column[number]).argmin()
    lon, lat = lonlat_of(made.grid, rows[nearest], columns[nearest])
    return {
        "feature": number,
        "class": names[suspect.code],
        "looks_like": names[suspect.looks_like],
        "confidence": suspect.confidence,
        "pixels": int(made.footprints.pixels[number]),
        "lon": round(float(lon), 6),
        "lat": round(float(lat), 6),
    }


def write_suspects(path: Path, quality: Quality, made: Labelling) -> None:
    """Write the pixels of each suspect as outlines in longitude and latitude, to look at in a GIS."""
    outlines, rows = [], []
    for one in quality.suspects:
        window = _window(one["feature"], made.footprints)
        own = made.footprints.raster[window.slices] == one["feature"]
        found = rasterio.features.shapes(own.astype(np.uint8), own, transform=made.grid.crop(window).transform)
        for outline, _ in found:
            outlines.append(shape(outline))
            rows.append({name: one[name] for name in ("feature", "class", "looks_like", "confidence", "pixels")})
    columns = {name: [row[name] for row in rows] for name in rows[0]} if rows else {}
    frame = gpd.GeoDataFrame(columns, geometry=outlines, crs=made.grid.crs.to_wkt())
    path.write_text(frame.to_crs(LONLAT).to_json(drop_id=True) + "\n", encoding="utf-8")
