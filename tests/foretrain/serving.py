"""The real API on a port of its own, and what a worker would have left in its database."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from core.access import service as access
from core.access.scopes import Scope
from core.database import Database, connect
from core.jobs import service as jobs
from core.jobs.lifecycle import JobStatus
from core.jobs.schemas import MetricReport
from core.storage import ObjectStorage, open_storage
from foretrain.http_server import HttpServer, listen
from tests.conftest import make_settings
from tests.factories import claim_job, make_job, make_tenant

CHECKPOINT = b"".join(number.to_bytes(4) for number in range(1_250_000))
TENANT = "acme"


@dataclass(frozen=True)
class ClaimedJob:
    """A job that a worker, which the test plays, has claimed."""

    id: str
    token: int


@dataclass(frozen=True)
class Running:
    """A service without workers: the test does by hand what they would do."""

    url: str
    key: str
    db: Database
    storage: ObjectStorage

    def add_job(self, status: JobStatus = JobStatus.QUEUED) -> str:
        """A job's id."""
        with self.db.sessions.begin() as session:
            return make_job(session, status, tenant=make_tenant(session, TENANT)).id

    def start_job(self) -> ClaimedJob:
        """A running job."""
        with self.db.sessions.begin() as session:
            job = make_job(session, tenant=make_tenant(session, TENANT))
            return ClaimedJob(job.id, claim_job(session, job).token)

    def end_job(self, job: ClaimedJob) -> None:
        """It succeeds."""
        with self.db.sessions.begin() as session:
            jobs.finish(session, job.id, job.token, "completed", {"val_loss": 0.5})

    def finish_job(self, checkpoint: bytes = CHECKPOINT) -> str:
        """A job that has succeeded, with model.ckpt, four losses and a line in its log."""
        job = self.start_job()
        key = uuid4().hex
        stored = self.storage.put_bytes(key, checkpoint)
        with self.db.sessions.begin() as session:
            jobs.register_checkpoint(
                session,
                job.id,
                job.token,
                name="model.ckpt",
                key=key,
                size_bytes=stored.size_bytes,
                sha256=stored.sha256,
                step=4,
                epoch=0,
                val_loss=0.5,
            )
            reports = [
                MetricReport(step=step, epoch=0, values={"train_loss": 1 / step}) for step in (1, 2, 3, 4)
            ]
            jobs.record_metrics(session, job.id, job.token, reports)
            jobs.record_log_chunk(session, job.id, job.token, "reading the dataset\n")
        self.end_job(job)
        return job.id


@contextmanager
def run_api(folder: Path, migrated_database: Path) -> Iterator[Running]:
    """The API over a copy of the database."""
    settings = make_settings(folder)
    shutil.copyfile(migrated_database, folder / "foretrain.db")
    db, storage = connect(settings.database_url), open_storage(settings.storage_url)
    with db.sessions.begin() as session:
        _, key = access.create_key(session, make_tenant(session, TENANT).name, list(Scope))
    with listen("127.0.0.1", 0) as listener, HttpServer(settings, listener) as server:
        assert server.await_start()
        yield Running(server.url, key, db, storage)
    db.dispose()
