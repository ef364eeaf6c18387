"""Finding scenes: a STAC API or a static catalog → items that touch the region in the time range.

The server is only trusted with the collection, the place and the time. Cloud cover is filtered here, because a server
without the query extension answers with everything or nothing and only a warning.
"""

from __future__ import annotations

import calendar
import re
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pystac
import pystac_client
import urllib3
from pystac_client.stac_api_io import StacApiIO
from shapely.geometry import shape

from eearth.errors import SourceError, UsageError
from eearth.geo.aoi import Region
from eearth.manifest import redacted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# urllib3 retries POST only when asked to; without it a search under 30 % HTTP 503 never succeeds.
RETRY = urllib3.Retry(
    total=8, backoff_factor=0.25, backoff_max=20, status_forcelist=[429, 500, 502, 503, 504], allowed_methods=None
)
TIMEOUT_SECONDS = 30
PAGE = 250

# The filters, last one first, and what a user does where nothing passes.
REMEDIES = {
    "cloud": "raise --max-cloud, or give another --datetime",
    "time": "give another --datetime",
    "place": "is the region in the ocean, or are longitude and latitude swapped?",
}

DEFAULT_COLLECTION = "sentinel-2-l2a"


@dataclass(frozen=True)
class TimeRange:
    """Half-open in meaning, closed in STAC: every moment from `start` up to and with `end`, in UTC."""

    start: datetime
    end: datetime

    @property
    def text(self) -> str:
        """RFC 3339 interval, as a STAC API wants it."""
        return f"{_rfc3339(self.start)}/{_rfc3339(self.end)}"


@dataclass(frozen=True)
class Search:
    """What to look for."""

    catalog: str
    collection: str | None
    region: Region
    time: TimeRange
    max_cloud: float


@dataclass(frozen=True)
class Found:
    """What a search brought.

    Attributes:
        items: Items in order of time, then id.
        collection: The collection they are from.
        matched: How many items there were before anything was filtered here.
        removed: Filter → how many items it removed.
    """

    items: tuple[pystac.Item, ...]
    collection: str
    matched: int
    removed: dict[str, int]


def parse_time(text: str) -> TimeRange:
    """Read a year, a month, a day, or START/END.

    Args:
        text: `2024`, `2024-05`, `2024-05-17`, `2023-10-01/2024-09-30`.

    Raises:
        UsageError: The text is no date, or the range ends before it starts.
    """
    first, _, last = text.partition("/")
    start, end = _moment(first, text, end=False), _moment(last or first, text, end=True)
    if end < start:
        msg = f"expected --datetime START/END in rising order, found {text!r}"
        raise UsageError(msg)
    return TimeRange(start, end)


def _moment(part: str, text: str, *, end: bool) -> datetime:
    """The first or the last second of a year, month or day."""
    match = re.fullmatch(r"(\d{4})(?:-(\d{2})(?:-(\d{2}))?)?", part.strip())
    try:
        if match is None:
            moment = datetime.fromisoformat(part.strip())
            return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        year, month, day = (int(group) if group else None for group in match.groups())
        assert year is not None  # noqa: S101 - the pattern has it
        first = datetime(year, month or 1, day or 1, tzinfo=UTC)
    except ValueError as error:
        msg = f"expected a year, a month, a day or START/END for --datetime, found {text!r}"
        raise UsageError(msg) from error
    if not end:
        return first
    last_month = month or 12
    last_day = day or calendar.monthrange(year, last_month)[1]
    return datetime(year, last_month, last_day, tzinfo=UTC) + timedelta(days=1, seconds=-1)


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def search(wanted: Search) -> Found:
    """Find scenes.

    Raises:
        SourceError: The catalog is unreachable or is none, the collection is unknown, or nothing is left.
    """
    catalog = _open(wanted.catalog)
    if isinstance(catalog, pystac_client.Client) and catalog.conforms_to("ITEM_SEARCH"):
        collection = wanted.collection or DEFAULT_COLLECTION
        _require_collection(catalog, collection)
        items = _ask(catalog, collection, wanted)
    else:
        collection, items = _walk(catalog, wanted.collection)
    return _filter(items, collection, wanted)


class _StaticIO(StacApiIO):
    """The client's retries, but plain pystac objects, which a static catalog can be walked with."""

    stac_object_from_dict = pystac.StacIO.stac_object_from_dict


def _open(catalog: str) -> pystac.Catalog:
    """An API as a client that can search; anything else as plain pystac, to be walked."""
    try:
        if "://" not in catalog:
            return _open_static(_file_of(Path(catalog)))
        opened = _open_static(catalog)
        if "conformsTo" not in opened.extra_fields:
            return opened
        return pystac_client.Client.open(catalog, stac_io=StacApiIO(max_retries=RETRY, timeout=TIMEOUT_SECONDS))
    except SourceError:
        raise
    except Exception as error:  # requests, urllib3, json, pystac: each fails in its own way
        msg = f"expected a STAC catalog at {redacted(catalog)}, found: {_reason(error)}"
        raise SourceError(msg) from error


def _open_static(href: str) -> pystac.Catalog:
    opened = pystac.read_file(href, stac_io=_StaticIO(max_retries=RETRY, timeout=TIMEOUT_SECONDS))
    if not isinstance(opened, pystac.Catalog):
        msg = f"expected a STAC catalog or collection at {redacted(href)}, found a {type(opened).__name__}"
        raise SourceError(msg)
    return opened


