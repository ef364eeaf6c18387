"""What an item's metadata mean: which asset holds a band, and how its numbers become reflectance.

Providers name and describe the same Sentinel-2 band in different ways, and some contradict themselves. What is decided
here is decided once for an item and recorded with its reason.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from eearth.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Callable

    import pystac

# Common names of the STAC eo extension ↔ band numbers of the Sentinel-2 MSI, for providers that give only one of them.
SENTINEL_2_NUMBERS = {
    "coastal": "B01",
    "blue": "B02",
    "green": "B03",
    "red": "B04",
    "rededge1": "B05",
    "rededge2": "B06",
    "rededge3": "B07",
    "nir": "B08",
    "nir08": "B8A",
    "nir09": "B09",
    "cirrus": "B10",
    "swir16": "B11",
    "swir22": "B12",
}
SENTINEL_2_NAMES = {number: name for name, number in SENTINEL_2_NUMBERS.items()}

MASK_ASSETS = ("scl", "SCL")

# Since processing baseline 04.00 (25 January 2022) ESA adds 1000 to every Level-2A number (Sentinel-2 Products
# Specification Document 14.9): reflectance = (DN - 1000) / 10000.
OFFSET_BASELINE = 4.0
BOA_OFFSET = -0.1
QUANTIFICATION = 1e-4
# Blue is dark somewhere in every scene: where even its first percentile is this high, the 1000 is still in the numbers.
OFFSET_SHOWS_FROM_DN = 900


@dataclass(frozen=True)
class Source:
    """One band of one item, as a file to read.

    Attributes:
        href: Absolute path or URL.
        index: Band of the file, from 1.
        scale: reflectance = DN x scale + offset.
        offset: See scale.
        nodata: Value that means "no data", None where the metadata name none; the file's own has precedence.
        dtype: numpy name of the file's numbers, None where the metadata do not say.
    """

    href: str
    index: int
    scale: float
    offset: float
    nodata: float | None
    dtype: str | None


def band_source(item: pystac.Item, band: str) -> Source:
    """Find the asset that holds a band, by asset key, then by common name or band name, then by Sentinel-2 number.

    Raises:
        SourceError: No asset holds the band; the message lists what the item has.
    """
    for name in (band, SENTINEL_2_NUMBERS.get(band), SENTINEL_2_NAMES.get(band)):
        found = name and _find_asset(item, name)
        if found:
            key, index = found
            return _describe(item, key, index)
    known = ", ".join(key for key, asset in item.assets.items() if _is_raster(asset)) or "none"
    msg = f"expected the band {band!r} in the item {item.id}, found the assets: {known}; name them with --bands"
    raise SourceError(msg)


def _is_raster(asset: pystac.Asset) -> bool:
    media = (asset.media_type or "").lower()
    return "tiff" in media or "jp2" in media or (not media and asset.href.lower().endswith((".tif", ".tiff", ".jp2")))


def _find_asset(item: pystac.Item, name: str) -> tuple[str, int] | None:
    """(asset key, band index) of a band name; an asset of this band alone has precedence over a multi-band one."""
    if name in item.assets:
        return name, 1
    matches = [
        (len(bands), key, position + 1)
        for key, asset in item.assets.items()
        if _is_raster(asset)
        for bands in (_bands(asset),)
        for position, entry in enumerate(bands)
        if name in (entry.get("common_name"), entry.get("eo:common_name"), entry.get("name"))
    ]
    if not matches:
        return None
    _, key, index = min(matches, key=lambda match: match[0])
    return key, index


def _bands(asset: pystac.Asset) -> list[dict[str, Any]]:
    """The asset's band objects: `bands` since STAC 1.1, `eo:bands` before."""
    found: list[dict[str, Any]] = asset.extra_fields.get("bands") or asset.extra_fields.get("eo:bands") or []
    return found


def _describe(item: pystac.Item, key: str, index: int) -> Source:
    """Scale, offset, nodata and type as announced: per band (STAC 1.1), per raster:bands entry, or for the asset."""
    asset = item.assets[key]
    facts: dict[str, Any] = {}
    for source in (
        {k.removeprefix("raster:"): v for k, v in asset.extra_fields.items()},
        _entry(asset.extra_fields.get("raster:bands"), index),
        {k.removeprefix("raster:"): v for k, v in _entry(asset.extra_fields.get("bands"), index).items()},
    ):
        facts |= {k: source[k] for k in ("scale", "offset", "nodata", "data_type") if source.get(k) is not None}
    return Source(
        href=str(asset.get_absolute_href() or asset.href),
        index=index,
        scale=float(facts.get("scale", 1.0 if _baseline(item) is None else QUANTIFICATION)),
        offset=float(facts.get("offset", 0.0)),
        nodata=float(facts["nodata"]) if "nodata" in facts else None,
        dtype=facts.get("data_type"),
    )


