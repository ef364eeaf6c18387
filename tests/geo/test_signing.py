from __future__ import annotations

import hashlib
import hmac
import json
import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlsplit

import pytest
import urllib3
from loopback.process import running

from eearth.errors import SourceError, UsageError
from eearth.geo.signing import Access, authorised, presigned

if TYPE_CHECKING:
    from collections.abc import Iterator

BODY = b"0123456789"


class Office:
    """A token service and the store that believes it, on one port; counts what it is asked."""

    def __init__(self, *, life: float = 3600.0, stated: bool = True, slow: float = 0.0) -> None:
        self.life, self.stated, self.slow = life, stated, slow
        self.asked: list[tuple[str, str | None]] = []
        self.revoked: set[str] = set()
        self.failures: list[int] = []
        self.url = ""

    def token(self, path: str, key: str | None) -> tuple[int, bytes]:
        time.sleep(self.slow)
        self.asked.append((path, key))
        if self.failures:
            return self.failures.pop(0), b"{}"
        expiry = (datetime.now(UTC) + timedelta(seconds=self.life)).strftime("%Y-%m-%dT%H:%M:%SZ")
        text = f"sv=2021&se={quote(expiry)}&sig=secret{len(self.asked)}"
        answer: dict[str, Any] = {"token": text} | ({"msft:expiry": expiry} if self.stated else {})
        return 200, json.dumps(answer).encode()

    def blob(self, query: dict[str, str]) -> tuple[int, bytes]:
        signed = query.get("sig", "").startswith("secret") and query["sig"] not in self.revoked
        return (200, BODY) if signed else (403, b"no")


@contextmanager
def open_office(office: Office) -> Iterator[Office]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            if parts.path.startswith("/token/"):
                status, body = office.token(parts.path, self.headers.get("Ocp-Apim-Subscription-Key"))
            else:
                status, body = office.blob(dict(parse_qsl(parts.query)))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with running(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as office.url:
        yield office


def sas(office: Office) -> Access:
    return Access(
        "sas",
        endpoint=f"{office.url}/token",
        endpoint_variables=("PC_SDK_SAS_URL",),
        key_variables=("PC_SDK_SUBSCRIPTION_KEY",),
        hosts=("*.blob.core.windows.net", "127.0.0.1:*"),
    )


def get(url: str, headers: dict[str, str]) -> int:
    with urllib3.PoolManager(retries=False) as pool:
        return pool.request("GET", url, headers=headers).status


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith(("AWS_", "PC_SDK_", "EARTHDATA_"))]:
        monkeypatch.delenv(name)


def test_a_loopback_server_plays_token_service_and_store() -> None:
    with open_office(Office()) as office:
        href = f"{office.url}/container/a.tif"
        assert get(href, {}) == 403
        assert get(*authorised(href, sas(office))) == 200
        assert office.asked == [("/token/127/container", None)]


def test_a_token_is_asked_once_a_container() -> None:
    with open_office(Office()) as office:
        for path in ("c/a.tif", "c/b.tif", "d/a.tif", "c/sub/a.tif"):
            authorised(f"{office.url}/{path}", sas(office))
        assert [path for path, _ in office.asked] == ["/token/127/c", "/token/127/d"]


def test_after_a_refusal_a_fresh_token_is_asked() -> None:
    with open_office(Office()) as office:
        href, access = f"{office.url}/c/a.tif", sas(office)
        assert get(*authorised(href, access)) == 200
        office.revoked.add("secret1")
        assert get(*authorised(href, access)) == 403
        assert get(*authorised(href, access, fresh=True)) == 200
        assert get(*authorised(href, access)) == 200
        assert len(office.asked) == 2


@pytest.mark.parametrize("stated", [True, False])
def test_a_token_is_renewed_shortly_before_it_expires(*, stated: bool) -> None:
    with open_office(Office(life=3.0, stated=stated)) as office:
        href, access = f"{office.url}/c/a.tif", sas(office)
        first, second = authorised(href, access), authorised(href, access)
        assert first == second
        time.sleep(2.8)
        assert authorised(href, access) != first
        assert len(office.asked) == 2


def test_many_threads_share_one_request() -> None:
    with open_office(Office(slow=0.2)) as office, ThreadPoolExecutor(16) as pool:
        href, access = f"{office.url}/c/a.tif", sas(office)
        assert len(set(pool.map(lambda _: authorised(href, access)[0], range(32)))) == 1
        assert len(office.asked) == 1
        fresh = list(pool.map(lambda _: authorised(href, access, fresh=True)[0], range(16)))
        assert len(office.asked) <= 3, "those that wait for a fresh token share the next one"
        assert authorised(href, access)[0] in fresh


