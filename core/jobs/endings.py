"""How a run ends and what becomes of the job: every end is one transition guarded by the run's token."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from core.database import clean_text, db_now, later, read_clock
from core.errors import LeaseLost
from core.jobs import repository
from core.jobs.events import NewEvent
from core.jobs.lifecycle import (
    FAULTS,
    MAX_PREEMPTIONS,
    REQUEUE_RULES,
    WEIGHTS,
    FailureReason,
    JobStatus,
    RequeueReason,
    backoff_seconds,
)
from core.tables import Job
from trainer.events import StopReason

MAX_MESSAGE = 4_000


def succeed(session: Session, job: Job, stop_reason: StopReason, summary: dict[str, Any] | None) -> JobStatus:
    """What the attempt stored is complete now."""
    values = {"stop_reason": stop_reason, "summary": summary, "reason_code": None, "reason_message": None}
    event = NewEvent("job.succeeded", {"stop_reason": stop_reason, "summary": summary})
    _end(session, job, JobStatus.SUCCEEDED, event, values)
    repository.complete_artifacts(session, job)
    return JobStatus.SUCCEEDED


def fail(session: Session, job: Job, code: FailureReason, message: str, **counters: int) -> JobStatus:
    """For good. With a cancel wish the job is cancelled instead: a cancelled job never reads as failed."""
    if job.cancel_requested_at is not None:
        return cancel(session, job, **counters)
    text, fault = clean_text(message)[:MAX_MESSAGE], FAULTS[code]
    event = NewEvent("job.failed", {"code": code.value, "message": text, "fault": fault})
    values = {"reason_code": code.value, "reason_message": text, "fault": fault, **counters}
    return _end(session, job, JobStatus.FAILED, event, values)


def cancel(session: Session, job: Job, **counters: int) -> JobStatus:
    """What was stored so far stays."""
    values = {"stop_reason": "cancelled", "reason_code": None, "reason_message": None, **counters}
    return _end(session, job, JobStatus.CANCELLED, NewEvent("job.cancelled"), values)


def pause(session: Session, job: Job, **values: Any) -> JobStatus:
    """Until it is resumed, from the last stored state. With a cancel wish the job is cancelled instead."""
    if job.cancel_requested_at is not None:
        return cancel(session, job)
    values = {"reason_code": None, "reason_message": None, **values}
    return _end(session, job, JobStatus.PAUSED, NewEvent("job.paused"), values)


def try_again(session: Session, job: Job, reason: RequeueReason, message: str) -> JobStatus:
    """Queues the job once more, unless a wish, its attempts or its running time say otherwise."""
    rule = REQUEUE_RULES[reason]
    if rule.counts_as_failure:
        counters, used_up = {"failures": job.failures + 1}, job.failures + 1 >= job.max_attempts
    else:
        counters, used_up = {"preemptions": job.preemptions + 1}, job.preemptions + 1 > MAX_PREEMPTIONS
    given = {"reason_code": reason.value, "reason_message": clean_text(message)[:MAX_MESSAGE], **counters}
    if job.cancel_requested_at is not None:
        return cancel(session, job, **counters)
    if job.pause_requested_at is not None:
        return pause(session, job, **given)
    if used_up:
        return fail(session, job, rule.gives_up_as, f"{message} {rule.cure}".rstrip(), **counters)
    if _runtime_is_used_up(session, job):
        return _end_at_time_limit(session, job)
    wait = backoff_seconds(job.failures + 1) if rule.waits else 0.0
    values = {
        "queued_at": db_now(),
        "not_before": later(db_now(), wait) if wait else None,
        "progress": None,
        **given,
    }
    event = NewEvent("job.queued", {"reason": reason.value, "message": message})
    return _end(session, job, JobStatus.QUEUED, event, values, outcome=reason.value)


def _runtime_is_used_up(session: Session, job: Job) -> bool:
    if job.max_runtime_seconds is None or job.claimed_at is None:
        return False
    before = job.running_seconds - job.earlier_seconds
    return before + (read_clock(session) - job.claimed_at).total_seconds() >= job.max_runtime_seconds


def _end_at_time_limit(session: Session, job: Job) -> JobStatus:
    if repository.artifacts_to_go_on_from(session, job, WEIGHTS):
        return succeed(session, job, "time_limit", None)
    message = f"The job ran for max_runtime_seconds ({job.max_runtime_seconds}) without a usable checkpoint."
    return fail(session, job, FailureReason.TIMED_OUT, message)


def _end(
    session: Session,
    job: Job,
    to: JobStatus,
    event: NewEvent,
    values: dict[str, Any],
    outcome: str | None = None,
) -> JobStatus:
    ended = repository.transition(
        session, job.id, to, event, token=job.token, values=values, outcome=outcome or to.value
    )
    if ended is None:
        raise LeaseLost("The job is not this run's any more.")
    return to
