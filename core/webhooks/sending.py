"""One POST to an address that a customer has named: to public addresses alone, in bounded time and memory."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import anyio
import httpcore2

from core.egress import AddressRefused, GuardedBackend, IpNetwork
from core.errors import InvalidRequest
from core.webhooks.lifecycle import Outcome
from core.webhooks.target import Target, parse_target

EXCERPT_BYTES = 1_000
USER_AGENT = "foretrain"
_GONE = 410


@dataclass(frozen=True)
class Answer:
    """How an attempt ended; `retry_after_seconds` is what the endpoint asked for."""

    outcome: Outcome
    status: int | None = None
    excerpt: str | None = None
    retry_after_seconds: float | None = None

    @property
    def is_delivered(self) -> bool:
        return self.outcome is Outcome.DELIVERED


def open_pool(allowed: Sequence[IpNetwork], tls: ssl.SSLContext) -> httpcore2.AsyncConnectionPool:
    """Connections to public addresses and those allowed. No proxy of the environment is used."""
    return httpcore2.AsyncConnectionPool(ssl_context=tls, network_backend=GuardedBackend(allowed))


async def post(
    pool: httpcore2.AsyncConnectionPool, url: str, headers: dict[str, str], body: str, seconds: float
) -> Answer:
    """Sends it; never raises for what the endpoint or the network does. Redirects are not followed.

    Of the answer's body only the first EXCERPT_BYTES are read. `seconds` is for all of it.
    """
    try:
        with anyio.fail_after(seconds):
            return await _exchange(pool, parse_target(url), headers, body, seconds)
    except AddressRefused:
        # Which address it was would tell of the network here.
        return Answer(Outcome.BLOCKED)
    except (TimeoutError, httpcore2.TimeoutException):
        return Answer(Outcome.TIMED_OUT)
    except (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.UnsupportedProtocol, InvalidRequest):
        return Answer(Outcome.UNREACHABLE)


async def _exchange(
    pool: httpcore2.AsyncConnectionPool, target: Target, headers: dict[str, str], body: str, seconds: float
) -> Answer:
    address = httpcore2.URL(
        scheme=target.scheme, host=target.host, port=target.port, target=target.path.encode("ascii")
    )
    sent = [
        ("Content-Type", "application/json"),
        ("User-Agent", USER_AGENT),
        ("Accept-Encoding", "identity"),
        *headers.items(),
    ]
    content = body.encode()
    timeouts = dict.fromkeys(("connect", "read", "write", "pool"), seconds)
    async with pool.stream(
        "POST", address, headers=sent, content=content, extensions={"timeout": timeouts}
    ) as answer:
        excerpt = b""
        async for piece in answer.aiter_stream():
            excerpt += piece
            if len(excerpt) > EXCERPT_BYTES:
                break
    return Answer(
        _outcome(answer.status),
        answer.status,
        excerpt[:EXCERPT_BYTES].decode(errors="replace"),
        _retry_after(answer.headers),
    )


def _outcome(status: int) -> Outcome:
    if 200 <= status < 300:
        return Outcome.DELIVERED
    if 300 <= status < 400:
        return Outcome.REDIRECTED
    return Outcome.GONE if status == _GONE else Outcome.HTTP_ERROR


def _retry_after(headers: Sequence[tuple[bytes, bytes]]) -> float | None:
    """Seconds, however the header says it; None where it is not there or makes no sense."""
    said = next((value for name, value in headers if name.lower() == b"retry-after"), b"").decode("latin-1")
    try:
        if said.isdecimal():
            return float(said)
        return max(0.0, (parsedate_to_datetime(said) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None
