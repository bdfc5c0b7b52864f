"""Jobs and what hangs on them, as the API shows them, for a reader's session; every read is one tenant's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row
from sqlalchemy.orm import Session

from core.database import read_clock
from core.errors import ArtifactNotFound, NotFound
from core.jobs import queries
from core.jobs.lifecycle import JobStatus, is_terminal
from core.jobs.line import Line, queue_place, read_line
from core.jobs.schemas import (
    ArtifactRead,
    AttemptRead,
    EventRead,
    JobLimits,
    JobRead,
    JobSort,
    LogChunkRead,
    MetricPoint,
    MetricSeries,
    StatusReason,
    Usage,
)
from core.pages import DEFAULT_LIMIT, Page, cut_page
from core.stored import read_stored
from core.tables import Artifact, Job
from trainer.thinning import keep_extremes

STALLED_AFTER = timedelta(seconds=15)  # three heartbeats
LINKS = ("events", "metrics", "logs", "artifacts", "attempts", "cancel", "pause", "resume", "retry")
_SHOWN_COLUMNS = tuple(name for name in JobRead.model_fields if hasattr(Job, name))


@dataclass(frozen=True)
class JobFilter:
    """Every condition holds. `labels`: these keys with exactly these values."""

    statuses: Sequence[JobStatus] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    created_after: datetime | None = None


def read_job(
    session: Session, job: Job, line: Line | None = None, *, max_running: int | None = None
) -> JobRead:
    """A row, with its place in `line`, or in the queue as it is now.

    `max_running`: of one tenant, at the same time, for the queue as it is now; a line knows its own.
    """
    return _read_jobs(session, [job], line, max_running)[0]


def get_job(session: Session, tenant_id: str, job_id: str) -> JobRead:
    """Raises NotFound."""
    return read_job(session, _find(session, tenant_id, job_id))


def list_jobs(
    session: Session,
    tenant_id: str,
    job_filter: JobFilter | None = None,
    *,
    sort: JobSort = "-created_at",
    limit: int = DEFAULT_LIMIT,
    cursor: str | None = None,
    line: Line | None = None,
) -> Page[JobRead]:
    """Filters apply before the page is cut; places are those in `line`, or those of now.

    Raises InvalidRequest for a cursor of another list or sort.
    """
    rows = queries.page_of_jobs(session, tenant_id, job_filter or JobFilter(), sort, limit, cursor)
    shown, next_cursor = cut_page(rows, limit, f"jobs{sort}", queries.job_key)
    return Page(items=_read_jobs(session, shown, line), next_cursor=next_cursor)


def _find(session: Session, tenant_id: str, job_id: str) -> Job:
    job = queries.find_job(session, tenant_id, job_id)
    if job is None:
        raise NotFound(f"There is no job {job_id}.")
    return job


def _read_jobs(
    session: Session, jobs: Sequence[Job], line: Line | None, max_running: int | None = None
) -> list[JobRead]:
    now = read_clock(session)
    if line is None and any(job.status is JobStatus.QUEUED for job in jobs):
        line = read_line(session, max_running)
    return [show(job, line, now) for job in jobs]


def show(job: Job | Row[Any], line: Line | None, now: datetime) -> JobRead:
    """A row, of the ORM or with a job's columns, as it is at `now`; a queued one needs the line."""
    address = f"/v1/jobs/{job.id}"
    reason = job.reason_code and StatusReason(code=job.reason_code, message=job.reason_message or "")
    place = None if line is None or job.status is not JobStatus.QUEUED else queue_place(job, line, now)
    fields = {name: getattr(job, name) for name in _SHOWN_COLUMNS}
    return read_stored(
        JobRead,
        fields
        | {
            "is_terminal": is_terminal(job.status),
            "status_reason": reason or None,
            "stalled": is_stalled(job, now),
            "queue": place,
            "limits": JobLimits(
                max_runtime_seconds=job.max_runtime_seconds,
                max_pending_seconds=job.max_pending_seconds,
                max_attempts=job.max_attempts,
            ),
            "usage": Usage(running_seconds=_running_seconds(job, now)),
            "links": {"self": address, **{name: f"{address}/{name}" for name in LINKS}},
        },
    )


def is_stalled(job: Job | Row[Any], now: datetime) -> bool:
    """Whether its worker has missed several heartbeats."""
    return job.heartbeat_at is not None and now - job.heartbeat_at > STALLED_AFTER


def _running_seconds(job: Job | Row[Any], now: datetime) -> float:
    if job.status is not JobStatus.RUNNING or job.claimed_at is None:
        return job.running_seconds
    return job.running_seconds + max(0.0, (now - job.claimed_at).total_seconds())