def _entry(bands: list[dict[str, Any]] | None, index: int) -> dict[str, Any]:
    return bands[index - 1] if bands and index <= len(bands) else {}


def mask_source(item: pystac.Item, wanted: str | None) -> Source | None:
    """The asset that classifies pixels.

    Args:
        item: The item.
        wanted: Asset key; None takes a scene classification if the item has one; 'none' takes no mask.

    Raises:
        SourceError: The wanted asset is not there.
    """
    if wanted == "none":
        return None
    for key in MASK_ASSETS if wanted is None else (wanted,):
        if key in item.assets:
            return _describe(item, key, 1)
    if wanted is None:
        return None
    msg = (
        f"expected the mask asset {wanted!r} in the item {item.id}, found: {', '.join(item.assets)}; "
        "name one of them with --mask-asset, or say --mask-asset none"
    )
    raise SourceError(msg)


@dataclass(frozen=True)
class Radiometry:
    """How an item's numbers were read, and why.

    Attributes:
        offset: Offset to add to DN x scale; None: as each band announces.
        reason: One sentence for the manifest.
        tested: The pixels decided, for the metadata did not.
    """

    offset: float | None
    reason: str
    tested: bool = False

    def apply(self, source: Source) -> Source:
        """The source with the decided offset."""
        return source if self.offset is None else replace(source, offset=self.offset)


def decide_offset(item: pystac.Item, announced: Source, first_percentile: Callable[[], float | None]) -> Radiometry:
    """Decide whether the Sentinel-2 Level-2A offset of -0.1 is still to be applied.

    The flag `earthsearch:boa_offset_applied` true is believed. Where it is false, or where an item of baseline 04.00 or
    later announces neither flag nor offset, the pixels decide.

    Args:
        item: The item.
        announced: One of its bands, as its metadata describe it.
        first_percentile: Returns the first percentile of the valid DN of the item's blue band over the region, None
            where it has no valid pixel; called only if needed.
    """
    flag = item.properties.get("earthsearch:boa_offset_applied")
    baseline = _baseline(item)
    if flag is True:
        return Radiometry(0.0, "offset already in the numbers (earthsearch:boa_offset_applied)")
    if baseline is None or (flag is None and announced.offset != 0):
        return Radiometry(None, f"offset {announced.offset:g} as announced")
    if baseline < OFFSET_BASELINE:
        return Radiometry(0.0, f"no offset before baseline 04.00 (this is {baseline:05.2f})")
    darkest = first_percentile()
    if darkest is None:
        return Radiometry(BOA_OFFSET, f"offset {BOA_OFFSET} by baseline {baseline:05.2f}; no valid pixel to test")
    if darkest >= OFFSET_SHOWS_FROM_DN:
        return Radiometry(
            BOA_OFFSET, f"offset {BOA_OFFSET}: tested, first percentile of blue is DN {darkest:.0f}", tested=True
        )
    return Radiometry(
        0.0, f"no offset left to apply: tested, first percentile of blue is DN {darkest:.0f}", tested=True
    )


def _baseline(item: pystac.Item) -> float | None:
    """The processing baseline of a Sentinel-2 item; None for other satellites, which number otherwise."""
    properties = item.properties
    text = properties.get("s2:processing_baseline")
    if text is None and str(properties.get("platform") or properties.get("constellation")).startswith("sentinel-2"):
        text = properties.get("processing:version")
    try:
        return float(str(text))
    except ValueError:
        return None


@dataclass(frozen=True)
class Encoding:
    """How a cube stores reflectance: reflectance = DN x scale + offset, `fill` where there is no data."""

    dtype: str
    scale: float
    offset: float
    fill: int


# Where the sources of a cube disagree, their reflectance is stored in this common form: 1/10000 steps, from -3.2767 to
# +3.2767 (beyond: clipped), so that the slightly negative reflectance of dark water survives.
COMMON_ENCODING = Encoding("int16", 1e-4, 0.0, -32768)


def common_encoding(sources: list[Source]) -> Encoding:
    """The sources' own form if they all share one, so that their numbers pass unchanged; else the common form."""
    forms = {(source.dtype, source.scale, source.offset, source.nodata) for source in sources}
    dtype, scale, offset, nodata = next(iter(forms))
    if len(forms) > 1 or dtype is None or nodata is None or np.dtype(dtype).kind not in "iu":
        return COMMON_ENCODING
    return Encoding(dtype, scale, offset, int(nodata))
