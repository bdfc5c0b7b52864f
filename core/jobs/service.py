"""What is done with a job: submitted, run by the worker that holds its token, minded by the scheduler.

What else its owner may ask for is in `verbs`. Functions take a session and never commit. Those of a worker
are guarded by (job_id, token) and raise LeaseLost where no running row matches: then somebody else owns the
job, and the worker stops its child and writes nothing more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import structlog
from pydantic import ValidationError
from sqlalchemy import Row
from sqlalchemy.orm import Session

from core.database import db_now, later, read_clock
from core.datasets.lifecycle import DatasetStatus
from core.errors import (
    DatasetNotReady,
    FieldProblem,
    InvalidSpec,
    LeaseLost,
)
from core.ids import new_id
from core.jobs import claiming, endings, recording, repository
from core.jobs.claim import ClaimedDataset, ClaimedJob, RegisteredArtifact, StoredCheckpoint, Wishes
from core.jobs.events import NewEvent
from core.jobs.lifecycle import (
    BEST_CHECKPOINT,
    FAULTS,
    WEIGHTS,
    FailureReason,
    JobStatus,
    RequeueReason,
)
from core.jobs.quotas import require_room_in_queue
from core.jobs.resolution import resolve
from core.jobs.schemas import Checkpoint, JobCreate, MetricReport, Progress, ResolvedTraining
from core.monitoring.origin import Origin, current_origin
from core.stored import read_stored
from core.tables import Artifact, Dataset, Job
from core.workers import service as workers
from core.workers.capacity import plan_nudges
from trainer.dataset.schema import DatasetMapping, DatasetProblem, DatasetSchema
from trainer.events import ProgressReported, Resolved, StopReason
from trainer.spec import TrainingSpec

RESUME_STATE = "resume.safetensors"
# Of each attempt the last but one is kept, for the case that the last turns out to be damaged.
OLDER_STATE = "resume-older.safetensors"
MAX_WARNINGS = 100
_log = structlog.get_logger(__name__)
LOST_MESSAGE = "The worker stopped renewing its lease."


def submit(session: Session, tenant_id: str, body: JobCreate, max_queued: int | None = None) -> Row[Any]:
    """A queued job, its row, and its first event. After the commit the caller nudges `job.queue`.

    Raises InvalidSpec (also for a dataset that is not there or was rejected, pointer /dataset_id),
    DatasetNotReady while it is being inspected, and QuotaExceeded where `max_queued` of the tenant wait.
    """
    resolved = resolve_on(repository.lock_dataset(session, tenant_id, body.dataset_id), body)
    require_room_in_queue(session, tenant_id, max_queued)
    origin = current_origin()
    values = {
        "id": new_id("job"),
        "tenant_id": tenant_id,
        "dataset_id": body.dataset_id,
        "name": body.name,
        "labels": body.labels,
        "priority": body.priority,
        "spec": body.training.model_dump(mode="json"),
        "resolved_spec": resolved.resolved_spec.model_dump(mode="json"),
        "adjustments": [adjustment.model_dump(mode="json") for adjustment in resolved.adjustments],
        "warnings": [warning.model_dump(mode="json") for warning in resolved.warnings],
        "seed": body.training.random_seed,
        "max_runtime_seconds": body.limits.max_runtime_seconds,
        "max_pending_seconds": body.limits.max_pending_seconds,
        "max_attempts": body.limits.max_attempts,
        "status": JobStatus.QUEUED,
        "queue": queue_for(session, body.training),
        "devices": body.training.devices,
        "request_id": origin.request_id,
        "traceparent": origin.traceparent,
    }
    return repository.add(session, values, NewEvent("job.queued"))


def resolve_on(dataset: Dataset | None, body: JobCreate) -> ResolvedTraining:
    """What the job would train on this dataset. Raises InvalidSpec, DatasetNotReady."""
    if dataset is None:
        raise _unusable_dataset("unknown_dataset", f"There is no dataset {body.dataset_id}.")
    if dataset.problem is not None:
        problem = read_stored(DatasetProblem, dataset.problem)
        raise _unusable_dataset("rejected_dataset", f"The dataset was rejected: {problem.detail}")
    if dataset.status is not DatasetStatus.READY:
        detail = "The dataset is still being inspected; submit again once its status is ready."
        place = FieldProblem(code="dataset_not_ready", detail=detail, pointer="/dataset_id")
        raise DatasetNotReady(detail, [place])
    return resolve(body.training, read_stored(DatasetSchema, dataset.schema))


def _unusable_dataset(code: str, detail: str) -> InvalidSpec:
    return InvalidSpec(detail, [FieldProblem(code=code, detail=detail, pointer="/dataset_id")])


def queue_for(session: Session, spec: TrainingSpec) -> str:
    """Where a job of this spec waits, as the live workers are now."""
    if spec.accelerator == "auto":
        return "gpu" if workers.any_live(session, "gpu") else "cpu"
    return "gpu" if spec.accelerator == "cuda" else "cpu"


def claim(
    session: Session,
    queue: str,
    worker_name: str,
    lease_seconds: float,
    devices: int = 1,
    max_running: int | None = None,
    passed_over: set[str] | None = None,
) -> ClaimedJob | None:
    """The best waiting job, now running under a new token; None when nothing can be claimed.

    `max_running`: of one tenant, at the same time. A job that a later release has written otherwise than this
    one can read stays for newer workers: it joins `passed_over`, where it is not looked at again.
    """
    event = NewEvent("job.running", {"worker": worker_name})
    unreadable = set() if passed_over is None else passed_over
    while True:
        with session.begin_nested() as savepoint:
            job = claiming.claim(
                session, queue, devices, worker_name, lease_seconds, event, max_running, unreadable
            )
            if job is None:
                return None
            try:
                return _claimed(session, job)
            except ValidationError as error:
                unreadable.add(job.id)
                _log.warning("job_left_for_newer_workers", job_id=job.id, problem=_first_problem(error))
                savepoint.rollback()


def _first_problem(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return f"{error.title}, {'.'.join(map(str, first['loc']))}: {first['msg']}"


def _claimed(session: Session, job: Job) -> ClaimedJob:
    """Raises ValidationError where this release cannot read what is stored of it."""
    dataset = session.get_one(Dataset, job.dataset_id)
    limit = job.max_runtime_seconds
    return ClaimedJob(
        job_id=job.id,
        tenant_id=job.tenant_id,
        token=job.token,
        attempt=job.attempt,
        spec=TrainingSpec.model_validate(job.spec),
        resolved_spec=job.resolved_spec,
        dataset=_claimed_dataset(dataset),
        seed=job.seed,
        max_runtime_seconds=limit,
        remaining_runtime_seconds=None if limit is None else max(0.0, limit - _counted_seconds(job)),
        checkpoints=_resume_states(session, job),
        has_weights=bool(repository.artifacts_to_go_on_from(session, job, WEIGHTS)),
        memory_kills=repository.count_attempts(session, job, RequeueReason.OUT_OF_MEMORY),
        origin=Origin(job.request_id, job.traceparent),
    )


def _counted_seconds(job: Job) -> float:
    return job.running_seconds - job.earlier_seconds


def _claimed_dataset(dataset: Dataset) -> ClaimedDataset:
    schema = DatasetSchema.model_validate(dataset.schema)
    return ClaimedDataset(
        dataset_id=dataset.id,
        storage_key=dataset.storage_key,
        format=schema.format,
        mapping=DatasetMapping.model_validate(dataset.mapping),
        schema=schema,
        sha256=dataset.sha256,
        size_bytes=dataset.size_bytes,
    )


def _resume_states(session: Session, job: Job) -> tuple[StoredCheckpoint, ...]:
    rows = repository.artifacts_to_go_on_from(session, job, [RESUME_STATE, OLDER_STATE])
    return tuple(
        StoredCheckpoint(row.storage_key, row.step, row.sha256, row.attempt)
        for row in sorted(rows, key=lambda row: (row.attempt, row.name == RESUME_STATE), reverse=True)
    )


def renew_lease(
    session: Session, job_id: str, token: int, lease_seconds: float, progress: ProgressReported | None = None
) -> Wishes:
    """Keeps the job, notes progress, and brings back the owner's wishes."""
    values: dict[str, Any] = {"lease_until": later(db_now(), lease_seconds), "heartbeat_at": db_now()}
    if progress is not None:
        values["progress"] = _progress(session, progress).model_dump(mode="json")
    job = _owned(repository.note(session, job_id, token, None, values))
    return Wishes(cancel=job.cancel_requested_at is not None, pause=job.pause_requested_at is not None)


