from __future__ import annotations

import pytest
from small_site import Site, make_site


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Six passes of noise, one of them of two tiles; nobody changes its files."""
    return make_site(tmp_path_factory.mktemp("site") / "deflate", "deflate")


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small region then has several pieces a scene, as a large one has."""
    from eearth.geo.imagery import fetch

    monkeypatch.setattr(fetch, "BLOCK", 256)
