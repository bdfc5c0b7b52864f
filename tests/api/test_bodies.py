"""Bodies that are too long, too slow or cut off."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive

from api.bodies import receive_body
from api.problems import HttpProblem


def a_body(*pieces: bytes) -> list[Message]:
    return [
        {"type": "http.request", "body": piece, "more_body": number < len(pieces)}
        for number, piece in enumerate(pieces, start=1)
    ]


def receiving(messages: Iterable[Message]) -> Receive:
    """Hands out `messages`, then waits for ever."""
    waiting = iter(messages)

    async def receive() -> Message:
        for message in waiting:
            return message
        await asyncio.Event().wait()
        raise AssertionError

    return receive


def read(messages: Iterable[Message], *, max_bytes: int = 100, content_length: str | None = None) -> bytes:
    headers = [] if content_length is None else [(b"content-length", content_length.encode())]
    request = Request({"type": "http", "headers": headers}, receiving(messages))

    async def collect() -> bytes:
        return b"".join(
            [piece async for piece in receive_body(request, max_bytes=max_bytes, idle_seconds=0.05)]
        )

    return asyncio.run(collect())


def test_pieces_arrive_whole_and_in_order() -> None:
    assert read(a_body(b"ab", b"", b"cd"), content_length="4") == b"abcd"


def test_a_body_of_exactly_the_limit_is_taken() -> None:
    assert read(a_body(b"x" * 60, b"y" * 40)) == b"x" * 60 + b"y" * 40


def test_a_length_over_the_limit_is_refused_though_nothing_has_come() -> None:
    with pytest.raises(HttpProblem) as caught:
        read([], content_length="101")
    assert caught.value.code == "too_large"
    assert caught.value.headers["Connection"] == "close"


def test_a_body_without_a_length_is_counted() -> None:
    with pytest.raises(HttpProblem) as caught:
        read(a_body(b"x" * 60, b"y" * 41, b"z"))
    assert caught.value.code == "too_large"


def test_a_body_that_stops_coming_is_given_up() -> None:
    with pytest.raises(HttpProblem) as caught:
        read(a_body(b"x", b"y")[:1])
    assert caught.value.code == "body_timeout"


def test_a_body_shorter_than_it_said_is_incomplete() -> None:
    with pytest.raises(HttpProblem) as caught:
        read(a_body(b"abc"), content_length="4")
    assert caught.value.code == "incomplete_body"


def test_a_client_that_leaves_raises_that() -> None:
    with pytest.raises(ClientDisconnect):
        read([*a_body(b"x", b"y")[:1], {"type": "http.disconnect"}])


def test_a_drip_slower_than_the_least_pace_is_given_up_though_it_never_pauses() -> None:
    async def drip() -> None:
        async def receive() -> Message:
            await asyncio.sleep(0.01)
            return {"type": "http.request", "body": b".", "more_body": True}

        request = Request({"type": "http", "headers": []}, receive)
        async for _ in receive_body(request, max_bytes=10**9, idle_seconds=0.1):
            pass

    with pytest.raises(HttpProblem) as caught:
        asyncio.run(drip())
    assert caught.value.code == "body_timeout"