def test_the_environment_names_another_service_and_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    with open_office(Office()) as office, open_office(Office()) as unused:
        monkeypatch.setenv("PC_SDK_SAS_URL", f"{office.url}/token/")
        monkeypatch.setenv("PC_SDK_SUBSCRIPTION_KEY", "my-key")
        url, headers = authorised("https://sentinel2l2a01.blob.core.windows.net/sentinel2-l2/32/T/a.tif", sas(unused))
        assert office.asked == [("/token/sentinel2l2a01/sentinel2-l2", "my-key")]
        assert unused.asked == []
        assert url.startswith("https://sentinel2l2a01.blob.core.windows.net/sentinel2-l2/32/T/a.tif?sv=2021&se=")
        assert headers == {}


def test_a_token_that_is_already_there_is_replaced() -> None:
    with open_office(Office()) as office:
        url, _ = authorised(f"{office.url}/c/a.tif?sv=1&sig=old", sas(office))
        assert "old" not in url
        assert url.count("sig=") == 1
        url, _ = authorised(f"{office.url}/c/a.tif?versionid=7", sas(office))
        assert "?versionid=7&sv=2021&" in url


def test_the_service_is_asked_again_when_it_is_busy() -> None:
    office = Office()
    office.failures = [429, 503]
    with open_office(office):
        assert get(*authorised(f"{office.url}/c/a.tif", sas(office))) == 200
    assert len(office.asked) == 3


def test_a_service_that_refuses_is_named_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    office = Office()
    office.failures = [401, 401]
    with open_office(office):
        with pytest.raises(
            SourceError, match=r"^expected a token from http://127.0.0.1:\d+/token/127/c, found 401 "
        ) as e:
            authorised(f"{office.url}/c/a.tif", sas(office))
        assert str(e.value).endswith("; with a key in PC_SDK_SUBSCRIPTION_KEY it answers more often")
        monkeypatch.setenv("PC_SDK_SUBSCRIPTION_KEY", "my-key")
        with pytest.raises(SourceError) as e:
            authorised(f"{office.url}/c/a.tif", sas(office))
        assert "my-key" not in str(e.value)


def test_a_service_that_says_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    with open_office(Office()) as office:
        monkeypatch.setattr(office, "token", lambda *_: (200, b"<html>"))
        with pytest.raises(SourceError, match="expected a token from"):
            authorised(f"{office.url}/c/a.tif", sas(office))
        monkeypatch.setattr(office, "token", lambda *_: (200, b'{"detail": 1}'))
        with pytest.raises(SourceError, match="found: 'token'"):
            authorised(f"{office.url}/c/a.tif", sas(office))


@pytest.mark.parametrize(
    "href",
    [
        "https://example.org/a.tif",
        "https://blob.core.windows.net.example.org/c/a.tif",
        "http://me.blob.core.windows.net/c/a.tif",
        "/data/a.tif",
    ],
)
def test_other_addresses_stay_as_they_are(href: str) -> None:
    for access in (sas(Office()), Access("bearer", key_variables=("T",), hosts=("*.windows.net",)), Access(), None):
        assert authorised(href, access) == (href, {})


