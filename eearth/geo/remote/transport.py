"""Byte ranges over HTTP, from servers that fail.

Every answer is checked against what was asked: status, range and length. What is not exactly that is asked for again,
after a growing, jittered pause, for as long as there is hope. A server that asks to be left alone is: the number of
requests that it gets at a time is halved on 429 and grows back with each answer (additive increase, multiplicative
decrease: RFC 5681's rule for a link that is shared with others).
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections import defaultdict
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import urllib3
from urllib3.exceptions import HTTPError

from eearth.errors import EearthError, SourceError, UnreachableError, innermost
from eearth.geo.signing import authorised
from eearth.manifest import redacted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eearth.geo.signing import Access

# A request is given up when it failed this often and for this long: a server may restart meanwhile.
ATTEMPTS = 8
PATIENCE_SECONDS = 60.0
FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 8.0
LONGEST_RETRY_AFTER_SECONDS = 300.0

CONNECT_SECONDS = 10.0
# A transfer that brings nothing for this long has stalled; a slow one may take as long as it needs.
STALL_SECONDS = 10.0

# Most requests to one host at the same time.
MOST_CONNECTIONS = 64

# What a server says when it will not change its mind.
FINAL = {
    HTTPStatus.NOT_FOUND,
    HTTPStatus.GONE,
    HTTPStatus.METHOD_NOT_ALLOWED,
    HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
}
DENIED = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
# What S3 calls a session token that has run out, with status 400 (AWS S3 API reference, "Error responses").
EXPIRED = (b"<Code>ExpiredToken</Code>", b"<Code>TokenRefreshRequired</Code>")
ERROR_BYTES = 4096  # of its message that are read
# Times that a signature is renewed before a refusal is believed.
SIGNATURES = 3
# Times that a silent server is asked for a byte that it once gave, before it is called dead instead of one file broken.
PROBES = 3

# A body of zeros is what a cache with a hole delivers, and what an empty part of an uncompressed file is: believed
# only when this many answers agree.
ZEROS_BELIEVED = 4

# A server without byte ranges answers with the whole file: accepted up to this size.
WHOLE_FILE_BYTES = 64 * 2**20


class _FaultError(Exception):
    """One attempt failed; the next may not."""

    def __init__(self, reason: str, *, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class _FinalError(Exception):
    """No attempt will succeed."""


@dataclass
class Traffic:
    """What went over the wire: answers that were used, all requests, and bytes received."""

    requests: int = 0
    retries: int = 0
    received: int = 0


@dataclass
class _Host:
    """How many requests a host gets at a time, since when it has not answered, and a request that it did answer."""

    limit: float = MOST_CONNECTIONS
    active: int = 0
    paused_until: float = 0.0
    answered: float = field(default_factory=time.monotonic)
    sample: tuple[str, dict[str, str], int] | None = None


@dataclass(frozen=True)
class Answer:
    """Bytes of a file, and the file's size."""

    body: bytes
    size: int


