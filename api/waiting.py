"""`Prefer: wait=N` (RFC 7240, section 4.3): an answer that is held until the job changes."""

from __future__ import annotations

import re
import time

import anyio
from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from api.resources import Resources
from core.access.scopes import Scope
from core.errors import Forbidden, Unauthenticated
from core.jobs.lifecycle import is_terminal
from core.jobs.polling import PolledState, poll_state

_WAIT = re.compile(r"\s*wait\s*=\s*\"?([0-9]{1,9})\"?\s*", re.IGNORECASE)


def preferred_wait(request: Request) -> int | None:
    """Seconds the client would wait, as they are granted; None without the preference.

    What cannot be understood is left unheeded, as the RFC wants it of every preference.
    """
    preferences = (part for line in request.headers.getlist("prefer") for part in line.split(","))
    asked = next((match for part in preferences if (match := _WAIT.fullmatch(part.partition(";")[0]))), None)
    if asked is None:
        return None
    resources: Resources = request.app.state.resources
    return min(int(asked[1]), resources.settings.max_wait_seconds)


async def wait_for_change(request: Request, token: str, job_id: str, seconds: int) -> None:
    """Returns once the job has another revision or phase than the one the client holds, or has ended.

    The one it holds stands in the tag in If-None-Match; without one it is that of now. Returns at once for a
    job that is not there or not the caller's: whoever answers then says so. Raises HttpProblem (503) where
    too many wait already, ClientDisconnect when the client is gone.
    """
    resources: Resources = request.app.state.resources
    state = await run_in_threadpool(_state, resources, token, job_id)
    if state is None or is_terminal(state.status):
        return
    held = _held_mark(request) or state.mark
    if held != state.mark:
        return
    resources.watcher.require_room()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_leave_with_the_client, request, tasks.cancel_scope)
        await _watch(resources, job_id, held, seconds)
        tasks.cancel_scope.cancel()
    if await request.is_disconnected():
        raise ClientDisconnect


def _state(resources: Resources, token: str, job_id: str) -> PolledState | None:
    try:
        found = poll_state(resources.db, resources.board, token, job_id)
        found.caller.require(Scope.JOBS_READ)
    except (Unauthenticated, Forbidden):
        return None
    return found.state


def _held_mark(request: Request) -> str | None:
    match = re.fullmatch(r'\s*W/"([0-9]+-[a-z_]+)\.[0-9a-f]+"\s*', request.headers.get("if-none-match", ""))
    return None if match is None else match[1]


async def _watch(resources: Resources, job_id: str, held: str, seconds: int) -> None:
    ends_at = time.monotonic() + seconds
    with resources.watcher.watching(job_id) as watch:
        while (left := ends_at - time.monotonic()) > 0:
            if await watch.news(left) and (watch.state is None or watch.state.mark != held):
                return


async def _leave_with_the_client(request: Request, waiting: anyio.CancelScope) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    waiting.cancel()
