"""A database with as many jobs as wanted: a few made by the service, the rest copied from them by SQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import ColumnElement, Integer, case, cast, func, insert, literal, select, text, update
from sqlalchemy.orm import Session

from core import migrations
from core.access.schemas import Principal
from core.access.scopes import Scope
from core.access.service import authenticate, create_key
from core.database import Database, JsonColumn, connect, db_now, later
from core.datasets import service as datasets
from core.jobs import service
from core.jobs.claim import ClaimedJob
from core.jobs.lifecycle import JobStatus
from core.jobs.schemas import JobCreate
from core.storage import ObjectStorage, StoredObject, open_storage
from core.tables import Job, JobLabel, Worker
from core.workers import service as workers
from trainer.dataset.schema import Column, DatasetMapping, DatasetSchema

# Every job carries the first; one in a thousand the second as well.
COMMON, RARE = ("env", "prod"), ("team", "night")
RARE_EVERY = 1000


@dataclass(frozen=True)
class Populated:
    """A database with a tenant, its key, a dataset, a running job, and `templates` for `add_jobs`."""

    url: str
    db: Database
    storage: ObjectStorage
    key: str
    caller: Principal
    dataset_id: str
    running: ClaimedJob
    templates: dict[JobStatus, str]

    def store_artifact(self, file: Path) -> str:
        """The name under which the running job then lists the file."""
        key = f"tenants/{self.caller.tenant_id}/jobs/{self.running.job_id}/{file.name}"
        stored = self.storage.put_file(key, file)
        with self.db.sessions.begin() as session:
            service.register_artifact(
                session,
                self.running.job_id,
                self.running.token,
                name=file.name,
                key=key,
                size_bytes=stored.size_bytes,
                sha256=stored.sha256,
                media_type="application/octet-stream",
            )
        return file.name


@contextmanager
def open_populated(
    url: str, folder: Path, storage_url: str | None = None, **credentials: str
) -> Iterator[Populated]:
    """A fresh database at `url`, migrated; objects lie in `folder`, as `run_api` has them, or elsewhere."""
    migrations.upgrade(url)
    db = connect(url)
    storage = open_storage(storage_url or (folder / "objects").as_uri(), **credentials)
    with db.sessions.begin() as session:
        key = create_key(session, "load", list(Scope))[1]
    caller = authenticate(db, key)
    with db.sessions.begin() as session:
        workers.announce(session, name="load", queue="cpu", devices=1, threads=2, hardware={})
        # No heartbeat follows: it must live for as long as anything is measured.
        session.execute(update(Worker).values(heartbeat_at=later(db_now(), 24 * 3600)))
        dataset_id = _add_dataset(session, caller.tenant_id)
        finished = _submit(session, caller.tenant_id, dataset_id)
        claimed = _claim(session)
        service.finish(session, finished, claimed.token, "completed", {"val_loss": 1.0})
        _submit(session, caller.tenant_id, dataset_id)
        running = _claim(session)
        # Nor for the job; once it counted as stalled, its answers would have another ETag.
        session.execute(update(Job).values(heartbeat_at=later(db_now(), 24 * 3600)))
        queued = _submit(session, caller.tenant_id, dataset_id)
    templates = {JobStatus.SUCCEEDED: finished, JobStatus.QUEUED: queued}
    yield Populated(url, db, storage, key, caller, dataset_id, running, templates)
    db.dispose()


def _submit(session: Session, tenant_id: str, dataset_id: str) -> str:
    body = {"dataset_id": dataset_id, "name": "load", "labels": dict([COMMON])}
    job_id: str = service.submit(session, tenant_id, JobCreate.model_validate(body)).id
    return job_id


def _claim(session: Session) -> ClaimedJob:
    claimed = service.claim(session, "cpu", "load", lease_seconds=24 * 3600)
    if claimed is None:
        raise LookupError("the job that was just submitted cannot be claimed")
    return claimed


def _add_dataset(session: Session, tenant_id: str) -> str:
    ticket = datasets.begin_upload(session, tenant_id, "csv", 3600)
    datasets.register_upload(
        session,
        ticket,
        StoredObject(1, "0" * 64),
        name="load",
        data_format="csv",
        mapping=DatasetMapping(),
    )
    inspection = datasets.begin_inspection(session, ticket.dataset_id, 60)
    if inspection is None:
        raise LookupError("somebody else inspects the dataset")
    datasets.finish_inspection(session, inspection, _schema())
    return ticket.dataset_id


def _schema() -> DatasetSchema:
    numbers = [
        Column(name=name, type="numeric", missing_count=0, minimum=0, maximum=99, mean=40)
        for name in ("cpu_percent", "memory_percent")
    ]
    return DatasetSchema(
        format="csv",
        time_column="timestamp",
        group_columns=["server"],
        frequency_seconds=300.0,
        columns=[
            Column(name="timestamp", type="time", missing_count=0),
            Column(name="server", type="text", missing_count=0),
            *numbers,
        ],
        row_count=2880,
        series_count=10,
        series_lengths={"min": 288, "median": 288, "max": 288},
        starts_at=datetime(2026, 1, 1, tzinfo=UTC),
        ends_at=datetime(2026, 1, 2, tzinfo=UTC),
    )


def add_jobs(place: Populated, status: JobStatus, first: int, count: int) -> None:
    """Copies of the template, a second apart, each with its labels; `first` numbers them on."""
    with place.db.sessions.begin() as session:
        is_postgres = session.get_bind().dialect.name == "postgresql"
        numbers = _numbers(first, count)
        number = numbers.c.number
        labels = {
            "labels": _labels(number, is_postgres=is_postgres),
            "id": _id(number, is_postgres=is_postgres),
        }
        moved = {
            name: later(getattr(Job, name), number * -1.0)
            for name in ("created_at", "queued_at", "started_at", "finished_at")
        }
        changed: dict[str, Any] = labels | moved
        columns = [column.key for column in Job.__table__.columns]
        rows = (
            select(*(changed.get(name, getattr(Job, name)) for name in columns))
            .select_from(Job)
            .join(numbers, literal(value=True))
            .where(Job.id == place.templates[status])
        )
        session.execute(insert(Job).from_select(columns, rows, include_defaults=False))
        for (key, value), every in ((COMMON, 1), (RARE, RARE_EVERY)):
            tagged = (
                select(Job.tenant_id, literal(key), literal(value), Job.created_at, Job.id)
                .join(numbers, Job.id == _id(number, is_postgres=is_postgres))
                .where(number % every == 0)
            )
            names = ["tenant_id", "key", "value", "created_at", "job_id"]
            session.execute(insert(JobLabel).from_select(names, tagged))
    with place.db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE"))


def _numbers(first: int, count: int) -> Any:
    numbers = select(literal(first).label("number")).cte("numbers", recursive=True)
    return numbers.union_all(select(numbers.c.number + 1).where(numbers.c.number < first + count - 1))


def _id(number: ColumnElement[int], *, is_postgres: bool) -> ColumnElement[str]:
    if is_postgres:
        return func.concat("job_", func.lpad(func.to_hex(cast(number, Integer)), 32, "0"))
    return func.printf("job_%032x", number)


def _labels(number: ColumnElement[int], *, is_postgres: bool) -> ColumnElement[Any]:
    common, both = literal(dict([COMMON]), JsonColumn), literal(dict([COMMON, RARE]), JsonColumn)
    chosen = case((number % RARE_EVERY == 0, both), else_=common)
    return chosen if not is_postgres else cast(chosen, JsonColumn)


def write_random_parquet(path: Path, size_mib: int, seed: int) -> Path:
    """About that many MiB that no compression makes smaller: a fleet of 100 servers at 5 minutes."""
    rows_a_server = size_mib * 1024**2 // (100 * 4 * 8)
    random = np.random.default_rng(seed)
    stamps = np.datetime64("2020-01-01", "s") + np.arange(rows_a_server) * np.timedelta64(300, "s")
    columns: dict[str, Any] = {
        "server": pa.array(np.repeat([f"web-{number:03}" for number in range(100)], rows_a_server)),
        "timestamp": pa.array(np.tile(stamps, 100)),
    }
    for name in ("cpu_percent", "memory_percent", "disk_percent", "net_in"):
        columns[name] = pa.array(random.random(rows_a_server * 100) * 100)
    pq.write_table(pa.table(columns), path, compression="none", use_dictionary=["server"])
    return path
