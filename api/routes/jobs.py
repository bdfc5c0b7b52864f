"""Submitting and following training jobs."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import Query, Request, Response

from api.dependencies import (
    Cursor,
    IdempotencyKey,
    IfNoneMatch,
    JobId,
    JobsReader,
    JobsReadersKey,
    JobsWriter,
    Limit,
    Prefer,
    Service,
    Trail,
)
from api.openapi import answers, header, json_answer, json_content
from api.polled_route import answer_in_full, polled_router
from api.query_lists import parse_labels, parse_statuses
from api.strict_route import strict_router
from core import idempotency
from core.errors import NotFound
from core.instants import Instant
from core.jobs import dry_run, polling, reading, service
from core.jobs.reading import JobFilter
from core.jobs.schemas import JobCreate, JobEstimate, JobRead, JobSort, ResolvedTraining
from core.pages import DEFAULT_LIMIT, Page

router = strict_router("jobs")
polled = polled_router("jobs")
_ETAG_HEADERS = {
    "ETag": header("Changes with revision, phase, progress and place in the queue."),
    "Preference-Applied": header("`wait=N` where the answer was held, or might have been."),
}


class JobPage(Page[JobRead]):
    """One page of jobs."""


@router.post(
    "/v1/jobs",
    status_code=201,
    response_model=JobRead,
    operation_id="submit_job",
    summary="Submit a job",
    openapi_extra={"requestBody": {"content": json_content("job_request")}},
    responses=answers(
        "body_timeout",
        "dataset_not_ready",
        "idempotency_mismatch",
        "incomplete_body",
        "invalid_json",
        "invalid_spec",
        "not_supported",
        "quota_exceeded",
        "too_large",
        "unsupported_media_type",
        ok_200=json_answer(
            "With `validate_only`: what would be trained. Nothing is stored.",
            "resolved",
            model=ResolvedTraining,
        ),
        ok_201=json_answer(
            "Queued.",
            "job",
            headers={
                "Location": header("Path of the job."),
                "Idempotency-Replayed": header("`true` when this answer was given before."),
            },
        ),
    ),
)
def submit_job(
    *,
    request: Request,
    caller: JobsWriter,
    resources: Service,
    trail: Trail,
    body: JobCreate,
    validate_only: Annotated[
        bool, Query(description="Answer with the resolved spec and the warnings; store nothing.")
    ] = False,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Checks the spec against the dataset and queues the job. `GET` the path in `Location` to follow it."""
    if validate_only:
        with resources.db.readers.begin() as session:
            resolved = dry_run.validate(session, caller.tenant_id, body)
        return Response(resolved.model_dump_json(), media_type="application/json")
    line = resources.board.line()
    with resources.db.sessions.begin() as session:
        if idempotency_key is not None:
            fingerprint = _fingerprint(request, body)
            earlier = idempotency.replay_or_reserve(
                session, caller.tenant_id, idempotency_key, fingerprint, resources.settings.idempotency_hours
            )
            if earlier is not None:
                return _created(earlier["body"], replayed=True)
        job = service.submit(session, caller.tenant_id, body, resources.settings.max_queued_jobs)
        # As it is in the moment it comes to be: no need to ask for the time.
        read = reading.show(job, line, job.created_at).model_dump(mode="json")
        if idempotency_key is not None:
            idempotency.store_answer(session, caller.tenant_id, idempotency_key, {"body": read})
        trail.note(session, job.id)
        queue = job.queue
    resources.queue.nudge(queue)
    return _created(read, replayed=False)


@router.post(
    "/v1/jobs/estimate",
    response_model=JobEstimate,
    operation_id="estimate_job",
    summary="Estimate a job",
    openapi_extra={"requestBody": {"content": json_content("job_request")}},
    responses=answers(
        "body_timeout",
        "dataset_not_ready",
        "incomplete_body",
        "invalid_json",
        "invalid_spec",
        "not_supported",
        "too_large",
        "unsupported_media_type",
        ok_200=json_answer("What it would take. Nothing is stored.", "estimate"),
    ),
)
def estimate_job(*, caller: JobsWriter, resources: Service, body: JobCreate) -> Response:
    """What this body would be as a job: resolved spec, warnings, windows, steps, parameters, memory, time.

    Ranges are as narrow as the dataset's schema allows. The time comes from speeds that your own jobs of the
    same queue came to; where none has been seen, there is none.
    """
    line = resources.board.line()
    with resources.db.readers.begin() as session:
        estimate = dry_run.estimate(session, caller.tenant_id, body, line)
    return Response(estimate.model_dump_json(), media_type="application/json")


def _fingerprint(request: Request, body: JobCreate) -> str:
    sent = json.dumps(body.model_dump(mode="json", exclude_unset=True), sort_keys=True)
    return idempotency.fingerprint(request.method, f"{request.url.path}?{request.url.query}", sent.encode())


def _created(job: dict[str, Any], *, replayed: bool) -> Response:
    headers = {"Location": f"/v1/jobs/{job['id']}"}
    if replayed:
        headers["Idempotency-Replayed"] = "true"
    return Response(json.dumps(job), 201, headers, "application/json")


@router.get(
    "/v1/jobs",
    response_model=JobPage,
    operation_id="list_jobs",
    summary="List jobs",
    responses=answers(ok_200=json_answer("One page.", "jobs")),
)
def list_jobs(
    *,
    caller: JobsReader,
    resources: Service,
    status: Annotated[
        str | None,
        Query(max_length=100, description="Any of these, comma-separated.", examples=["queued,running"]),
    ] = None,
    label: Annotated[
        list[str] | None,
        Query(
            max_length=32,
            description="`key:value` that the job carries; repeat it for more.",
            examples=["env:prod"],
        ),
    ] = None,
    created_after: Annotated[Instant | None, Query(description="RFC 3339, with a time zone.")] = None,
    sort: Annotated[JobSort, Query(description="`-` means newest first.")] = "-created_at",
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Response:
    """The tenant's jobs. Filters apply before the page is cut, so only the last page is short."""
    wanted = JobFilter(
        statuses=parse_statuses(status), labels=parse_labels(label), created_after=created_after
    )
    line = resources.board.line()
    with resources.db.readers.begin() as session:
        page = reading.list_jobs(
            session, caller.tenant_id, wanted, sort=sort, limit=limit, cursor=cursor, line=line
        )
    return Response(page.model_dump_json(), media_type="application/json")


@polled.get(
    "/v1/jobs/{job_id}",
    response_model=JobRead,
    operation_id="get_job",
    summary="Get a job",
    responses=answers(
        "not_found",
        "too_many_waiting",
        ok_200=json_answer(
            "The job.",
            "job",
            headers=_ETAG_HEADERS
            | {"Retry-After": header("Seconds to wait before asking again; absent at the end.")},
        ),
        ok_304={"description": "Nothing has changed since the ETag you hold.", "headers": _ETAG_HEADERS},
    ),
)
def get_job(
    *,
    request: Request,
    key: JobsReadersKey,
    resources: Service,
    job_id: JobId,
    _if_none_match: IfNoneMatch = None,
    _prefer: Prefer = None,
) -> Response:
    """Poll it with If-None-Match, as often as Retry-After says, until `is_terminal`.

    With `Prefer: wait=N` beside it the answer comes as soon as there is news.
    """
    found = polling.poll_job(resources.db, resources.board, key.presented, job_id)
    key.checked(found.caller)
    answer = answer_in_full(request, found)
    if answer is None:
        raise NotFound(f"There is no job {job_id}.")
    return answer
