"""Every row of the service. Times are aware UTC; JSON columns hold what the pydantic schemas dump."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Enum,
    ForeignKey,
    Index,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from core.database import JsonColumn, UtcDateTime, db_now
from core.datasets.lifecycle import MAX_INSPECTIONS, DatasetStatus
from core.ids import ID_LENGTH
from core.jobs.lifecycle import JobStatus

Json = dict[str, Any]
Id = String(ID_LENGTH)
SHA256 = String(64)


class Table(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: UtcDateTime(), Json: JsonColumn, int: BigInteger()}  # noqa: RUF012


def _closed(values: type[StrEnum], name: str) -> Enum:
    """A text column that a check constraint holds to the enum's values."""
    return Enum(
        values,
        name=name,
        native_enum=False,
        create_constraint=True,
        length=20,
        values_callable=lambda kind: [member.value for member in kind],
    )


class Tenant(Table):
    __tablename__ = "tenants"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    last_served: Mapped[int] = mapped_column(
        default=0,
        doc="Number of its last claim among all; fair share serves the longest unserved tenant first.",
    )
    created_at: Mapped[datetime] = mapped_column(default=db_now())


class ApiKey(Table):
    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(Id, ForeignKey("tenants.id"), index=True)
    public_id: Mapped[str] = mapped_column(
        String(8), unique=True, doc="The part of the key that finds its row; not secret."
    )
    secret_sha256: Mapped[str] = mapped_column(SHA256)
    scopes: Mapped[list[str]] = mapped_column(JsonColumn)
    created_at: Mapped[datetime] = mapped_column(default=db_now())
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class Upload(Table):
    """A dataset whose bytes are on their way; gone once it is registered or abandoned."""

    __tablename__ = "uploads"

    dataset_id: Mapped[str] = mapped_column(Id, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(Id, ForeignKey("tenants.id"))
    storage_key: Mapped[str] = mapped_column(Text)
    expires_at: Mapped[datetime] = mapped_column(index=True)


class Dataset(Table):
    __tablename__ = "datasets"
    __table_args__ = (
        Index(
            "uq_datasets_content",
            "tenant_id",
            "sha256",
            "reading_sha256",
            unique=True,
            postgresql_where=text("status <> 'rejected' AND deleted_at IS NULL"),
            sqlite_where=text("status <> 'rejected' AND deleted_at IS NULL"),
        ),
        Index("ix_datasets_page", "tenant_id", "created_at", "id"),
        Index(
            "ix_datasets_inspecting",
            "inspection_lease_until",
            postgresql_where=text("status = 'inspecting'"),
            sqlite_where=text("status = 'inspecting'"),
        ),
        Index(
            "ix_datasets_unpurged",
            "deleted_at",
            postgresql_where=text("(deleted_at IS NOT NULL OR status = 'rejected') AND purged_at IS NULL"),
            sqlite_where=text("(deleted_at IS NOT NULL OR status = 'rejected') AND purged_at IS NULL"),
        ),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(Id, ForeignKey("tenants.id"))
    name: Mapped[str | None] = mapped_column(String(200))
    status: Mapped[DatasetStatus] = mapped_column(_closed(DatasetStatus, "status"))
    format: Mapped[str] = mapped_column(String(20))
    mapping: Mapped[Json]
    reading_sha256: Mapped[str] = mapped_column(
        SHA256, doc="Of format and mapping: the same bytes read otherwise are another dataset."
    )
    sha256: Mapped[str] = mapped_column(SHA256)
    size_bytes: Mapped[int]
    storage_key: Mapped[str] = mapped_column(Text)
    schema: Mapped[Json | None]
    problem: Mapped[Json | None]
    inspection_attempt: Mapped[int] = mapped_column(
        default=0, doc="Raised by each start of an inspection; the older one's result is thrown away."
    )
    inspections_left: Mapped[int] = mapped_column(
        default=MAX_INSPECTIONS, doc="Attempts that may still be lost before it is rejected."
    )
    inspection_lease_until: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=db_now())
    inspected_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None] = mapped_column(
        doc="Rows stay for the jobs that name them; reads leave them out."
    )
    purged_at: Mapped[datetime | None] = mapped_column(
        doc="When the bytes of a deleted or rejected one went."
    )


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
            "ix_jobs_queued",
            "queue",
            "priority",
            "queued_at",
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

    status: Mapped[JobStatus] = mapped_column(_closed(JobStatus, "status"))
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


class JobMetric(Table):
    __tablename__ = "job_metrics"

    job_id: Mapped[str] = mapped_column(Id, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(300), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    epoch: Mapped[int]
    value: Mapped[float | None] = mapped_column(doc="NULL stands for a value that was not finite.")
    created_at: Mapped[datetime] = mapped_column(default=db_now())


class JobLogChunk(Table):
    __tablename__ = "job_log_chunks"

    job_id: Mapped[str] = mapped_column(Id, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True)
    size_bytes: Mapped[int]
    text: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(default=db_now())


class Artifact(Table):
    __tablename__ = "artifacts"
    __table_args__ = (UniqueConstraint("job_id", "name", "attempt"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    job_id: Mapped[str] = mapped_column(Id, ForeignKey("jobs.id", ondelete="CASCADE"))
    attempt: Mapped[int]
    name: Mapped[str] = mapped_column(String(200))
    storage_key: Mapped[str] = mapped_column(Text)
    media_type: Mapped[str] = mapped_column(String(200))
    size_bytes: Mapped[int]
    sha256: Mapped[str] = mapped_column(SHA256)
    step: Mapped[int | None] = mapped_column(doc="Optimizer step of a checkpoint.")
    complete: Mapped[bool] = mapped_column(default=False, doc="True once the job has succeeded.")
    created_at: Mapped[datetime] = mapped_column(default=db_now())


class IdempotencyKey(Table):
    __tablename__ = "idempotency_keys"

    tenant_id: Mapped[str] = mapped_column(Id, ForeignKey("tenants.id"), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(SHA256, doc="Of method, path and body.")
    answer: Mapped[Json | None] = mapped_column(doc="The first answer, for the API to send again.")
    expires_at: Mapped[datetime] = mapped_column(index=True)


class Worker(Table):
    __tablename__ = "workers"

    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    queue: Mapped[str] = mapped_column(String(40))
    devices: Mapped[int]
    threads: Mapped[int]
    hardware: Mapped[Json]
    readings: Mapped[Json | None] = mapped_column(doc="How busy its GPUs were at the last look.")
    started_at: Mapped[datetime] = mapped_column(default=db_now())
    heartbeat_at: Mapped[datetime] = mapped_column(default=db_now())


class TallyEntry(Table):
    """Something that happened and is not in the totals yet."""

    __tablename__ = "tally_entries"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    outcome: Mapped[str] = mapped_column(String(40))
    reason: Mapped[str] = mapped_column(String(40))
    bucket: Mapped[int] = mapped_column(doc="Upper bound of its duration in seconds; 0 stands for none.")
    seconds: Mapped[float]


class Tally(Table):
    """How often something happened; kept when the jobs it happened to are deleted."""

    __tablename__ = "tallies"

    kind: Mapped[str] = mapped_column(String(20), primary_key=True)
    outcome: Mapped[str] = mapped_column(String(40), primary_key=True)
    reason: Mapped[str] = mapped_column(String(40), primary_key=True)
    bucket: Mapped[int] = mapped_column(
        primary_key=True, autoincrement=False, doc="Upper bound of the durations in seconds; 0 for none."
    )
    count: Mapped[int]
    seconds: Mapped[float] = mapped_column(doc="Sum of the durations.")
