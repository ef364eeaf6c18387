"""A plain folder of dated GeoTIFFs, as items: what a STAC catalog would say is in the files' names and headers.

`T33TVM_20230815T100559_B02.tif` is the band B02 of the tile T33TVM. Files of one tile and time are one item.
"""

from __future__ import annotations

import math
import re
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pystac
import rasterio
import shapely
from pyproj import CRS
from pyproj.exceptions import ProjError
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from shapely.geometry import mapping
from shapely.geometry.base import BaseGeometry

from eearth.errors import SourceError
from eearth.events import Report, Warned, silent
from eearth.geo.antimeridian import boxes_of, unwrapped
from eearth.geo.aoi import lonlat_footprint
from eearth.geo.grid import projection_fields

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

MEDIA = {".tif": pystac.MediaType.GEOTIFF, ".tiff": pystac.MediaType.GEOTIFF, ".jp2": pystac.MediaType.JPEG2000}

# A date, with a time if there is one; no digit may touch it, so that a longer number is no date.
DATE = re.compile(r"(?<!\d)(\d{4})(-?)(\d{2})\2(\d{2})(?:T(\d{6}))?(?!\d)")

# No satellite image of the Earth's surface is older than Landsat 1 (July 1972); 8 digits beyond these are no date.
FIRST_YEAR, LAST_YEAR = 1972, 2099

# Parts of a name that are no band: the pixel size of ESA's files (10m, R10m), and a tile of the military grid.
PIXEL_SIZE = re.compile(r"R?\d{1,4}m", re.IGNORECASE)
MGRS_TILE = re.compile(r"T?\d{2}[C-HJ-NP-X][A-HJ-NP-Z][A-HJ-NP-V]")

EXTENSIONS = [
    f"https://stac-extensions.github.io/{name}/schema.json"
    for name in ("projection/v2.0.0", "raster/v1.1.0", "eo/v1.1.0")
]

# Headers opened at the same time.
READERS = 8

# Unusable files that a message names.
MOST_NAMED = 5


@dataclass(frozen=True)
class Name:
    """What the path of a file says of it.

    Attributes:
        time: When it was acquired, UTC; midnight where the name has a day only.
        folders: Parts of the names of the folders that it lies in, dates and pixel sizes left out.
        parts: The rest of its own name, in parts, date and pixel size left out.
    """

    time: datetime
    folders: tuple[str, ...]
    parts: tuple[str, ...]

    @property
    def band(self) -> str | None:
        """The last part of the name; None if there is none, or it is a tile of the military grid."""
        return self.parts[-1] if self.parts and not MGRS_TILE.fullmatch(self.parts[-1]) else None


@dataclass(frozen=True)
class Raster:
    """One file: its name, and what its header says.

    Attributes:
        path: Where it lies, absolute.
        name: What its path says.
        bands: Name of each band.
        fields: The asset's fields, in the words of the projection, raster and eo extensions.
        outline: Its outer edge in longitude and latitude, in one piece across ±180°.
    """

    path: Path
    name: Name
    bands: tuple[str, ...]
    fields: dict[str, Any]
    outline: BaseGeometry

    @property
    def key(self) -> str:
        """The asset's key: the band of a single-band file, the last part of the name of another one."""
        return self.bands[0] if len(self.bands) == 1 else ("data", *self.name.parts)[-1]

    @property
    def tile(self) -> str:
        """What its name has in common with those of the other files of its item."""
        own = self.name.parts
        if len(self.bands) > 1 or self.name.band is None:
            return "_".join((*self.name.folders, *own))
        return "_".join((*(part for part in self.name.folders if part != own[-1]), *own[:-1]))

    @property
    def shorter_tile(self) -> str:
        """The tile, if the last part of a multi-band file's name is no tile but says what it holds, such as `stack`."""
        return "_".join((*self.name.folders, *self.name.parts[:-1]))

    @property
    def pixel(self) -> float:
        """Pixel size, in units of the file's CRS."""
        return abs(float(self.fields["proj:transform"][0]))


def items_of(folder: Path, report: Report = silent) -> list[pystac.Item]:
    """The dated rasters below a folder as STAC items, in order of time.

    Args:
        folder: Holds GeoTIFFs or JPEG 2000 files, in subfolders or not, hidden ones left out. Each has a date (YYYYMMDD
            or YYYY-MM-DD, then THHMMSS if known) in its name, or in that of the nearest folder that has one. The band
            of a single-band file is the last part of its name; bands of another one are known by their descriptions,
            or are B1, B2 ...
        report: Receives one warning about files that cannot be used.

    Raises:
        SourceError: No file can be used.
    """
    paths = sorted(path for path in folder.rglob("*") if _is_candidate(path.relative_to(folder)) and path.is_file())
    rasters, unusable = _read_all(folder, paths)
    if not rasters:
        found = _listed(unusable) if unusable else f"no {', '.join(MEDIA)} file"
        msg = f"expected a catalog.json, or GeoTIFFs with a date such as 20230815 in their names, in {folder}, found "
        raise SourceError(msg + found)
    if unusable:
        report(Warned(text=f"{len(unusable)} of {len(paths)} files in {folder} are left out: {_listed(unusable)}"))
    return [_item(tile, time, group) for (time, tile), group in _grouped(rasters)]


def name_of(path: Path) -> Name | None:
    """What a path says of a file; None if no part of it holds a date.

    Args:
        path: The file's path from the folder on, the folder's own name first.
    """
    own = [*path.parts[:-1], path.stem]
    for level in range(len(own) - 1, -1, -1):
        dated = _dated(own[level])
        if dated is not None:
            time, own[level] = dated
            folders = [part for folder in own[1:-1] for part in _parts(folder)]
            return Name(time, tuple(folders), tuple(_parts(own[-1])))
    return None


