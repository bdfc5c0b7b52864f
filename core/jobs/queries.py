"""All SQL that only reads jobs and what hangs on them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import ColumnElement, Select, exists, func, literal, select, tuple_, union_all
from sqlalchemy.orm import Session, aliased

from core.database import UtcDateTime, db_now, seconds_between
from core.jobs.claiming import running_devices, running_jobs
from core.jobs.lifecycle import TERMINAL, JobStatus
from core.jobs.schemas import JobSort
from core.pages import Key, decode_cursor, from_microseconds, to_microseconds
from core.tables import Artifact, Job, JobAttempt, JobEvent, JobLabel, JobLogChunk, JobMetric, Tenant

if TYPE_CHECKING:
    from core.jobs.reading import JobFilter

# Step, epoch, value, attempt, and the instant in the database's own form.
RawPoint = tuple[int, int, float | None, int, object]
_METRIC = (JobMetric.step, JobMetric.epoch, JobMetric.value, JobMetric.attempt, JobMetric.created_at)


def find_job(session: Session, tenant_id: str, job_id: str) -> Job | None:
    """The row as it is now."""
    statement = select(Job).where(Job.id == job_id, Job.tenant_id == tenant_id)
    return session.scalars(statement, execution_options={"populate_existing": True}).one_or_none()


def page_of_jobs(
    session: Session, tenant_id: str, job_filter: JobFilter, sort: JobSort, limit: int, cursor: str | None
) -> Sequence[Job]:
    """One row more than `limit`, if there is one, to tell that the list goes on.

    Each status is a list of its own that an index holds in order, so that a page costs the same however many
    rows there are.
    """
    statuses = job_filter.statuses or (None,)
    lists = [_ids(tenant_id, job_filter, status, sort, limit, cursor).subquery() for status in statuses]
    ids = union_all(*(select(one.c.id) for one in lists))
    statement = select(Job).where(Job.id.in_(ids)).order_by(*_order(Job.created_at, Job.id, sort))
    return session.scalars(statement.limit(limit + 1)).all()


def job_key(job: Job) -> Key:
    return to_microseconds(job.created_at), job.id


def _ids(
    tenant_id: str,
    job_filter: JobFilter,
    status: JobStatus | None,
    sort: JobSort,
    limit: int,
    cursor: str | None,
) -> Select[str]:
    """The ids of a page's rows of one status, or of any.

    Read along the labels where these choose, along the jobs where the status alone leaves few.
    """
    labels = list(job_filter.labels.items())
    if labels and (status is None or status in TERMINAL):
        created_at, job_id = JobLabel.created_at, JobLabel.job_id
        statement = select(job_id.label("id")).where(*_labelled(tenant_id, *labels.pop()))
        if status is not None:
            statement = statement.join(Job, Job.id == job_id).where(Job.status == status)
    else:
        created_at, job_id = Job.created_at, Job.id
        statement = select(job_id.label("id")).where(Job.tenant_id == tenant_id)
        if status is not None:
            statement = statement.where(Job.status == status)
    for key, value in labels:
        other = aliased(JobLabel)
        same_job = (other.created_at == created_at, other.job_id == job_id)
        statement = statement.where(exists().where(*_labelled(tenant_id, key, value, other), *same_job))
    if job_filter.created_after is not None:
        statement = statement.where(created_at > job_filter.created_after)
    if cursor is not None:
        micros, last_id = decode_cursor(f"jobs{sort}", cursor, (int, str))
        seen = tuple_(literal(from_microseconds(micros), UtcDateTime()), literal(last_id))
        place = tuple_(created_at, job_id)
        statement = statement.where(place < seen if sort.startswith("-") else place > seen)
    return statement.order_by(*_order(created_at, job_id, sort)).limit(limit + 1)


def _labelled(
    tenant_id: str, key: str, value: str, row: type[JobLabel] = JobLabel
) -> tuple[ColumnElement[bool], ...]:
    return row.tenant_id == tenant_id, row.key == key, row.value == value


def _order(created_at: Any, job_id: Any, sort: JobSort) -> tuple[Any, Any]:
    return (created_at.desc(), job_id.desc()) if sort.startswith("-") else (created_at, job_id)


class Waiting(Protocol):
    """What decides a queued job's place."""

    @property
    def id(self) -> str: ...
    @property
    def queue(self) -> str: ...
    @property
    def devices(self) -> int: ...
    @property
    def tenant_id(self) -> str: ...
    @property
    def priority(self) -> int: ...
    @property
    def queued_at(self) -> datetime: ...
    @property
    def not_before(self) -> datetime | None: ...


def waiting_jobs(session: Session) -> Sequence[Waiting]:
    """All that are queued, of all tenants, in no order."""
    columns = (Job.id, Job.queue, Job.devices, Job.tenant_id, Job.priority, Job.queued_at, Job.not_before)
    rows: Sequence[Any] = session.execute(select(*columns).where(Job.status == JobStatus.QUEUED)).all()
    return rows


def tenant_weights(session: Session) -> dict[str, tuple[int, int]]:
    """By tenant: devices its running jobs hold, and the number of its last claim."""
    rows = session.execute(select(Tenant.id, running_devices, Tenant.last_served))
    return {tenant_id: (int(devices), last_served) for tenant_id, devices, last_served in rows}


