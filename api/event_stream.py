"""A job's events as Server-Sent Events: https://html.spec.whatwg.org/multipage/server-sent-events.html.

Stored events carry their `seq` as id and no name, so that a browser's `onmessage` gets those of every type;
`progress` and `end` have no id, so that they never move the place from which a client goes on.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from fastapi.sse import format_sse_event
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from api.resources import Resources
from api.watcher import Watch
from core.errors import Forbidden, NotFound, Unauthenticated
from core.jobs.lifecycle import is_terminal
from core.jobs.schemas import EventRead
from core.jobs.watching import WatchedState, events_since, watched_states

RETRY_MILLISECONDS = 2000
KEEP_ALIVE_SECONDS = 15.0
EVENTS_AT_ONCE = 100


class EventStream(StreamingResponse):
    """The events of `job_id` behind number `last_seq`, as they come, for at most the time that is set.

    `recheck` is called in the thread pool every KEEP_ALIVE_SECONDS, and raises once the key may not read the
    job any more: then the stream ends. Nothing is held while it waits: no session, no thread.
    """

    # FastAPI's own class takes an endpoint for a generator: it could refuse nothing once it has begun.
    media_type = "text/event-stream"

    def __init__(self, resources: Resources, job_id: str, last_seq: int, recheck: Callable[[], None]) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"}, content=())
        self._resources = resources
        self._job_id = job_id
        self._last_seq = last_seq
        self._recheck = recheck

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Closed here and not by the garbage collector, so that a client that left frees its place at once.
        with self._resources.watcher.watching(self._job_id) as watch:
            async with aclosing(self._frames(watch)) as frames:
                self.body_iterator = frames
                await super().__call__(scope, receive, send)

    async def _frames(self, watch: Watch) -> AsyncGenerator[bytes]:
        ends_at = time.monotonic() + self._resources.settings.event_stream_seconds
        yield format_sse_event(retry=RETRY_MILLISECONDS)
        watch.tell(await run_in_threadpool(self._look))
        shown: object = None
        checks_at = time.monotonic() + KEEP_ALIVE_SECONDS
        while (left := ends_at - time.monotonic()) > 0:
            # By the clock: a job that always has news would keep a revoked key's stream open.
            if (until_check := checks_at - time.monotonic()) <= 0:
                if not await self._may_go_on():
                    return
                checks_at = time.monotonic() + KEEP_ALIVE_SECONDS
                continue
            if not await watch.news(min(left, until_check)):
                yield format_sse_event(comment="still here")
                continue
            state = watch.state
            if state is None:
                yield _end("deleted")
                return
            while self._last_seq < state.last_seq and (events := await self._next_events()):
                for event in events:
                    yield _event(event)
                self._last_seq = events[-1].seq
            if is_terminal(state.status):
                yield _end(state.status)
                return
            if state.progress is not None and state.progress != shown:
                shown = state.progress
                yield _progress(state)

    def _look(self) -> WatchedState | None:
        return watched_states(self._resources.db, [self._job_id]).get(self._job_id)

    async def _may_go_on(self) -> bool:
        try:
            await run_in_threadpool(self._recheck)
        except (Unauthenticated, Forbidden, NotFound):
            return False
        return True

    async def _next_events(self) -> list[EventRead]:
        return await run_in_threadpool(self._read_events)

    def _read_events(self) -> list[EventRead]:
        with self._resources.db.readers.begin() as session:
            return events_since(session, self._job_id, self._last_seq, EVENTS_AT_ONCE)


def _event(event: EventRead) -> bytes:
    return format_sse_event(data_str=event.model_dump_json(), id=str(event.seq))


def _progress(state: WatchedState) -> bytes:
    progress = state.shown_progress()
    return format_sse_event(event="progress", data_str=progress.model_dump_json() if progress else "null")


def _end(status: str) -> bytes:
    return format_sse_event(event="end", data_str=json.dumps({"status": status}))