def _progress(session: Session, reported: ProgressReported) -> Progress:
    now = read_clock(session)
    eta = reported.eta_seconds
    return Progress(
        **reported.model_dump(exclude={"type", "eta_seconds"}),
        eta_at=None if eta is None or not math.isfinite(eta) else now + timedelta(seconds=eta),
        updated_at=now,
    )


def _owned(job: Job | None) -> Job:
    if job is None:
        raise LeaseLost("The job is not this run's any more.")
    return job


def record_phase(session: Session, job_id: str, token: int, phase: str) -> None:
    """Notes what the run is doing."""
    event = NewEvent("job.phase", {"phase": phase})
    _owned(repository.note(session, job_id, token, event, {"phase": phase}))


def record_resolved(session: Session, job_id: str, token: int, resolved: Resolved) -> None:
    """Stores what is really trained from now on; its adjustments are all there are."""
    plan = resolved.model_dump(mode="json", include={"windows", "total_steps", "parameters"})
    values = {
        "resolved_spec": resolved.resolved_spec,
        "adjustments": [adjustment.model_dump(mode="json") for adjustment in resolved.adjustments],
        "plan": plan,
    }
    event = NewEvent("job.resolved", {**plan, "adjustments": len(resolved.adjustments)})
    _owned(repository.note(session, job_id, token, event, values))


