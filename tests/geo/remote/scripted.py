"""A tiny server that answers as a test scripts it, one function a request, and remembers what it was asked."""

from __future__ import annotations

import re
import socket
import struct
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from loopback.process import running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Reply = Callable[["Handler"], None]


@dataclass
class Seen:
    """One request: when, of what, with which headers, over which connection, and how many were under way with it."""

    moment: float
    path: str
    headers: dict[str, str]
    client: tuple[str, int]
    active: int


@dataclass
class Scripted:
    content: bytes
    script: list[Reply]
    after: Reply | None
    url: str = ""
    seen: list[Seen] = field(default_factory=list)
    active: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def connections(self) -> int:
        return len({each.client for each in self.seen})


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    scripted: Scripted

    def do_GET(self) -> None:
        mine = self.scripted
        with mine.lock:
            mine.active += 1
            headers = {name.lower(): value for name, value in self.headers.items()}
            mine.seen.append(Seen(time.monotonic(), self.path, headers, self.client_address, mine.active))
            reply = mine.script.pop(0) if mine.script else mine.after or good
        try:
            reply(self)
        except ConnectionError:
            self.close_connection = True
        finally:
            with mine.lock:
                mine.active -= 1

    def wanted(self) -> tuple[int, int]:
        """(first byte, last byte) that the request asks for, as far as there are so many."""
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"])
        assert match is not None
        return int(match[1]), min(int(match[2]), len(self.scripted.content) - 1)

    def part(self) -> bytes:
        first, last = self.wanted()
        return self.scripted.content[first : last + 1]

    def head(self, status: int, **headers: object) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def ranged(self, length: int | None = None) -> None:
        first, last = self.wanted()
        span = f"bytes {first}-{last}/{len(self.scripted.content)}"
        self.head(206, Content_Range=span, Content_Length=last - first + 1 if length is None else length)

    def log_message(self, *_: object) -> None:
        pass


def good(handler: Handler) -> None:
    handler.ranged()
    handler.wfile.write(handler.part())


def status(code: int, **headers: object) -> Reply:
    def reply(handler: Handler) -> None:
        body = b"" if code == 304 else b"sorry\n"
        handler.head(code, Content_Length=len(body), **headers)
        handler.wfile.write(body)

    return reply


def saying(content_range: str | None, body: bytes | None = None) -> Reply:
    """A 206 whose Content-Range is made up; of the right bytes unless others are given."""

    def reply(handler: Handler) -> None:
        sent = handler.part() if body is None else body
        handler.head(
            206, Content_Length=len(sent), **({} if content_range is None else {"Content_Range": content_range})
        )
        handler.wfile.write(sent)

    return reply


def short(handler: Handler) -> None:
    """Announces all, sends half, and closes."""
    handler.ranged()
    part = handler.part()
    handler.wfile.write(part[: len(part) // 2])
    handler.close_connection = True


def zeroed(handler: Handler) -> None:
    handler.ranged()
    handler.wfile.write(bytes(len(handler.part())))


def reset(handler: Handler) -> None:
    """RST in the middle of the body."""
    handler.ranged()
    handler.wfile.write(handler.part()[:1])
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()
    raise ConnectionResetError


def silent(handler: Handler) -> None:
    """Hangs up without an answer."""
    handler.close_connection = True


def stalled(seconds: float, *, early: bool = False) -> Reply:
    """Stops in the middle of the body, or before the first header."""

    def reply(handler: Handler) -> None:
        if early:
            time.sleep(seconds)
        handler.ranged()
        part = handler.part()
        handler.wfile.write(part[: len(part) // 2])
        time.sleep(seconds)
        handler.wfile.write(part[len(part) // 2 :])

    return reply


def dripping(pieces: int, pause: float) -> Reply:
    """A link that is slow and never stops."""

    def reply(handler: Handler) -> None:
        handler.ranged()
        part = handler.part()
        step = -(-len(part) // pieces)
        for first in range(0, len(part), step):
            handler.wfile.write(part[first : first + step])
            time.sleep(pause)

    return reply


@contextmanager
def serve_scripted(content: bytes, script: Sequence[Reply] = (), *, after: Reply | None = None) -> Iterator[Scripted]:
    """Answers the first requests as scripted and all others with `after`, by default as they should be."""
    scripted = Scripted(content, list(script), after)

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False
        request_queue_size = 128

        def handle_error(self, *_: object) -> None:
            """A client that hangs up is what some tests are about."""

    with running(Server(("127.0.0.1", 0), type("Bound", (Handler,), {"scripted": scripted}))) as scripted.url:
        yield scripted
