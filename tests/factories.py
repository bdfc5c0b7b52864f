"""Rows with defaults: a test states only what it is about."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import update
from sqlalchemy.orm import Session

from core.access.repository import find_or_add_tenant
from core.database import db_now, later
from core.datasets.lifecycle import DatasetStatus
from core.ids import new_id
from core.jobs import service, verbs
from core.jobs.claim import ClaimedJob
from core.jobs.lifecycle import FailureReason, JobStatus
from core.jobs.schemas import JobCreate
from core.storage import dataset_key
from core.tables import Dataset, Job, Tenant
from trainer.dataset.schema import Column, DatasetSchema

WORKER = "worker-1"


def make_tenant(session: Session, name: str = "acme") -> Tenant:
    """The tenant of this name, made if it is not there."""
    return find_or_add_tenant(session, name)


def make_schema(**changes: Any) -> DatasetSchema:
    """Ten servers, a day at five minutes, three numeric columns and a text."""
    columns = [
        Column(name="timestamp", type="time", missing_count=0),
        Column(name="server", type="text", missing_count=0),
        Column(name="region", type="text", missing_count=0),
        *(
            Column(name=name, type="numeric", unit="%", missing_count=0, minimum=0, maximum=99, mean=40)
            for name in ("cpu_percent", "memory_percent", "net_in")
        ),
    ]
    whole: dict[str, Any] = {
        "format": "csv",
        "time_column": "timestamp",
        "group_columns": ["server"],
        "frequency_seconds": 300.0,
        "columns": columns,
        "row_count": 2880,
        "series_count": 10,
        "series_lengths": {"min": 288, "median": 288, "max": 288},
        "starts_at": datetime(2026, 1, 1, tzinfo=UTC),
        "ends_at": datetime(2026, 1, 2, tzinfo=UTC),
    }
    return DatasetSchema.model_validate(whole | changes)


def make_dataset(
    session: Session,
    tenant: Tenant | None = None,
    status: DatasetStatus = DatasetStatus.READY,
    schema: DatasetSchema | None = None,
) -> Dataset:
    """A dataset of its own content; ready with `make_schema()` unless told otherwise."""
    owner = tenant or make_tenant(session)
    dataset_id = new_id("ds")
    shown = (schema or make_schema()).model_dump(mode="json") if status is DatasetStatus.READY else None
    problem = {"code": "empty_file", "detail": "The file is empty."}
    dataset = Dataset(
        id=dataset_id,
        tenant_id=owner.id,
        name="fleet",
        status=status,
        format="csv",
        mapping={},
        reading_sha256=hashlib.sha256(b"").hexdigest(),
        sha256=hashlib.sha256(uuid4().bytes).hexdigest(),
        size_bytes=1000,
        storage_key=dataset_key(owner.id, dataset_id, "csv"),
        schema=shown,
        problem=problem if status is DatasetStatus.REJECTED else None,
        inspection_lease_until=later(db_now(), 30) if status is DatasetStatus.INSPECTING else None,
    )
    session.add(dataset)
    session.flush()
    return dataset


def make_job(
    session: Session,
    status: JobStatus = JobStatus.QUEUED,
    tenant: Tenant | None = None,
    dataset: Dataset | None = None,
    **body: Any,
) -> Job:
    """A submitted job, brought to the status by the ways a job takes. `body` are fields of JobCreate."""
    owner = tenant or make_tenant(session)
    data = dataset or make_dataset(session, owner)
    submitted = service.submit(session, owner.id, JobCreate.model_validate({"dataset_id": data.id} | body))
    job = session.get_one(Job, submitted.id)
    if status is JobStatus.CANCELLED:
        verbs.cancel(session, owner.id, job.id)
    elif status is JobStatus.PAUSED:
        verbs.pause(session, owner.id, job.id)
    elif status is not JobStatus.QUEUED:
        _run(session, job, status)
    session.refresh(job)
    return job


def _run(session: Session, job: Job, status: JobStatus) -> None:
    claimed = claim_job(session, job)
    if status is JobStatus.SUCCEEDED:
        service.finish(session, job.id, claimed.token, "completed", {"val_loss": 1.0})
    elif status is JobStatus.FAILED:
        service.fail(session, job.id, claimed.token, FailureReason.DIVERGED, "The loss is not finite.")


def claim_job(session: Session, job: Job, worker_name: str = WORKER) -> ClaimedJob:
    """Claims this very job, whatever else waits."""
    queue = job.queue
    session.execute(update(Job).where(Job.id == job.id).values(queue="aside"))
    claimed = service.claim(session, "aside", worker_name, lease_seconds=30, devices=job.devices)
    assert claimed is not None
    session.execute(update(Job).where(Job.id == job.id).values(queue=queue))
    return claimed


def expire_lease(session: Session, job_id: str) -> None:
    """As if the worker had been silent for longer than its lease."""
    session.execute(update(Job).where(Job.id == job_id).values(lease_until=later(db_now(), -1)))
