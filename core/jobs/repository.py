"""All SQL that writes jobs. Every status change is one `transition`: a guarded UPDATE and its event."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Row,
    Select,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.orm import Session

from core.database import db_now, later, seconds_between
from core.ids import new_id
from core.jobs.events import NewEvent
from core.jobs.lifecycle import TERMINAL, TRANSITIONS, WEIGHTS, JobStatus
from core.monitoring import tallies
from core.monitoring.tallies import Tallied
from core.tables import Artifact, Dataset, Job, JobAttempt, JobEvent, JobLabel
from core.webhooks import outbox

Values = Mapping[str, Any]

# Built once, and past the ORM, which takes several times as long for one row.
_INSERT_JOB = insert(Job).returning(Job)
_INSERT_EVENT = insert(JobEvent).returning(JobEvent)
_INSERT_LABEL = insert(JobLabel)


def add(session: Session, values: Values, event: NewEvent) -> Row[Any]:
    """A new job, with its first event; its row, all columns."""
    job = session.connection().execute(_INSERT_JOB, {**values, "last_seq": 1}).one()
    _write_event(session, job, event)
    _write_labels(session, job)
    return job


def find(session: Session, tenant_id: str, job_id: str) -> Job | None:
    return session.scalars(_of_tenant(tenant_id, job_id)).one_or_none()


def lock(session: Session, tenant_id: str, job_id: str) -> Job | None:
    """The row as it is now; nobody changes it before this transaction ends."""
    return _fresh(session, _of_tenant(tenant_id, job_id).with_for_update(key_share=True))


def lock_running(session: Session, job_id: str, token: int) -> Job | None:
    """The row if this token still owns it."""
    owned = select(Job).where(Job.id == job_id, *_owned_by(token)).with_for_update(key_share=True)
    return _fresh(session, owned)


def lock_expired(session: Session, limit: int) -> Sequence[Job]:
    """Running rows whose lease has run out, longest ago first."""
    expired = (
        select(Job)
        .where(Job.status == JobStatus.RUNNING, Job.lease_until < db_now())
        .order_by(Job.lease_until)
        .limit(limit)
        .with_for_update(skip_locked=True, key_share=True)
    )
    return session.scalars(expired, execution_options={"populate_existing": True}).all()


def lock_overdue(session: Session, limit: int) -> Sequence[Job]:
    """Queued rows that have waited longer than they may."""
    overdue = (
        select(Job)
        .where(Job.status == JobStatus.QUEUED, later(Job.queued_at, Job.max_pending_seconds) < db_now())
        .limit(limit)
        .with_for_update(skip_locked=True, key_share=True)
    )
    return session.scalars(overdue, execution_options={"populate_existing": True}).all()


_FIND_DATASET = select(Dataset).where(
    Dataset.id == bindparam("dataset_id"),
    Dataset.tenant_id == bindparam("tenant_id"),
    Dataset.deleted_at.is_(None),
)
_LOCK_DATASET = _FIND_DATASET.with_for_update(read=True)


def find_dataset(session: Session, tenant_id: str, dataset_id: str) -> Dataset | None:
    return session.scalars(_FIND_DATASET, {"tenant_id": tenant_id, "dataset_id": dataset_id}).one_or_none()


def lock_dataset(session: Session, tenant_id: str, dataset_id: str) -> Dataset | None:
    """Keeps the dataset from being deleted before the job that needs it is there."""
    return session.scalars(_LOCK_DATASET, {"tenant_id": tenant_id, "dataset_id": dataset_id}).one_or_none()


def _of_tenant(tenant_id: str, job_id: str) -> Select[Job]:
    return select(Job).where(Job.id == job_id, Job.tenant_id == tenant_id)


def _owned_by(token: int) -> tuple[ColumnElement[bool], ...]:
    return (Job.token == token, Job.status == JobStatus.RUNNING)


def _fresh(session: Session, statement: Select[Job]) -> Job | None:
    return session.scalars(statement, execution_options={"populate_existing": True}).one_or_none()


def transition(
    session: Session,
    job_id: str,
    to: JobStatus,
    event: NewEvent,
    *,
    token: int | None = None,
    values: Values | None = None,
    outcome: str | None = None,
) -> Job | None:
    """Moves a job to another status, if TRANSITIONS and the token allow it, and writes the event.

    None where no row matched: nothing was written. `outcome` closes the row of the attempt that ran.
    """
    sources = [status for status in JobStatus if to in TRANSITIONS[status]]
    guard = [Job.status.in_(sources), *(() if token is None else _owned_by(token))]
    changes: dict[str, Any] = {
        "status": to,
        "revision": Job.revision + 1,
        "phase": None,
        "finished_at": db_now() if to in TERMINAL else None,
        **(values or {}),
    }
    if to is not JobStatus.RUNNING:
        changes |= {"lease_until": None, "heartbeat_at": None}
    if outcome is not None:
        changes["running_seconds"] = Job.running_seconds + seconds_between(Job.claimed_at, db_now())
    job = _change(session, job_id, guard, event, changes)
    if job is not None and outcome is not None:
        _close_attempt(session, job, outcome)
    if job is not None and job.finished_at is not None:
        seconds = (job.finished_at - job.created_at).total_seconds()
        tallies.note(session, Tallied.JOB, to.value, job.reason_code or "", seconds=seconds)
    return job


def note(
    session: Session, job_id: str, token: int, event: NewEvent | None, values: Values | None = None
) -> Job | None:
    """Changes columns other than the status of the job this token owns; None where it owns none."""
    return _change(session, job_id, _owned_by(token), event, values or {})


def change_facts(session: Session, job: Job, event: NewEvent, values: Values) -> Job | None:
    """Changes what the owner decides beside the status, wishes among it; a new revision."""
    return _change(
        session, job.id, [Job.status == job.status], event, {**values, "revision": Job.revision + 1}
    )


def _change(
    session: Session,
    job_id: str,
    guard: Sequence[ColumnElement[bool]],
    event: NewEvent | None,
    values: Values,
) -> Job | None:
    numbered = {} if event is None else {"last_seq": Job.last_seq + 1}
    statement = update(Job).where(Job.id == job_id, *guard).values({**values, **numbered}).returning(Job)
    job = session.scalars(
        statement, execution_options={"synchronize_session": False, "populate_existing": True}
    ).one_or_none()
    if job is not None and event is not None:
        _write_event(session, job, event)
    if job is not None and "labels" in values:
        session.execute(delete(JobLabel).where(JobLabel.job_id == job.id))
        _write_labels(session, job)
    return job


def _write_labels(session: Session, job: Job | Row[Any]) -> None:
    facts = {"tenant_id": job.tenant_id, "created_at": job.created_at, "job_id": job.id}
    rows = [{**facts, "key": key, "value": value} for key, value in job.labels.items()]
    if rows:
        session.connection().execute(_INSERT_LABEL, rows)


def _write_event(session: Session, job: Job | Row[Any], event: NewEvent) -> None:
    facts = {"job_id": job.id, "seq": job.last_seq, "type": event.type, "data": event.data(job)}
    row = session.connection().execute(_INSERT_EVENT, {"id": new_id("evt"), **facts}).one()
    outbox.post(session, job.tenant_id, row)


def last_queued(session: Session, job_id: str) -> dict[str, Any]:
    """What the event says that brought the job into the queue last."""
    statement = (
        select(JobEvent.data)
        .where(JobEvent.job_id == job_id, JobEvent.type == "job.queued")
        .order_by(JobEvent.seq.desc())
        .limit(1)
    )
    return session.scalars(statement).one()


def remove(session: Session, job_ids: Collection[str]) -> list[str]:
    """Deletes jobs with all that hangs on them; the storage keys of their artifacts."""
    keys = session.scalars(select(Artifact.storage_key).where(Artifact.job_id.in_(job_ids))).all()
    session.execute(delete(Job).where(Job.id.in_(job_ids)), execution_options={"synchronize_session": False})
    return list(keys)


def _close_attempt(session: Session, job: Job, outcome: str) -> None:
    seconds = session.scalars(
        update(JobAttempt)
        .where(JobAttempt.job_id == job.id, JobAttempt.attempt == job.attempt)
        .values(ended_at=db_now(), outcome=outcome, message=job.reason_message)
        .returning(seconds_between(JobAttempt.started_at, JobAttempt.ended_at)),
        execution_options={"synchronize_session": False},
    ).one()
    tallies.note(session, Tallied.ATTEMPT, outcome, seconds=seconds)


def artifacts_to_go_on_from(session: Session, job: Job, names: Collection[str]) -> Sequence[Artifact]:
    """Of all attempts since the job was last begun, the newest first."""
    return session.scalars(
        select(Artifact)
        .where(Artifact.job_id == job.id, Artifact.name.in_(names), Artifact.attempt > job.fresh_after)
        .order_by(Artifact.attempt.desc())
    ).all()


def count_attempts(session: Session, job: Job, outcome: str) -> int:
    """How many have ended so since the job was last begun."""
    ended_so = (JobAttempt.job_id == job.id, JobAttempt.outcome == outcome)
    statement = select(func.count()).where(*ended_so, JobAttempt.attempt > job.fresh_after)
    return session.scalars(statement).one()


def publish_artifact(
    session: Session, job: Job, row: Artifact, keep_older_as: str | None = None
) -> str | None:
    """Adds or replaces the attempt's artifact of this name; the key of the bytes nothing points to any more.

    On a replacement `row.id` becomes the id that was there; with `keep_older_as` the older row is kept under
    that name instead, in the place of the one before it.
    """
    known = _artifact(session, job, row.name)
    if known is None:
        _insert(session, row)
        return None
    if keep_older_as is not None and known.storage_key != row.storage_key:
        oldest = _artifact(session, job, keep_older_as)
        if oldest is not None:
            session.execute(delete(Artifact).where(Artifact.id == oldest.id))
        session.execute(update(Artifact).where(Artifact.id == known.id).values(name=keep_older_as))
        _insert(session, row)
        return None if oldest is None else oldest.storage_key
    replaced_key = known.storage_key
    session.execute(
        update(Artifact)
        .where(Artifact.id == known.id)
        .values(
            storage_key=row.storage_key,
            media_type=row.media_type,
            size_bytes=row.size_bytes,
            sha256=row.sha256,
            step=row.step,
            created_at=db_now(),
        ),
        execution_options={"synchronize_session": False},
    )
    row.id = known.id
    return replaced_key if replaced_key != row.storage_key else None


def _artifact(session: Session, job: Job, name: str) -> Artifact | None:
    ours = (Artifact.job_id == job.id, Artifact.attempt == job.attempt, Artifact.name == name)
    return session.scalars(
        select(Artifact).where(*ours), execution_options={"populate_existing": True}
    ).one_or_none()


def _insert(session: Session, row: Artifact) -> None:
    session.add(row)
    session.flush()


def forget_artifacts(session: Session, job: Job, name: str) -> None:
    """Of every attempt. Their bytes are collected as garbage."""
    session.execute(
        delete(Artifact).where(Artifact.job_id == job.id, Artifact.name == name),
        execution_options={"synchronize_session": False},
    )


def complete_artifacts(session: Session, job: Job) -> None:
    """Marks as final what this attempt stored, and what the attempt did whose weights are the job's result.

    That is the one with the best checkpoint or, where none was measured, the last that stored any weights.
    """
    attempts = {job.attempt}
    if job.best_checkpoint is not None:
        attempts.add(job.best_checkpoint.get("attempt", job.attempt))
    else:
        attempts.update(row.attempt for row in artifacts_to_go_on_from(session, job, WEIGHTS)[:1])
    session.execute(
        update(Artifact)
        .where(Artifact.job_id == job.id, Artifact.attempt.in_(attempts))
        .values(complete=True),
        execution_options={"synchronize_session": False},
    )
