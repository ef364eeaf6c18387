"""A STAC API without a database, for machines that have no PostgreSQL and for servers that lack extensions."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopback.process import answers, free_port, serving

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ALL_EXTENSIONS = ("query", "filter", "sort", "fields")


def python_environment() -> dict[str, str]:
    """This process's environment, in which `python -m loopback.<module>` works from any folder."""
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}


@contextmanager
def serve_memory(
    collections: list[dict[str, Any]],
    items: list[dict[str, Any]],
    *,
    extensions: Sequence[str] = ALL_EXTENSIONS,
) -> Iterator[str]:
    """Serve a STAC API on a free loopback port; yields the URL of its landing page.

    Args:
        collections: STAC collections, with absolute hrefs.
        items: STAC items, with absolute hrefs.
        extensions: What the API claims and obeys of query, filter, sort, fields. Like real servers it ignores, without
            a word, the search parameters of those it lacks.
    """
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="loopback-memory-") as name:
        folder = Path(name)
        site = folder / "site.json"
        site.write_text(json.dumps({"collections": collections, "items": items}), encoding="utf-8")
        command = [sys.executable, "-m", "loopback.memory_app", str(site), str(port), *extensions]
        ready = lambda: answers(port, "/_mgmt/ping")  # noqa: E731
        with serving(command, ready=ready, folder=folder, name="api", env=python_environment()):
            yield f"http://127.0.0.1:{port}"
