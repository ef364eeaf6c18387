"""What can go wrong between a file server and its client; free of everything that is slow to import."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

# Faults that are drawn for each request, by their share. The first of them that is drawn happens.
SHARES = ("unavailable", "limited", "reset", "stalled", "truncated", "garbage", "zeroed", "flipped", "tampered")


@dataclass(frozen=True)
class Faults:
    """Shares are 0..1 of all requests, add up to 1 at most, and the draws are the same for the same seed.

    Attributes:
        seed: Of the draws: request number N of a server with this seed always suffers the same.
        unavailable: Share answered with 503.
        limited: Share answered with 429 and a Retry-After, in seconds and as a date in turn.
        reset: Share whose connection is reset (RST) somewhere in the body.
        stalled: Share whose body stops in the middle for `stall_seconds` and then goes on.
        truncated: Share whose body is shorter than announced.
        garbage: Share whose body is random bytes of the right length.
        zeroed: Share whose body is zeros of the right length.
        flipped: Share whose body has one bit changed; every other time near its beginning, where directories lie.
        tampered: Share whose body has the bytes `tampering[0]` replaced by `tampering[1]`, where it holds them;
            each path once at most.
        tampering: Two byte strings of the same length, in hexadecimal digits.
        always: End of a path → "missing" (404) or one of the kinds above, for every request of it.
        retry_after_seconds: What a 429 asks for; the date form is rounded up to a whole second.
        stall_seconds: How long a stall lasts.
        latency_seconds: Before the first byte of each answer.
        bytes_per_second: Speed of each connection; None for as fast as it goes.
        signature_uses: Requests that a signature is good for; with it or the next, files are served only with one.
        signature_seconds: Age at which a signature expires.
        down_after: Number of requests after which the server is down, once.
        down_seconds: For how long; half of it without a listener, half of it with one that resets.
    """

    seed: int = 0
    unavailable: float = 0.0
    limited: float = 0.0
    reset: float = 0.0
    stalled: float = 0.0
    truncated: float = 0.0
    garbage: float = 0.0
    zeroed: float = 0.0
    flipped: float = 0.0
    tampered: float = 0.0
    tampering: tuple[str, str] = ("", "")
    always: Mapping[str, str] = field(default_factory=dict)
    retry_after_seconds: int = 1
    stall_seconds: float = 30.0
    latency_seconds: float = 0.0
    bytes_per_second: float | None = None
    signature_uses: int | None = None
    signature_seconds: float | None = None
    down_after: int | None = None
    down_seconds: float = 4.0

    @property
    def signed(self) -> bool:
        """Whether files are served only with a signature."""
        return self.signature_uses is not None or self.signature_seconds is not None
