"""`eearth view`: serve the map until somebody has seen enough."""

from __future__ import annotations

import os
import sys
import webbrowser
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from threading import Event, Thread
from typing import TYPE_CHECKING

from eearth.errors import EearthError
from eearth.events import Report, silent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from eearth.view.server import MapServer
    from eearth.workspace import Workspace

# Blocks of the map that GDAL keeps; by itself it takes up to 5 % of the machine's memory.
CACHE_BYTES = 128 * 2**20


def view(
    workspace: Workspace,
    *,
    port: int = 0,
    browser: bool = True,
    opened: Callable[[str], None],
    report: Report = silent,
) -> None:
    """Show the map of a workspace in the browser, until Ctrl-C.

    Args:
        workspace: With a finished map.
        port: Where to listen; 0 for any that is free.
        browser: Open one, if there is a screen to show it on.
        opened: Receives the address of the page.
        report: Receives the progress of the imagery, and warnings.

    Raises:
        WorkspaceError: There is no map, or it cannot be read.
        UsageError: The port is taken.
        EearthError: rio-tiler is not installed.
    """
    with suppress(KeyboardInterrupt), serving(workspace, port=port, report=report) as server:
        opened(server.url)
        if browser and _has_screen():
            Thread(target=webbrowser.open, args=(server.url,), daemon=True).start()  # some return when it is closed
        server.serve_forever()


@contextmanager
def serving(workspace: Workspace, *, port: int = 0, report: Report = silent) -> Iterator[MapServer]:
    """A server that listens, while the picture of the imagery is made in the background.

    Raises:
        WorkspaceError: There is no map, or it cannot be read.
        UsageError: The port is taken.
        EearthError: rio-tiler is not installed.
    """
    if find_spec("rio_tiler") is None:
        msg = "expected rio-tiler for the tiles of the map: pip install 'eearth[view]'"
        raise EearthError(msg)
    import rasterio

    from eearth.view.scene import Scene
    from eearth.view.server import MapServer

    stop = Event()
    with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES):
        scene = Scene(workspace, report)
        preparing = Thread(target=scene.imagery.prepare if scene.imagery else _nothing, args=(stop.is_set, report))
        with MapServer(scene, port, report) as server:
            preparing.start()
            try:
                yield server
            finally:
                stop.set()
                preparing.join()


def _nothing(_stopped: Callable[[], bool], _report: Report) -> None:
    """A map without imagery needs no preparation."""


def _has_screen() -> bool:
    """Whether a browser could be seen; without a screen, Python would start one in the terminal."""
    if sys.platform in ("darwin", "win32") or os.environ.get("BROWSER"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
