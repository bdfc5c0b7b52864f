"""The route of a job that is polled: a plain request is answered without the framework's work on it."""

from __future__ import annotations

import re

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from api.etags import is_held, not_modified, polled_response, weak_etag
from api.resources import Resources
from api.strict_route import Handler, StrictRoute
from core.access.schemas import Principal
from core.access.scopes import Scope
from core.errors import Forbidden, Unauthenticated
from core.jobs.lifecycle import JobStatus
from core.jobs.polling import PolledJob, poll_job, poll_state

RETRY_AFTER_SECONDS = {JobStatus.QUEUED: 5, JobStatus.RUNNING: 5, JobStatus.PAUSED: 60}
_JOB_ID = re.compile(r"job_[0-9a-f]{32}")


class PolledRoute(StrictRoute):
    """For a path with `job_id`. A request that is odd in any way goes the long way, which says what is wrong.

    The framework's own work on a request, which is the same for every answer, costs more than a 304 of ours.
    """

    def get_route_handler(self) -> Handler:
        answer = super().get_route_handler()

        async def answer_poll(request: Request) -> Response:
            return await _short_way(request) or await answer(request)

        return answer_poll


def polled_router(tag: str) -> APIRouter:
    """A router whose routes are polled."""
    return APIRouter(tags=[tag], route_class=PolledRoute)


async def _short_way(request: Request) -> Response | None:
    job_id = request.path_params["job_id"]
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or request.url.query or not _JOB_ID.fullmatch(job_id):
        return None
    return await run_in_threadpool(_answer, request, token, job_id)


def _answer(request: Request, token: str, job_id: str) -> Response | None:
    resources: Resources = request.app.state.resources
    try:
        if "if-none-match" in request.headers:
            state = poll_state(resources.db, resources.board, token, job_id)
            state.caller.require(Scope.JOBS_READ)
            if state.tag is not None and is_held(request, etag := weak_etag(state.tag)):
                _note(request, state.caller)
                return not_modified(etag, retry_after(state.status))
        return answer_in_full(request, poll_job(resources.db, resources.board, token, job_id))
    except (Unauthenticated, Forbidden):
        return None


def answer_in_full(request: Request, found: PolledJob) -> Response | None:
    """The job with its tag; None where there is none. Raises Forbidden."""
    found.caller.require(Scope.JOBS_READ)
    if found.job is None or found.tag is None:
        return None
    _note(request, found.caller)
    headers = retry_after(found.job.status)
    return polled_response(request, found.job.model_dump_json(), weak_etag(found.tag), headers)


def _note(request: Request, caller: Principal) -> None:
    """For the log."""
    request.state.tenant_id, request.state.key_id = caller.tenant_id, caller.key_id


def retry_after(status: JobStatus | None) -> dict[str, str]:
    """The header that says when to ask again; none once the job has ended."""
    seconds = None if status is None else RETRY_AFTER_SECONDS.get(status)
    return {} if seconds is None else {"Retry-After": str(seconds)}
