from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from asking import CONTENT, failure
from loopback.faults import Faults, serve_faulty, tally_of
from loopback.process import free_port
from scripted import (
    Handler,
    dripping,
    good,
    serve_scripted,
    short,
    stalled,
    status,
)

from eearth.errors import EearthError, UnreachableError
from eearth.geo.remote import transport as module
from eearth.geo.remote.transport import Transport
from eearth.geo.signing import Access

if TYPE_CHECKING:
    from pathlib import Path

    from scripted import Reply


pytestmark = pytest.mark.usefixtures("quick")


# --- Servers that ask to be left alone


def in_seconds(seconds: int) -> str:
    return str(seconds)


def as_a_date(seconds: int) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize("written", [in_seconds, as_a_date])
@pytest.mark.parametrize("code", [429, 503])
def test_retry_after_is_honoured_by_every_thread(transport: Transport, written: object, code: int) -> None:
    wait = 1 if written is in_seconds else 2  # a date knows whole seconds only: between one and two from now
    text = written(wait)  # type: ignore[operator]
    with (
        serve_scripted(CONTENT, [status(code, Retry_After=text)]) as server,
        serve_scripted(CONTENT) as other,
        ThreadPoolExecutor(2) as pool,
    ):
        first = pool.submit(transport.fetch, f"{server.url}/f", None, 0, 10)
        while not server.seen:
            time.sleep(0.005)
        time.sleep(0.05)
        second = pool.submit(transport.fetch, f"{server.url}/g", None, 0, 10)
        started = time.monotonic()
        transport.fetch(f"{other.url}/f", None, 0, 10)
        assert time.monotonic() - started < 0.5
        assert first.result().body == second.result().body == CONTENT[:10]
        assert len(server.seen) == 3
        assert 0.5 < server.seen[1].moment - server.seen[0].moment < 3
        assert 0.5 < server.seen[2].moment - server.seen[0].moment < 3


@pytest.mark.parametrize(
    "text", ["soon", "-5", "nan", "Wed, 99 Foo 2015 07:28:00 GMT", "Wed, 21 Oct 2015 07:28:00 GMT"]
)
def test_a_retry_after_that_says_nothing_is_passed_over(transport: Transport, text: str) -> None:
    with serve_scripted(CONTENT, [status(429, Retry_After=text)]) as server:
        started = time.monotonic()
        transport.fetch(f"{server.url}/f", None, 0, 10)
        assert time.monotonic() - started < 0.5


