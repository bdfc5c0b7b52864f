"""All SQL on what may go: objects no row names, jobs and datasets kept long enough."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, exists, or_, select
from sqlalchemy.orm import Session

from core.jobs.lifecycle import TERMINAL
from core.tables import Artifact, Dataset, Job, Tenant, Upload


def tenant_ids(session: Session) -> Sequence[str]:
    return session.scalars(select(Tenant.id).order_by(Tenant.id)).all()


def keys_named(session: Session, owner_ids: Collection[str]) -> set[str]:
    """Storage keys that a row of these jobs and datasets names."""
    # Uploads first: the transaction that turns one into a dataset must not pass between the two reads.
    uploads = session.scalars(select(Upload.storage_key).where(Upload.dataset_id.in_(owner_ids))).all()
    unpurged = (Dataset.id.in_(owner_ids), Dataset.purged_at.is_(None))
    datasets = session.scalars(select(Dataset.storage_key).where(*unpurged)).all()
    artifacts = session.scalars(select(Artifact.storage_key).where(Artifact.job_id.in_(owner_ids))).all()
    return {*uploads, *datasets, *artifacts}


def jobs_ended_before(session: Session, tenant_id: str, instant: datetime, limit: int) -> Sequence[str]:
    """Ids, locked against whoever would retry one."""
    old = (
        select(Job.id)
        # No job ends before it is made: so the index of the tenant's jobs by age serves.
        .where(Job.tenant_id == tenant_id, Job.created_at < instant)
        .where(Job.status.in_(TERMINAL), Job.finished_at < instant)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return session.scalars(old).all()


def datasets_unused_since(session: Session, tenant_id: str, instant: datetime, limit: int) -> Sequence[str]:
    """Ids of datasets older than that which no job has needed since; not locked."""
    unused = (
        select(Dataset.id)
        .where(Dataset.tenant_id == tenant_id, Dataset.created_at < instant, Dataset.deleted_at.is_(None))
        .where(~exists().where(Job.dataset_id == Dataset.id, _needed_since(instant)))
        .limit(limit)
    )
    return session.scalars(unused).all()


def is_needed_since(session: Session, dataset_id: str, instant: datetime) -> bool:
    """Whether a job needs it, or did so since."""
    needed = exists().where(Job.dataset_id == dataset_id, _needed_since(instant))
    return bool(session.scalar(select(needed)))


def _needed_since(instant: datetime) -> ColumnElement[bool]:
    return or_(Job.status.not_in(TERMINAL), Job.finished_at >= instant)
