"""Pulls ranges of samples from a Prometheus server that the operator allows."""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlencode, urlsplit

import anyio
import httpcore2
import structlog

from core.datasets.schemas import DatasetPull
from core.egress import AddressRefused, GuardedBackend
from core.errors import FieldProblem, InvalidRequest, SourceFailed, SourceNotAllowed, TooLarge
from core.settings import Settings
from trainer.dataset.steps import parse_frequency

# Prometheus answers with at most 11,000 points a series: longer ranges are pulled in pieces.
MAX_POINTS = 10_000
MAX_REASON_BYTES = 4096
MAX_SHOWN = 300
REFUSED_QUERY = {400, 422}
PORTS = {"http": 80, "https": 443}
log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Source:
    """An allowed server: where its API begins, and what to show it."""

    scheme: str
    host: str
    port: int
    path: str
    headers: tuple[tuple[bytes, bytes], ...] = ()

    def range_of(self, query: str, start: float, end: float, step: float) -> httpcore2.URL:
        asked = urlencode({"query": query, "start": f"{start:.3f}", "end": f"{end:.3f}", "step": f"{step:g}"})
        target = f"{self.path}/api/v1/query_range?{asked}".encode("ascii")
        return httpcore2.URL(scheme=self.scheme, host=self.host, port=self.port, target=target)


def find_source(settings: Settings, url: str) -> Source:
    """The allowed server of exactly this address. Raises SourceNotAllowed."""
    asked = _place(url)
    for allowed in settings.pull_urls:
        parts = urlsplit(allowed)
        if asked is not None and _place(_without_login(parts)) == asked:
            return Source(*asked, headers=_login(parts))
    raise SourceNotAllowed(
        "This address is not among those that datasets may be pulled from; the operator lists them in "
        "FORETRAIN_PULL_URLS."
    )


def _place(url: str) -> tuple[str, str, int, str] | None:
    """Scheme, host, port and path; None for what is no plain address of a server."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    odd = parts.query or parts.fragment or parts.username is not None or not parts.hostname
    if odd or parts.scheme not in PORTS:
        return None
    host = str(parts.hostname)
    return parts.scheme, host, port or PORTS[parts.scheme], parts.path.rstrip("/")


def _without_login(parts: SplitResult) -> str:
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _login(parts: SplitResult) -> tuple[tuple[bytes, bytes], ...]:
    if parts.username is None:
        return ()
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
    return ((b"Authorization", b"Basic " + base64.b64encode(pair)),)


async def pull(source: Source, asked: DatasetPull, settings: Settings) -> AsyncGenerator[bytes, None]:
    """The server's answers, one after another, in pieces as they arrive.

    Follows no redirect and uses no proxy. Raises SourceNotAllowed when the server's name stands for an
    address that may not be reached, SourceFailed when it does not answer as it should, InvalidRequest for a
    query that it refuses, and TooLarge above `max_upload_bytes`.
    """
    left = settings.max_upload_bytes
    backend = GuardedBackend(settings.pull_networks)
    deadline = anyio.current_time() + settings.pull_timeout_seconds
    async with httpcore2.AsyncConnectionPool(network_backend=backend, retries=1) as pool:
        for name, start, end in _ranges(asked):
            query = named_query(name, asked.queries[name])
            url = source.range_of(query, start, end, parse_frequency(asked.step) / 1e6)
            async with _answer(pool, source, url, settings, deadline) as answer:
                await _refuse_other_than_ok(answer, name)
                async for piece in answer.aiter_stream():
                    left -= len(piece)
                    if left < 0:
                        raise TooLarge(f"The answers are larger than {settings.max_upload_bytes:,} bytes.")
                    if anyio.current_time() > deadline:
                        raise _too_slow(settings)
                    yield piece
            yield b"\n"


def named_query(name: str, query: str) -> str:
    """The query with its result called `name`: most functions of PromQL drop the name of their argument."""
    return f'label_replace(({query}\n), "__name__", "{name}", "", "")'


def _ranges(asked: DatasetPull) -> Iterator[tuple[str, float, float]]:
    """Per query, ranges that follow each other without sharing a point."""
    step, first = parse_frequency(asked.step) / 1e6, asked.start.timestamp()
    points = asked.points
    for name in asked.queries:
        for start in range(0, points, MAX_POINTS):
            end = min(start + MAX_POINTS, points) - 1
            yield name, first + start * step, first + end * step


@asynccontextmanager
async def _answer(
    pool: httpcore2.AsyncConnectionPool,
    source: Source,
    url: httpcore2.URL,
    settings: Settings,
    deadline: float,
) -> AsyncIterator[httpcore2.Response]:
    seconds = max(0.0, min(settings.body_idle_seconds, deadline - anyio.current_time()))
    timeouts = dict.fromkeys(("connect", "read", "write", "pool"), seconds)
    headers = [(b"Accept", b"application/json"), (b"Accept-Encoding", b"identity"), *source.headers]
    try:
        async with pool.stream("GET", url, headers=headers, extensions={"timeout": timeouts}) as answer:
            yield answer
    except AddressRefused as error:
        # Which address it was is for the operator alone.
        log.warning("pull refused", host=source.host, reason=str(error))
        raise SourceNotAllowed(
            "The server's name stands for an address that may not be reached; the operator lists private "
            "networks that may be in FORETRAIN_PULL_NETWORKS."
        ) from error
    except httpcore2.TimeoutException as error:
        raise _too_slow(settings) from error
    except (httpcore2.NetworkError, httpcore2.ProtocolError) as error:
        raise SourceFailed("The server cannot be reached, or broke its answer off.") from error


async def _refuse_other_than_ok(answer: httpcore2.Response, name: str) -> None:
    if answer.status == 200:
        return
    said = b""
    async for piece in answer.aiter_stream():
        said += piece
        if len(said) > MAX_REASON_BYTES:
            break
    if answer.status in REFUSED_QUERY:
        shown = said[:MAX_SHOWN].decode(errors="replace")
        detail = f"Prometheus refused the query of {name}: {shown}"
        raise InvalidRequest(detail, [FieldProblem("refused_query", detail, f"/queries/{name}")])
    raise SourceFailed(f"The server answered with status {answer.status} to the query of {name}.")


def _too_slow(settings: Settings) -> SourceFailed:
    return SourceFailed(
        f"The server paused for {settings.body_idle_seconds:g} s, or took longer than "
        f"{settings.pull_timeout_seconds:g} s in all; pull a shorter range or a coarser step."
    )
