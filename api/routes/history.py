"""What a job has been through: attempts, events, log and metrics."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Request, Response

from api.dependencies import Cursor, IfNoneMatch, JobId, JobsReader, Limit, Service
from api.etags import is_held, not_modified, polled_response, weak_etag
from api.openapi import answers, header, json_answer
from api.query_lists import comma_separated
from api.strict_route import strict_router
from core.jobs import reading
from core.jobs.schemas import AttemptRead, EventRead, LogChunkRead, MetricSeries
from core.pages import DEFAULT_LIMIT, Page

MAX_STEP = 2**53
router = strict_router("jobs")


class AttemptPage(Page[AttemptRead]):
    """All attempts of a job, oldest first."""


class EventPage(Page[EventRead]):
    """One page of a job's events, oldest first."""


class LogPage(Page[LogChunkRead]):
    """One page of a job's log, oldest first."""


class MetricPage(Page[MetricSeries]):
    """All series of a job's metrics, by name."""


@router.get(
    "/v1/jobs/{job_id}/attempts",
    response_model=AttemptPage,
    operation_id="list_attempts",
    summary="List a job's attempts",
    responses=answers("not_found", ok_200=json_answer("Oldest first.", "attempts")),
)
def list_attempts(caller: JobsReader, resources: Service, job_id: JobId) -> Page[AttemptRead]:
    """Each run of the job: on which worker, from when to when, and how it ended."""
    with resources.db.readers.begin() as session:
        attempts = reading.list_attempts(session, caller.tenant_id, job_id)
    return Page(items=attempts, next_cursor=None)


@router.get(
    "/v1/jobs/{job_id}/events",
    response_model=EventPage,
    operation_id="list_events",
    summary="List a job's events",
    responses=answers("not_found", ok_200=json_answer("Oldest first.", "events")),
)
def list_events(
    *,
    caller: JobsReader,
    resources: Service,
    job_id: JobId,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Page[EventRead]:
    """Everything that happened to the job, numbered by `seq` without gaps."""
    with resources.db.readers.begin() as session:
        return reading.list_events(session, caller.tenant_id, job_id, limit=limit, cursor=cursor)


@router.get(
    "/v1/jobs/{job_id}/logs",
    response_model=LogPage,
    operation_id="read_log",
    summary="Read a job's log",
    responses=answers("not_found", ok_200=json_answer("Oldest first.", "log")),
)
def read_log(
    *,
    caller: JobsReader,
    resources: Service,
    job_id: JobId,
    attempt: Annotated[int | None, Query(ge=1, le=MAX_STEP, description="Only of this attempt.")] = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Page[LogChunkRead]:
    """What the trainer wrote to its stderr, in chunks. A jump in `seq` is where a long log was cut."""
    with resources.db.readers.begin() as session:
        return reading.list_log_chunks(
            session, caller.tenant_id, job_id, attempt=attempt, limit=limit, cursor=cursor
        )


@router.get(
    "/v1/jobs/{job_id}/metrics",
    response_model=MetricPage,
    operation_id="read_metrics",
    summary="Read a job's metrics",
    responses=answers(
        "not_found",
        ok_200=json_answer(
            "One series for each name.",
            "metrics",
            headers={"ETag": header("Changes with the numbers.")},
        ),
        ok_304={"description": "The numbers are those you hold."},
    ),
)
def read_metrics(
    *,
    request: Request,
    caller: JobsReader,
    resources: Service,
    job_id: JobId,
    names: Annotated[
        str | None,
        Query(max_length=4000, description="Only these, comma-separated.", examples=["train_loss,val_loss"]),
    ] = None,
    max_points: Annotated[
        int,
        Query(
            ge=10, le=20_000, description="Of each series. Beyond it the extremes of each stretch are kept."
        ),
    ] = 1000,
    from_step: Annotated[int, Query(ge=0, le=MAX_STEP, description="From this optimizer step on.")] = 0,
    attempt: Annotated[
        int | None,
        Query(ge=1, le=MAX_STEP, description="Only of this attempt; default: the latest that has the step."),
    ] = None,
    _if_none_match: IfNoneMatch = None,
) -> Response:
    """Losses, rates, speed and memory by optimizer step. A long series is thinned, but its spikes stay.

    `memory_bytes` is what the trainer's process holds, of several the first one: bytes resident, on a GPU the
    bytes that torch has reserved there.
    """
    with resources.db.readers.begin() as session:
        mark = reading.metrics_mark(session, caller.tenant_id, job_id)
        etag = weak_etag(f"{mark}?{request.url.query}")
        if is_held(request, etag):
            return not_modified(etag)
        series = reading.read_metrics(
            session,
            caller.tenant_id,
            job_id,
            names=comma_separated(names),
            from_step=from_step,
            attempt=attempt,
            max_points=max_points,
        )
    body = Page(items=series, next_cursor=None).model_dump_json()
    return polled_response(request, body, etag)
