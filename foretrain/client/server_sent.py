"""Server-Sent Events, as the WHATWG's HTML standard (9.2.6) defines their lines."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass


@dataclass(frozen=True)
class ServerSent:
    """One event. `id` is None where the event has none, and cannot be resumed after."""

    id: str | None
    type: str
    data: str


async def read_events(pieces: AsyncIterator[bytes]) -> AsyncGenerator[ServerSent | None, None]:
    """The events of a stream, and None for each comment: a sign of life. An unfinished event is dropped."""
    fields: dict[str, list[str]] = {}
    async for line in _lines(pieces):
        if not line:
            if "data" in fields:
                yield ServerSent(
                    id=fields["id"][-1] if "id" in fields else None,
                    type=fields["event"][-1] if "event" in fields else "message",
                    data="\n".join(fields["data"]),
                )
            fields = {}
        elif line.startswith(":"):
            yield None
        else:
            name, _, value = line.partition(":")
            fields.setdefault(name, []).append(value.removeprefix(" "))


async def _lines(pieces: AsyncIterator[bytes]) -> AsyncIterator[str]:
    rest = b""
    async for piece in pieces:
        *whole, rest = (rest + piece).replace(b"\r\n", b"\n").split(b"\n")
        for line in whole:
            yield line.decode(errors="replace")
