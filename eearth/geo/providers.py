"""What an item's metadata mean: which asset holds a band, and how its numbers become reflectance.

Providers name and describe the same bands in different ways. What is special to one of them stands in its table; the
code knows no provider by name.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from eearth.errors import SourceError, UsageError
from eearth.geo.provider_tables import MaskRule, Provider, find_provider, provider_names
from eearth.geo.signing import Access

if TYPE_CHECKING:
    import pystac

__all__ = [
    "COMMON_ENCODING",
    "Encoding",
    "Mask",
    "MaskRule",
    "Provider",
    "Source",
    "announced",
    "band_source",
    "baseline_of",
    "common_encoding",
    "find_provider",
    "is_sentinel_2",
    "mask_of",
    "provider_names",
]

# Sentinel-2 numbers are ten-thousandths of reflectance (Sentinel-2 Products Specification Document 14.9).
QUANTIFICATION = 1e-4


@dataclass(frozen=True)
class Source:
    """One band of one item, as a file to read.

    Attributes:
        href: Absolute path or URL, as the item has it: without a signature.
        index: Band of the file, from 1.
        scale: reflectance = DN x scale + offset.
        offset: See scale.
        nodata: Value that means "no data", None where the metadata name none; the file's own has precedence.
        dtype: numpy name of the file's numbers, None where the metadata do not say.
        access: How the file is read; None: as it is.
    """

    href: str
    index: int
    scale: float
    offset: float
    nodata: float | None
    dtype: str | None
    access: Access | None = None


@dataclass(frozen=True)
class Mask:
    """The asset of an item that classifies pixels, and how."""

    source: Source
    rule: MaskRule


def band_source(item: pystac.Item, band: str, provider: Provider) -> Source:
    """Find the asset that holds a band, by asset key, by common name or band name, then by the provider's other names.

    Raises:
        SourceError: No asset holds the band; the message lists what the item has.
    """
    others = [name for name, other in provider.aliases.items() if other == band]
    for name in (band, provider.aliases.get(band), *others):
        found = name and _find_asset(item, name, provider.resolution)
        if found:
            return _describe(item, *found, provider)
    known = ", ".join(key for key, asset in item.assets.items() if _is_raster(asset)) or "none"
    msg = f"expected the band {band!r} in the item {item.id}, found the assets: {known}; name them with --bands"
    raise SourceError(msg)


def _is_raster(asset: pystac.Asset) -> bool:
    media = (asset.media_type or "").lower()
    return "tiff" in media or "jp2" in media or (not media and asset.href.lower().endswith((".tif", ".tiff", ".jp2")))


def _find_asset(item: pystac.Item, name: str, resolution: float) -> tuple[str, int] | None:
    """(asset key, band index) of a band name.

    An asset of this band alone has precedence over a multi-band one, then one whose pixel size is near to `resolution`.
    """
    if name in item.assets:
        return name, 1
    matches = [
        (len(bands), _distance(key, asset, resolution), key, position + 1)
        for key, asset in item.assets.items()
        if _is_raster(asset)
        for bands in (_bands(asset) or [{"name": re.sub(r"_\d+m$", "", key)}],)
        for position, entry in enumerate(bands)
        if name in (entry.get("common_name"), entry.get("eo:common_name"), entry.get("name"))
    ]
    if not matches:
        return None
    _, _, key, index = min(matches, key=lambda match: match[:2])
    return key, index


def _distance(key: str, asset: pystac.Asset, resolution: float) -> float:
    """How far an asset's pixel size is from a resolution, in octaves: by its key, such as B02_10m, or by its gsd."""
    suffix = re.search(r"_(\d+)m$", key)
    side = float(suffix[1]) if suffix else float(asset.extra_fields.get("gsd") or 0.0)
    return abs(math.log2(side / resolution)) if side > 0 else 0.0


def _bands(asset: pystac.Asset) -> list[dict[str, Any]]:
    """The asset's band objects: `bands` since STAC 1.1, `eo:bands` before."""
    found: list[dict[str, Any]] = asset.extra_fields.get("bands") or asset.extra_fields.get("eo:bands") or []
    return found