@pytest.mark.parametrize("text", ["1e9", "inf", "Wed, 21 Oct 2099 07:28:00 GMT"])
def test_a_retry_after_of_days_is_shortened(transport: Transport, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(module, "LONGEST_RETRY_AFTER_SECONDS", 0.3)
    with serve_scripted(CONTENT, [status(429, Retry_After=text)]) as server:
        started = time.monotonic()
        transport.fetch(f"{server.url}/f", None, 0, 10)
        assert 0.3 <= time.monotonic() - started < 1


def test_a_429_halves_the_requests_at_a_time_and_answers_bring_them_back(transport: Transport) -> None:
    with serve_scripted(CONTENT, [status(429)] * 3) as server:
        host = transport._hosts[urlsplit(server.url).netloc]
        transport.fetch(f"{server.url}/f", None, 0, 10)
        assert host.limit == pytest.approx(64 / 8 + 1 / 8)
        for _ in range(300):
            transport.fetch(f"{server.url}/f", None, 0, 10)
        assert 20 < host.limit < 30  # a square root: sqrt(8² + 2 · 300)


def test_no_more_requests_at_a_time_than_the_server_bears(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty threads at a server that bears four requests: it is found out, and everything arrives."""
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 60.0)

    def reply(handler: Handler) -> None:
        crowded = handler.scripted.active > 4
        time.sleep(0.01)
        (status(429) if crowded else good)(handler)

    with serve_scripted(CONTENT, after=reply) as server, ThreadPoolExecutor(20) as pool:
        bodies = list(pool.map(lambda n: transport.fetch(f"{server.url}/f", None, n, 10).body, range(300)))
        assert bodies == [CONTENT[n : n + 10] for n in range(300)]
        late = [each.active for each in server.seen[len(server.seen) // 2 :]]
        assert max(each.active for each in server.seen) <= 20
        assert sum(late) / len(late) < 6
        assert len(server.seen) < 500


def test_threads_share_connections(transport: Transport) -> None:
    with serve_scripted(CONTENT) as server:
        for number in range(20):
            transport.fetch(f"{server.url}/f", None, number, 10)
        assert server.connections == 1
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda n: transport.fetch(f"{server.url}/f", None, n, 10), range(100)))
        assert server.connections <= 5


def test_waiting_for_a_turn_costs_no_cpu(transport: Transport) -> None:
    """Sixty threads wait for one request that takes a second."""
    with serve_scripted(CONTENT, after=dripping(100, 0.1)) as server, ThreadPoolExecutor(60) as pool:
        transport._hosts[urlsplit(server.url).netloc].limit = 1.0
        waiting = [pool.submit(transport.fetch, f"{server.url}/f", None, 0, 1000) for _ in range(60)]
        time.sleep(0.3)
        spent = time.process_time()
        time.sleep(0.5)
        spent = time.process_time() - spent
        transport.close()
        for each in waiting:
            with pytest.raises(EearthError):
                each.result()
    assert spent < 0.1


# --- Slow links and dead servers


def test_a_slow_link_that_lives_is_never_given_up(transport: Transport) -> None:
    with serve_scripted(CONTENT, after=dripping(20, 0.1)) as server:
        assert transport.fetch(f"{server.url}/f", None, 0, 1000).body == CONTENT[:1000]
        assert len(server.seen) == 1


def test_a_dead_host_is_unreachable(transport: Transport) -> None:
    started = time.monotonic()
    error = failure(transport, f"http://user:hush@127.0.0.1:{free_port()}/f?sig=hush")
    assert isinstance(error, UnreachableError)
    assert 0.3 < time.monotonic() - started < 3


def test_a_host_that_only_fails_for_one_file_is_reachable(transport: Transport) -> None:
    def reply(handler: Handler) -> None:
        (good if handler.path == "/good" else short)(handler)

    with serve_scripted(CONTENT, after=reply) as server, ThreadPoolExecutor(1) as pool:
        done = threading.Event()

        def keep_asking() -> None:
            while not done.is_set():
                transport.fetch(f"{server.url}/good", None, 0, 10)

        asking = pool.submit(keep_asking)
        try:
            error = failure(transport, f"{server.url}/bad")
        finally:
            done.set()
        asking.result()
    assert not isinstance(error, UnreachableError)


@pytest.mark.parametrize("code", [404, 403])
def test_a_host_that_says_no_has_answered(transport: Transport, code: int) -> None:
    with serve_scripted(CONTENT, after=short) as server:
        transport._hosts[urlsplit(server.url).netloc].answered -= 100
        server.script.append(status(code))
        failure(transport, f"{server.url}/gone")
        assert time.monotonic() - transport._hosts[urlsplit(server.url).netloc].answered < 10


# --- Signatures


def sas(url: str) -> Access:
    return Access("sas", endpoint=f"{url}/token", hosts=("127.0.0.1:*",))


def test_an_expired_signature_is_renewed(tmp_path: Path, transport: Transport) -> None:
    folder = tmp_path / "container"
    folder.mkdir()
    (folder / "f.bin").write_bytes(CONTENT)
    with serve_faulty(tmp_path, Faults(signature_uses=10)) as url, ThreadPoolExecutor(8) as pool:
        bodies = pool.map(lambda n: transport.fetch(f"{url}/container/f.bin", sas(url), n, 10).body, range(100))
        assert list(bodies) == [CONTENT[n : n + 10] for n in range(100)]
        assert 10 <= tally_of(url).signed < 30


def token(handler: Handler) -> None:
    body = b'{"token": "sig=hush", "msft:expiry": "2099-01-01T00:00:00Z"}'
    handler.head(200, Content_Length=len(body))
    handler.wfile.write(body)


def test_a_refusal_is_believed_in_the_end(transport: Transport) -> None:
    def reply(handler: Handler) -> None:
        (token if handler.path.startswith("/token") else status(403))(handler)

    with serve_scripted(CONTENT, after=reply) as server:
        error = failure(transport, f"{server.url}/container/f", sas(server.url))
        assert "403" in str(error)
        assert not isinstance(error, UnreachableError)
        assert sum(each.path.startswith("/container") for each in server.seen) == module.SIGNATURES + 1


@pytest.mark.parametrize("code", [401, 403])
def test_a_refusal_without_a_signature_is_final(transport: Transport, code: int) -> None:
    with serve_scripted(CONTENT, after=status(code)) as server:
        assert str(code) in str(failure(transport, f"{server.url}/f?sig=hush"))
        assert len(server.seen) == 1


def expired(handler: Handler) -> None:
    body = b'<?xml version="1.0"?><Error><Code>ExpiredToken</Code><Message>The token has expired.</Message></Error>'
    handler.head(400, Content_Length=len(body))
    handler.wfile.write(body)


def test_an_expired_token_of_s3_is_renewed_though_it_says_400(transport: Transport) -> None:
    answers = iter([expired])

    def reply(handler: Handler) -> None:
        (token if handler.path.startswith("/token") else next(answers, good))(handler)

    with serve_scripted(CONTENT, after=reply) as server:
        assert transport.fetch(f"{server.url}/container/f", sas(server.url), 0, 10).body == CONTENT[:10]
        assert sum(each.path.startswith("/token") for each in server.seen) == 2
        assert transport.traffic.retries == 0


def test_a_token_is_renewed_once_whatever_fails_afterwards(transport: Transport) -> None:
    answers = iter([status(403), *[status(503)] * 4])

    def reply(handler: Handler) -> None:
        (token if handler.path.startswith("/token") else next(answers, good))(handler)

    with serve_scripted(CONTENT, after=reply) as server:
        assert transport.fetch(f"{server.url}/container/f", sas(server.url), 0, 10).body == CONTENT[:10]
        assert sum(each.path.startswith("/token") for each in server.seen) == 2


# --- The end


@pytest.mark.parametrize(
    "after", [status(503), status(429, Retry_After=60), dripping(1000, 0.1), stalled(60)],
    ids=["pausing", "left alone", "slow body", "stalled body"],
)  # fmt: skip
def test_close_lets_every_thread_fail_at_once(
    transport: Transport, monkeypatch: pytest.MonkeyPatch, after: Reply
) -> None:
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 60.0)
    monkeypatch.setattr(module, "LONGEST_PAUSE_SECONDS", 60.0)
    monkeypatch.setattr(module, "STALL_SECONDS", 60.0)
    monkeypatch.setattr(module, "FIRST_PAUSE_SECONDS", 20.0)
    transport = Transport()
    with serve_scripted(CONTENT, after=after) as server, ThreadPoolExecutor(70) as pool:
        waiting = [pool.submit(transport.fetch, f"{server.url}/f", None, 0, 1000) for _ in range(70)]
        time.sleep(0.5)
        assert not any(each.done() for each in waiting)
        started = time.monotonic()
        transport.close()
        for each in waiting:
            with pytest.raises(EearthError, match="stopped"):
                each.result()
        assert time.monotonic() - started < 2
    with pytest.raises(EearthError, match="stopped"):
        transport.fetch("http://127.0.0.1:1/f", None, 0, 10)


INTERRUPTED = """
import sys
from concurrent.futures import ThreadPoolExecutor
from eearth.geo.remote.transport import Transport
transport, pool = Transport(), ThreadPoolExecutor(16)
try:
    running = [pool.submit(transport.fetch, sys.argv[1], None, 0, 1000) for _ in range(16)]
    print("running", flush=True)
    [each.result() for each in running]
except KeyboardInterrupt:
    transport.close()
    pool.shutdown()
    print("over", flush=True)
"""


@pytest.mark.parametrize("after", [status(503), stalled(60)], ids=["pausing", "stalled body"])
def test_ctrl_c_leaves_no_hanging_thread(after: Reply) -> None:
    with serve_scripted(CONTENT, after=after) as server:
        command = [sys.executable, "-c", INTERRUPTED, f"{server.url}/f"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "running\n"
            while len(server.seen) < 16:
                time.sleep(0.01)
            started = time.monotonic()
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
            assert time.monotonic() - started < 4
        assert (out, err, process.returncode) == ("over\n", "", 0)
