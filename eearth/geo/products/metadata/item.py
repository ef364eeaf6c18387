"""A map, or features, as a STAC Item, so that catalogues and programs find it, place it and read its legend."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shapely.geometry import mapping

from eearth.geo.antimeridian import boxes_of, unwrapped
from eearth.geo.grid import projection_fields
from eearth.geo.products.features.quantisation import NODATA
from eearth.geo.products.metadata.bands import bands_of
from eearth.manifest import file_digest, write_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from shapely.geometry.base import BaseGeometry

    from eearth.geo.grid import Grid
    from eearth.geo.products.features.quantisation import Int8
    from eearth.geo.products.landcover.prediction import MapClass

COG = "image/tiff; application=geotiff; profile=cloud-optimized"
ZARR = "application/vnd.zarr; version=2"

# The versions that today's readers (pystac 1.15, odc-stac 0.5) take pixel type and nodata value from.
EXTENSIONS = (
    "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "https://stac-extensions.github.io/raster/v1.1.0/schema.json",
    "https://stac-extensions.github.io/classification/v2.0.0/schema.json",
    "https://stac-extensions.github.io/file/v2.1.0/schema.json",
    "https://stac-extensions.github.io/processing/v1.1.0/schema.json",
)

# What a band says in the words of the raster extension before STAC 1.1, without the prefix of today.
OLDER = ("data_type", "nodata", "unit", "raster:scale", "raster:offset", "classification:classes")

# Multihash prefix of a sha256 digest: code 0x12, length 0x20 (https://github.com/multiformats/multihash).
MULTIHASH_SHA256 = "1220"

NO_DATA = "no_data"
NO_DATA_CLASS = {"value": 0, "name": NO_DATA, "title": "no data", "nodata": True}

# Decimals of longitude and latitude: a centimetre on the ground.
DEGREE_DECIMALS = 7


@dataclass(frozen=True)
class Asset:
    """A file of the item.

    Attributes:
        path: Where it lies; must exist.
        title: One line for people.
        media_type: Such as "image/png".
        roles: STAC asset roles, such as ("data",).
        fields: Further STAC fields.
        edited: People are to fill it in, so that its size and checksum will not last.
    """

    path: Path
    title: str
    media_type: str
    roles: tuple[str, ...]
    fields: Mapping[str, Any] = field(default_factory=dict)
    edited: bool = False

    def as_dict(self, folder: Path) -> dict[str, Any]:
        """The asset of an item that lies in `folder`."""
        return {
            "href": f"./{self.path.relative_to(folder).as_posix()}",
            "title": self.title,
            "type": self.media_type,
            "roles": list(self.roles),
            **({} if self.edited else _file_facts(self.path)),
            **self.fields,
        }


def _file_facts(path: Path) -> dict[str, Any]:
    """Size and checksum of a file; a Zarr store is a folder, for which the file extension has no words."""
    if path.is_dir():
        return {}
    return {"file:size": path.stat().st_size, "file:checksum": MULTIHASH_SHA256 + file_digest(path)}


def landcover_asset(path: Path, grid: Grid, classes: Sequence[MapClass]) -> Asset:
    """The class map, as `LandCoverWriter` leaves it, with its legend."""
    bands = [_band("landcover", "Land cover class", nodata=0)]
    fields = _bands(bands, grid) | {"classification:classes": [NO_DATA_CLASS, *legend_fields(classes)]}
    return Asset(path, "Land cover", COG, ("data",), fields)


def legend_fields(classes: Sequence[MapClass]) -> list[dict[str, Any]]:
    """The legend in the words of the classification extension."""
    return [
        {"value": entry.code, "name": name, "title": entry.name, "color_hint": entry.colour.removeprefix("#").upper()}
        for entry, name in zip(classes, _identifiers(classes), strict=True)
    ]


def confidence_asset(path: Path, grid: Grid) -> Asset:
    """What is known of each pixel beside its class, as `LandCoverWriter` leaves it."""
    title = "Confidence, number of clear observations, and what else is known of each pixel"
    return Asset(path, title, COG, ("metadata", "confidence"), _bands(bands_of(path), grid))


def probabilities_asset(path: Path, grid: Grid) -> Asset:
    """The probability of each class, one band a class, as `LandCoverWriter` leaves them."""
    bands = [band | {"description": f"Probability of {band['name']}"} for band in bands_of(path)]
    return Asset(path, "Probability of each class", COG, ("data", "probability"), _bands(bands, grid))


def features_asset(path: Path, grid: Grid, names: Sequence[str], code: Int8 | None) -> Asset:
    """Features, as `FeatureWriter` leaves them: float32 (`code` None), or 8-bit integers."""
    kind = {"data_type": "float32", "nodata": "nan"} if code is None else {"data_type": "int8", "nodata": NODATA}
    bands = [_band(name, f"Feature {index} of the encoder", **kind) for index, name in enumerate(names)]
    if code is not None:
        for band, scale, offset in zip(bands, code.scale.tolist(), code.offset.tolist(), strict=True):
            band |= {"raster:scale": scale, "raster:offset": offset}
    return Asset(path, "Features of every pixel", ZARR if path.is_dir() else COG, ("data",), _bands(bands, grid))


def _band(name: str, description: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "description": description, "data_type": "uint8", **fields}


def _bands(bands: Sequence[dict[str, Any]], grid: Grid) -> dict[str, Any]:
    """Bands in the words of STAC 1.1, and of the raster extension before it, which more programs read."""
    placed = {"sampling": "area", "spatial_resolution": round(grid.pixel_metres, 6)}
    older = [{key.removeprefix("raster:"): band[key] for key in OLDER if key in band} | placed for band in bands]
    return {"bands": list(bands), "raster:bands": older}


def _identifiers(classes: Sequence[MapClass]) -> list[str]:
    """Class names in the letters that the classification extension allows (0-9 A-Z a-z - _), all different."""
    names = [NO_DATA]
    for entry in classes:
        letters = unicodedata.normalize("NFKD", entry.name).encode("ascii", "ignore").decode()
        name = re.sub(r"[^0-9A-Za-z]+", "_", letters).strip("_").lower() or f"class_{entry.code}"
        while name in names:
            name += f"_{entry.code}"
        names.append(name)
    return names[1:]


def write_item(
    path: Path,
    *,
    id: str,  # noqa: A002 (STAC's own name)
    grid: Grid,
    region: BaseGeometry,
    start: datetime,
    end: datetime,
    assets: Mapping[str, Asset],
    properties: Mapping[str, Any],
    links: Sequence[Mapping[str, str]] = (),
) -> None:
    """Write a product as a STAC 1.1 Item, see `write_any_item`.

    Args:
        path: See `write_any_item`.
        id: See `write_any_item`.
        grid: The map's grid.
        region: The mapped region.
        start: First acquisition.
        end: Last acquisition.
        assets: Key → file.
        properties: Further item properties.
        links: See `write_any_item`.
    """
    placed = {"gsd": round(grid.pixel_metres, 6), **projection_fields(grid)}
    write_any_item(
        path,
        id=id,
        extensions=EXTENSIONS,
        region=region,
        start=start,
        end=end,
        assets=assets,
        properties=placed | dict(properties),
        links=links,
    )


def write_any_item(
    path: Path,
    *,
    id: str,  # noqa: A002 (STAC's own name)
    extensions: Sequence[str],
    region: BaseGeometry,
    start: datetime,
    end: datetime,
    assets: Mapping[str, Asset],
    properties: Mapping[str, Any],
    links: Sequence[Mapping[str, str]] = (),
) -> None:
    """Write a STAC 1.1 Item with relative paths, so that the folder can be moved as a whole.

    It has no `created`: a map that is made again is the same map, byte for byte.

    Args:
        path: The JSON file, in the assets' folder or above it.
        id: Identifier of the item.
        extensions: Schemas of the extensions that it uses.
        region: Longitude and latitude on WGS 84; beyond 180° across the antimeridian.
        start: First acquisition; a time without zone is UTC.
        end: Last acquisition.
        assets: Key → file.
        properties: Further item properties.
        links: STAC links, such as what it was derived from.
    """
    boxes = boxes_of(region.bounds)
    write_json(
        path,
        {
            "type": "Feature",
            "stac_version": "1.1.0",
            "stac_extensions": list(extensions),
            "id": id,
            "geometry": _rounded(mapping(unwrapped(region, 0.0))),
            "bbox": _rounded((*boxes[0][:2], *boxes[-1][2:])),  # west > east across the antimeridian (RFC 7946)
            "properties": {
                "datetime": None,
                "start_datetime": _rfc3339(start),
                "end_datetime": _rfc3339(end),
                **properties,
            },
            "links": [dict(link) for link in links],
            "assets": {key: asset.as_dict(path.parent) for key, asset in assets.items()},
        },
    )


def _rfc3339(time: datetime) -> str:
    aware = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    return aware.isoformat(timespec="seconds").replace("+00:00", "Z")


def _rounded(value: Any) -> Any:
    """Nested coordinates as lists of rounded numbers; keys and names as they are."""
    if isinstance(value, Mapping):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(part) for part in value]
    return round(float(value), DEGREE_DECIMALS) if isinstance(value, float | int) else value
