from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from loopback.memory import serve_memory
from loopback.nginx import serve_files
from loopback.pgstac import serve_pgstac
from loopback.process import unavailable
from loopback.sites import read_site

if TYPE_CHECKING:
    from collections.abc import Iterator

# A fifth of the examples that hypothesis draws by itself: the suite has ten minutes, and is run again and again.
settings.register_profile("suite", max_examples=20)
settings.load_profile("suite")

# Files whose tests take longest begin first, so that little is left when most processes have nothing more to do.
LONG = (
    "test_demo.py",
    "test_five_commands.py",
    "test_update.py",
    "test_compare.py",
    "test_faults.py",
    "test_learning.py",
    "test_fetch.py",
    "test_engine.py",
    "test_map_faults.py",
    "test_kills.py",
)

API_SITES = ("slovenia", "romania", "austria")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of `LONG` first, in this order."""
    places = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path.name, len(LONG)))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with the real sites; without it tests skip, but fail where everything must run."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        unavailable(f"no real sites at {folder}")
    return folder


@pytest.fixture(scope="session")
def asset_server(real_data: Path) -> Iterator[str]:
    """The base URL of an nginx over the real sites: `<base URL>/slovenia/assets/...`."""
    with serve_files(real_data) as url:
        yield url


@pytest.fixture(scope="session")
def api_content(real_data: Path, asset_server: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(collections, items) of the sites that the STAC APIs hold; the asset hrefs point at `asset_server`."""
    sites = [read_site(real_data / site, f"{asset_server}/{site}") for site in API_SITES]
    return [c for collections, _ in sites for c in collections], [i for _, items in sites for i in items]


@pytest.fixture(scope="session")
def memory_api(api_content: tuple[list[dict[str, Any]], list[dict[str, Any]]]) -> Iterator[str]:
    """The landing page of a STAC API without a database, over the content of `api_content`."""
    with serve_memory(*api_content) as url:
        yield url


@pytest.fixture(scope="session")
def pgstac_api(api_content: tuple[list[dict[str, Any]], list[dict[str, Any]]]) -> Iterator[str]:
    """The landing page of stac-fastapi-pgstac, over the content of `api_content`; skips without PostgreSQL."""
    with serve_pgstac(*api_content) as url:
        yield url


@pytest.fixture(scope="session")
def stac_api(request: pytest.FixtureRequest) -> str:
    """The landing page of a STAC API: pgstac's, or what `parametrize("stac_api", [...], indirect=True)` names.

    The names are "pgstac" and "memory". Each API starts when a test first asks for it, and once a session.
    """
    url: str = request.getfixturevalue(f"{getattr(request, 'param', 'pgstac')}_api")
    return url
