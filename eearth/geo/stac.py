"""Finding scenes: a STAC API, a static catalog or a plain folder → items that touch the region in the time range.

The server is only trusted with the collection, the place and the time. Clouds are judged by the masks over the region,
later on: `eo:cloud_cover` speaks of the whole scene.
"""

from __future__ import annotations

import calendar
import re
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pystac
import pystac_client
from shapely.geometry import shape

from eearth.errors import NothingFoundError, SourceError, UsageError
from eearth.events import Report, silent
from eearth.geo.antimeridian import unwrapped
from eearth.geo.catalog import address_of, innermost_reason, open_catalog, plain_folder
from eearth.geo.folder import items_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from eearth.geo.aoi import Region

PAGE = 250

# The filters, last one first, and what a user does where nothing passes.
REMEDIES = {
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


class SceneSearch:
    """A provider's scenes, asked for again and again: what is the same for every region is read once.

    Args:
        catalog: Address of a STAC API or a static catalog, or a folder: one without `catalog.json` or
            `collection.json` is one of dated GeoTIFFs, and its name is that of the collection.
        collection: The collection; None for the only one, or Sentinel-2 L2A.
        report: Receives a warning about files of a folder that cannot be used.
    """

    def __init__(self, catalog: str, collection: str | None, report: Report = silent) -> None:
        """Nobody is asked yet."""
        self._catalog, self._collection, self._report = catalog, collection, report

    def search(self, region: Region, time: TimeRange) -> Found:
        """Find scenes.

        Raises:
            NothingFoundError: There is none.
            SourceError: The catalog is unreachable or is none, or the collection is unknown.
        """
        collection, items = self._listed or self._asked(region, time)
        return _filter(items, collection, region, time)

    @cached_property
    def _listed(self) -> tuple[str, list[pystac.Item]] | None:
        """The collection and all its items, of a catalog that cannot be searched."""
        folder = plain_folder(self._catalog)
        if folder is None:
            return None if self._client else _walk(self._opened, self._collection)
        name = folder.resolve().name
        if self._collection not in (None, name):
            msg = f"expected the collection {self._collection!r} in {folder}, found a folder of files: {name}"
            raise SourceError(msg)
        return name, items_of(folder, self._report)

    @cached_property
    def _opened(self) -> pystac.Catalog:
        return open_catalog(self._catalog)

    @cached_property
    def _client(self) -> tuple[pystac_client.Client, str] | None:
        """A catalog that can be searched, and the collection in it."""
        catalog = self._opened
        if not (isinstance(catalog, pystac_client.Client) and catalog.conforms_to("ITEM_SEARCH")):
            return None
        collection = self._collection or DEFAULT_COLLECTION
        _require_collection(catalog, collection)
        return catalog, collection

    def _asked(self, region: Region, time: TimeRange) -> tuple[str, list[pystac.Item]]:
        assert self._client is not None  # noqa: S101 - what cannot be searched is listed
        client, collection = self._client
        return collection, _ask(client, collection, region, time)


def _require_collection(client: pystac_client.Client, collection: str) -> None:
    try:
        known = sorted(entry.id for entry in client.get_collections())
    except Exception as error:  # the listing is optional in a STAC API; the search will tell
        if "404" in str(error):
            return
        msg = f"expected the list of collections from {address_of(client)}, found: {innermost_reason(error)}"
        raise SourceError(msg) from error
    if collection not in known:
        msg = f"expected the collection {collection!r} at {address_of(client)}, found: {', '.join(known) or 'none'}"
        raise SourceError(msg)


def _ask(client: pystac_client.Client, collection: str, region: Region, time: TimeRange) -> list[pystac.Item]:
    """The items in the region's boxes and the time range; an item that is in two boxes is one item."""
    boxes = region.boxes
    items: dict[str, pystac.Item] = {}
    anywhen = None
    try:
        for place in boxes:
            search = client.search(collections=[collection], bbox=place, datetime=time.text, limit=PAGE)
            items |= {item.id: item for item in search.items()}
        for place in () if items else boxes:
            anywhen = anywhen or next(client.search(collections=[collection], bbox=place, limit=1).items(), None)
    except Exception as error:
        msg = f"the search at {address_of(client)} failed: {innermost_reason(error)}"
        raise SourceError(msg) from error
    if not items:
        raise NothingFoundError(_nothing_found(collection, region, time, anywhen))
    return list(items.values())


def _nothing_found(collection: str, region: Region, time: TimeRange, anywhen: pystac.Item | None) -> str:
    """Whether there is never anything at this place, or only nothing at this time."""
    if anywhen is None:
        places = " and ".join(
            f"{west:.3f}..{east:.3f} E, {south:.3f}..{north:.3f} N" for west, south, east, north in region.boxes
        )
        return (
            f"no scenes: {collection} has nothing at {places} at any time; "
            "is the region in the ocean, or are longitude and latitude swapped?"
        )
    return (
        f"no scenes: {collection} covers the region (for instance by {anywhen.id}) but has none in "
        f"{time.text}: give another --datetime"
    )


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
        msg = f"the catalog {address_of(catalog)} cannot be walked: {innermost_reason(error)}"
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


def _filter(items: Iterable[pystac.Item], collection: str, region: Region, time: TimeRange) -> Found:
    kept: list[pystac.Item] = []
    removed: Counter[str] = Counter()
    matched = 0
    for item in items:
        matched += 1
        reason = _unwanted(item, region, time)
        if reason:
            removed[reason] += 1
        else:
            kept.append(item)
    if not kept:
        why = ", ".join(f"{count} by {reason}" for reason, count in removed.items()) or "the collection is empty"
        msg = f"no scenes left of {matched} in {collection}; removed: {why}; {_remedy(removed)}"
        raise NothingFoundError(msg)
    kept.sort(key=lambda item: (moment_of(item), item.id))
    return Found(tuple(kept), collection, matched, dict(removed))


def _remedy(removed: Mapping[str, int]) -> str:
    """What would bring back the items that came farthest through the filters."""
    for filtered_by, remedy in REMEDIES.items():
        if any(reason.startswith(filtered_by) for reason in removed):
            return remedy
    return "choose another --collection"


def _unwanted(item: pystac.Item, region: Region, time: TimeRange) -> str | None:
    """The filter that removes the item; None to keep it."""
    if item.geometry is None or not _touches(item.geometry, region):
        return "place (outside the region)"
    if not time.start <= moment_of(item) <= time.end:
        return f"time (outside {time.text})"
    return None


def _touches(geometry: dict[str, Any], region: Region) -> bool:
    return bool(unwrapped(shape(geometry), region.longitude).intersects(region.geometry))


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