class Transport:
    """A pool of connections that many threads share; `close` lets none of them wait any longer."""

    def __init__(self) -> None:
        """Connections are opened as they are needed."""
        self.traffic = Traffic()
        self._pool = urllib3.PoolManager(
            num_pools=16,
            maxsize=MOST_CONNECTIONS,
            # redirects are followed, to another host without what was meant for the first; all else is decided here
            retries=urllib3.Retry(
                None, connect=0, read=0, status=0, other=0, redirect=3, respect_retry_after_header=False
            ),
            timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=STALL_SECONDS),
            headers={"User-Agent": "eearth", "Accept-Encoding": "identity"},
        )
        self._hosts: dict[str, _Host] = defaultdict(_Host)
        self._changed = threading.Condition()
        self._arriving: set[urllib3.BaseHTTPResponse] = set()
        self._closed = False

    def fetch(self, href: str, access: Access | None, start: int, length: int) -> Answer:
        """Get `length` bytes from `start` on; fewer only where the file ends before.

        Raises:
            SourceError: The file cannot be had, or not in byte ranges.
            UnreachableError: The server has not answered at all for as long as requests are tried.
        """
        first_failure, failures, denied, zeros, stale = 0.0, 0, 0, 0, False
        while True:
            try:
                url, headers = authorised(href, access, fresh=stale)
                stale = False
                answer = self._attempt(url, {**headers, "Range": f"bytes={start}-{start + length - 1}"}, start, length)
                zeros = zeros + 1 if _is_zero(answer.body) else 0
                if zeros in (0, ZEROS_BELIEVED):
                    return answer
            except _FinalError as error:
                raise _unreadable(href, error) from None
            except _DeniedError as error:
                denied, stale = denied + 1, True
                if denied > SIGNATURES or access is None:
                    raise _unreadable(href, error) from None
            except _FaultError as error:
                failures += 1
                first_failure = first_failure or time.monotonic()
                if failures >= ATTEMPTS and time.monotonic() - first_failure > PATIENCE_SECONDS:
                    raise self._given_up(href, _host_of(url), error) from None
                self._pause(failures, error.wait)

    def close(self) -> None:
        """Fail every request that is still to come, waits for another attempt, or brings its body."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            for response in self._arriving:
                with suppress(OSError, RuntimeError, ValueError):  # it has just arrived
                    response.shutdown()
        self._pool.clear()

    def _refuse_closed(self) -> None:
        if self._closed:
            msg = "the download was stopped"
            raise EearthError(msg)

    @contextmanager
    def _arrival(self, response: urllib3.BaseHTTPResponse) -> Iterator[None]:
        """A body is on its way, which `close` shall not wait for."""
        with self._changed:
            self._refuse_closed()
            self._arriving.add(response)
        try:
            yield
        finally:
            with self._changed:
                self._arriving.discard(response)

    def _attempt(self, url: str, headers: dict[str, str], start: int, length: int) -> Answer:
        with self._changed:
            host = self._hosts[_host_of(url)]
        with self._turn(host):
            try:
                response = self._pool.request("GET", url, headers=headers, preload_content=False, redirect=True)
                try:
                    with self._arrival(response):
                        answer = self._checked(response, host, start, length)
                except BaseException:
                    response.close()  # what is left of its body must not be taken for the next answer
                    raise
                response.release_conn()
            except (HTTPError, OSError) as error:
                raise _FaultError(innermost(error)) from error
        host.sample = url, headers, start
        return answer

    def _checked(self, response: urllib3.BaseHTTPResponse, host: _Host, start: int, length: int) -> Answer:
        status = response.status
        if status in FINAL or status in DENIED or _is_expired(response):
            host.answered = time.monotonic()
            msg = f"the server says {status} {response.reason}"
            raise (_FinalError if status in FINAL else _DeniedError)(msg)
        if status not in (HTTPStatus.PARTIAL_CONTENT, HTTPStatus.OK):
            raise self._refused(response, host)
        answer = (
            _partial(response, start, length)
            if status == HTTPStatus.PARTIAL_CONTENT
            else _whole(response, start, length)
        )
        with self._changed:
            self._refuse_closed()  # a connection that was shut down may have brought anything
            self.traffic.received += len(answer.body)
            host.answered = time.monotonic()
            host.limit = min(MOST_CONNECTIONS, host.limit + 1 / host.limit)
            self._changed.notify_all()
        return answer

    def _refused(self, response: urllib3.BaseHTTPResponse, host: _Host) -> _FaultError:
        """A server that is overloaded or broken; it may say how long it wants to be left alone."""
        wait = _retry_after(response.headers.get("Retry-After"))
        with self._changed:
            if wait is not None or response.status == HTTPStatus.TOO_MANY_REQUESTS:
                host.limit = max(1.0, host.limit / 2)
                host.answered = time.monotonic()
                host.paused_until = max(host.paused_until, time.monotonic() + (wait or 0.0))
        return _FaultError(f"the server says {response.status} {response.reason}", wait=wait)

    @contextmanager
    def _turn(self, host: _Host) -> Iterator[None]:
        """Wait until the host may get one more request."""
        with self._changed:
            while not self._closed and (host.active >= int(host.limit) or host.paused_until > time.monotonic()):
                paused = host.paused_until - time.monotonic()
                self._changed.wait(paused if paused > 0 else None)
            self._refuse_closed()
            host.active += 1
            self.traffic.requests += 1
        try:
            yield
        finally:
            with self._changed:
                host.active -= 1
                self._changed.notify_all()  # not one: it might wait for another host

    def _pause(self, failures: int, wait: float | None) -> None:
        pause = growing_pause(FIRST_PAUSE_SECONDS, failures, LONGEST_PAUSE_SECONDS)
        end = time.monotonic() + max(wait or 0.0, pause)
        with self._changed:
            self.traffic.retries += 1
            while not self._closed and time.monotonic() < end:
                self._changed.wait(end - time.monotonic())

    def _still_answers(self, host: _Host) -> bool:
        """Whether a server gives a byte that it gave before, or refuses it: then what it does not give is at fault."""
        if host.sample is None:
            return False
        url, headers, start = host.sample
        for number in range(PROBES):
            try:
                with suppress(_DeniedError, _FinalError):  # words of a server that works
                    self._attempt(url, {**headers, "Range": f"bytes={start}-{start}"}, start, 1)
            except _FaultError as error:
                self._pause(number + 1, error.wait)
            else:
                return True
        return False

    def _given_up(self, href: str, host: str, error: Exception) -> SourceError:
        silent_for = time.monotonic() - self._hosts[host].answered
        if silent_for > PATIENCE_SECONDS and not self._still_answers(self._hosts[host]):
            msg = (
                f"{host} has not answered for {silent_for:.0f} s ({redacted(str(error))}): "
                "run the same command again when it does, it continues"
            )
            return UnreachableError(msg)
        return _unreadable(href, error)


class _DeniedError(Exception):
    """The server refuses; a new signature may help."""


def growing_pause(first: float, failures: int, longest: float = LONGEST_PAUSE_SECONDS) -> float:
    """Seconds to wait after so many failures: doubled each time, and jittered, so that threads do not come back as one.

    Args:
        first: After the first failure, at most.
        failures: So far, at least one.
        longest: Never more than this.
    """
    return min(longest, first * 2.0 ** (failures - 1)) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter


def _host_of(url: str) -> str:
    """Host and port, without the user name that an address may hold."""
    return urlsplit(url).netloc.rpartition("@")[2]


def _unreadable(href: str, error: Exception) -> SourceError:
    return SourceError(f"{redacted(href)} cannot be read: {redacted(str(error))}")


def _is_expired(response: urllib3.BaseHTTPResponse) -> bool:
    if response.status != HTTPStatus.BAD_REQUEST:
        return False
    body = response.read(ERROR_BYTES)
    return any(code in body for code in EXPIRED)


def _is_zero(body: bytes) -> bool:
    """Whether all bytes are zero; looks at three of them first, for nearly every body shows there that it is not."""
    if not body or body[0] or body[-1] or body[len(body) // 2]:
        return False
    return body.count(0) == len(body)


def _partial(response: urllib3.BaseHTTPResponse, start: int, length: int) -> Answer:
    match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", response.headers.get("Content-Range", ""))
    if match is None:
        msg = f"the server says it sends {response.headers.get('Content-Range')!r}"
        raise _FaultError(msg)
    first, last, size = map(int, match.groups())
    if first != start or last != min(start + length, size) - 1:
        msg = f"asked for the bytes {start}-{start + length - 1}, the server sends {first}-{last} of {size}"
        raise _FaultError(msg)
    return Answer(_body(response, last - first + 1), size)


def _whole(response: urllib3.BaseHTTPResponse, start: int, length: int) -> Answer:
    """The part of a whole file."""
    told = response.headers.get("Content-Length", "")
    size = int(told) if told.isdecimal() else -1
    if not 0 <= size <= WHOLE_FILE_BYTES:
        msg = (
            "the server ignores byte ranges, and the file is too large to be fetched whole each time "
            f"({told or 'an unknown number of'} bytes)"
        )
        raise _FinalError(msg)
    return Answer(_body(response, size)[start : start + length], size)


def _body(response: urllib3.BaseHTTPResponse, expected: int) -> bytes:
    body = response.read(decode_content=False)
    if len(body) != expected:
        msg = f"expected {expected} bytes, got {len(body)}"
        raise _FaultError(msg)
    return body


def _retry_after(text: str | None) -> float | None:
    """Seconds from a Retry-After header, which holds seconds or a date (RFC 9110, 10.2.3)."""
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - time.time()
        except ValueError:
            return None
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER_SECONDS)
