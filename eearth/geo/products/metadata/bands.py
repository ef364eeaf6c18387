"""What the bands of a map's rasters mean, for metadata: one line for each band that a writer names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import rasterio

from eearth.geo.products.landcover.prediction import Reason

if TYPE_CHECKING:
    from pathlib import Path

    from rasterio.io import DatasetReader


@dataclass(frozen=True)
class Meaning:
    """A band in words.

    Attributes:
        text: What its values say.
        values: Value → (name in the letters of the classification extension, name for people), for a band of codes.
    """

    text: str
    values: Mapping[int, tuple[str, str]] = field(default_factory=dict)


# Band, as the writer names it in the file → what it means.
MEANINGS = {
    "land cover": Meaning("Land cover class"),
    "confidence": Meaning("Probability of the most probable class; 0: never observed"),
    "clear observations": Meaning("Number of clear observations; 0: never observed"),
    "margin": Meaning("Probability of the most probable class minus that of the second; 0: never observed"),
    "reason": Meaning(
        "Why the pixel has no class, or another one than the model gave it",
        {
            Reason.MAPPED: ("mapped", "mapped as the model has it"),
            Reason.NEVER_OBSERVED: ("never_observed", "never clearly observed"),
            Reason.REJECTED: ("rejected", "confidence below the least that was asked for"),
            Reason.CHANGED: ("minimum_mapping_unit", "changed by the minimum mapping unit"),
            Reason.OUTSIDE_REGION: ("outside", "outside the region"),
        },
    ),
    "unfamiliarity": Meaning(
        "How unlike the pixels that the model learnt from; 100: as far as the farthest 1 % of these; above: not to be "
        "trusted"
    ),
}


def bands_of(path: Path) -> list[dict[str, Any]]:
    """The bands of a raster in the words of STAC 1.1, with the meaning of those that have one here.

    A band of codes lists them as `classification:classes`.

    Args:
        path: A GeoTIFF whose bands have descriptions.
    """
    with rasterio.open(path) as file:
        return [_band(file, index) for index in file.indexes]


def _band(file: DatasetReader, index: int) -> dict[str, Any]:
    name = file.descriptions[index - 1] or f"band {index}"
    meaning = MEANINGS.get(name, Meaning(name))
    band = {"name": name, "description": meaning.text, "data_type": file.dtypes[index - 1], **_nodata(file, index)}
    if file.units[index - 1]:
        band["unit"] = file.units[index - 1]
    if (scale := file.scales[index - 1]) != 1 or file.offsets[index - 1]:
        band |= {"raster:scale": scale, "raster:offset": file.offsets[index - 1]}
    if meaning.values:
        band["classification:classes"] = [
            {"value": int(value), "name": letters, "title": title} for value, (letters, title) in meaning.values.items()
        ]
    return band


def _nodata(file: DatasetReader, index: int) -> dict[str, Any]:
    nodata = file.nodatavals[index - 1]
    return {} if nodata is None else {"nodata": int(nodata) if float(nodata).is_integer() else nodata}