def record_warning(session: Session, job_id: str, token: int, code: str, message: str) -> None:
    """Notes something the owner should know; the same thing once."""
    job = _owned(repository.lock_running(session, job_id, token))
    warning = {"code": code, "message": message}
    if warning in job.warnings or len(job.warnings) >= MAX_WARNINGS:
        return
    event = NewEvent("job.warning", warning)
    _owned(repository.note(session, job_id, token, event, {"warnings": [*job.warnings, warning]}))


def record_metrics(session: Session, job_id: str, token: int, reports: Sequence[MetricReport]) -> None:
    """Idempotent: the same name and step of an attempt is overwritten."""
    recording.write_metrics(session, _owned(repository.lock_running(session, job_id, token)), reports)


def record_log_chunk(session: Session, job_id: str, token: int, text: str) -> None:
    """Keeps the first and the newest part of an attempt's log; what falls between is dropped."""
    recording.write_log_chunk(session, _owned(repository.lock_running(session, job_id, token)), text)


def register_artifact(
    session: Session,
    job_id: str,
    token: int,
    *,
    name: str,
    key: str,
    size_bytes: int,
    sha256: str,
    media_type: str,
) -> RegisteredArtifact:
    """Publishes a stored file under its name; call it only after the bytes are there."""
    facts = {"name": name, "size_bytes": size_bytes, "sha256": sha256}
    job = _owned(repository.note(session, job_id, token, NewEvent("job.artifact", facts)))
    row = _artifact(job, **facts, storage_key=key, media_type=media_type)
    return RegisteredArtifact(replaced_key=repository.publish_artifact(session, job, row), artifact_id=row.id)


