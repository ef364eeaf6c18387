"""Static STAC sites on disk, made fit to be loaded into an API."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

if TYPE_CHECKING:
    from pathlib import Path

# An API writes these itself; see `INFERRED_LINK_RELS` in stac-fastapi.
STRUCTURAL = {"root", "parent", "self", "collection", "item", "items", "child"}


def _rehome(path: Path, folder: Path, base_url: str) -> dict[str, Any]:
    """One STAC object with absolute asset hrefs and without links that only hold inside the static site."""
    stac_object: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    own_url = f"{base_url.rstrip('/')}/{path.relative_to(folder).as_posix()}"
    for asset in stac_object.get("assets", {}).values():
        asset["href"] = urljoin(own_url, asset["href"])
    stac_object["links"] = [
        link for link in stac_object["links"] if link["rel"] not in STRUCTURAL and urlsplit(link["href"]).scheme
    ]
    return stac_object


def read_site(folder: Path, asset_base_url: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Read `collection.json` and `items/*.json` of a static site.

    Args:
        folder: The site's folder.
        asset_base_url: The URL under which that very folder is served; relative asset hrefs become absolute under it.

    Returns:
        (collections, items): the one collection, and its items by file name.
    """
    items = sorted((folder / "items").glob("*.json"))
    return (
        [_rehome(folder / "collection.json", folder, asset_base_url)],
        [_rehome(path, folder, asset_base_url) for path in items],
    )
