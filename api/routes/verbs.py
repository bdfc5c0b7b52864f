"""What an owner does with a job that is there: stop it, let it go on, change it, remove it."""

from __future__ import annotations

from typing import Any

import structlog
from fastapi import Response
from pydantic import BaseModel, ConfigDict

from api.dependencies import JobId, JobsWriter, Service, Trail
from api.openapi import answers, json_answer, json_content
from api.strict_route import strict_router
from core.errors import StorageUnavailable
from core.jobs import reading, verbs
from core.jobs.schemas import JobChange, JobRead, JobRetry

router = strict_router("jobs")
log = structlog.get_logger(__name__)

# What every operation here may refuse with: those of a body that may be left out among it.
_REFUSALS = (
    "body_timeout",
    "incomplete_body",
    "invalid_json",
    "not_found",
    "too_large",
    "unsupported_media_type",
)


class EmptyBody(BaseModel):
    """No fields yet."""

    model_config = ConfigDict(extra="forbid")


def _noted(what_follows: str) -> dict[str, Any]:
    return json_answer(f"The wish is noted: {what_follows}", "job", model=JobRead)


@router.post(
    "/v1/jobs/{job_id}/cancel",
    response_model=JobRead,
    operation_id="cancel_job",
    summary="Cancel a job",
    openapi_extra={"requestBody": {"content": json_content("nothing")}},
    responses=answers(
        *_REFUSALS,
        "invalid_transition",
        ok_200=json_answer("The job is cancelled, now or before.", "cancelled_job"),
        ok_202=_noted("the trainer saves and stops, then the job is cancelled."),
    ),
)
def cancel_job(
    *,
    caller: JobsWriter,
    resources: Service,
    trail: Trail,
    job_id: JobId,
    _body: EmptyBody | None = None,
) -> Response:
    """Ends a job that waits at once, one that runs after a last checkpoint. Repeating it does no harm."""
    with resources.db.sessions.begin() as session:
        job = reading.read_job(session, verbs.cancel(session, caller.tenant_id, job_id))
        trail.note(session, job_id)
    return _shown(job, 200 if job.is_terminal else 202)


@router.post(
    "/v1/jobs/{job_id}/pause",
    response_model=JobRead,
    operation_id="pause_job",
    summary="Pause a job",
    openapi_extra={"requestBody": {"content": json_content("nothing")}},
    responses=answers(
        *_REFUSALS,
        "invalid_transition",
        ok_200=json_answer("The job is paused, now or before.", "paused_job"),
        ok_202=_noted("the trainer saves and stops, then the job is paused."),
    ),
)
def pause_job(
    *,
    caller: JobsWriter,
    resources: Service,
    trail: Trail,
    job_id: JobId,
    _body: EmptyBody | None = None,
) -> Response:
    """Holds a job back until it is resumed. One that runs stores its state first, and gives its worker free.

    A job that is wished cancelled is cancelled all the same.
    """
    with resources.db.sessions.begin() as session:
        job = reading.read_job(session, verbs.pause(session, caller.tenant_id, job_id))
        trail.note(session, job_id)
    return _shown(job, 202 if job.status == "running" else 200)


@router.post(
    "/v1/jobs/{job_id}/resume",
    response_model=JobRead,
    operation_id="resume_job",
    summary="Resume a paused job",
    openapi_extra={"requestBody": {"content": json_content("nothing")}},
    responses=answers(
        *_REFUSALS,
        "invalid_transition",
        "quota_exceeded",
        ok_200=json_answer("The job is queued.", "queued_job"),
    ),
)
def resume_job(
    *,
    caller: JobsWriter,
    resources: Service,
    trail: Trail,
    job_id: JobId,
    _body: EmptyBody | None = None,
) -> Response:
    """Queues it again; training goes on from the last stored state, on whatever worker takes it."""
    with resources.db.sessions.begin() as session:
        row = verbs.resume(session, caller.tenant_id, job_id, resources.settings.max_queued_jobs)
        job = reading.read_job(session, row, max_running=resources.settings.max_running_jobs)
        trail.note(session, job_id)
    resources.queue.nudge(row.queue)
    return _shown(job)


@router.post(
    "/v1/jobs/{job_id}/retry",
    response_model=JobRead,
    operation_id="retry_job",
    summary="Retry a job that failed or was cancelled",
    openapi_extra={"requestBody": {"content": json_content("job_retry")}},
    responses=answers(
        *_REFUSALS,
        "conflict",
        "invalid_transition",
        "quota_exceeded",
        ok_200=json_answer("The job is queued.", "queued_job"),
    ),
)
def retry_job(
    *,
    caller: JobsWriter,
    resources: Service,
    trail: Trail,
    job_id: JobId,
    body: JobRetry | None = None,
) -> Response:
    """Queues it with its attempts and running time granted anew: from the beginning, or from its checkpoint.

    `conflict` where its dataset was deleted meanwhile.
    """
    start = (body or JobRetry()).start
    with resources.db.sessions.begin() as session:
        max_queued = resources.settings.max_queued_jobs
        row = verbs.retry(session, caller.tenant_id, job_id, start, max_queued)
        job = reading.read_job(session, row, max_running=resources.settings.max_running_jobs)
        trail.note(session, job_id)
    resources.queue.nudge(row.queue)
    return _shown(job)


@router.patch(
    "/v1/jobs/{job_id}",
    response_model=JobRead,
    operation_id="change_job",
    summary="Change a job's labels or priority",
    openapi_extra={"requestBody": {"content": json_content("job_change")}},
    responses=answers(
        *_REFUSALS,
        "stale_revision",
        ok_200=json_answer("The job as it is now.", "job"),
    ),
)
def change_job(
    *, caller: JobsWriter, resources: Service, trail: Trail, job_id: JobId, body: JobChange
) -> Response:
    """Sends the `revision` the job was read at; where somebody was faster, nothing is changed.

    A new priority counts from the next claim on; it does not interrupt what runs.
    """
    with resources.db.sessions.begin() as session:
        row = verbs.change(session, caller.tenant_id, job_id, body)
        job = reading.read_job(session, row, max_running=resources.settings.max_running_jobs)
        trail.note(session, job_id)
    return _shown(job)


@router.delete(
    "/v1/jobs/{job_id}",
    status_code=204,
    operation_id="delete_job",
    summary="Delete a job",
    responses=answers("not_found", "invalid_transition", ok_204={"description": "Deleted."}),
)
def delete_job(*, caller: JobsWriter, resources: Service, trail: Trail, job_id: JobId) -> Response:
    """Removes a job that has ended, with its metrics, events, logs and files. Its dataset stays."""
    with resources.db.sessions.begin() as session:
        keys = verbs.delete(session, caller.tenant_id, job_id)
        trail.note(session, job_id)
    try:
        for key in keys:
            resources.storage.delete(key)
    except StorageUnavailable:
        log.warning("files of a deleted job left to be collected", job_id=job_id)
    return Response(status_code=204)


def _shown(job: JobRead, status: int = 200) -> Response:
    return Response(job.model_dump_json(), status, media_type="application/json")
