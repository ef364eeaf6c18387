from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from asking import CONTENT, failure
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from loopback.nginx import serve_files
from scripted import (
    Handler,
    reset,
    saying,
    serve_scripted,
    short,
    silent,
    stalled,
    status,
    zeroed,
)

from eearth.errors import UnreachableError
from eearth.geo.remote import transport as module
from eearth.geo.signing import Access

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from scripted import Reply

    from eearth.geo.remote.transport import Transport


pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("files")
    (folder / "f.bin").write_bytes(CONTENT)
    with serve_files(folder) as url:
        yield f"{url}/f.bin"


# --- Answers


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, len(CONTENT) - 1), st.integers(1, 2 * len(CONTENT)))
def test_any_range_is_exact(nginx: str, transport: Transport, start: int, length: int) -> None:
    answer = transport.fetch(nginx, None, start, length)
    assert (answer.body, answer.size) == (CONTENT[start : start + length], len(CONTENT))


@pytest.mark.parametrize(
    "bad",
    [
        saying(None),
        saying("bytes 1-100/50000"),
        saying("bytes 0-98/50000"),
        saying("bytes 0-99/99"),
        saying("bytes 0-99/*"),
        saying("pages 0-99/50000"),
        saying("bytes 0-99/50000", b"x" * 99),
        saying("bytes 0-99/50000", b"x" * 101),
        short,
        silent,
        reset,
        zeroed,
        stalled(1),
        stalled(1, early=True),
        *map(status, (400, 408, 429, 500, 502, 503, 504, 418, 304)),
    ],
    ids=[
        "no range", "another start", "too little", "impossible total", "unknown total", "another unit", "short",
        "long", "truncated", "no answer", "reset", "zeroed", "stalled body", "stalled head",
        "400", "408", "429", "500", "502", "503", "504", "418", "304",
    ],
)  # fmt: skip
def test_what_is_not_what_was_asked_is_asked_again(transport: Transport, bad: Reply) -> None:
    with serve_scripted(CONTENT, [bad, bad]) as server:
        started = time.monotonic()
        assert transport.fetch(f"{server.url}/f", None, 0, 100).body == CONTENT[:100]
        assert time.monotonic() - started < 2
        assert len(server.seen) == 3
        assert transport.traffic.requests == 3
        assert transport.traffic.received == 100 if bad is not zeroed else 300


@pytest.mark.parametrize("bad", [saying("bytes 1-100/50000"), short, reset, status(500)])
def test_what_never_heals_is_given_up_in_one_line(transport: Transport, bad: Reply) -> None:
    with serve_scripted(CONTENT, after=bad) as server:
        started = time.monotonic()
        failure(transport, f"{server.url}/f?sig=hush")
        assert 0.3 < time.monotonic() - started < 3
        assert len(server.seen) >= module.ATTEMPTS


@pytest.mark.parametrize("code", [404, 405, 410, 416])
def test_no_is_final_at_once(transport: Transport, code: int) -> None:
    with serve_scripted(CONTENT, after=status(code)) as server:
        error = failure(transport, f"{server.url}/f?sig=hush")
        assert str(code) in str(error)
        assert not isinstance(error, UnreachableError)
        assert len(server.seen) == 1


# --- Servers without ranges


def test_a_small_file_from_a_server_without_ranges(tmp_path: Path, transport: Transport) -> None:
    (tmp_path / "f.bin").write_bytes(CONTENT)
    with serve_files(tmp_path, ranges=False) as url:
        answer = transport.fetch(f"{url}/f.bin", None, 10, 100)
        assert (answer.body, answer.size) == (CONTENT[10:110], len(CONTENT))
        assert transport.fetch(f"{url}/f.bin", None, len(CONTENT) - 5, 100).body == CONTENT[-5:]


def test_a_huge_file_from_a_server_without_ranges(
    tmp_path: Path, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WHOLE_FILE_BYTES", 1000)
    (tmp_path / "f.bin").write_bytes(CONTENT)
    with serve_files(tmp_path, ranges=False) as url:
        assert "byte ranges" in str(failure(transport, f"{url}/f.bin"))
    assert transport.traffic.requests == 1


@pytest.mark.parametrize("length", ["1000000000000000", "abc", "12, 12", "-3", "", None])
def test_a_strange_length_is_no_crash(transport: Transport, length: str | None) -> None:
    def reply(handler: Handler) -> None:
        handler.head(200, **({} if length is None else {"Content_Length": length}))
        handler.wfile.write(CONTENT[:100])
        handler.close_connection = True

    with serve_scripted(CONTENT, after=reply) as server:
        failure(transport, f"{server.url}/f")


# --- Redirects


def to(url: str, code: int = 302) -> Reply:
    return status(code, Location=url)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed_without_the_header_meant_for_the_first_host(
    transport: Transport, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setenv("EE_TOKEN", "hush")
    access = Access("bearer", key_variables=("EE_TOKEN",), hosts=("127.0.0.1:*",))
    with serve_scripted(CONTENT) as store, serve_scripted(CONTENT, after=to(f"{store.url}/there", code)) as door:
        assert transport.fetch(f"{door.url}/f", access, 5, 100).body == CONTENT[5:105]
        assert door.seen[0].headers["authorization"] == "Bearer hush"
        assert "authorization" not in store.seen[0].headers
        assert store.seen[0].headers["range"] == "bytes=5-104"


def test_a_redirect_on_the_same_host(transport: Transport) -> None:
    with serve_scripted(CONTENT, [to("/there")]) as server:
        assert transport.fetch(f"{server.url}/f", None, 0, 10).body == CONTENT[:10]
        assert [each.path for each in server.seen] == ["/f", "/there"]


def test_a_redirect_in_circles_is_given_up(transport: Transport) -> None:
    with serve_scripted(CONTENT, after=to("/f?sig=hush")) as server:
        assert "redirect" in str(failure(transport, f"{server.url}/f?sig=hush"))


def test_a_404_behind_a_redirect_is_final(transport: Transport) -> None:
    with serve_scripted(CONTENT, [to("/there?sig=hush")], after=status(404)) as server:
        failure(transport, f"{server.url}/f")
        assert len(server.seen) == 2


# --- Zeros


def test_zeros_are_believed_when_they_stay(transport: Transport) -> None:
    with serve_scripted(bytes(1000)) as server:
        assert transport.fetch(f"{server.url}/f", None, 0, 1000).body == bytes(1000)
        assert len(server.seen) == module.ZEROS_BELIEVED


def test_zeros_between_data_are_data(transport: Transport) -> None:
    content = bytes(500) + b"x" + bytes(499)
    with serve_scripted(content) as server:
        assert transport.fetch(f"{server.url}/f", None, 0, 1000).body == content
