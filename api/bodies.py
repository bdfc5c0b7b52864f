"""Reads a request's body in pieces, within a size, and faster than a client that only holds a place."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import anyio
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from api.problems import HttpProblem
from api.slots import Slot

# A body may come slowly, but not so slowly that it never ends.
MIN_BYTES_PER_SECOND = 1024
LINGER_SECONDS = 1.0
LINGER_BYTES = 16 * 1024 * 1024


async def receive_body(
    request: Request, *, max_bytes: int, idle_seconds: float, slot: Slot | None = None
) -> AsyncIterator[bytes]:
    """The body's pieces as they arrive.

    Raises HttpProblem: 413 as soon as the body is known to exceed `max_bytes` (before anything is read
    when Content-Length says so), 408 when nothing comes for `idle_seconds`, when the whole is slower than
    MIN_BYTES_PER_SECOND or when another has taken its `slot`, 400 when it ends before Content-Length;
    ClientDisconnect when the client is gone.
    """
    announced = _content_length(request)
    if announced is not None and announced > max_bytes:
        await _let_finish(request)
        raise too_large(max_bytes)
    slot = slot or Slot()
    received = 0
    started_at = time.monotonic()
    while True:
        slowest_end = started_at + idle_seconds + received / MIN_BYTES_PER_SECOND
        message = await _next_message(request, slot, min(idle_seconds, slowest_end - time.monotonic()))
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        piece: bytes = message.get("body", b"")
        slot.moved(len(piece))
        received += len(piece)
        if received > max_bytes:
            await _let_finish(request)
            raise too_large(max_bytes)
        if piece:
            yield piece
        if not message.get("more_body", False):
            break
    if announced is not None and received != announced:
        raise HttpProblem(
            "incomplete_body",
            f"The body has {received} bytes where Content-Length says {announced}; send it again.",
        )


async def _let_finish(request: Request) -> None:
    """Throws away a little of what a refused client still sends, for many listen only once they have sent.

    Not from one that waits to be told to go on: reading would tell it.
    """
    if request.headers.get("expect") is not None:
        return
    thrown_away = 0
    with anyio.move_on_after(LINGER_SECONDS):
        while thrown_away < LINGER_BYTES:
            message = await request.receive()
            thrown_away += len(message.get("body", b""))
            if not message.get("more_body", False):
                return


def _content_length(request: Request) -> int | None:
    value = request.headers.get("content-length")
    return int(value) if value is not None and value.isascii() and value.isdigit() else None


async def _next_message(request: Request, slot: Slot, timeout_seconds: float) -> Message:
    try:
        with slot.wait(max(timeout_seconds, 0)):
            return await request.receive()
    except TimeoutError:
        raise HttpProblem(
            "body_timeout",
            "The body came too slowly and was given up; send it again over a steadier connection.",
            headers={"Connection": "close"},
        ) from None


def too_large(max_bytes: int) -> HttpProblem:
    # The rest of the body is not read, so the connection cannot be used again.
    return HttpProblem(
        "too_large",
        f"The body is larger than the {max_bytes} bytes that are accepted here.",
        headers={"Connection": "close"},
    )
