"""Deletes what was kept long enough. Functions take a session and never commit."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy.orm import Session

from core.audit import repository as audit_rows
from core.database import read_clock
from core.datasets import repository as dataset_rows
from core.jobs import repository as job_rows
from core.upkeep import repository


def delete_old_jobs(session: Session, keep_days: float, limit: int = 100) -> list[str]:
    """Removes jobs that ended longer ago, with all that hangs on them; their storage keys.

    The files may be deleted after the commit; what stays of them is collected as garbage.
    """
    before = read_clock(session) - timedelta(days=keep_days)
    keys: list[str] = []
    for tenant_id in repository.tenant_ids(session):
        if ended := repository.jobs_ended_before(session, tenant_id, before, limit):
            keys += job_rows.remove(session, ended)
    return keys


def delete_old_datasets(session: Session, keep_days: float, limit: int = 100) -> list[str]:
    """Hides datasets that no job has needed for so long; their ids. The scheduler then purges their bytes."""
    before = read_clock(session) - timedelta(days=keep_days)
    hidden = []
    for tenant_id in repository.tenant_ids(session):
        for dataset_id in repository.datasets_unused_since(session, tenant_id, before, limit):
            # Under the lock that a submission waits for: a job may have come since the list was made.
            locked = dataset_rows.lock(session, tenant_id, dataset_id)
            if locked is not None and not repository.is_needed_since(session, dataset_id, before):
                dataset_rows.hide(session, dataset_id)
                hidden.append(dataset_id)
    return hidden


def forget_old_audit_events(session: Session, keep_days: float, limit: int = 100) -> int:
    """Removes what was recorded longer ago, at most `limit` of each tenant; how many."""
    before = read_clock(session) - timedelta(days=keep_days)
    tenant_ids = repository.tenant_ids(session)
    return sum(audit_rows.forget_before(session, tenant_id, before, limit) for tenant_id in tenant_ids)
