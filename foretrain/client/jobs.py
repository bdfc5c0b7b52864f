"""Calls about jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from core.jobs.schemas import (
    ArtifactRead,
    AttemptRead,
    EventRead,
    JobChange,
    JobCreate,
    JobEstimate,
    JobRead,
    JobSort,
    LogChunkRead,
    MetricSeries,
    ResolvedTraining,
    RetryFrom,
)
from foretrain.client.exchange import (
    PAGE_SIZE,
    fetch,
    fetch_as,
    fetch_each,
    listed,
    made_repeatable,
    parsed,
)
from foretrain.client.wire import Request, Wire


async def submit(wire: Wire, job: JobCreate, *, idempotency_key: str | None = None) -> JobRead:
    """Queues a job. A call that is repeated with the same key, also much later, makes one job only."""
    request = Request("POST", "/v1/jobs", json=_body(job))
    return await fetch_as(wire, JobRead, made_repeatable(request, idempotency_key))


async def validate(wire: Wire, job: JobCreate) -> ResolvedTraining:
    """What would be trained; nothing is stored."""
    request = Request("POST", "/v1/jobs", {"validate_only": "true"}, json=_body(job))
    return await fetch_as(wire, ResolvedTraining, request)


async def estimate(wire: Wire, job: JobCreate) -> JobEstimate:
    """What it would take: windows, steps, memory, time, place in the queue; nothing is stored."""
    return await fetch_as(wire, JobEstimate, Request("POST", "/v1/jobs/estimate", json=_body(job)))


def list_jobs(
    wire: Wire,
    *,
    status: Sequence[str] = (),
    labels: Mapping[str, str] | None = None,
    created_after: datetime | None = None,
    sort: JobSort = "-created_at",
    page_size: int = PAGE_SIZE,
) -> AsyncIterator[JobRead]:
    """The tenant's jobs, those with one of the statuses and with all of the labels."""
    query: dict[str, str | int | list[str]] = {"sort": sort, "limit": page_size}
    if status:
        query["status"] = ",".join(status)
    if labels:
        query["label"] = [f"{key}:{value}" for key, value in labels.items()]
    if created_after is not None:
        query["created_after"] = created_after.isoformat()
    return fetch_each(wire, JobRead, "/v1/jobs", query)


async def get_job(wire: Wire, job_id: str) -> JobRead:
    """The job as it is now."""
    return await fetch_as(wire, JobRead, Request("GET", f"/v1/jobs/{job_id}"))


async def change_job(
    wire: Wire,
    job_id: str,
    *,
    revision: int,
    labels: Mapping[str, str] | None = None,
    priority: int | None = None,
) -> JobRead:
    """Changes labels or priority, refused with `stale_revision` if somebody was faster."""
    given: dict[str, Any] = {"revision": revision, "labels": labels, "priority": priority}
    change = JobChange(**{name: value for name, value in given.items() if value is not None})
    # Repeated after a lost answer it would meet its own revision, and read as refused.
    request = Request("PATCH", f"/v1/jobs/{job_id}", json=_body(change), is_repeatable=False)
    return await fetch_as(wire, JobRead, request)


async def delete_job(wire: Wire, job_id: str) -> None:
    """Removes a job that has ended, with all it has stored."""
    await fetch(wire, Request("DELETE", f"/v1/jobs/{job_id}", is_repeatable=False))


async def cancel(wire: Wire, job_id: str) -> JobRead:
    """Asks a running job to save and stop; a waiting one is cancelled at once."""
    return await _ask(wire, job_id, "cancel")


async def pause(wire: Wire, job_id: str) -> JobRead:
    """Asks a running job to save and free its worker; a waiting one is paused at once."""
    return await _ask(wire, job_id, "pause")


async def resume(wire: Wire, job_id: str) -> JobRead:
    """Queues a paused job, which goes on from its last stored state."""
    return await _ask(wire, job_id, "resume")


async def retry(wire: Wire, job_id: str, start: RetryFrom = "beginning") -> JobRead:
    """Queues a failed or cancelled job once more."""
    return await _ask(wire, job_id, "retry", {"from": start})


async def _ask(wire: Wire, job_id: str, verb: str, body: dict[str, str] | None = None) -> JobRead:
    # Repeatable: a verb that has had its effect is answered 200 without another.
    return await fetch_as(wire, JobRead, Request("POST", f"/v1/jobs/{job_id}/{verb}", json=body or {}))


def list_attempts(wire: Wire, job_id: str) -> AsyncIterator[AttemptRead]:
    """Each run of the job, oldest first."""
    return fetch_each(wire, AttemptRead, f"/v1/jobs/{job_id}/attempts")


def list_events(wire: Wire, job_id: str, *, page_size: int = PAGE_SIZE) -> AsyncIterator[EventRead]:
    """What has happened to the job so far, oldest first. `follow_events` goes on until its end."""
    return fetch_each(wire, EventRead, f"/v1/jobs/{job_id}/events", {"limit": page_size})


def read_log(
    wire: Wire, job_id: str, *, attempt: int | None = None, page_size: int = PAGE_SIZE
) -> AsyncIterator[LogChunkRead]:
    """What the trainer wrote, in chunks, oldest first; of one attempt, or of all."""
    query = {"limit": page_size} | ({} if attempt is None else {"attempt": attempt})
    return fetch_each(wire, LogChunkRead, f"/v1/jobs/{job_id}/logs", query)


async def read_metrics(
    wire: Wire,
    job_id: str,
    names: Sequence[str] | None = None,
    from_step: int = 0,
    *,
    max_points: int | None = None,
    attempt: int | None = None,
) -> list[MetricSeries]:
    """Numbers by optimizer step. A series longer than `max_points` is thinned, but keeps its extremes."""
    query: dict[str, str | int | list[str]] = {"from_step": from_step}
    if names is not None:
        query["names"] = ",".join(names)
    if max_points is not None:
        query["max_points"] = max_points
    if attempt is not None:
        query["attempt"] = attempt
    answer = await fetch(wire, Request("GET", f"/v1/jobs/{job_id}/metrics", query))
    return listed(MetricSeries, answer.content)


async def get_result(wire: Wire, job_id: str) -> dict[str, Any]:
    """The content of result.json: scores by target and horizon, beside those of naive forecasts."""
    return parsed((await fetch(wire, Request("GET", f"/v1/jobs/{job_id}/result"))).content)


def list_artifacts(wire: Wire, job_id: str) -> AsyncIterator[ArtifactRead]:
    """The files it has stored, by name."""
    return fetch_each(wire, ArtifactRead, f"/v1/jobs/{job_id}/artifacts")


def _body(model: JobCreate | JobChange) -> dict[str, Any]:
    """Only what was said: the rest is for the service to choose."""
    return model.model_dump(mode="json", exclude_unset=True)
