"""The file server behind `serve_faulty`: `python -m loopback.faults_app CONFIGURATION.json`.

HTTP/1.1 by hand, for what is wanted here no server does: to announce a length and send less, to stop in the middle, to
reset. What goes wrong with a request follows from the seed and the request's number alone.
"""

from __future__ import annotations

import asyncio
import json
import mmap
import random
import re
import socket
import struct
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from loopback.fault_kinds import SHARES, Faults

# RST instead of FIN on close, and what is still to be sent is thrown away.
AT_ONCE = struct.pack("ii", 1, 0)
# Pieces in which a slow connection is fed, a second.
PIECES = 20.0
# Where a body that is the beginning of a small GeoTIFF holds what matters most.
DIRECTORY = 2048
# A request that was on its way when the 429 was sent knows nothing of it.
ON_ITS_WAY = 0.05


@dataclass(frozen=True)
class Request:
    number: int
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    random: random.Random


@dataclass
class Answer:
    """`body` is what the headers announce; the fault decides what becomes of it."""

    status: HTTPStatus
    body: memoryview
    fault: str = ""
    span: str = "-"
    headers: dict[str, str] = field(default_factory=dict)


def plain(status: HTTPStatus, fault: str = "", **headers: str) -> Answer:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, memoryview(f"{status:d} {status.phrase}\n".encode()), fault, headers=names)


def answer_json(content: dict[str, Any]) -> Answer:
    body = memoryview(json.dumps(content).encode())
    return Answer(HTTPStatus.OK, body, headers={"Content-Type": "application/json"})


