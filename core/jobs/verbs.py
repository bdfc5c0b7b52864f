"""What a job's owner can ask for. Functions take a session and never commit.

Each raises NotFound for a job that is not the tenant's, and InvalidTransition where the verb does not fit the
status. A verb repeated on what it has already brought about changes nothing.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from core.database import db_now
from core.errors import Conflict, InvalidTransition, NotFound, StaleRevision
from core.jobs import repository
from core.jobs.events import NewEvent
from core.jobs.lifecycle import ALLOWED_VERBS, JobStatus, Verb, is_terminal
from core.jobs.quotas import require_room_in_queue
from core.jobs.schemas import JobChange, RetryFrom
from core.tables import Job

PARTICIPLES: dict[Verb, str] = {
    "cancel": "cancelled",
    "pause": "paused",
    "resume": "resumed",
    "retry": "retried",
}
# What an earlier attempt failed of is no reason of what the owner wants.
NO_REASON = {"reason_code": None, "reason_message": None, "not_before": None}
# A job that goes on starts a new stay in the queue, and nothing is wished of it any more.
QUEUED_ANEW = {
    "queued_at": db_now(),
    "cancel_requested_at": None,
    "pause_requested_at": None,
    **NO_REASON,
}


def cancel(session: Session, tenant_id: str, job_id: str) -> Job:
    """Cancels at once what does not run; notes the wish on a running job (still `running`: answer 202)."""
    job = _lock(session, tenant_id, job_id)
    _require(job, "cancel")
    if job.status is JobStatus.CANCELLED:
        return job
    if job.status is JobStatus.RUNNING:
        return job if job.cancel_requested_at is not None else _wish_cancelled(session, job)
    values = {"cancel_requested_at": db_now(), "stop_reason": "cancelled", **NO_REASON}
    return _move(session, job, JobStatus.CANCELLED, NewEvent("job.cancelled"), values)


def pause(session: Session, tenant_id: str, job_id: str) -> Job:
    """Keeps a queued job from being claimed; notes the wish on a running job (still `running`: answer 202).

    A job that is wished cancelled stays so.
    """
    job = _lock(session, tenant_id, job_id)
    _require(job, "pause")
    if job.status is JobStatus.PAUSED:
        return job
    if job.status is JobStatus.RUNNING:
        return job if _is_wished(job) else _wish_paused(session, job)
    values = {"pause_requested_at": db_now(), **NO_REASON}
    return _move(session, job, JobStatus.PAUSED, NewEvent("job.paused"), values)


def resume(session: Session, tenant_id: str, job_id: str, max_queued: int | None = None) -> Job:
    """Queues a paused job; its next attempt goes on from the last stored state. Then nudge its queue.

    Raises QuotaExceeded, as `retry` does.
    """
    job = _lock(session, tenant_id, job_id)
    event = NewEvent("job.queued", {"reason": "resumed"})
    if _was_queued_by(session, job, event):
        return job
    _require(job, "resume")
    require_room_in_queue(session, tenant_id, max_queued)
    return _move(session, job, JobStatus.QUEUED, event, QUEUED_ANEW)


def retry(
    session: Session,
    tenant_id: str,
    job_id: str,
    start: RetryFrom = "beginning",
    max_queued: int | None = None,
) -> Job:
    """Queues a failed or cancelled job with its attempts and running time granted anew.

    From the "beginning" nothing of the earlier attempts is gone on from, from the "checkpoint" their last
    stored state is. Raises Conflict where the dataset was deleted meanwhile. Nudge its queue afterwards.
    """
    job = _lock(session, tenant_id, job_id)
    event = NewEvent("job.queued", {"reason": "retried", "from": start})
    if _was_queued_by(session, job, event):
        return job
    _require(job, "retry")
    require_room_in_queue(session, tenant_id, max_queued)
    if repository.lock_dataset(session, tenant_id, job.dataset_id) is None:
        raise Conflict("The job's dataset was deleted; upload it again and submit a new job.")
    return _move(session, job, JobStatus.QUEUED, event, QUEUED_ANEW | _granted_anew(start))


def _granted_anew(start: RetryFrom) -> dict[str, Any]:
    granted: dict[str, Any] = {
        "failures": 0,
        "preemptions": 0,
        "earlier_seconds": Job.running_seconds,
        "fault": None,
        "stop_reason": None,
        "progress": None,
    }
    if start == "checkpoint":
        return granted
    return granted | {"fresh_after": Job.attempt, "best_checkpoint": None}


def change(session: Session, tenant_id: str, job_id: str, wanted: JobChange) -> Job:
    """Other labels or another priority. Raises StaleRevision where the job is at another revision by now."""
    job = _lock(session, tenant_id, job_id)
    if job.revision != wanted.revision:
        raise StaleRevision(f"The job is at revision {job.revision}; read it again.")
    asked = {"labels": wanted.labels, "priority": wanted.priority}
    news = {name: value for name, value in asked.items() if value is not None and value != getattr(job, name)}
    if not news:
        return job
    return _still_there(repository.change_facts(session, job, NewEvent("job.changed", news), news))


def delete(session: Session, tenant_id: str, job_id: str) -> list[str]:
    """Removes a job that has ended and all that hangs on it; the storage keys of its files.

    The files may be deleted after the commit; what stays of them is collected as garbage.
    """
    job = _lock(session, tenant_id, job_id)
    if not is_terminal(job.status):
        detail = f"A {job.status.value} job cannot be deleted; cancel it first."
        raise InvalidTransition(detail, ALLOWED_VERBS[job.status])
    return repository.remove(session, [job.id])


def _lock(session: Session, tenant_id: str, job_id: str) -> Job:
    job = repository.lock(session, tenant_id, job_id)
    if job is None:
        raise NotFound(f"There is no job {job_id}.")
    return job


def _require(job: Job, verb: Verb) -> None:
    allowed = ALLOWED_VERBS[job.status]
    if verb not in allowed:
        raise InvalidTransition(f"A {job.status.value} job cannot be {PARTICIPLES[verb]}.", allowed)


def _is_wished(job: Job) -> bool:
    return job.cancel_requested_at is not None or job.pause_requested_at is not None


def _was_queued_by(session: Session, job: Job, event: NewEvent) -> bool:
    """Whether this very event brought the job into the queue, where it still is."""
    if job.status is not JobStatus.QUEUED:
        return False
    data = repository.last_queued(session, job.id)
    return all(data.get(name) == value for name, value in event.details.items())


def _wish_cancelled(session: Session, job: Job) -> Job:
    values = {"cancel_requested_at": db_now()}
    return _still_there(repository.change_facts(session, job, NewEvent("job.cancel_requested"), values))


def _wish_paused(session: Session, job: Job) -> Job:
    values = {"pause_requested_at": db_now()}
    return _still_there(repository.change_facts(session, job, NewEvent("job.pause_requested"), values))


def _move(session: Session, job: Job, to: JobStatus, event: NewEvent, values: dict[str, Any]) -> Job:
    return _still_there(repository.transition(session, job.id, to, event, values=values))


def _still_there(job: Job | None) -> Job:
    if job is None:
        raise AssertionError("a locked row changed under our hands")
    return job
