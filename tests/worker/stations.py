"""A place to work: a migrated SQLite database, a folder of objects, and one dataset."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

from sqlalchemy import select, update

from core import migrations
from core.access import service as access
from core.access.scopes import Scope
from core.database import Database, connect
from core.datasets import service as datasets
from core.jobs import reading, verbs
from core.jobs import service as jobs
from core.jobs.schemas import ArtifactRead, JobCreate, JobLimits, JobRead
from core.settings import Settings
from core.storage import ObjectStorage, open_storage
from core.tables import Job, Tenant
from tests.processes import Watch, eventually
from trainer.dataset.schema import Column, DatasetMapping, DatasetSchema
from trainer.spec import TrainingSpec
from worker.reins import Drain
from worker.run_job import Bench, run_waiting_jobs
from worker.workspace import workspace

SOON = 10.0
DATA = b"timestamp,cpu_percent\n2026-01-01T00:00:00Z,1.0\n"
SCHEMA = DatasetSchema(
    format="csv",
    time_column="timestamp",
    group_columns=[],
    frequency_seconds=300.0,
    columns=[
        Column(name="timestamp", type="time", missing_count=0),
        Column(name="cpu_percent", type="numeric", missing_count=0, minimum=0.0, maximum=9.0, mean=5.0),
    ],
    row_count=5000,
    series_count=1,
    series_lengths={"min": 5000, "median": 5000, "max": 5000},
    starts_at=datetime(2026, 1, 1, tzinfo=UTC),
    ends_at=datetime(2026, 1, 18, tzinfo=UTC),
)


@dataclass(frozen=True)
class Station:
    settings: Settings
    db: Database
    storage: ObjectStorage
    tenant_id: str
    dataset_id: str

    def submit(
        self,
        *,
        training: TrainingSpec | None = None,
        on_out_of_memory: Literal["adapt", "fail"] = "fail",
        **limits: Any,
    ) -> str:
        """A queued job; its id."""
        spec = training or TrainingSpec(epochs=1, on_out_of_memory=on_out_of_memory)
        body = JobCreate(dataset_id=self.dataset_id, training=spec, limits=JobLimits(**limits))
        with self.db.sessions.begin() as session:
            job_id: str = jobs.submit(session, self.tenant_id, body).id
        return job_id

    def cancel(self, job_id: str) -> None:
        with self.db.sessions.begin() as session:
            verbs.cancel(session, self.tenant_id, job_id)

    def pause(self, job_id: str) -> None:
        with self.db.sessions.begin() as session:
            verbs.pause(session, self.tenant_id, job_id)

    def resume(self, job_id: str) -> None:
        with self.db.sessions.begin() as session:
            verbs.resume(session, self.tenant_id, job_id)

    def let_queued_jobs_start(self) -> None:
        """As if the back-off after a failure were over."""
        with self.db.sessions.begin() as session:
            session.execute(update(Job).values(not_before=None))

    def job(self, job_id: str) -> JobRead:
        with self.db.readers.begin() as session:
            return reading.get_job(session, self.tenant_id, job_id)

    def artifacts(self, job_id: str) -> dict[str, ArtifactRead]:
        with self.db.readers.begin() as session:
            return {
                artifact.name: artifact
                for artifact in reading.list_artifacts(session, self.tenant_id, job_id)
            }

    def artifact_text(self, job_id: str, name: str) -> str:
        with self.db.readers.begin() as session:
            row = reading.get_artifact(session, self.tenant_id, job_id, name)
        return b"".join(self.storage.read_range(row.storage_key, 0, row.size_bytes)).decode()

    def metrics(self, job_id: str) -> dict[str, list[tuple[int, float | None]]]:
        with self.db.readers.begin() as session:
            series = reading.read_metrics(session, self.tenant_id, job_id)
        return {one.name: [(point.step, point.value) for point in one.points] for one in series}

    def log(self, job_id: str) -> str:
        """What its trainers said, without the heading of each attempt."""
        return re.sub(r"^\[job_[^\n]*\]\n", "", self.whole_log(job_id), flags=re.MULTILINE)

    def whole_log(self, job_id: str) -> str:
        with self.db.readers.begin() as session:
            page = reading.list_log_chunks(session, self.tenant_id, job_id)
        return "".join(chunk.text for chunk in page.items)

    def event_types(self, job_id: str) -> list[str]:
        with self.db.readers.begin() as session:
            return [event.type for event in reading.list_events(session, self.tenant_id, job_id).items]


@contextmanager
def station(folder: Path, **settings: Any) -> Iterator[Station]:
    """Everything below `folder`; heartbeats are quick."""
    quick = {"heartbeat_seconds": 0.05, "lease_seconds": 5.0, "sweep_seconds": 0.1, "stop_grace_seconds": 5.0}
    chosen = Settings(data_dir=folder, **(quick | settings))
    migrations.upgrade(chosen.database_url)
    db = connect(chosen.database_url)
    storage = open_storage(chosen.storage_url)
    try:
        yield Station(chosen, db, storage, *_add_dataset(db, storage))
    finally:
        db.dispose()


@contextmanager
def bench(at: Station, trainer: list[str], drain: Drain | None = None, **changes: Any) -> Iterator[Bench]:
    with workspace(at.settings.data_dir / "runs") as folder:
        made = Bench(
            name="worker-of-the-test",
            settings=at.settings,
            db=at.db,
            storage=at.storage,
            folder=folder,
            queues=("cpu",),
            devices=1,
            threads=1,
            environment={},
            drain=drain or Drain(),
            trainer=tuple(trainer),
        )
        yield replace(made, **changes)


class Running:
    """Jobs that run in a thread, so that the test can interfere."""

    def __init__(self, here: Station, trainer: list[str]) -> None:
        self._here = here
        self._trainer = trainer
        self._pid_file = Path(trainer[-1]).parent / "pid"
        self._thread = threading.Thread(target=self._run)
        self.drain = Drain()
        self.count = 0

    def _run(self) -> None:
        with bench(self._here, self._trainer, self.drain) as one:
            self.count = run_waiting_jobs(one)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(SOON)
        assert not self._thread.is_alive()

    def child(self) -> Watch:
        """The trainer, as soon as it has told us its number."""
        return Watch(int(eventually(lambda: self._pid_file.read_text() if self._pid_file.exists() else None)))


def _add_dataset(db: Database, storage: ObjectStorage) -> tuple[str, str]:
    with db.sessions.begin() as session:
        access.create_key(session, "tests", list(Scope))
        tenant_id = session.scalars(select(Tenant.id)).one()
        ticket = datasets.begin_upload(session, tenant_id, "csv", expires_seconds=60)
    stored = storage.put_bytes(ticket.storage_key, DATA)
    with db.sessions.begin() as session:
        datasets.register_upload(
            session, ticket, stored, name=None, data_format="csv", mapping=DatasetMapping()
        )
        inspection = datasets.begin_inspection(session, ticket.dataset_id, lease_seconds=60)
        assert inspection is not None
        datasets.finish_inspection(session, inspection, SCHEMA)
    return tenant_id, ticket.dataset_id
