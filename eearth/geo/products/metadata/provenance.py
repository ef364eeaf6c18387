"""Where a product comes from, in the words of STAC: its processing, and links to what it was derived from."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from eearth.manifest import redacted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from eearth.config import Settings

# "Model output or results from analyses of lower level data", of the levels that the processing extension lists.
LEVEL = "L4"

# What turns numbers into other numbers.
SOFTWARE = ("eearth", "torch", "rasterio")

# The settings that `eearth <stage>` was run with, resolved; those that change nothing in the product are left out.
EXPRESSION = "eearth"

# Source items that an item links to; a list that is longer stands in the manifest alone.
MOST_LINKS = 100

ITEM = "item.json"
GEOJSON = "application/geo+json"


def software() -> dict[str, str]:
    """Program → version."""
    return {name: version(name) for name in SOFTWARE}


def processing_fields(what: str, tags: Mapping[str, str], dates: Sequence[str], settings: Settings) -> dict[str, Any]:
    """Item properties that say how a product was made.

    Args:
        what: Such as "Land cover".
        tags: What the product's files say of it, see `Scenery.provenance`.
        dates: Ids of the items of each acquisition, separated by spaces.
        settings: Of the stage that made it.
    """
    of = f" of {tags['COLLECTION']}" if tags["COLLECTION"] else ""
    bands = tags["BANDS"].replace(",", ", ")
    return {
        "processing:level": LEVEL,
        "processing:lineage": f"{what} by the network {tags['ENCODER']} from {len(dates)} acquisitions{of}: {bands}.",
        "processing:expression": {
            "format": EXPRESSION,
            "expression": {"stage": settings.stage, "settings": settings.what()},
        },
        "processing:software": software(),
        "eearth:model": tags["MODEL"],
        "eearth:acquisitions": len(dates),
        "eearth:imagery": imagery_digest(dates),
    }


def imagery_digest(items: Iterable[str]) -> str:
    """What tells the imagery of one product from that of another: SHA-256 over the ids of its items, in order."""
    return hashlib.sha256("\n".join(items).encode()).hexdigest()


def model_link(folder: str) -> dict[str, str]:
    """A product's link to the item of its model.

    Args:
        folder: Name of the model's folder, beside that of the product.
    """
    return {"rel": "derived_from", "href": f"../{folder}/{ITEM}", "type": GEOJSON, "title": "The model"}


def source_links(catalog: str, collection: str | None, dates: Sequence[str]) -> list[dict[str, str]]:
    """Links to the items of the imagery where these are few and lie behind a STAC API.

    Args:
        catalog: Address or path of the catalog; a file or a folder has no address for an item.
        collection: Id of the collection.
        dates: Ids of the items of each acquisition, separated by spaces.
    """
    ids = [name for date in dates for name in date.split()]
    if not catalog.startswith("http") or catalog.endswith(".json") or not collection or len(ids) > MOST_LINKS:
        return []
    root = f"{redacted(catalog).rstrip('/')}/collections/{quote(collection)}/items"
    return [{"rel": "derived_from", "href": f"{root}/{quote(name)}", "type": GEOJSON, "title": name} for name in ids]
