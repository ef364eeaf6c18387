from __future__ import annotations

import http.client
import itertools
import json
import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from loopback.fault_kinds import SHARES, Faults
from loopback.faults import Served, read_access_log, serve_faulty, tally_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONTENT = random.Random(0).randbytes(40_000)  # noqa: S311 - made-up content
Answer = tuple[int, dict[str, str], bytes]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "b.bin").write_bytes(CONTENT)
    (folder / "empty").write_bytes(b"")
    return folder


@contextmanager
def connected(url: str) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    try:
        yield connection
    finally:
        connection.close()


def ask(connection: http.client.HTTPConnection, path: str, wanted: str | None = None, method: str = "GET") -> Answer:
    connection.request(method, path, headers={"Range": f"bytes={wanted}"} if wanted else {})
    response = connection.getresponse()
    return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()


def outcome(url: str, wanted: str | None = "0-999") -> str:
    """What a client sees that takes part of the file once."""
    try:
        with connected(url) as connection:
            status, _, body = ask(connection, "/a/b.bin", wanted)
    except ConnectionRefusedError:
        return "refused"
    except ConnectionError:
        return "reset"
    except http.client.IncompleteRead:
        return "truncated"
    right = CONTENT[:1000] if wanted else CONTENT
    if status >= HTTPStatus.BAD_REQUEST:
        return str(int(status))
    wrong = sum(a != b for a, b in zip(body, right, strict=True))
    return "zeroed" if not any(body) else ("right", "flipped")[wrong] if wrong <= 1 else "garbage"


def test_without_faults_every_range_is_exact_over_one_connection(root: Path) -> None:
    with serve_faulty(root) as url, connected(url) as connection:
        for wanted, part in {
            "0-15": CONTENT[:16], "100-299": CONTENT[100:300], "-10": CONTENT[-10:], "39990-": CONTENT[39990:],
            "39990-99999": CONTENT[39990:],
        }.items():  # fmt: skip
            status, headers, body = ask(connection, "/a/b.bin", wanted)
            first = CONTENT.index(part)
            assert (status, body) == (HTTPStatus.PARTIAL_CONTENT, part)
            assert headers["content-range"] == f"bytes {first}-{first + len(part) - 1}/40000"
        local = connection.sock.getsockname()
        assert ask(connection, "/a/b.bin")[::2] == (HTTPStatus.OK, CONTENT)
        assert ask(connection, "/empty")[::2] == (HTTPStatus.OK, b"")
        status, headers, body = ask(connection, "/a/b.bin", "0-9", "HEAD")
        assert (status, headers["content-length"], body) == (HTTPStatus.PARTIAL_CONTENT, "10", b"")
        assert ask(connection, "/a/b.bin", "40000-")[0] == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
        for missing in ("/none", "/../test", "/a"):
            assert ask(connection, missing)[0] == HTTPStatus.NOT_FOUND
        assert connection.sock.getsockname() == local
        tally = tally_of(url)
    parts = 16 + 200 + 10 + 10 + 10
    refusals = len("416 Requested Range Not Satisfiable\n") + 3 * len("404 Not Found\n")
    assert (tally.requests, tally.bytes, tally.injected) == (12, parts + 40_000 + refusals, 0)


@pytest.mark.parametrize(
    ("kind", "seen"),
    [
        ("unavailable", "503"), ("limited", "429"), ("reset", "reset"), ("truncated", "truncated"),
        ("garbage", "garbage"), ("zeroed", "zeroed"), ("flipped", "flipped"),
    ],
)  # fmt: skip
def test_a_fault_is_what_its_name_says_and_is_counted(root: Path, tmp_path: Path, kind: str, seen: str) -> None:
    log = tmp_path / "log"
    with serve_faulty(root, Faults(seed=1, **{kind: 0.3}), access_log=log) as url:
        outcomes = [outcome(url, "0-999" if number % 2 else None) for number in range(100)]
        tally = tally_of(url)
    assert Counter(outcomes).keys() == {"right", seen}
    assert outcomes.count(seen) == tally.faults[kind] == tally.injected
    assert 16 <= tally.injected <= 44  # three standard deviations (4.6) around 30
    served = read_access_log(log)
    assert [("right", seen)[line.fault == kind] for line in served] == outcomes
    assert tally.requests == len(served) == 100
    assert tally.bytes == sum(line.bytes for line in served)
    spans = {line.span for line in served if line.status < HTTPStatus.BAD_REQUEST}
    assert spans == {"0-999", "0-39999"}


