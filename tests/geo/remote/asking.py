"""What several tests ask, and how they look at the answer."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from scenery import utm_grid

from eearth.errors import SourceError, UnreachableError
from eearth.geo.providers import Source

if TYPE_CHECKING:
    from eearth.geo.remote.transport import Transport
    from eearth.geo.signing import Access

CONTENT = random.Random(1).randbytes(50_000)  # noqa: S311 - made-up content
SIDE = 1024
GRID = utm_grid(SIDE, SIDE)


def source_of(href: str, *, index: int = 1) -> Source:
    return Source(href, index, 1e-4, 0.0, None, None)


def failure(transport: Transport, href: str, access: Access | None = None) -> SourceError:
    """The error of a request that must fail: one line, of the file or its host, without a secret."""
    with pytest.raises(SourceError) as caught:
        transport.fetch(href, access, 0, 100)
    assert "\n" not in str(caught.value)
    assert "hush" not in str(caught.value)
    assert urlsplit(href).path in str(caught.value) or isinstance(caught.value, UnreachableError)
    return caught.value
