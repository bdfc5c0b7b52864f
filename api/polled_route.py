"""The route of a job that is polled: a plain request is answered without the framework's work on it."""

from __future__ import annotations

import re

from anyio import to_thread
from fastapi import APIRouter, Request, Response

from api.etags import is_held, not_modified, polled_response, weak_etag
from api.resources import Resources
from api.strict_route import Handler, StrictRoute
from api.waiting import preferred_wait, wait_for_change
from core.access.schemas import Principal
from core.access.scopes import Scope
from core.errors import Forbidden, Unauthenticated
from core.jobs.lifecycle import JobStatus
from core.jobs.polling import Polled, PolledState, poll_job, poll_state

# A run changes often at its start and its end, and now and then in between.
_BRIEF_PHASES = (None, "preparing", "saving")
_JOB_ID = re.compile(r"job_[0-9a-f]{32}")


class PolledRoute(StrictRoute):
    """For a path with `job_id`. A request that is odd in any way goes the long way, which says what is wrong.

    The framework's own work on a request, which is the same for every answer, costs more than a 304 of ours.
    """

    def get_route_handler(self) -> Handler:
        answer = super().get_route_handler()

        async def answer_poll(request: Request) -> Response:
            seconds = preferred_wait(request)
            if seconds is not None and (asked := _asked_plainly(request)) is not None:
                await wait_for_change(request, *asked, seconds)
            response = await _short_way(request) or await answer(request)
            if seconds is not None:
                response.headers["Preference-Applied"] = f"wait={seconds}"
            return response

        return answer_poll


def polled_router(tag: str) -> APIRouter:
    """A router whose routes are polled."""
    return APIRouter(tags=[tag], route_class=PolledRoute)


def _asked_plainly(request: Request) -> tuple[str, str] | None:
    """The key and the job, of a request with nothing odd about it."""
    job_id = request.path_params["job_id"]
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or request.url.query or not _JOB_ID.fullmatch(job_id):
        return None
    return token, job_id


async def _short_way(request: Request) -> Response | None:
    asked = _asked_plainly(request)
    if asked is None:
        return None
    resources: Resources = request.app.state.resources
    return await to_thread.run_sync(_answer, request, *asked, limiter=resources.pollers)


def _answer(request: Request, token: str, job_id: str) -> Response | None:
    resources: Resources = request.app.state.resources
    try:
        if "if-none-match" in request.headers:
            found = poll_state(resources.db, resources.board, token, job_id)
            found.caller.require(Scope.JOBS_READ)
            if found.state is not None and is_held(request, etag := _etag(found.state)):
                _note(request, found.caller)
                return not_modified(etag, retry_after(found.state))
        return answer_in_full(request, poll_job(resources.db, resources.board, token, job_id))
    except (Unauthenticated, Forbidden):
        return None


def answer_in_full(request: Request, found: Polled) -> Response | None:
    """The job with its tag; None where there is none. Raises Forbidden."""
    found.caller.require(Scope.JOBS_READ)
    if found.job is None or found.state is None:
        return None
    _note(request, found.caller)
    return polled_response(request, found.job.model_dump_json(), _etag(found.state), retry_after(found.state))


def _etag(state: PolledState) -> str:
    return weak_etag(state.tag, state.mark)


def _note(request: Request, caller: Principal) -> None:
    """For the log."""
    request.state.tenant_id, request.state.key_id = caller.tenant_id, caller.key_id


def retry_after(state: PolledState) -> dict[str, str]:
    """The header that says when to ask again: soon where much happens; none once the job has ended."""
    match state.status:
        case JobStatus.QUEUED:
            seconds = min(60, max(2, 2 * (state.position or 1)))
        case JobStatus.RUNNING:
            seconds = 2 if state.phase in _BRIEF_PHASES else 5
        case JobStatus.PAUSED:
            seconds = 60
        case _:
            return {}
    return {"Retry-After": str(seconds)}
