"""Opening what `--catalog` names: a STAC API, a static catalog by URL or path, or a plain folder."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pystac
import pystac_client
import requests
import urllib3
from pystac_client.exceptions import APIError
from pystac_client.stac_api_io import StacApiIO

from eearth.errors import SourceError, innermost
from eearth.geo.remote.transport import growing_pause
from eearth.manifest import redacted

# urllib3 retries POST only when asked to; without it a search under 30 % HTTP 503 never succeeds.
RETRY = urllib3.Retry(
    total=8, backoff_factor=0.25, backoff_max=20, status_forcelist=[429, 500, 502, 503, 504], allowed_methods=None
)
TIMEOUT_SECONDS = 30

# What makes a folder a STAC catalog, first one first.
CATALOG_FILES = ("catalog.json", "collection.json")


# Times that an answer which breaks off, or is no JSON, is asked for again.
ATTEMPTS = 5
FIRST_PAUSE_SECONDS = 0.2
CUT_SHORT = (requests.exceptions.ChunkedEncodingError, requests.exceptions.ContentDecodingError)


class _PatientIO(StacApiIO):
    """A client that also asks again where an answer was cut short: urllib3's retries end at the headers."""

    def request(self, *arguments: Any, **options: Any) -> str:
        """The text of an answer; JSON, if the last attempt brought any."""
        for number in range(ATTEMPTS):
            try:
                text: str = super().request(*arguments, **options)
                json.loads(text)
            except (APIError, ValueError) as error:
                cut_short = isinstance(error, ValueError) or isinstance(error.__context__, CUT_SHORT)
                if not cut_short or number == ATTEMPTS - 1:
                    raise
                time.sleep(growing_pause(FIRST_PAUSE_SECONDS, number + 1))
            else:
                return text
        raise AssertionError  # the last attempt returns or raises


class _StaticIO(_PatientIO):
    """The client's retries, but plain pystac objects, which a static catalog can be walked with."""

    stac_object_from_dict = pystac.StacIO.stac_object_from_dict


def open_catalog(catalog: str) -> pystac.Catalog:
    """An API as a client that can search; anything else as plain pystac, to be walked.

    Raises:
        SourceError: There is no catalog, or its server does not answer.
    """
    try:
        if "://" not in catalog:
            return _open_static(_file_of(Path(catalog)))
        opened = _open_static(catalog)
        if "conformsTo" not in opened.extra_fields:
            return opened
        return pystac_client.Client.open(catalog, stac_io=_PatientIO(max_retries=RETRY, timeout=TIMEOUT_SECONDS))
    except SourceError:
        raise
    except Exception as error:  # requests, urllib3, json, pystac: each fails in its own way
        msg = f"expected a STAC catalog at {redacted(catalog)}, found: {innermost_reason(error)}"
        raise SourceError(msg) from error


def _open_static(href: str) -> pystac.Catalog:
    opened = pystac.read_file(href, stac_io=_StaticIO(max_retries=RETRY, timeout=TIMEOUT_SECONDS))
    if not isinstance(opened, pystac.Catalog):
        msg = f"expected a STAC catalog or collection at {redacted(href)}, found a {type(opened).__name__}"
        raise SourceError(msg)
    return opened


def _file_of(path: Path) -> str:
    path = next((path / name for name in CATALOG_FILES if (path / name).is_file()), path)
    if not path.is_file():
        msg = f"expected a STAC catalog, found nothing at {path}: give a URL, or the path of a catalog.json"
        raise SourceError(msg)
    return str(path)


def plain_folder(catalog: str) -> Path | None:
    """The folder, if the catalog is one that holds no STAC catalog."""
    path = Path(catalog)
    if "://" in catalog or not path.is_dir() or any((path / name).is_file() for name in CATALOG_FILES):
        return None
    return path


def innermost_reason(error: BaseException) -> str:
    """What went wrong at the bottom, without secrets and not too long."""
    return redacted(innermost(error))[:200]


def address_of(catalog: pystac.Catalog) -> str:
    """Where the catalog was opened, without secrets."""
    return redacted(str(catalog.self_href))
