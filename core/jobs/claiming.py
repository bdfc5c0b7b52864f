"""All SQL that chooses a waiting job and claims it: fair share between tenants, then priority, then age."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Select, bindparam, func, select, update
from sqlalchemy.orm import Session, aliased

from core.database import db_now, later
from core.jobs import repository
from core.jobs.events import NewEvent
from core.jobs.lifecycle import JobStatus
from core.tables import Job, JobAttempt, Tenant


def claim(
    session: Session,
    queue: str,
    devices: int,
    worker_name: str,
    lease_seconds: float,
    event: NewEvent,
    max_running: int | None = None,
) -> Job | None:
    """Moves the best waiting row to `running` under a new token and opens its attempt.

    Only of tenants with less than `max_running` jobs running; None is no such limit.
    """
    if max_running is None:
        return _claim_best(session, queue, devices, worker_name, lease_seconds, event, None)
    while True:
        with session.begin_nested() as savepoint:
            job = _claim_best(session, queue, devices, worker_name, lease_seconds, event, max_running)
            if job is None or _count_running(session, job.tenant_id) <= max_running:
                return job
            # Another worker claimed a job of this tenant at the same moment, and was first with the tenant.
            savepoint.rollback()


def _count_running(session: Session, tenant_id: str) -> int:
    running = (Job.tenant_id == tenant_id, Job.status == JobStatus.RUNNING)
    return session.scalars(select(func.count()).select_from(Job).where(*running)).one()


def _claim_best(
    session: Session,
    queue: str,
    devices: int,
    worker_name: str,
    lease_seconds: float,
    event: NewEvent,
    max_running: int | None,
) -> Job | None:
    values = {
        "phase": "preparing",
        "token": Job.token + 1,
        "attempt": Job.attempt + 1,
        "lease_until": later(db_now(), lease_seconds),
        "heartbeat_at": db_now(),
        "claimed_at": db_now(),
        "started_at": func.coalesce(Job.started_at, db_now()),
        "worker_name": worker_name,
        "not_before": None,
        "progress": None,
        "reason_code": None,
        "reason_message": None,
    }
    best = _best_waiting(queue, devices, max_running).scalar_subquery()
    job = repository.transition(session, best, JobStatus.RUNNING, event, values=values)
    if job is None:
        return None
    session.add(JobAttempt(job_id=job.id, attempt=job.attempt, token=job.token, worker_name=worker_name))
    _note_served(session, job.tenant_id)
    return job


def _best_waiting(queue: str, devices: int, max_running: int | None) -> Select[str]:
    """Fair share first (fewest running devices, then longest unserved), then priority, then age."""
    candidate = aliased(Job)
    running = running_by_tenant()
    has_room = () if max_running is None else (func.coalesce(running.c.jobs, 0) < max_running,)
    return (
        select(candidate.id)
        .join(Tenant, Tenant.id == candidate.tenant_id)
        .outerjoin(running, running.c.tenant_id == candidate.tenant_id)
        .where(candidate.queue == queue, candidate.devices <= devices, *claimable(candidate), *has_room)
        .order_by(
            func.coalesce(running.c.devices, 0),
            Tenant.last_served,
            candidate.priority.desc(),
            candidate.queued_at,
            candidate.id,
        )
        .limit(1)
        .with_for_update(skip_locked=True, key_share=True, of=candidate)
    )


def running_by_tenant() -> Any:
    """A subquery (tenant_id, devices, jobs)."""
    row = aliased(Job)
    return (
        select(row.tenant_id, func.sum(row.devices).label("devices"), func.count().label("jobs"))
        .where(row.status == JobStatus.RUNNING)
        .group_by(row.tenant_id)
        .subquery()
    )


def claimable(row: Any) -> tuple[ColumnElement[bool], ...]:
    """What a queued row (Job or an alias) must fulfil to be claimed now."""
    return (
        row.status == JobStatus.QUEUED,
        row.cancel_requested_at.is_(None),
        row.pause_requested_at.is_(None),
        row.not_before.is_(None) | (row.not_before <= db_now()),
    )


def _note_served(session: Session, tenant_id: str) -> None:
    newest = select(func.max(aliased(Tenant).last_served)).scalar_subquery()
    session.execute(update(Tenant).where(Tenant.id == tenant_id).values(last_served=newest + 1))


def count_claimable(session: Session) -> dict[tuple[str, int], int]:
    """How many rows could be claimed now, by queue and devices."""
    size = (Job.queue, Job.devices)
    rows = session.execute(select(*size, func.count()).where(*claimable(Job)).group_by(*size))
    return {(queue, devices): count for queue, devices, count in rows}


def _counting_queued() -> Any:
    own = (Job.tenant_id == bindparam("tenant_id"), Job.status == JobStatus.QUEUED)
    return select(func.count()).select_from(select(Job.id).where(*own).limit(bindparam("at_most")).subquery())


# Built once: each submission asks.
_COUNT_QUEUED = _counting_queued()


def count_queued(session: Session, tenant_id: str, at_most: int) -> int:
    """Of one tenant; counts no further than that."""
    names = {"tenant_id": tenant_id, "at_most": at_most}
    count: int = session.connection().execute(_COUNT_QUEUED, names).scalar_one()
    return count