def _dated(text: str) -> tuple[datetime, str] | None:
    """The first date in a text, and the text without it; None if it has none."""
    for match in DATE.finditer(text):
        year, _, month, day, clock = match.groups()
        try:
            time = datetime.strptime(f"{year}{month}{day}{clock or '000000'}", "%Y%m%d%H%M%S").replace(tzinfo=UTC)
        except ValueError:
            continue
        if FIRST_YEAR <= time.year <= LAST_YEAR:
            return time, f"{text[: match.start()]}_{text[match.end() :]}"
    return None


def _parts(text: str) -> list[str]:
    return [part for part in re.split(r"[^0-9A-Za-z]+", text) if part and not PIXEL_SIZE.fullmatch(part)]


def _is_candidate(path: Path) -> bool:
    return path.suffix.lower() in MEDIA and not any(part.startswith(".") for part in path.parts)


def _read_all(folder: Path, paths: Sequence[Path]) -> tuple[list[Raster], dict[str, str]]:
    """The usable files, and for each other one (by its path in the folder) why it cannot be used."""
    root = folder.resolve()

    def read(path: Path) -> Raster | str:
        inside = path.relative_to(folder)
        name = name_of(Path(root.name) / inside)
        return "no date in its name" if name is None else _read(root / inside, name)

    with ThreadPoolExecutor(READERS) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # said by the reason below
        results = list(pool.map(read, paths))
    named = {path.relative_to(folder).as_posix(): result for path, result in zip(paths, results, strict=True)}
    return (
        [result for result in results if isinstance(result, Raster)],
        {name: result for name, result in named.items() if isinstance(result, str)},
    )


def _read(path: Path, name: Name) -> Raster | str:
    """What the header says, or why the file cannot be used."""
    try:
        with rasterio.open(path) as file:
            if file.crs is None:
                return "no coordinate reference system"
            bands = _band_names(file, name)
            outline = lonlat_footprint(file.bounds, CRS.from_wkt(file.crs.to_wkt()))
            fields = {**projection_fields(file), **_facts(file, bands)}
    except ProjError:
        return "no place on the globe"
    except RasterioError as error:
        return f"no raster ({str(error).splitlines()[0]})"
    finite = all(math.isfinite(edge) for edge in outline.bounds)
    return Raster(path, name, bands, fields, outline) if finite else "no place on the globe"


def _band_names(file: Any, name: Name) -> tuple[str, ...]:
    """One name a band: of a single band by the file's name, of several by their descriptions; B1, B2 ... otherwise."""
    if file.count == 1 and name.band is not None:
        return (name.band,)
    described = [text.strip() if text else "" for text in file.descriptions]
    return tuple(
        text if text and described.count(text) == 1 else f"B{number}" for number, text in enumerate(described, 1)
    )


def _facts(file: Any, bands: Sequence[str]) -> dict[str, Any]:
    """What the file says of its numbers; a scale of 1 and an offset of 0 are what a file has that says nothing."""
    facts: list[dict[str, Any]] = []
    for dtype, nodata, scale, offset in zip(file.dtypes, file.nodatavals, file.scales, file.offsets, strict=True):
        said: dict[str, Any] = {"data_type": dtype}
        if nodata is not None:  # JSON has no NaN: the raster extension has the word for it
            said["nodata"] = nodata if math.isfinite(nodata) else str(nodata)
        if (scale, offset) != (1.0, 0.0):
            said |= {"scale": scale, "offset": offset}
        facts.append(said)
    return {"eo:bands": [{"name": name} for name in bands], "raster:bands": facts}


def _grouped(rasters: Iterable[Raster]) -> Iterator[tuple[tuple[datetime, str], list[Raster]]]:
    """The files of each (time, tile), those of small pixels first.

    A multi-band file joins single-band ones of its time (a stack and its mask) if their names agree but for its last
    part.
    """
    rasters = list(rasters)
    singles = {(raster.name.time, raster.tile) for raster in rasters if len(raster.bands) == 1}

    def place(raster: Raster) -> tuple[datetime, str]:
        full, shorter = (raster.name.time, raster.tile), (raster.name.time, raster.shorter_tile)
        joins = len(raster.bands) > 1 and full not in singles and shorter in singles
        return shorter if joins else full

    for key, group in groupby(sorted(rasters, key=place), place):
        yield key, sorted(group, key=lambda raster: (raster.pixel, raster.path))


def _item(tile: str, time: datetime, rasters: Sequence[Raster]) -> pystac.Item:
    """One item; of two files of the same band, the one of smaller pixels."""
    stamp = time.strftime("%Y%m%dT%H%M%S" if time.strftime("%H%M%S") != "000000" else "%Y%m%d")
    longitude = rasters[0].outline.centroid.x
    outline = shapely.union_all([unwrapped(raster.outline, longitude) for raster in rasters])
    boxes = boxes_of(outline.bounds)
    bounds = [*boxes[0][:2], *boxes[-1][2:]]  # across ±180° west is greater than east (RFC 7946, 5.2)
    name = f"{tile}_{stamp}" if tile else stamp
    item = pystac.Item(name, mapping(unwrapped(outline, 0.0)), bounds, time, {}, stac_extensions=EXTENSIONS)
    for raster in reversed(rasters):
        media = MEDIA[raster.path.suffix.lower()]
        item.add_asset(raster.key, pystac.Asset(str(raster.path), media_type=media, extra_fields=raster.fields))
    return item


def _listed(unusable: dict[str, str]) -> str:
    shown = [f"{name} ({reason})" for name, reason in list(unusable.items())[:MOST_NAMED]]
    more = f" and {len(unusable) - MOST_NAMED} more" if len(unusable) > MOST_NAMED else ""
    return f"{', '.join(shown)}{more}"
