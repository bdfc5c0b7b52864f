"""How bytes go out and come in. Every call is written once, as a coroutine over a Wire.

An `AwaitingWire` suspends such a coroutine as usual. A `BlockingWire` blocks where the other would suspend,
so that a coroutine over it runs to its end in one go: see `foretrain.client.offers`.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import httpx2

T = TypeVar("T")
Query = Mapping[str, str | int | list[str]]


@dataclass(frozen=True)
class Request:
    """What is asked. `make_body` gives the body's pieces anew for each try.

    A repeatable one does no harm if it arrives twice, for the service recognises it or it changes nothing.
    """

    method: str
    path: str
    query: Query | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    json: Any = None
    make_body: Callable[[], Iterator[bytes]] | None = None
    is_repeatable: bool = True
    read_seconds: float | None = None


class Answer(Protocol):
    """Status and headers are there; the body comes when it is asked for."""

    @property
    def response(self) -> httpx2.Response:
        """What is known before the body."""

    async def read(self) -> bytes:
        """The whole body."""

    def pieces(self) -> AsyncIterator[bytes]:
        """The body as it arrives."""


class Wire(Protocol):
    """One service, one key."""

    def open(self, request: Request) -> AbstractAsyncContextManager[Answer]:
        """Sends the request, once. Raises httpx2.TransportError when the connection fails."""

    async def pause(self, seconds: float) -> None:
        """Waits."""

    async def aside(self, work: Callable[[], T]) -> T:
        """Does something that takes a while without holding up others."""


class BlockingWire:
    """Waits for everything where it stands."""

    def __init__(self, http: httpx2.Client) -> None:
        self.http = http

    @asynccontextmanager
    async def open(self, request: Request) -> AsyncIterator[Answer]:
        body = None if request.make_body is None else request.make_body()
        timeout = _timeout(self.http.timeout, request)
        with self.http.stream(**_arguments(request), content=body, timeout=timeout) as response:
            yield _BlockingAnswer(response)

    async def pause(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: ASYNC251  # it is this wire's purpose

    async def aside(self, work: Callable[[], T]) -> T:
        return work()


class AwaitingWire:
    """Leaves the event loop, asyncio's or trio's, to others meanwhile."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self.http = http

    @asynccontextmanager
    async def open(self, request: Request) -> AsyncIterator[Answer]:
        body = None if request.make_body is None else self._read_aside(request.make_body())
        timeout = _timeout(self.http.timeout, request)
        async with self.http.stream(**_arguments(request), content=body, timeout=timeout) as response:
            yield _AwaitingAnswer(response)

    async def pause(self, seconds: float) -> None:
        import anyio

        await anyio.sleep(seconds)

    async def aside(self, work: Callable[[], T]) -> T:
        import anyio.to_thread

        return await anyio.to_thread.run_sync(work)

    async def _read_aside(self, pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
        while (piece := await self.aside(lambda: next(pieces, None))) is not None:
            yield piece


@dataclass(frozen=True)
class _BlockingAnswer:
    response: httpx2.Response

    async def read(self) -> bytes:
        return self.response.read()

    async def pieces(self) -> AsyncIterator[bytes]:
        for piece in self.response.iter_bytes():
            yield piece


@dataclass(frozen=True)
class _AwaitingAnswer:
    response: httpx2.Response

    async def read(self) -> bytes:
        return await self.response.aread()

    async def pieces(self) -> AsyncIterator[bytes]:
        async for piece in self.response.aiter_bytes():
            yield piece


def _arguments(request: Request) -> dict[str, Any]:
    return {
        "method": request.method,
        "url": request.path,
        "params": request.query,
        "headers": dict(request.headers),
        "json": request.json,
    }


def _timeout(usual: httpx2.Timeout, request: Request) -> httpx2.Timeout:
    if request.read_seconds is None:
        return usual
    return httpx2.Timeout(usual.connect, read=request.read_seconds)
