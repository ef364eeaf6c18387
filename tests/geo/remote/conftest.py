from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from eearth.geo import raster
from eearth.geo.remote import transport as transport_module
from eearth.geo.remote.files import Files, close_files
from eearth.geo.remote.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The same behaviour with shorter times, and nothing remembered afterwards."""
    monkeypatch.setattr(raster, "FIRST_PAUSE_SECONDS", 0.005)
    monkeypatch.setattr(transport_module, "FIRST_PAUSE_SECONDS", 0.005)
    monkeypatch.setattr(transport_module, "LONGEST_PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(transport_module, "PATIENCE_SECONDS", 0.4)
    monkeypatch.setattr(transport_module, "STALL_SECONDS", 0.3)
    yield
    close_files()


@pytest.fixture
def transport() -> Iterator[Transport]:
    made = Transport()
    yield made
    made.close()


@pytest.fixture
def files() -> Iterator[Files]:
    made = Files()
    yield made
    made.close()
