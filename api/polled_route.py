"""The route of a job that is polled: what has not changed is answered before anything else is worked out."""

from __future__ import annotations

import re

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from api.etags import is_held, not_modified, weak_etag
from api.resources import Resources
from api.strict_route import Handler, StrictRoute
from core.access.scopes import Scope
from core.errors import Forbidden, Unauthenticated
from core.jobs.lifecycle import JobStatus
from core.jobs.polling import PolledState, poll_state

RETRY_AFTER_SECONDS = {JobStatus.QUEUED: 5, JobStatus.RUNNING: 5, JobStatus.PAUSED: 60}
_JOB_ID = re.compile(r"job_[0-9a-f]{32}")


class PolledRoute(StrictRoute):
    """For a path with `job_id`. A request that is odd in any way goes the long way, which says what is wrong.

    The framework's own work on a request, which is the same for every answer, costs more than a 304 of ours.
    """

    def get_route_handler(self) -> Handler:
        answer = super().get_route_handler()

        async def answer_poll(request: Request) -> Response:
            return await _unchanged(request) or await answer(request)

        return answer_poll


def polled_router(tag: str) -> APIRouter:
    """A router whose routes are polled."""
    return APIRouter(tags=[tag], route_class=PolledRoute)


async def _unchanged(request: Request) -> Response | None:
    job_id = request.path_params["job_id"]
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    is_plain = scheme.lower() == "bearer" and not request.url.query and _JOB_ID.fullmatch(job_id)
    if "if-none-match" not in request.headers or not is_plain:
        return None
    resources: Resources = request.app.state.resources
    try:
        state = await run_in_threadpool(poll_state, resources.db, resources.board, token, job_id)
        state.caller.require(Scope.JOBS_READ)
    except (Unauthenticated, Forbidden):
        return None
    return _answer(request, state)


def _answer(request: Request, state: PolledState) -> Response | None:
    if state.tag is None or not is_held(request, etag := weak_etag(state.tag)):
        return None
    request.state.tenant_id, request.state.key_id = state.caller.tenant_id, state.caller.key_id
    return not_modified(etag, retry_after(state.status))


def retry_after(status: JobStatus | None) -> dict[str, str]:
    """The header that says when to ask again; none once the job has ended."""
    seconds = None if status is None else RETRY_AFTER_SECONDS.get(status)
    return {} if seconds is None else {"Retry-After": str(seconds)}