def announced(asset: pystac.Asset, index: int = 1) -> dict[str, Any]:
    """Scale, offset, nodata and data_type, as far as announced: for the asset, in raster:bands, per band (STAC 1.1)."""
    facts: dict[str, Any] = {}
    for source in (
        {k.removeprefix("raster:"): v for k, v in asset.extra_fields.items()},
        _entry(asset.extra_fields.get("raster:bands"), index),
        {k.removeprefix("raster:"): v for k, v in _entry(asset.extra_fields.get("bands"), index).items()},
    ):
        facts |= {k: source[k] for k in ("scale", "offset", "nodata", "data_type") if source.get(k) is not None}
    return facts


def _entry(bands: list[dict[str, Any]] | None, index: int) -> dict[str, Any]:
    return bands[index - 1] if bands and index <= len(bands) else {}


def _describe(item: pystac.Item, key: str, index: int, provider: Provider, *, forced: bool = True) -> Source:
    """An asset as the item announces it and, with `forced`, as the provider's table knows better."""
    asset = item.assets[key]
    facts = {"scale": 1.0 if baseline_of(item) is None else QUANTIFICATION, "offset": 0.0} | announced(asset, index)
    known = {"scale": provider.scale, "offset": provider.offset, "nodata": provider.nodata} if forced else {}
    facts |= {name: value for name, value in known.items() if value is not None}
    alternate = (asset.extra_fields.get("alternate") or {}).get(provider.alternate or "", {})
    return Source(
        href=str(alternate.get("href") or asset.get_absolute_href() or asset.href),
        index=index,
        scale=float(facts["scale"]),
        offset=float(facts["offset"]),
        nodata=float(facts["nodata"]) if "nodata" in facts else None,
        dtype=facts.get("data_type"),
        access=provider.access if provider.access.kind != "none" else None,
    )


def mask_of(item: pystac.Item, provider: Provider, wanted: str | None, valid: tuple[int, ...] | None) -> Mask | None:
    """The asset that classifies pixels, and its rule; None where the item has none.

    Args:
        item: The item.
        provider: Whose assets and rule are taken.
        wanted: Asset key to take instead; 'none' takes no mask.
        valid: Clear values, instead of the provider's rule.

    Raises:
        SourceError: The wanted asset is not there.
        UsageError: An asset of the user's own, without its values.
    """
    if wanted == "none":
        return None
    key = next((key for key in ((wanted,) if wanted else provider.mask_assets) if key in item.assets), None)
    if key is None and wanted is None:
        return None
    if key is None:
        msg = (
            f"expected the mask asset {wanted!r} in the item {item.id}, found: {', '.join(item.assets)}; "
            "name one of them with --mask-asset, or say --mask-asset none"
        )
        raise SourceError(msg)
    rule = MaskRule(values=valid) if valid else provider.mask_rule
    if rule is None or (valid is None and key not in provider.mask_assets):
        msg = f"expected --mask-valid with the mask asset {key!r}: the values that are a clear observation"
        raise UsageError(msg)
    return Mask(_describe(item, key, 1, provider, forced=False), rule)


def baseline_of(item: pystac.Item) -> float | None:
    """The processing baseline of a Sentinel-2 item, also from its product's name; None if that does not tell either.

    Other satellites have none: their `processing:version` numbers something else.
    """
    properties = item.properties
    text = properties.get("s2:processing_baseline")
    if text is None and is_sentinel_2(item):
        name = re.search(r"MSIL2A_\w*?_N(\d{2})(\d{2})_", f"{properties.get('s2:product_uri')} {item.id}")
        text = properties.get("processing:version") or (f"{name[1]}.{name[2]}" if name else None)
    try:
        return float(str(text))
    except ValueError:
        return None


def is_sentinel_2(item: pystac.Item) -> bool:
    """Whether the item says so: `Sentinel-2A` at some providers, `sentinel-2a` at others."""
    names = (item.properties.get("platform"), item.properties.get("constellation"))
    return any(str(name).lower().replace(" ", "-").startswith("sentinel-2") for name in names)


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
