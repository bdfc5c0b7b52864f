"""Jobs, and what happened to them."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, Text, desc, text
from sqlalchemy.orm import Mapped, mapped_column

from core.database import JsonColumn, db_now
from core.jobs.lifecycle import JobStatus
from core.tables.base import Id, Json, Table, closed


class Job(Table):
    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint("status <> 'running' OR lease_until IS NOT NULL", "running_has_lease"),
        CheckConstraint(
            "(status IN ('succeeded', 'failed', 'cancelled')) = (finished_at IS NOT NULL)", "ended_has_time"
        ),
        CheckConstraint("status <> 'failed' OR reason_code IS NOT NULL", "failed_has_reason"),
        CheckConstraint("max_attempts >= 1", "max_attempts_positive"),
        Index("ix_jobs_page", "tenant_id", "created_at", "id"),
        Index("ix_jobs_status_page", "tenant_id", "status", "created_at", "id"),
        Index("ix_jobs_dataset_id", "dataset_id"),
        Index(
            # In the order in which a tenant is served: a claim reads the first, not all that wait.
            "ix_jobs_queued",
            "tenant_id",
            "queue",
            desc("priority"),
            "queued_at",
            "id",
            postgresql_where=text("status = 'queued'"),
            sqlite_where=text("status = 'queued'"),
        ),
        Index(
            "ix_jobs_running",
            "lease_until",
            postgresql_where=text("status = 'running'"),
            sqlite_where=text("status = 'running'"),
        ),
        Index(
            "ix_jobs_paused",
            "queue",
            postgresql_where=text("status = 'paused'"),
            sqlite_where=text("status = 'paused'"),
        ),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(Id, ForeignKey("tenants.id"))
    dataset_id: Mapped[str] = mapped_column(Id, ForeignKey("datasets.id"))
    name: Mapped[str | None] = mapped_column(String(200))
    labels: Mapped[Json] = mapped_column(default=dict)
    priority: Mapped[int] = mapped_column(default=0)

    spec: Mapped[Json] = mapped_column(doc="TrainingSpec as asked, defaults filled in.")
    resolved_spec: Mapped[Json | None]
    adjustments: Mapped[list[Json]] = mapped_column(JsonColumn, default=list)
    warnings: Mapped[list[Json]] = mapped_column(JsonColumn, default=list)
    seed: Mapped[int]
    plan: Mapped[Json | None] = mapped_column(doc="Windows, steps and parameters the trainer counted.")
    max_runtime_seconds: Mapped[int | None] = mapped_column(doc="Running time over all attempts.")
    max_pending_seconds: Mapped[int | None] = mapped_column(doc="For each stay in the queue.")
    max_attempts: Mapped[int]

    status: Mapped[JobStatus] = mapped_column(closed(JobStatus, "status"))
    phase: Mapped[str | None] = mapped_column(String(20))
    reason_code: Mapped[str | None] = mapped_column(String(40))
    reason_message: Mapped[str | None] = mapped_column(Text)
    fault: Mapped[str | None] = mapped_column(String(20))
    stop_reason: Mapped[str | None] = mapped_column(String(20))
    cancel_requested_at: Mapped[datetime | None]
    pause_requested_at: Mapped[datetime | None]

    queue: Mapped[str] = mapped_column(String(40))
    devices: Mapped[int] = mapped_column(default=1)
    queued_at: Mapped[datetime] = mapped_column(default=db_now())
    not_before: Mapped[datetime | None] = mapped_column(doc="Not claimed earlier; back-off after a crash.")

    token: Mapped[int] = mapped_column(default=0, doc="Raised by each claim; every write of a run names it.")
    attempt: Mapped[int] = mapped_column(default=0)
    failures: Mapped[int] = mapped_column(default=0, doc="Lost or crashed runs, against max_attempts.")
    preemptions: Mapped[int] = mapped_column(default=0, doc="Drained runs; at most 20.")
    revision: Mapped[int] = mapped_column(
        default=1, doc="Counts changes of status, wishes, labels and priority, never progress."
    )
    metric_writes: Mapped[int] = mapped_column(default=0, doc="Of any of its metrics; for their ETag.")
    last_seq: Mapped[int] = mapped_column(default=0, doc="Number of the newest event.")
    worker_name: Mapped[str | None] = mapped_column(String(200))
    lease_until: Mapped[datetime | None]
    heartbeat_at: Mapped[datetime | None]
    claimed_at: Mapped[datetime | None] = mapped_column(doc="Start of the present or last attempt.")
    running_seconds: Mapped[float] = mapped_column(default=0.0, doc="Of attempts that have ended.")
    earlier_seconds: Mapped[float] = mapped_column(
        default=0.0, doc="Of these, before the last retry: not counted against max_runtime_seconds."
    )
    fresh_after: Mapped[int] = mapped_column(
        default=0, doc="Attempts up to this one are not gone on from: the job was retried from the beginning."
    )

    progress: Mapped[Json | None]
    best_checkpoint: Mapped[Json | None]
    summary: Mapped[Json | None]
    created_at: Mapped[datetime] = mapped_column(default=db_now())
    started_at: Mapped[datetime | None] = mapped_column(doc="First claim.")
    finished_at: Mapped[datetime | None]

    request_id: Mapped[str | None] = mapped_column(String(40), doc="Of the POST; in every log line about it.")
    traceparent: Mapped[str | None] = mapped_column(
        String(55), doc="W3C trace context of the POST, if it was traced."
    )


class JobLabel(Table):
    """A job's labels once more, a row each: what a list filtered by label is read from, in its order."""

    __tablename__ = "job_labels"

    tenant_id: Mapped[str] = mapped_column(Id, primary_key=True)
    key: Mapped[str] = mapped_column(String(63), primary_key=True)
    value: Mapped[str] = mapped_column(String(200), primary_key=True)
    created_at: Mapped[datetime] = mapped_column(primary_key=True, doc="The job's.")
    job_id: Mapped[str] = mapped_column(
        Id, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True, index=True
    )


class JobAttempt(Table):
    __tablename__ = "job_attempts"

    job_id: Mapped[str] = mapped_column(Id, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    token: Mapped[int]
    worker_name: Mapped[str] = mapped_column(String(200))
    started_at: Mapped[datetime] = mapped_column(default=db_now())
    ended_at: Mapped[datetime | None]
    outcome: Mapped[str | None] = mapped_column(
        String(40), doc="succeeded, failed, cancelled, or why the job went back into the queue."
    )
    message: Mapped[str | None] = mapped_column(Text)


class JobEvent(Table):
    __tablename__ = "job_events"

    job_id: Mapped[str] = mapped_column(Id, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(Id, unique=True)
    type: Mapped[str] = mapped_column(String(40))
    data: Mapped[Json]
    created_at: Mapped[datetime] = mapped_column(default=db_now())
