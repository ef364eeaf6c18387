"""The server of the page: on this machine only, for this machine only.

It listens on 127.0.0.1. A page of another site that a browser has open could still reach it: by a host name that is
made to lead here (DNS rebinding), or by asking for its pictures. So it answers only to its own name, and forbids
others to use what it answers.
"""

from __future__ import annotations

import json
import re
import socketserver
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from rasterio.errors import RasterioError

from eearth.errors import EearthError, UsageError, innermost
from eearth.events import Report, Warned
from eearth.view.mercator import Tile

if TYPE_CHECKING:
    from eearth.view.scene import Scene

LOOPBACK = "127.0.0.1"

# Nothing but this server's own files is loaded, run or asked. Class colours reach the page through the style
# properties of scripts, which the policy allows.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",  # the same address may show another map tomorrow
}

PAGE = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/view.css": ("view.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/map.js": ("map.js", "text/javascript; charset=utf-8"),
    "/tiles.js": ("tiles.js", "text/javascript; charset=utf-8"),
}

TILE_PATH = re.compile(r"/tiles/(?P<layer>[\w-]+)/(?P<z>\d{1,2})/(?P<x>\d{1,8})/(?P<y>\d{1,8})\.(?P<kind>png|webp)")

PNG, WEBP, JSON, TEXT = "image/png", "image/webp", "application/json", "text/plain; charset=utf-8"


class MapServer(ThreadingHTTPServer):
    """Shows one map; a thread for each connection.

    Args:
        scene: What is shown.
        port: Where to listen; 0 for any that is free.
        report: Receives warnings of tiles that cannot be read.

    Raises:
        UsageError: The port is taken, or not for everyone to use.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, scene: Scene, port: int, report: Report) -> None:
        """Listen."""
        self.scene, self.report = scene, report
        try:
            super().__init__((LOOPBACK, port), Handler)
        except OSError as error:
            msg = f"expected a free port, found {port}: {error.strerror}: choose another --port, or leave it out"
            raise UsageError(msg) from error
        self.names = {f"{name}:{self.server_port}" for name in (LOOPBACK, "localhost")}
        if self.server_port == 80:  # noqa: PLR2004 - HTTP's own, which browsers leave out
            self.names |= {LOOPBACK, "localhost"}

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{LOOPBACK}:{self.server_port}/"

    def server_bind(self) -> None:
        """Bind without asking any name server what this machine is called."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = LOOPBACK, self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the signature is Python's
        """Say in one line what went wrong; a browser that no longer waits for an answer is no error."""
        error = sys.exception()
        if error is not None and not isinstance(error, ConnectionError | TimeoutError):
            self.report(Warned(text=f"a request failed: {innermost(error)}"))


class Handler(BaseHTTPRequestHandler):
    """Answers GET."""

    server: MapServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "eearth", ""
    wbufsize = -1  # head and body leave together
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Answer one request."""
        if self.headers.get("Host", "").lower() not in self.server.names:
            self._send(HTTPStatus.MISDIRECTED_REQUEST, TEXT, b"expected a request to this machine by its own name\n")
            return
        place = urlsplit(self.path)
        try:
            self._answer(place.path, place.query)
        except (RasterioError, EearthError) as error:
            self.server.report(Warned(text=f"{place.path} cannot be made: {innermost(error)}"))
            self._send(HTTPStatus.INTERNAL_SERVER_ERROR, TEXT, b"the map is damaged: run eearth predict again\n")

    def _answer(self, path: str, query: str) -> None:
        scene = self.server.scene
        if path in PAGE:
            name, kind = PAGE[path]
            self._send(HTTPStatus.OK, kind, (files("eearth.view") / "page" / name).read_bytes())
        elif path == "/map.json":
            self._send(HTTPStatus.OK, JSON, json.dumps(scene.as_dict()).encode())
        elif path == "/point.json":
            self._send_point(query)
        elif match := TILE_PATH.fullmatch(path):
            self._send_tile(match["layer"], Tile(int(match["z"]), int(match["x"]), int(match["y"])), match["kind"])
        else:
            self._send(HTTPStatus.NOT_FOUND, TEXT, b"there is nothing here\n")

    def _send_point(self, query: str) -> None:
        asked = parse_qs(query)
        try:
            longitude, latitude = (float(asked[name][0]) for name in ("longitude", "latitude"))
        except (KeyError, ValueError):
            self._send(HTTPStatus.BAD_REQUEST, TEXT, b"expected longitude and latitude in degrees\n")
            return
        self._send(HTTPStatus.OK, JSON, json.dumps(self.server.scene.point(longitude, latitude)).encode())

    def _send_tile(self, layer: str, tile: Tile, kind: str) -> None:
        scene = self.server.scene
        if tile.exists and kind == "webp" and layer == "imagery" and scene.imagery:
            picture = scene.imagery.tile(tile)
            if picture is None:
                self._send(HTTPStatus.ACCEPTED, TEXT, b"the imagery is being put together: ask again\n")
            else:
                self._send(HTTPStatus.OK, WEBP, picture)
        elif tile.exists and kind == "png" and layer in scene.layers:
            self._send(HTTPStatus.OK, PNG, scene.values_tile(layer, tile))
        else:
            self._send(HTTPStatus.NOT_FOUND, TEXT, b"there is no such tile\n")

    def _send(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the signature is Python's
        """Keep quiet: a page asks for hundreds of tiles."""