def test_the_same_seed_brings_the_same_faults(root: Path, tmp_path: Path) -> None:
    shares: dict[str, Any] = {**dict.fromkeys(SHARES, 0.1), "tampering": (CONTENT[:4].hex(), "00000000")}
    logs = []
    for number, seed in enumerate((5, 5, 6)):
        log = tmp_path / f"log{number}"
        with serve_faulty(root, Faults(seed=seed, stall_seconds=0, **shares), access_log=log) as url:
            for _ in range(60):
                outcome(url)
        logs.append([line.fault for line in read_access_log(log)])
    assert logs[0] == logs[1] != logs[2]
    assert set(logs[0]) == {*SHARES, "-"}


def test_tampering_changes_what_it_names_and_nothing_else(root: Path) -> None:
    old, new = CONTENT[10:14], b"\0\1\2\3"
    faults = Faults(tampered=1, tampering=(old.hex(), new.hex()))
    with serve_faulty(root, faults) as url, connected(url) as connection:
        assert ask(connection, "/a/b.bin")[2] == CONTENT[:10] + new + CONTENT[14:]
        assert ask(connection, "/a/b.bin", "12-99")[2] == CONTENT[12:100]
        assert ask(connection, "/a/b.bin")[2] == CONTENT  # each path once
        assert tally_of(url).faults == {"tampered": 1}


def test_a_stalled_body_arrives_whole_but_late(root: Path) -> None:
    with serve_faulty(root, Faults(stalled=1, stall_seconds=0.4)) as url, connected(url) as connection:
        connection.request("GET", "/a/b.bin")
        response = connection.getresponse()
        first = response.read(20_000)
        begun = time.monotonic()
        assert first + response.read() == CONTENT
        assert 0.3 < time.monotonic() - begun < 2


def test_a_slow_link_and_latency(root: Path) -> None:
    with serve_faulty(root, Faults(latency_seconds=0.2, bytes_per_second=100_000)) as url:
        begun = time.monotonic()
        with ThreadPoolExecutor(4) as pool:  # each connection is as slow as one alone
            assert set(pool.map(lambda _: outcome(url, None), range(4))) == {"right"}
        assert 0.55 < time.monotonic() - begun < 2
        assert tally_of(url).most == 4


def test_a_limited_client_is_told_how_long_and_watched(root: Path) -> None:
    with serve_faulty(root, Faults(limited=1, retry_after_seconds=1)) as url, connected(url) as connection:
        seconds = ask(connection, "/a/b.bin", "0-9")[1]["retry-after"]
        date = parsedate_to_datetime(ask(connection, "/a/b.bin", "10-19")[1]["retry-after"])
        assert seconds == "1"
        assert 0 <= date.timestamp() - time.time() <= 2
        assert tally_of(url).impatient == 0
        time.sleep(0.1)
        ask(connection, "/a/b.bin", "0-9")
        ask(connection, "/a/b.bin", "20-29")
        assert tally_of(url).impatient == 1
        time.sleep(2.1)
        ask(connection, "/a/b.bin", "0-9")
        assert tally_of(url).impatient == 1