def register_checkpoint(
    session: Session,
    job_id: str,
    token: int,
    *,
    name: str,
    key: str,
    size_bytes: int,
    sha256: str,
    step: int,
    epoch: int,
    val_loss: float | None,
) -> RegisteredArtifact:
    """`register_artifact` for weights or a resume state; model.ckpt is shown as `best_checkpoint`."""
    facts = {"name": name, "size_bytes": size_bytes, "sha256": sha256, "step": step}
    loss = val_loss if val_loss is not None and math.isfinite(val_loss) else None
    event = NewEvent("job.checkpoint", {**facts, "epoch": epoch, "val_loss": loss})
    job = _owned(repository.note(session, job_id, token, event))
    if name == BEST_CHECKPOINT:
        best = Checkpoint(
            **facts, epoch=epoch, val_loss=loss, attempt=job.attempt, created_at=read_clock(session)
        )
        values = {"best_checkpoint": best.model_dump(mode="json")}
        _owned(repository.note(session, job_id, token, None, values))
    row = _artifact(job, **facts, storage_key=key, media_type="application/octet-stream")
    keep_older_as = OLDER_STATE if name == RESUME_STATE else None
    replaced_key = repository.publish_artifact(session, job, row, keep_older_as)
    return RegisteredArtifact(replaced_key=replaced_key, artifact_id=row.id)


def _artifact(job: Job, **facts: Any) -> Artifact:
    return Artifact(id=new_id("art"), job_id=job.id, attempt=job.attempt, complete=False, **facts)


def finish(
    session: Session, job_id: str, token: int, stop_reason: StopReason, summary: dict[str, Any]
) -> None:
    """succeeded, and the attempt's artifacts complete; a wish that came too late changes nothing.

    ValueError for "cancelled": a run that stopped for a wish ends in `cancelled`.
    """
    if stop_reason == "cancelled":
        raise ValueError("a cancelled run does not finish")
    job = _owned(repository.lock_running(session, job_id, token))
    endings.succeed(session, job, stop_reason, summary)
    repository.forget_artifacts(session, job, OLDER_STATE)


def fail(session: Session, job_id: str, token: int, code: FailureReason, message: str) -> JobStatus:
    """Failed for good, or cancelled where that was wished. For what is worth another try call `requeue`."""
    return endings.fail(session, _owned(repository.lock_running(session, job_id, token)), code, message)


def cancelled(session: Session, job_id: str, token: int) -> None:
    """The run was stopped, or killed, because its owner wished it."""
    endings.cancel(session, _owned(repository.lock_running(session, job_id, token)))


def paused(session: Session, job_id: str, token: int) -> JobStatus:
    """The same for a job that shall go on later; cancelled where that was wished meanwhile."""
    return endings.pause(session, _owned(repository.lock_running(session, job_id, token)))


def requeue(session: Session, job_id: str, token: int, reason: RequeueReason, message: str = "") -> JobStatus:
    """Ends a run that neither finished nor failed; the status it led to.

    cancelled with a cancel wish, paused with a pause wish; failed when the attempts are used up; at the end
    of the running time succeeded with `time_limit` if there is a checkpoint, else failed `timed_out`;
    otherwise queued, after a crash with a back-off.
    """
    job = _owned(repository.lock_running(session, job_id, token))
    return endings.try_again(session, job, reason, message)


def requeue_lost(session: Session, limit: int = 100) -> list[tuple[str, JobStatus]]:
    """Requeues jobs whose lease has run out, as `requeue` with worker_lost does."""
    return [
        (job.id, endings.try_again(session, job, RequeueReason.WORKER_LOST, LOST_MESSAGE))
        for job in repository.lock_expired(session, limit)
    ]


def fail_overdue(session: Session, limit: int = 100) -> list[str]:
    """Fails jobs that have waited longer than max_pending_seconds."""
    code = FailureReason.PENDING_TIMEOUT
    failed = []
    for job in repository.lock_overdue(session, limit):
        message = f"No worker took the job within max_pending_seconds ({job.max_pending_seconds})."
        values = {"reason_code": code.value, "reason_message": message, "fault": FAULTS[code]}
        event = NewEvent("job.failed", {"code": code.value, "message": message, "fault": FAULTS[code]})
        if repository.transition(session, job.id, JobStatus.FAILED, event, values=values) is not None:
            failed.append(job.id)
    return failed


def nudges_needed(session: Session) -> dict[str, int]:
    """How many messages each queue needs for the rows that could be claimed now, idle workers given."""
    return plan_nudges(claiming.count_claimable(session), workers.idle(session))
