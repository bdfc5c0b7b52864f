"""An HTTP/1.1 client that costs next to nothing, so that what is measured is the server."""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

HEAD_BYTES = 64 * 1024
PIECE_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Timing:
    """What requests took: each one's seconds, all of them on the clock, and of the server's processor."""

    seconds: Sequence[float]
    wall_seconds: float
    processor_seconds: float

    @property
    def per_second(self) -> float:
        return len(self.seconds) / self.wall_seconds

    @property
    def processor_ms(self) -> float:
        """Of the server, for each request."""
        return self.processor_seconds / len(self.seconds) * 1000

    def percentile_ms(self, percent: int) -> float:
        if len(self.seconds) == 1:
            return self.seconds[0] * 1000
        return statistics.quantiles(self.seconds, n=100, method="inclusive")[percent - 1] * 1000


def request(
    method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b"", host: str = "localhost"
) -> bytes:
    """The bytes of a request."""
    fields = {"Host": host, **(headers or {})}
    if body or method in {"POST", "PUT", "PATCH"}:
        fields.setdefault("Content-Length", str(len(body)))
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + body


async def drive(
    port: int, requests: Sequence[bytes], *, connections: int, expected: int, processor: Callable[[], float]
) -> Timing:
    """Sends all requests over that many connections, each as soon as the answer before it is there.

    Raises ValueError for an answer of another status.
    """
    waiting = list(reversed(requests))
    seconds: list[float] = []

    async def work() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=HEAD_BYTES)
        while waiting:
            asked = waiting.pop()
            started_at = time.perf_counter()
            writer.write(asked)
            answer = await read_answer(reader)
            seconds.append(time.perf_counter() - started_at)
            if answer.status != expected:
                raise ValueError(f"{asked[:80]!r} was answered {answer.status}: {answer.body[:500]!r}")
        writer.close()

    processor_before, started_at = processor(), time.perf_counter()
    await asyncio.gather(*(work() for _ in range(connections)))
    return Timing(seconds, time.perf_counter() - started_at, processor() - processor_before)


async def ask(port: int, asked: bytes) -> Answer:
    """One request on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=HEAD_BYTES)
    writer.write(asked)
    answer = await read_answer(reader)
    writer.close()
    return answer


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    """An answer with Content-Length, chunked, or without a body."""
    status, headers = await _read_head(reader)
    body = b"".join([piece async for piece in _body(reader, status, headers)])
    return Answer(status, headers, body)


async def fetch(port: int, asked: bytes) -> tuple[int, float]:
    """Reads a large answer away: its bytes, and the seconds from the request to the last of them."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=4 * PIECE_BYTES)
    started_at = time.perf_counter()
    writer.write(asked)
    status, headers = await _read_head(reader)
    if status != 200:
        raise ValueError(f"a download was answered {status}")
    size_bytes = 0
    async for piece in _body(reader, status, headers):
        size_bytes += len(piece)
    writer.close()
    return size_bytes, time.perf_counter() - started_at


async def send_file(
    port: int, method: str, path: str, headers: dict[str, str], file: Path
) -> tuple[Answer, float]:
    """Sends a file as the body: the answer, and the seconds from the first byte sent to it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=HEAD_BYTES)
    with file.open("rb") as source:
        size_bytes = source.seek(0, os.SEEK_END)
        source.seek(0)
        started_at = time.perf_counter()
        writer.write(request(method, path, {**headers, "Content-Length": str(size_bytes)}))
        while piece := source.read(PIECE_BYTES):
            writer.write(piece)
            await writer.drain()
    answer = await read_answer(reader)
    elapsed = time.perf_counter() - started_at
    writer.close()
    return answer, elapsed


async def _read_head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    fields = (line.partition(":") for line in lines if line)
    return int(first.split(" ")[1]), {name.lower(): value.strip() for name, _, value in fields}


async def _body(reader: asyncio.StreamReader, status: int, headers: dict[str, str]) -> AsyncIterator[bytes]:
    if headers.get("transfer-encoding") == "chunked":
        while size_bytes := int(await reader.readline(), 16):
            yield await reader.readexactly(size_bytes)
            await reader.readline()
        await reader.readline()
        return
    left = 0 if status in {204, 304} else int(headers.get("content-length", 0))
    while left:
        piece = await reader.read(min(left, PIECE_BYTES))
        if not piece:
            raise ConnectionError("the answer ended early")
        left -= len(piece)
        yield piece