def test_some_paths_always_fail(root: Path) -> None:
    (root / "a" / "c.bin").write_bytes(CONTENT)
    faults = Faults(always={"a/b.bin": "missing", "c.bin": "zeroed"})
    with serve_faulty(root, faults) as url, connected(url) as connection:
        assert ask(connection, "/a/b.bin")[0] == HTTPStatus.NOT_FOUND
        assert ask(connection, "/a/c.bin")[2] == bytes(40_000)
        assert tally_of(url).faults == {"missing": 1, "zeroed": 1}


@pytest.mark.parametrize("form", ["sign", "token"])
def test_a_signature_is_good_for_so_many_requests_and_so_long(root: Path, form: str) -> None:
    def signed(connection: http.client.HTTPConnection) -> str:
        if form == "sign":
            told = json.loads(ask(connection, f"/api/sas/v1/sign?href={url}/a/b.bin")[2])
            assert told["href"].startswith(f"{url}/a/b.bin?")
            return str(told["href"].removeprefix(url))
        told = json.loads(ask(connection, "/api/sas/v1/token/account/container")[2])
        return f"/a/b.bin?{told['token']}"

    with serve_faulty(root, Faults(signature_uses=2, signature_seconds=1.0)) as url, connected(url) as connection:
        assert ask(connection, "/a/b.bin")[0] == HTTPStatus.FORBIDDEN
        assert ask(connection, "/a/b.bin?sig=made-up")[0] == HTTPStatus.FORBIDDEN
        first, second = signed(connection), signed(connection)
        assert first != second
        assert [ask(connection, first)[0] for _ in range(3)] == [200, 200, 403]
        assert ask(connection, second)[::2] == (200, CONTENT)
        time.sleep(1.05)
        assert ask(connection, second)[0] == HTTPStatus.FORBIDDEN
        tally = tally_of(url)
    assert (tally.signed, tally.faults) == (2, {"expired": 4})


def test_down_for_a_while_after_some_requests(root: Path) -> None:
    seen: list[tuple[float, str]] = []
    with serve_faulty(root, Faults(down_after=5, down_seconds=1.0)) as url:
        idle = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
        assert ask(idle, "/a/b.bin", "0-9")[0] == HTTPStatus.PARTIAL_CONTENT
        while len(seen) < 10 or seen[-1][1] != "right":
            seen.append((time.monotonic(), outcome(url)))
            time.sleep(0.02)
        with pytest.raises(ConnectionError):
            ask(idle, "/a/b.bin", "0-9")
        idle.close()
        tally = tally_of(url)
    phases = [name for name, _ in itertools.groupby(name for _, name in seen)]
    assert phases in (["right", "reset", "right"], ["right", "reset", "refused", "reset", "right"])
    down = [moment for moment, name in seen if name != "right"]
    assert 0.8 < down[-1] - down[0] < 1.6
    assert tally.faults["down"] >= 2


def test_a_line_of_the_access_log(root: Path, tmp_path: Path) -> None:
    with serve_faulty(root, access_log=tmp_path / "log") as url, connected(url) as connection:
        ask(connection, "/a/b.bin?token=hush", "5-9")
        ask(connection, "/a/b.bin", None, "HEAD")
        ask(connection, "/none")
    assert (tmp_path / "log").read_text().splitlines()[0] == "206 /a/b.bin 5-9 5 -"
    assert read_access_log(tmp_path / "log") == [
        Served(206, "/a/b.bin", "5-9", 5, "-"), Served(200, "/a/b.bin", "0-39999", 0, "-"),
        Served(404, "/none", "-", 14, "-"),
    ]  # fmt: skip


def test_it_is_fast_enough_to_be_no_bottleneck(root: Path) -> None:
    def many(_: int) -> None:
        with connected(url) as connection:
            for _ in range(100):
                ask(connection, "/a/b.bin", "0-7999")

    with serve_faulty(root) as url, ThreadPoolExecutor(2) as pool:
        begun = time.monotonic()
        list(pool.map(many, range(2)))
        assert time.monotonic() - begun < 2
