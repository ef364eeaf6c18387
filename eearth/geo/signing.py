"""How a request proves that it may read a file: a token in the address, a signature, or a header.

Items keep their plain addresses. An address is signed when it is read, so that no read outlives its token, and nothing
that is written down holds a secret.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import SplitResult, parse_qs, quote, urlencode, urlsplit

import urllib3

from eearth.errors import SourceError, UsageError, innermost
from eearth.manifest import redacted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# A token is renewed this long before it expires, or a tenth of its life before, whichever is shorter.
MARGIN_SECONDS = 60.0
# Life of a token that does not tell when it expires.
UNKNOWN_LIFE_SECONDS = 300.0
# Life of a signed S3 address: one request, with room for a clock that is wrong.
SIGNATURE_SECONDS = 3600

TIMEOUT_SECONDS = 30.0
# The token service limits how often an address without a subscription key may ask, and says so with 429.
RETRY = urllib3.Retry(total=6, backoff_factor=0.5, backoff_max=20, status_forcelist=[429, 500, 502, 503, 504])

# The header of the Planetary Computer's subscription key.
SUBSCRIPTION_HEADER = "Ocp-Apim-Subscription-Key"

S3_ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_S3_ENDPOINT")
S3_KEY_VARIABLES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
S3_REGION_VARIABLES = ("AWS_REGION", "AWS_DEFAULT_REGION")

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Access:
    """How files are read. It names the environment variables that hold secrets, and never holds a secret itself.

    Attributes:
        kind: none: as they are; sas: a token of the Planetary Computer's service is appended; s3: s3:// addresses are
            signed with keys; bearer: a token is sent as a header.
        endpoint: Where tokens come from (sas), or the S3 service (s3).
        endpoint_variables: Environment variables that replace the endpoint; the first one that is set counts.
        key_variables: Environment variables with the secrets. sas: the subscription key, if there is one; s3: key id,
            secret key and session token; bearer: the token.
        hosts: Patterns of the hosts, with or without port, whose addresses are signed (sas) or that are sent the token
            (bearer); no other host is.
        region: Region of the S3 service.
        requester_pays: The S3 requests are billed to the owner of the keys.
        anonymous: Whether files are read without keys where none are set.
    """

    kind: Literal["none", "sas", "s3", "bearer"] = "none"
    endpoint: str = ""
    endpoint_variables: tuple[str, ...] = ()
    key_variables: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    region: str = ""
    requester_pays: bool = False
    anonymous: bool = True

    def __post_init__(self) -> None:
        """Refuse a secret where it would be written down."""
        if redacted(self.endpoint) != self.endpoint:
            msg = f"expected an endpoint without a user name or query string, found {redacted(self.endpoint)}?..."
            raise UsageError(msg)

    @property
    def service(self) -> str:
        """The endpoint in force, without a trailing slash."""
        return (_first_set(self.endpoint_variables) or self.endpoint).rstrip("/")


def authorised(href: str, access: Access | None, *, fresh: bool = False) -> tuple[str, dict[str, str]]:
    """The address to get, and the headers to send.

    Args:
        href: Address as the item has it.
        access: How the provider's files are read; an s3:// address without one is read with the keys of the
            environment, or without any.
        fresh: Do not use a remembered token: the server has just refused it.

    Raises:
        SourceError: A key is not set, or the token service does not deliver.
    """
    if href.startswith("s3://"):
        return _s3_address(href, access if access and access.kind == "s3" else Access("s3")), {}
    if access is None or not _is_listed(href, access.hosts):
        return href, {}
    if access.kind == "sas":
        return _with_token(href, access, fresh=fresh), {}
    if access.kind == "bearer":
        return href, {"Authorization": f"Bearer {_bearer_token(access)}"}
    return href, {}


def _first_set(names: Sequence[str]) -> str:
    return next((os.environ[name] for name in names if os.environ.get(name)), "")


def _is_listed(href: str, patterns: Sequence[str]) -> bool:
    """Whether a host is on the list; over plain HTTP only this machine is."""
    parts = urlsplit(href)
    names = {parts.netloc.lower(), str(parts.hostname or "").lower()}
    safe = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)
    return safe and any(fnmatchcase(name, pattern.lower()) for name in names for pattern in patterns)


def _bearer_token(access: Access) -> str:
    token = _first_set(access.key_variables).strip()
    if not token:
        names = " or ".join(access.key_variables)
        msg = f"expected a bearer token in the environment variable {names}, found none: make one with your account"
        raise SourceError(msg)
    return token


@dataclass(frozen=True)
class _Token:
    """A token, and when it was had and when it must be renewed, both on the monotonic clock."""

    text: str
    had: float
    renew: float


class _Tokens:
    """Tokens by the address that they were asked from; threads that want the same one wait for one request."""

    def __init__(self) -> None:
        self._pool = urllib3.PoolManager(retries=RETRY, timeout=TIMEOUT_SECONDS, headers={"User-Agent": "eearth"})
        self._tokens: dict[str, _Token] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def get(self, address: str, key: str, hint: str, *, fresh: bool) -> str:
        """A valid token; with `fresh`, one that was had after this call."""
        asked = time.monotonic()
        with self._lock:
            lock = self._locks.setdefault(address, threading.Lock())
        with lock:
            token = self._tokens.get(address)
            if token is None or token.renew <= time.monotonic() or (fresh and token.had <= asked):
                token = self._ask(address, key, hint)
                self._tokens[address] = token
            return token.text

    def _ask(self, address: str, key: str, hint: str) -> _Token:
        had = time.monotonic()
        try:
            response = self._pool.request("GET", address, headers={SUBSCRIPTION_HEADER: key} if key else {})
            if response.status != 200:  # noqa: PLR2004 - OK
                msg = f"expected a token from {redacted(address)}, found {response.status} {response.reason}{hint}"
                raise SourceError(msg)
            answer = json.loads(response.data)
            text = str(answer["token"]).lstrip("?")
        except (urllib3.exceptions.HTTPError, ValueError, KeyError, TypeError) as error:
            msg = f"expected a token from {redacted(address)}, found: {redacted(innermost(error))}{hint}"
            raise SourceError(msg) from None
        life = _life(answer, text)
        return _Token(text, had, had + life - min(MARGIN_SECONDS, life / 10))


_tokens = _Tokens()


def _life(answer: Mapping[str, Any], text: str) -> float:
    """Seconds until a token expires: by the answer's `msft:expiry`, or by the token's own `se`."""
    for moment in (answer.get("msft:expiry"), *parse_qs(text).get("se", ())):
        try:
            expiry = datetime.fromisoformat(str(moment))
        except ValueError:
            continue
        expiry = expiry if expiry.tzinfo else expiry.replace(tzinfo=UTC)
        return max(0.0, (expiry - datetime.now(UTC)).total_seconds())
    return UNKNOWN_LIFE_SECONDS


def _with_token(href: str, access: Access, *, fresh: bool) -> str:
    """The address with a token of its account and container, in place of one that it may already have."""
    parts = urlsplit(href)
    container = parts.path.lstrip("/").split("/")[0]
    account = str(parts.hostname).split(".")[0]
    key, names = _first_set(access.key_variables), access.key_variables
    hint = f"; with a key in {names[0]} it answers more often" if names and not key else ""
    token = _tokens.get(f"{access.service}/{account}/{container}", key, hint, fresh=fresh)
    query = "" if re.search(r"(^|&)sig=", parts.query) else parts.query
    return parts._replace(query="&".join(filter(None, (query, token)))).geturl()


def _s3_address(href: str, access: Access) -> str:
    """The HTTPS address of an object, with the bucket in its path; signed where keys are set."""
    bucket, _, key = href.removeprefix("s3://").partition("/")
    region = access.region or _first_set(S3_REGION_VARIABLES) or "us-east-1"
    service = _s3_service(access) or f"https://s3.{region}.amazonaws.com"
    url = f"{service}/{bucket}/{quote(key, safe='/-_.~')}"
    names = access.key_variables or S3_KEY_VARIABLES
    keys = [os.environ.get(name, "") for name in names]
    if not all(keys[:2]):
        if access.anonymous:
            return url
        msg = f"expected keys in the environment variables {names[0]} and {names[1]} to read {service}, found none"
        raise SourceError(msg)
    extra = {"x-amz-request-payer": "requester"} if access.requester_pays else {}
    if keys[2:] and keys[2]:
        extra["X-Amz-Security-Token"] = keys[2]
    return presigned(url, keys[0], keys[1], region=region, moment=datetime.now(UTC), extra=extra)


def _s3_service(access: Access) -> str:
    """The endpoint; GDAL's variable holds a host without a scheme, and AWS_HTTPS says whether that is plain HTTP."""
    found = (_first_set(access.endpoint_variables or S3_ENDPOINT_VARIABLES) or access.endpoint).rstrip("/")
    plain = os.environ.get("AWS_HTTPS", "").upper() in {"NO", "OFF", "FALSE", "0"}
    return f"{'http' if plain else 'https'}://{found}" if found and "://" not in found else found