class FaultyServer:
    def __init__(self, root: Path, port: int, faults: Faults, access_log: Path | None) -> None:
        self.root, self.port, self.faults = root, port, faults
        self.files: dict[str, memoryview] = {}
        self.counts: Counter[str] = Counter(dict.fromkeys(("requests", "bytes", "signed", "impatient", "most"), 0))
        self.injected: Counter[str] = Counter()
        self.active = 0
        self.writers: set[asyncio.StreamWriter] = set()
        self.signatures: dict[str, tuple[float, int]] = {}  # signature → (issued, uses)
        self.asked_to_wait: dict[tuple[str, str], tuple[float, float]] = {}  # (path, range) → (from, until)
        self.tampered: set[str] = set()
        self.outage: asyncio.Task[None] | None = None
        self.dead = False
        self.log = access_log.open("a", buffering=1, encoding="utf-8") if access_log else None

    async def listen(self) -> None:
        self.server = await asyncio.start_server(self.connection, "127.0.0.1", self.port, backlog=1024)

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.dead:
            self.injected["down"] += 1
            self.reset(writer)
            return
        self.writers.add(writer)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                while await self.exchange(reader, writer):
                    pass
        finally:
            self.writers.discard(writer)
            writer.close()

    def reset(self, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
        writer.transport.abort()

    async def exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request and its answer; False when the connection is over."""
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = lines[0].split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        parts = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if own := self.own(parts.path, query):
            return await self.send(writer, own, method=method, rate=None)
        number = self.counts["requests"]
        self.counts["requests"] += 1
        draw = random.Random(f"{self.faults.seed} {number}")  # noqa: S311 - faults, not secrets
        request = Request(number, method, unquote(parts.path), query, headers, draw)
        if number == self.faults.down_after:
            self.outage = asyncio.create_task(self.be_down())
            return False
        self.active += 1
        self.counts["most"] = max(self.counts["most"], self.active)
        try:
            return await self.serve(writer, request)
        finally:
            self.active -= 1

    async def serve(self, writer: asyncio.StreamWriter, request: Request) -> bool:
        answer = self.answer(request)
        if self.faults.latency_seconds:
            await asyncio.sleep(self.faults.latency_seconds)
        if answer.fault:
            self.injected[answer.fault] += 1
        sent = len(answer.body) if request.method == "GET" else 0
        if answer.fault in ("reset", "truncated"):
            sent = int(sent * request.random.random())
        self.counts["bytes"] += sent
        if self.log:
            self.log.write(f"{answer.status:d} {quote(request.path)} {answer.span} {sent} {answer.fault or '-'}\n")
        return await self.send(writer, answer, method=request.method, rate=self.faults.bytes_per_second, sent=sent)

    async def send(
        self, writer: asyncio.StreamWriter, answer: Answer, *, method: str, rate: float | None, sent: int | None = None
    ) -> bool:
        body = answer.body if method == "GET" else memoryview(b"")
        sent = len(body) if sent is None else sent
        fields = {"Content-Length": str(len(answer.body)), "Accept-Ranges": "bytes", **answer.headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        writer.write(f"HTTP/1.1 {answer.status:d} {answer.status.phrase}\r\n{head}\r\n".encode())
        if answer.fault == "stalled":
            writer.write(body[: sent // 2])
            await writer.drain()
            await asyncio.sleep(self.faults.stall_seconds)
            writer.write(body[sent // 2 :])
        elif rate:
            await self.trickle(writer, body[:sent], rate)
        else:
            writer.write(body[:sent])
        await writer.drain()
        if answer.fault == "reset":
            self.reset(writer)
        return answer.fault not in ("reset", "truncated")

    async def trickle(self, writer: asyncio.StreamWriter, body: memoryview, rate: float) -> None:
        """As fast as the link, measured from the first byte, whatever the clock's ticks."""
        piece, start = max(1, int(rate / PIECES)), time.monotonic()
        for first in range(0, len(body), piece):
            writer.write(body[first : first + piece])
            await writer.drain()
            await asyncio.sleep(start + min(len(body), first + piece) / rate - time.monotonic())

    def own(self, path: str, query: dict[str, str]) -> Answer | None:
        """What the server says of itself, and the provider's signer; no fault touches them."""
        if path == "/_faults":
            return answer_json({**self.counts, "faults": dict(self.injected)})
        if path.endswith("/sign") and "href" in query:
            signature, expiry = self.sign()
            return answer_json({"href": f"{query['href']}?{signature}", "msft:expiry": expiry})
        if re.search(r"/token/[^/]+", path):
            signature, expiry = self.sign()
            return answer_json({"token": signature, "msft:expiry": expiry})
        return None

    def sign(self) -> tuple[str, str]:
        """(query string, expiry) in the form of Azure's shared access signatures."""
        self.counts["signed"] += 1
        name = f"hush{self.counts['signed']}"
        self.signatures[name] = time.monotonic(), 0
        lasts = timedelta(seconds=self.faults.signature_seconds or 3600)
        expiry = (datetime.now(UTC) + lasts).strftime("%Y-%m-%dT%H:%M:%SZ")
        return f"se={expiry}&sp=rl&sv=2024-05-04&sr=c&sig={name}", expiry

    def answer(self, request: Request) -> Answer:
        content = self.content(request.path)
        always = next((kind for path, kind in self.faults.always.items() if request.path.endswith(path)), "")
        if content is None or always == "missing":
            return plain(HTTPStatus.NOT_FOUND, always)
        if self.faults.signed and not self.admitted(request.query.get("sig", "")):
            return plain(HTTPStatus.FORBIDDEN, "expired", x_ms_error_code="AuthenticationFailed")
        self.note_impatience(request)
        kind = always or self.drawn(request.random)
        if kind == "unavailable":
            return plain(HTTPStatus.SERVICE_UNAVAILABLE, kind)
        if kind == "limited":
            return self.limited(request)
        answer = self.ranged(content, request.headers.get("range"))
        if request.method == "GET" and answer.status in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT) and answer.body:
            if kind == "tampered" and not self.may_tamper(request.path, answer.body):
                kind = ""
            answer.fault = kind
            answer.body = self.spoiled(answer.body, kind, request.random)
        return answer

    def content(self, path: str) -> memoryview | None:
        if path not in self.files:
            place = (self.root / path.lstrip("/")).resolve()
            if not place.is_file() or not place.is_relative_to(self.root):
                return None
            with place.open("rb") as file:
                size = place.stat().st_size
                self.files[path] = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b"")
        return self.files[path]

    def admitted(self, signature: str) -> bool:
        issued, uses = self.signatures.get(signature, (0.0, 0))
        if not issued:
            return False
        self.signatures[signature] = issued, uses + 1
        young = time.monotonic() - issued < (self.faults.signature_seconds or float("inf"))
        return young and uses < (self.faults.signature_uses or float("inf"))

    def note_impatience(self, request: Request) -> None:
        begin, end = self.asked_to_wait.pop((request.path, request.headers.get("range", "")), (0.0, 0.0))
        if begin + ON_ITS_WAY < time.time() < end:
            self.counts["impatient"] += 1

    def drawn(self, draw: random.Random) -> str:
        place = draw.random()
        for kind in SHARES:
            place -= getattr(self.faults, kind)
            if place < 0:
                return kind
        return ""

    def limited(self, request: Request) -> Answer:
        """Every other time the moment is named as a date, which knows only whole seconds."""
        now, wait = time.time(), self.faults.retry_after_seconds
        end, text = now + wait, f"{wait:d}"
        if request.number % 2:
            end = float(int(end) + 1)
            text = format_datetime(datetime.fromtimestamp(end, UTC), usegmt=True)
        self.asked_to_wait[request.path, request.headers.get("range", "")] = now, end
        return plain(HTTPStatus.TOO_MANY_REQUESTS, "limited", Retry_After=text)

    def ranged(self, content: memoryview, wanted: str | None) -> Answer:
        size = len(content)
        match = re.fullmatch(r"bytes=(\d*)-(\d*)", wanted or "")
        if match is None or match.group() == "bytes=-":
            return Answer(HTTPStatus.OK, content, span=f"0-{size - 1}")
        first, last = match.groups()
        start = int(first) if first else max(0, size - int(last))
        stop = min(size, int(last) + 1) if first and last else size
        if start >= stop:
            return plain(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, Content_Range=f"bytes */{size}")
        span = f"{start}-{stop - 1}"
        headers = {"Content-Range": f"bytes {span}/{size}"}
        return Answer(HTTPStatus.PARTIAL_CONTENT, content[start:stop], span=span, headers=headers)

    def spoiled(self, body: memoryview, kind: str, draw: random.Random) -> memoryview:
        if kind == "garbage":
            return memoryview(draw.randbytes(len(body)))
        if kind == "zeroed":
            return memoryview(bytes(len(body)))
        if kind == "flipped":
            changed = bytearray(body)
            reach = len(changed) if draw.random() < 1 / 2 else min(len(changed), DIRECTORY)
            changed[draw.randrange(reach)] ^= 1 << draw.randrange(8)
            return memoryview(changed)
        if kind == "tampered":
            return memoryview(bytes(body).replace(*map(bytes.fromhex, self.faults.tampering)))
        return body

    def may_tamper(self, path: str, body: memoryview) -> bool:
        """Once a path: a lie that is told twice cannot be told from the truth."""
        if path in self.tampered or bytes.fromhex(self.faults.tampering[0]) not in bytes(body):
            return False
        self.tampered.add(path)
        return True

    async def be_down(self) -> None:
        """No listener for one half of the time, one that hangs up for the other."""
        self.server.close()
        self.injected["down"] += len(self.writers)
        for writer in list(self.writers):
            self.reset(writer)
        with socket.socket() as holder:  # nobody else shall get the port meanwhile
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            holder.bind(("127.0.0.1", self.port))
            await asyncio.sleep(self.faults.down_seconds / 2)
        self.dead = True
        await self.listen()
        await asyncio.sleep(self.faults.down_seconds / 2)
        self.dead = False


async def run(server: FaultyServer) -> None:
    await server.listen()
    await asyncio.Event().wait()


def main() -> None:
    given = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    log = Path(given["access_log"]) if given["access_log"] else None
    asyncio.run(run(FaultyServer(Path(given["root"]), given["port"], Faults(**given["faults"]), log)))


if __name__ == "__main__":
    main()
