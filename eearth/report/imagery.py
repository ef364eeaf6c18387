"""Where the imagery of a report came from: dates, providers, licences, and whom to name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eearth.report.sources import Figure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from eearth.report.sources import Document, Held

# What the providers of open imagery ask to be written, by the beginning of a platform's name. Copernicus: Legal notice
# on the use of Copernicus Sentinel Data, "Contains modified Copernicus Sentinel data [Year]". USGS: Landsat data
# citation. NASA: the data of its archives are cited by their producer.
ATTRIBUTIONS = {
    "sentinel": "Contains modified Copernicus Sentinel data {years}.",
    "landsat": "Landsat imagery courtesy of the U.S. Geological Survey.",
    "terra": "MODIS imagery courtesy of NASA, distributed by LP DAAC.",
    "aqua": "MODIS imagery courtesy of NASA, distributed by LP DAAC.",
    "modis": "MODIS imagery courtesy of NASA, distributed by LP DAAC.",
    "hls": "Harmonized Landsat and Sentinel-2 imagery courtesy of NASA, distributed by LP DAAC.",
}


@dataclass(frozen=True)
class Acquisition:
    """One date: its items, the share of the region that it shows clearly, and why it was left out, if it was."""

    day: str
    items: str
    clear: Figure
    left_out: str


@dataclass(frozen=True)
class Imagery:
    """The imagery of the workspace.

    Attributes:
        facts: Its key figures.
        catalog: Where it was found; the manifest has no secrets in addresses.
        collection: Its name there.
        platforms: Satellites.
        providers: Who the items say made or host them.
        licences: What the items say.
        attributions: What the providers ask to be written.
        acquisitions: Date by date.
    """

    facts: tuple[Figure, ...]
    catalog: str
    collection: str
    platforms: tuple[str, ...]
    providers: tuple[str, ...]
    licences: tuple[str, ...]
    attributions: tuple[str, ...]
    acquisitions: tuple[Acquisition, ...]


def read_imagery(held: Held) -> Imagery | None:
    """The imagery of the workspace; None where it has none."""
    if "download" not in held:
        return None
    manifest = held.manifest_document("download")
    items = held.document("download", "items.json")
    properties = [item.get("properties", {}) for item in (items.entries("/features") if items else [])]
    collection = str(manifest.at("/records/collection") or "")
    platforms = _words(part.get(key) for part in properties for key in ("platform", "constellation"))
    return Imagery(
        facts=tuple(_fact(manifest, name) for name in manifest.data["figures"]),
        catalog=_catalog(manifest.at("/settings/catalog"), manifest.at("/settings/provider")),
        collection=collection,
        platforms=platforms,
        providers=_words(provider.get("name") for part in properties for provider in part.get("providers") or []),
        licences=_words(part.get("license") for part in properties),
        attributions=_attributions([*platforms, collection], _years(manifest)),
        acquisitions=tuple(
            _acquisition(manifest, number, entry)
            for number, entry in enumerate(manifest.entries("/records/acquisitions"))
        ),
    )


def _fact(manifest: Document, name: str) -> Figure:
    return manifest.figure(f"/figures/{name.replace('~', '~0').replace('/', '~1')}", name)


def _catalog(catalog: Any, provider: Any) -> str:
    """The address, or of a local path its last part: where a user keeps files is nobody's concern."""
    text = str(catalog or provider or "")
    return text if "://" in text else text.rstrip("/").rsplit("/", 1)[-1]


def _words(found: Iterable[Any]) -> tuple[str, ...]:
    return tuple(sorted({str(word) for word in found if word}))


def _years(manifest: Document) -> str:
    first, last = (str(manifest.at(f"/figures/{end}") or "")[:4] for end in ("first", "last"))
    return first if first == last else f"{first} to {last}"


def _attributions(names: Iterable[str], years: str) -> tuple[str, ...]:
    lowered = [name.casefold() for name in names]
    found = (text for start, text in ATTRIBUTIONS.items() if any(name.startswith(start) for name in lowered))
    return tuple(dict.fromkeys(text.format(years=years) for text in found))


def _acquisition(manifest: Document, number: int, entry: dict[str, Any]) -> Acquisition:
    place = f"/records/acquisitions/{number}"
    day = str(entry.get("time") or "")[:10]
    return Acquisition(
        day=day,
        items=str(entry.get("items") or ""),
        clear=manifest.figure(f"{place}/clear_pixels", f"clear pixels on {day}", unit="pixels"),
        left_out=str(entry.get("left_out") or ""),
    )