def _file_of(path: Path) -> str:
    path = path / "catalog.json" if path.is_dir() else path
    if not path.is_file():
        msg = f"expected a STAC catalog, found nothing at {path}: give a URL, or the path of a catalog.json"
        raise SourceError(msg)
    return str(path)


def _reason(error: BaseException) -> str:
    """The innermost cause's first line: what an HTTP library wraps four times says itself only at the bottom."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    text = str(error).strip().splitlines()
    return redacted(text[0] if text else type(error).__name__)[:200]


def _address(catalog: pystac.Catalog) -> str:
    return redacted(str(catalog.self_href))


def _require_collection(client: pystac_client.Client, collection: str) -> None:
    try:
        known = sorted(entry.id for entry in client.get_collections())
    except Exception as error:  # the listing is optional in a STAC API; the search will tell
        if "404" in str(error):
            return
        msg = f"expected the list of collections from {_address(client)}, found: {_reason(error)}"
        raise SourceError(msg) from error
    if collection not in known:
        msg = f"expected the collection {collection!r} at {_address(client)}, found: {', '.join(known) or 'none'}"
        raise SourceError(msg)


def _ask(client: pystac_client.Client, collection: str, wanted: Search) -> list[pystac.Item]:
    place = wanted.region.bounds
    try:
        search = client.search(collections=[collection], bbox=place, datetime=wanted.time.text, limit=PAGE)
        items = list(search.items())
        if items:
            return items
        anywhen = next(client.search(collections=[collection], bbox=place, limit=1).items(), None)
    except Exception as error:
        msg = f"the search at {_address(client)} failed: {_reason(error)}"
        raise SourceError(msg) from error
    if anywhen is None:
        west, south, east, north = place
        msg = (
            f"no scenes: {collection} has nothing at {west:.3f}..{east:.3f} E, {south:.3f}..{north:.3f} N at any time; "
            "is the region in the ocean, or are longitude and latitude swapped?"
        )
    else:
        msg = (
            f"no scenes: {collection} covers the region (for instance by {anywhen.id}) but has none in "
            f"{wanted.time.text}: give another --datetime"
        )
    raise SourceError(msg)


def _walk(catalog: pystac.Catalog, collection: str | None) -> tuple[str, list[pystac.Item]]:
    """All items of one collection of a static catalog."""
    try:
        own = [catalog] if isinstance(catalog, pystac.Collection) else []
        collections = {entry.id: entry for entry in (*own, *catalog.get_all_collections())}
        chosen = _choose_collection(collections, collection)
        return chosen, list(collections[chosen].get_items(recursive=True))
    except SourceError:
        raise
    except Exception as error:
        msg = f"the catalog {_address(catalog)} cannot be walked: {_reason(error)}"
        raise SourceError(msg) from error


def _choose_collection(collections: Mapping[str, pystac.Collection], wanted: str | None) -> str:
    if wanted is None and len(collections) == 1:
        return next(iter(collections))
    chosen = wanted or DEFAULT_COLLECTION
    if chosen not in collections:
        known = ", ".join(sorted(collections)) or "none"
        msg = f"expected the collection {chosen!r} in the catalog, found: {known}; name one with --collection"
        raise SourceError(msg)
    return chosen


def _filter(items: Iterable[pystac.Item], collection: str, wanted: Search) -> Found:
    kept: list[pystac.Item] = []
    removed: Counter[str] = Counter()
    matched = 0
    for item in items:
        matched += 1
        reason = _unwanted(item, wanted)
        if reason:
            removed[reason] += 1
        else:
            kept.append(item)
    if not kept:
        why = ", ".join(f"{count} by {reason}" for reason, count in removed.items()) or "the collection is empty"
        msg = f"no scenes left of {matched} in {collection}; removed: {why}; {_remedy(removed)}"
        raise SourceError(msg)
    kept.sort(key=lambda item: (moment_of(item), item.id))
    return Found(tuple(kept), collection, matched, dict(removed))


def _remedy(removed: Mapping[str, int]) -> str:
    """What would bring back the items that came farthest through the filters."""
    for filtered_by, remedy in REMEDIES.items():
        if any(reason.startswith(filtered_by) for reason in removed):
            return remedy
    return "choose another --collection"


def _unwanted(item: pystac.Item, wanted: Search) -> str | None:
    """The filter that removes the item; None to keep it."""
    if item.geometry is None or not shape(item.geometry).intersects(wanted.region.geometry):
        return "place (outside the region)"
    if not wanted.time.start <= moment_of(item) <= wanted.time.end:
        return f"time (outside {wanted.time.text})"
    if float(item.properties.get("eo:cloud_cover") or 0.0) > wanted.max_cloud:
        return f"cloud (eo:cloud_cover above --max-cloud {wanted.max_cloud:g})"
    return None


def moment_of(item: pystac.Item) -> datetime:
    """When the item was acquired, in UTC; the middle of its span where it has no single moment.

    Raises:
        SourceError: The item has neither.
    """
    span: tuple[Any, Any] = item.common_metadata.start_datetime, item.common_metadata.end_datetime
    if item.datetime is not None:
        moment = item.datetime
    elif span[0] is not None and span[1] is not None:
        moment = span[0] + (span[1] - span[0]) / 2
    else:
        msg = f"expected a datetime in the item {item.id}, found none"
        raise SourceError(msg)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