def test_the_example_that_aws_published() -> None:
    """docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html."""
    url = presigned(
        "https://examplebucket.s3.amazonaws.com/test.txt",
        "AKIAIOSFODNN7EXAMPLE",
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        region="us-east-1",
        moment=datetime(2013, 5, 24, tzinfo=UTC),
        seconds=86400,
    )
    assert url == (
        "https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256"
        "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
        "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
        "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    )


def verified(url: str, secret: str) -> dict[str, str]:
    """The query of an address whose signature a store would accept, computed from what it sees."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query, strict_parsing=True))
    claimed = query.pop("X-Amz-Signature")
    pairs = sorted(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in query.items())
    request = ["GET", parts.path, "&".join(pairs), f"host:{parts.netloc}", "", "host", "UNSIGNED-PAYLOAD"]
    scope = query["X-Amz-Credential"].split("/", 1)[1]
    digest = hashlib.sha256("\n".join(request).encode()).hexdigest()
    key = b"AWS4" + secret.encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    text = f"AWS4-HMAC-SHA256\n{query['X-Amz-Date']}\n{scope}\n{digest}"
    assert hmac.new(key, text.encode(), hashlib.sha256).hexdigest() == claimed
    return query


CDSE = Access("s3", endpoint="https://eodata.dataspace.copernicus.eu", region="default", anonymous=False)


def test_an_object_is_signed_with_the_keys_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush+/=")
    url, headers = authorised("s3://eodata/Sentinel-2/a b+ü~.jp2", CDSE)
    assert url.startswith("https://eodata.dataspace.copernicus.eu/eodata/Sentinel-2/a%20b%2B%C3%BC~.jp2?")
    query = verified(url, "hush+/=")
    assert query["X-Amz-Credential"].split("/")[::2] == ["id", "default", "aws4_request"]
    assert abs(datetime.strptime(query["X-Amz-Date"], "%Y%m%dT%H%M%S%z") - datetime.now(UTC)) < timedelta(seconds=5)
    assert headers == {}
    assert "hush" not in url
    monkeypatch.setenv("AWS_SESSION_TOKEN", "to/ken==")
    payer = Access("s3", region="us-west-2", requester_pays=True)
    url, _ = authorised("s3://usgs-landsat/x.TIF", payer)
    assert url.startswith("https://s3.us-west-2.amazonaws.com/usgs-landsat/x.TIF?")
    query = verified(url, "hush+/=")
    assert (query["X-Amz-Security-Token"], query["x-amz-request-payer"]) == ("to/ken==", "requester")


def test_without_keys_an_object_is_read_anonymously() -> None:
    assert authorised("s3://bucket/a/b.tif", None) == ("https://s3.us-east-1.amazonaws.com/bucket/a/b.tif", {})
    assert authorised("s3://bucket/b.tif", Access("s3", region="eu-west-1"))[0] == (
        "https://s3.eu-west-1.amazonaws.com/bucket/b.tif"
    )


def test_a_store_that_wants_keys_says_which() -> None:
    message = (
        "^expected keys in the environment variables AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to read "
        "https://eodata.dataspace.copernicus.eu, found none$"
    )
    with pytest.raises(SourceError, match=message):
        authorised("s3://eodata/a.jp2", CDSE)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9000"}, "http://127.0.0.1:9000/b/a.tif"),
        ({"AWS_S3_ENDPOINT": "store.example:9000"}, "https://store.example:9000/b/a.tif"),
        ({"AWS_S3_ENDPOINT": "127.0.0.1:9000", "AWS_HTTPS": "NO"}, "http://127.0.0.1:9000/b/a.tif"),
        ({"AWS_REGION": "eu-central-1"}, "https://s3.eu-central-1.amazonaws.com/b/a.tif"),
        ({"AWS_DEFAULT_REGION": "eu-north-1"}, "https://s3.eu-north-1.amazonaws.com/b/a.tif"),
    ],
)
def test_the_environment_names_another_store(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert authorised("s3://b/a.tif", None) == (expected, {})


EARTHDATA = Access("bearer", key_variables=("EARTHDATA_TOKEN",), hosts=("data.lpdaac.earthdatacloud.nasa.gov",))
GRANULE = "https://data.lpdaac.earthdatacloud.nasa.gov/lp-prod-protected/HLSL30.020/x/x.B02.tif"


def test_a_bearer_token_goes_to_the_listed_host_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EARTHDATA_TOKEN", " hush\n")
    assert authorised(GRANULE, EARTHDATA) == (GRANULE, {"Authorization": "Bearer hush"})
    for host in ("data.lpdaac.earthdatacloud.nasa.gov.example.org", "s3.us-west-2.amazonaws.com", "nasa.gov"):
        assert authorised(f"https://{host}/x.tif", EARTHDATA)[1] == {}
    assert authorised(GRANULE.replace("https", "http"), EARTHDATA)[1] == {}, "never in the clear"


def test_a_missing_bearer_token_is_named() -> None:
    with pytest.raises(SourceError, match=r"^expected a bearer token in the .* variable EARTHDATA_TOKEN, found none"):
        authorised(GRANULE, EARTHDATA)


def test_access_travels_between_processes_and_holds_no_secret() -> None:
    assert pickle.loads(pickle.dumps(EARTHDATA)) == EARTHDATA  # noqa: S301 - its own
    assert len({EARTHDATA, CDSE, pickle.loads(pickle.dumps(CDSE))}) == 2  # noqa: S301 - its own
    for endpoint in ("https://me:pw@store.example", "https://store.example/token?key=hush"):
        with pytest.raises(UsageError, match="expected an endpoint without a user name or query string") as e:
            Access("sas", endpoint=endpoint)
        assert "pw" not in str(e.value)
        assert "hush" not in str(e.value)