def list_attempts(session: Session, tenant_id: str, job_id: str) -> list[AttemptRead]:
    """Oldest first. Raises NotFound."""
    job = _find(session, tenant_id, job_id)
    return [AttemptRead.model_validate(row) for row in queries.attempts(session, job.id)]


def list_events(
    session: Session, tenant_id: str, job_id: str, *, limit: int = DEFAULT_LIMIT, cursor: str | None = None
) -> Page[EventRead]:
    """Oldest first. Raises NotFound."""
    job = _find(session, tenant_id, job_id)
    rows = queries.page_of_events(session, job.id, limit, cursor)
    shown, next_cursor = cut_page(rows, limit, f"events {job.id}", queries.event_key)
    return Page(items=[EventRead.model_validate(row) for row in shown], next_cursor=next_cursor)


def events_after(
    session: Session, tenant_id: str, job_id: str, seq: int, limit: int = 100
) -> list[EventRead]:
    """Events with a higher seq, oldest first: for a stream that resumes. Raises NotFound."""
    job = _find(session, tenant_id, job_id)
    return [EventRead.model_validate(row) for row in queries.events_after(session, job.id, seq, limit)]


def list_log_chunks(
    session: Session,
    tenant_id: str,
    job_id: str,
    *,
    attempt: int | None = None,
    limit: int = DEFAULT_LIMIT,
    cursor: str | None = None,
) -> Page[LogChunkRead]:
    """Oldest first. A jump in `seq` is where a long log was cut. Raises NotFound."""
    job = _find(session, tenant_id, job_id)
    rows = queries.page_of_log_chunks(session, job.id, attempt, limit, cursor)
    shown, next_cursor = cut_page(rows, limit, f"logs {job.id}", queries.log_key)
    return Page(items=[LogChunkRead.model_validate(row) for row in shown], next_cursor=next_cursor)


def metrics_mark(session: Session, tenant_id: str, job_id: str) -> str:
    """Changes with each write of the job's metrics, and costs no reading of them. Raises NotFound.

    Ask before the metrics themselves: what is written in between is then news at the next look.
    """
    job = _find(session, tenant_id, job_id)
    return f"{job.id}-{job.metric_writes}"


def read_metrics(
    session: Session,
    tenant_id: str,
    job_id: str,
    *,
    names: Sequence[str] | None = None,
    from_step: int = 0,
    attempt: int | None = None,
    max_points: int | None = None,
) -> list[MetricSeries]:
    """Every step's value of the latest attempt that reached it (or of one attempt), by name.

    Of a series longer than `max_points` the extremes of each stretch. Raises NotFound.
    """
    job = _find(session, tenant_id, job_id)
    there = queries.metric_names(session, job.id)
    series = (
        MetricSeries(name=name, points=_points(session, job, name, from_step, attempt, max_points))
        for name in there
        if names is None or name in names
    )
    return [one for one in series if one.points]


def _points(
    session: Session, job: Job, name: str, from_step: int, attempt: int | None, max_points: int | None
) -> list[MetricPoint]:
    rows = queries.metric(session, job.id, name, from_step, attempt)
    if job.attempt > 1:
        # A step's place is that of its first attempt, and its value that of its last.
        rows = list({row[0]: row for row in rows}.values())
    if max_points is not None and len(rows) > max_points:
        rows = [rows[place] for place in keep_extremes([row[2] for row in rows], max_points)]
    return [_point(session, row) for row in rows]


def _point(session: Session, row: queries.RawPoint) -> MetricPoint:
    step, epoch, value, attempt, created_at = row
    instant = queries.metric_instant(session, created_at)
    return MetricPoint.model_validate(
        {"step": step, "epoch": epoch, "value": value, "attempt": attempt, "created_at": instant}
    )


def list_artifacts(session: Session, tenant_id: str, job_id: str) -> list[ArtifactRead]:
    """By name; of each name the latest attempt's. Raises NotFound."""
    job = _find(session, tenant_id, job_id)
    return [_read_artifact(row) for row in queries.artifacts(session, job.id)]


def _read_artifact(row: Artifact) -> ArtifactRead:
    read = ArtifactRead.model_validate(row)
    return read.model_copy(update={"links": {"self": f"/v1/jobs/{row.job_id}/artifacts/{row.name}"}})


def get_artifact(session: Session, tenant_id: str, job_id: str, name: str) -> Artifact:
    """The row, with its storage key. Raises NotFound, ArtifactNotFound."""
    job = _find(session, tenant_id, job_id)
    row = queries.artifact(session, job.id, name)
    if row is None:
        raise ArtifactNotFound(f"The job has no artifact {name!r}.")
    return row
