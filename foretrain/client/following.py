"""Following a job to its end: by its event stream, and by polling where streams do not come through."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from http import HTTPStatus

import httpx2

from core.jobs.schemas import EventRead, JobRead
from foretrain.client.exchange import fetch, pause_seconds, problem_of, typed
from foretrain.client.jobs import get_job, list_events
from foretrain.client.problems import NotEndedInTime
from foretrain.client.server_sent import read_events
from foretrain.client.wire import Answer, Request, Wire

# Longer than the pause between two comments that keep a quiet stream alive.
_SILENCE_SECONDS = 45.0
_HELD_SECONDS = 20
_USUAL_POLL_SECONDS = 2.0
_FRUITLESS_STREAMS = 3
_NO_STREAMS = {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_ACCEPTABLE}


class _StreamsRefused(Exception):
    """This service, or what stands before it, has no event streams."""


class _BrokenOff(Exception):
    """A stream has ended without saying so."""


async def wait(wire: Wire, job_id: str, *, timeout_seconds: float | None = None) -> JobRead:
    """The job once it has ended, which costs the service next to nothing meanwhile. Raises NotEndedInTime."""
    until = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    job = await get_job(wire, job_id)
    if not job.is_terminal:
        async with aclosing(_events(wire, job_id, 0, until)) as events:
            async for _ in events:
                pass
        job = await get_job(wire, job_id)
    return job


async def watch(
    wire: Wire, job_id: str, *, poll_seconds: float | None = None
) -> AsyncGenerator[JobRead, None]:
    """The job now, and again whenever it has changed, until it has ended.

    Asks every `poll_seconds`, and then sees progress too; else as the service advises. No change costs a 304.
    """
    async with aclosing(_polls(wire, job_id, poll_seconds, None)) as polls:
        async for poll in polls:
            if poll.job is not None:
                yield poll.job


async def follow_events(wire: Wire, job_id: str, *, after_seq: int = 0) -> AsyncGenerator[EventRead, None]:
    """What happens to the job, as it happens, from its beginning or behind `after_seq` until it has ended.

    A stream that breaks off is resumed without gap and without repeat.
    """
    async with aclosing(_events(wire, job_id, after_seq, None)) as events:
        async for event in events:
            yield event


async def _events(wire: Wire, job_id: str, seen: int, until: float | None) -> AsyncGenerator[EventRead, None]:
    fruitless = 0
    while fruitless < _FRUITLESS_STREAMS:
        before = seen
        try:
            async with aclosing(_streamed(wire, job_id, seen, until)) as events:
                async for event in events:
                    seen = event.seq
                    yield event
            if (await get_job(wire, job_id)).is_terminal:
                return
        except _StreamsRefused:
            break
        except (_BrokenOff, httpx2.TransportError):
            fruitless = 0 if seen > before else fruitless + 1
        _check(until)
        await wire.pause(_at_most(until, pause_seconds(1)))
    async with aclosing(_listed(wire, job_id, seen, until)) as events:
        async for event in events:
            yield event


async def _streamed(
    wire: Wire, job_id: str, seen: int, until: float | None
) -> AsyncGenerator[EventRead, None]:
    """Over one connection, until the service says that this is the end."""
    resumption = {"Last-Event-ID": str(seen)} if seen else {}
    request = Request(
        "GET",
        f"/v1/jobs/{job_id}/events/stream",
        headers={"Accept": "text/event-stream"} | resumption,
        read_seconds=_at_most(until, _SILENCE_SECONDS),
    )
    async with wire.open(request) as answer:
        await _require_stream(answer)
        async with aclosing(read_events(answer.pieces())) as stream:
            async for sent in stream:
                if sent is not None and sent.type == "end":
                    return
                # Progress is not part of the log: it has no place in it, and is not repeated.
                if sent is not None and sent.id is not None:
                    yield typed(EventRead, sent.data)
                _check(until)
    raise _BrokenOff


async def _require_stream(answer: Answer) -> None:
    if answer.response.is_success:
        return
    problem = await problem_of(answer)
    if problem.status in _NO_STREAMS and problem.code != "not_found":
        raise _StreamsRefused
    if problem.retryable or problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise _BrokenOff
    raise problem


async def _listed(wire: Wire, job_id: str, seen: int, until: float | None) -> AsyncGenerator[EventRead, None]:
    async with aclosing(_polls(wire, job_id, None, until)) as polls:
        async for poll in polls:
            if poll.job is None:
                continue
            async for event in list_events(wire, job_id):
                if event.seq > seen:
                    seen = event.seq
                    yield event


@dataclass(frozen=True)
class _Poll:
    """`job` is None while nothing has changed; `was_held`: the service itself has waited for a change."""

    job: JobRead | None
    etag: str
    advised_seconds: float
    was_held: bool


async def _polls(
    wire: Wire, job_id: str, poll_seconds: float | None, until: float | None
) -> AsyncGenerator[_Poll, None]:
    """One after the other until the job has ended. Raises NotEndedInTime."""
    etag: str | None = None
    while True:
        held = _HELD_SECONDS if etag is not None and poll_seconds is None else 0
        poll = await _ask(wire, job_id, etag, int(_at_most(until, held)))
        yield poll
        if poll.job is not None and poll.job.is_terminal:
            return
        etag = poll.etag
        _check(until)
        if not poll.was_held:
            await wire.pause(_at_most(until, poll_seconds or poll.advised_seconds))


async def _ask(wire: Wire, job_id: str, etag: str | None, held_seconds: int) -> _Poll:
    headers = {} if etag is None else {"If-None-Match": etag}
    if held_seconds:
        headers["Prefer"] = f"wait={held_seconds}"
    read_seconds = held_seconds + _SILENCE_SECONDS
    answer = await fetch(
        wire, Request("GET", f"/v1/jobs/{job_id}", headers=headers, read_seconds=read_seconds)
    )
    is_news = answer.status_code != HTTPStatus.NOT_MODIFIED
    return _Poll(
        job=typed(JobRead, answer.content) if is_news else None,
        etag=answer.headers["ETag"],
        advised_seconds=float(answer.headers.get("Retry-After", _USUAL_POLL_SECONDS)),
        was_held="Preference-Applied" in answer.headers,
    )


def _at_most(until: float | None, seconds: float) -> float:
    return seconds if until is None else max(0.0, min(seconds, until - time.monotonic()))


def _check(until: float | None) -> None:
    if until is not None and time.monotonic() >= until:
        raise NotEndedInTime("the job has not ended in the time allowed for waiting; it goes on")
