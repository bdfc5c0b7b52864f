"""All SQL that chooses a waiting job and claims it: fair share between tenants, then priority, then age."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, Select, bindparam, func, insert, literal, select, update
from sqlalchemy.orm import Session, aliased

from core.database import db_now, later
from core.jobs import repository
from core.jobs.events import NewEvent
from core.jobs.lifecycle import JobStatus
from core.tables import Job, JobAttempt, Tenant

_NO_LIMIT = 2**31 - 1
# Spelt out in the statement: SQLite is sure of a partial index only where it sees the status.
_QUEUED = literal(JobStatus.QUEUED, Job.status.type, literal_execute=True)


def claimable(row: Any) -> tuple[ColumnElement[bool], ...]:
    """What a queued row (Job or an alias) must fulfil to be claimed now."""
    return (
        row.status == _QUEUED,
        row.cancel_requested_at.is_(None),
        row.pause_requested_at.is_(None),
        row.not_before.is_(None) | (row.not_before <= db_now()),
    )


def _of_tenant_running(what: Any, row: Any) -> Any:
    own = (row.tenant_id == Tenant.id, row.status == JobStatus.RUNNING)
    return select(func.coalesce(what, 0)).select_from(row).where(*own).correlate(Tenant).scalar_subquery()


_running_row = aliased(Job)
# Of the row of Tenant that they are asked of: a look into the index for each, whatever else runs or has run.
running_devices = _of_tenant_running(func.sum(_running_row.devices), _running_row)
running_jobs = _of_tenant_running(func.count(), _running_row)


def _turn(row: Any) -> tuple[Any, ...]:
    """Within a tenant: higher priority first, then the older one, then the smaller id."""
    return row.priority.desc(), row.queued_at, row.id


def _best_waiting(tenant_id: Any) -> Select[str]:
    row = aliased(Job)
    fits = (
        row.queue == bindparam("queue"),
        row.devices <= bindparam("devices"),
        row.id.not_in(bindparam("passed_over", expanding=True)),
    )
    own = select(row.id).where(row.tenant_id == tenant_id, *fits, *claimable(row))
    return own.order_by(*_turn(row)).limit(1)


def _tenants_in_turn() -> Select[str]:
    """Those with a job to claim: fewest running devices first, then longest unserved, then the best job's."""
    best = aliased(Job)
    best_id = _best_waiting(Tenant.id).correlate(Tenant).scalar_subquery()
    waiting = select(Tenant.id).join(best, best.id == best_id).where(running_jobs < bindparam("max_running"))
    return waiting.order_by(running_devices, Tenant.last_served, *_turn(best))


# Built once: to build them takes several times as long as to run them.
_TENANTS_IN_TURN = _tenants_in_turn()
# Locked rows are skipped: another worker is claiming them.
_LOCK_BEST = _best_waiting(bindparam("tenant_id")).with_for_update(skip_locked=True, key_share=True)
_INSERT_ATTEMPT = insert(JobAttempt)


def claim(
    session: Session,
    queue: str,
    devices: int,
    worker_name: str,
    lease_seconds: float,
    event: NewEvent,
    max_running: int | None = None,
    passed_over: Collection[str] = (),
) -> Job | None:
    """Moves the best waiting row to `running` under a new token and opens its attempt.

    Only of tenants with less than `max_running` jobs running; None is no such limit. Never one of
    `passed_over`.
    """
    wanted = {"queue": queue, "devices": devices, "passed_over": list(passed_over)}
    if max_running is None:
        return _claim_best(session, wanted | {"max_running": _NO_LIMIT}, worker_name, lease_seconds, event)
    while True:
        with session.begin_nested() as savepoint:
            job = _claim_best(
                session, wanted | {"max_running": max_running}, worker_name, lease_seconds, event
            )
            if job is None or _count_running(session, job.tenant_id) <= max_running:
                return job
            # Another worker claimed a job of this tenant at the same moment, and was first with the tenant.
            savepoint.rollback()


def _count_running(session: Session, tenant_id: str) -> int:
    running = (Job.tenant_id == tenant_id, Job.status == JobStatus.RUNNING)
    return session.scalars(select(func.count()).select_from(Job).where(*running)).one()


def _claim_best(
    session: Session, wanted: dict[str, Any], worker_name: str, lease_seconds: float, event: NewEvent
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
    connection = session.connection()
    for tenant_id in connection.execute(_TENANTS_IN_TURN, wanted).scalars().all():
        best_id = connection.execute(_LOCK_BEST, wanted | {"tenant_id": tenant_id}).scalar()
        if best_id is not None:
            job = repository.transition(session, best_id, JobStatus.RUNNING, event, values=values)
            if job is not None:
                _open_attempt(session, job)
                return job
    return None


def _open_attempt(session: Session, job: Job) -> None:
    facts = {"job_id": job.id, "attempt": job.attempt, "token": job.token, "worker_name": job.worker_name}
    session.connection().execute(_INSERT_ATTEMPT, facts)
    newest = select(func.max(aliased(Tenant).last_served)).scalar_subquery()
    session.execute(update(Tenant).where(Tenant.id == job.tenant_id).values(last_served=newest + 1))


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