def presigned(
    url: str,
    key_id: str,
    secret: str,
    *,
    region: str,
    moment: datetime,
    seconds: int = SIGNATURE_SECONDS,
    extra: Mapping[str, str] | None = None,
) -> str:
    """A GET address signed with AWS Signature Version 4 in its query string.

    Only the host is signed, so that the request may ask for any range of bytes.
    (docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html)

    Args:
        url: Address without a query string; its path is percent-encoded.
        key_id: Access key id.
        secret: Secret access key.
        region: Region of the service.
        moment: Time of signing.
        seconds: How long the signature is valid.
        extra: Further query parameters to sign, such as the session token.
    """
    parts = urlsplit(url)
    stamp = moment.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    query = {
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": f"{key_id}/{scope}",
        "X-Amz-Date": stamp,
        "X-Amz-Expires": str(seconds),
        "X-Amz-SignedHeaders": "host",
        **(extra or {}),
    }
    encoded = urlencode(sorted(query.items()), quote_via=quote, safe="-_.~")
    to_sign = "\n".join(("AWS4-HMAC-SHA256", stamp, scope, _canonical_digest(parts, encoded)))
    signing_key = f"AWS4{secret}".encode()
    for part in (*scope.split("/"), to_sign):
        signing_key = hmac.digest(signing_key, part.encode(), "sha256")
    return parts._replace(query=f"{encoded}&X-Amz-Signature={signing_key.hex()}").geturl()


def _canonical_digest(parts: SplitResult, query: str) -> str:
    request = f"GET\n{parts.path}\n{query}\nhost:{parts.netloc}\n\nhost\nUNSIGNED-PAYLOAD"
    return hashlib.sha256(request.encode()).hexdigest()