def tenants_running(session: Session, least: int | None) -> frozenset[str]:
    """Those with at least so many running jobs; nobody for None."""
    if least is None:
        return frozenset()
    return frozenset(session.scalars(select(Tenant.id).where(running_jobs >= least)))


def speeds_seen(session: Session, tenant_id: str, queue: str, limit: int = 50) -> Sequence[Any]:
    """`resolved_spec` and `windows_per_second` of the tenant's latest jobs of this queue that trained."""
    speed = Job.progress["windows_per_second"].as_float()
    latest = (
        select(Job.resolved_spec, Job.queue, speed.label("windows_per_second"))
        .where(Job.tenant_id == tenant_id, Job.status.in_([JobStatus.SUCCEEDED, JobStatus.RUNNING]))
        .order_by(Job.created_at.desc(), Job.id.desc())
        .limit(limit)
        .subquery()
    )
    seen = (latest.c.queue == queue, latest.c.windows_per_second > 0)
    return session.execute(select(latest.c.resolved_spec, latest.c.windows_per_second).where(*seen)).all()


def queue_counts(session: Session) -> dict[str, tuple[int, int, float | None]]:
    """By queue: queued jobs, running jobs, seconds since the oldest was queued."""
    is_queued = Job.status == JobStatus.QUEUED
    rows = session.execute(
        select(
            Job.queue,
            func.count().filter(is_queued),
            func.count().filter(~is_queued),
            seconds_between(func.min(Job.queued_at).filter(is_queued), db_now()),
        )
        .where(Job.status.in_([JobStatus.QUEUED, JobStatus.RUNNING]))
        .group_by(Job.queue)
    )
    return {queue: (queued, running, oldest) for queue, queued, running, oldest in rows}


def attempts(session: Session, job_id: str) -> Sequence[JobAttempt]:
    return session.scalars(
        select(JobAttempt).where(JobAttempt.job_id == job_id).order_by(JobAttempt.attempt)
    ).all()


def page_of_events(session: Session, job_id: str, limit: int, cursor: str | None) -> Sequence[JobEvent]:
    seq = 0 if cursor is None else decode_cursor(f"events {job_id}", cursor, (int,))[0]
    return events_after(session, job_id, int(seq), limit + 1)


def event_key(event: JobEvent) -> Key:
    return (event.seq,)


def events_after(session: Session, job_id: str, seq: int, limit: int) -> Sequence[JobEvent]:
    return session.scalars(
        select(JobEvent)
        .where(JobEvent.job_id == job_id, JobEvent.seq > seq)
        .order_by(JobEvent.seq)
        .limit(limit)
    ).all()


def page_of_log_chunks(
    session: Session, job_id: str, attempt: int | None, limit: int, cursor: str | None
) -> Sequence[JobLogChunk]:
    statement = select(JobLogChunk).where(JobLogChunk.job_id == job_id)
    if attempt is not None:
        statement = statement.where(JobLogChunk.attempt == attempt)
    if cursor is not None:
        seen = decode_cursor(f"logs {job_id}", cursor, (int, int))
        place = tuple_(JobLogChunk.attempt, JobLogChunk.seq)
        statement = statement.where(place > tuple_(literal(seen[0]), literal(seen[1])))
    return session.scalars(statement.order_by(JobLogChunk.attempt, JobLogChunk.seq).limit(limit + 1)).all()


def log_key(chunk: JobLogChunk) -> Key:
    return chunk.attempt, chunk.seq


def metric_names(session: Session, job_id: str) -> list[str]:
    """In order; one step into the index for each, however long the series are."""
    names: list[str] = []
    next_name = select(func.min(JobMetric.name)).where(JobMetric.job_id == job_id)
    name: str | None = session.scalar(next_name)
    while name is not None:
        names.append(name)
        name = session.scalar(next_name.where(JobMetric.name > name))
    return sorted(names)


def metric(
    session: Session, job_id: str, name: str, from_step: int, attempt: int | None
) -> Sequence[RawPoint]:
    """One series by step, and of a step by attempt, as the driver hands it out; see `metric_instant`.

    There may be a hundred thousand, of which a thousand are shown: a row of the library's for each takes
    as long as the driver's whole work.
    """
    statement = select(*_METRIC).where(
        JobMetric.job_id == job_id, JobMetric.name == name, JobMetric.step >= from_step
    )
    if attempt is not None:
        statement = statement.where(JobMetric.attempt == attempt)
    result = session.connection().execute(statement.order_by(JobMetric.step, JobMetric.attempt))
    with closing(result):
        rows: Sequence[RawPoint] = [] if result.cursor is None else result.cursor.fetchall()
    return rows


def metric_instant(session: Session, raw: object) -> datetime | None:
    """What a raw point's `created_at` stands for."""
    return UtcDateTime().process_result_value(raw, session.get_bind().dialect)


def artifacts(session: Session, job_id: str) -> Sequence[Artifact]:
    """By name; of each the latest attempt's."""
    rows = session.scalars(
        select(Artifact).where(Artifact.job_id == job_id).order_by(Artifact.name, Artifact.attempt)
    )
    return list({row.name: row for row in rows}.values())


def artifact(session: Session, job_id: str, name: str) -> Artifact | None:
    return session.scalars(
        select(Artifact)
        .where(Artifact.job_id == job_id, Artifact.name == name)
        .order_by(Artifact.attempt.desc())
        .limit(1)
    ).one_or_none()
