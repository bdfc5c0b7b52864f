"""What a tenant may have, exactly, however many ask at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy.orm import Session

from core.access.schemas import ApiKeyCreate
from core.access.scopes import Scope
from core.access.service import make_key
from core.database import Database
from core.datasets import service as datasets
from core.errors import QuotaExceeded
from core.jobs import service as jobs
from core.jobs import verbs
from core.jobs.lifecycle import JobStatus
from core.jobs.schemas import JobCreate
from core.storage import StoredObject
from tests.factories import make_dataset, make_job, make_tenant
from trainer.dataset.schema import DatasetMapping

AT_ONCE = 4


def together(db: Database, act: Callable[[Session, int], object]) -> int:
    """How many of AT_ONCE transactions that start at the same moment are not refused."""
    start = threading.Barrier(AT_ONCE)

    def one(number: int) -> bool:
        start.wait()
        try:
            with db.sessions.begin() as session:
                return act(session, number) is not None
        except QuotaExceeded:
            return False

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return sum(pool.map(one, range(AT_ONCE)))


def test_of_many_jobs_at_the_edge_of_the_queue_one_is_taken(database: Database) -> None:
    with database.sessions.begin() as session:
        job = make_job(session)
        body = JobCreate(dataset_id=job.dataset_id)
        tenant_id = job.tenant_id

    assert together(database, lambda session, _: jobs.submit(session, tenant_id, body, max_queued=2)) == 1


def test_of_many_keys_at_the_edge_one_is_made(database: Database) -> None:
    with database.sessions.begin() as session:
        tenant_id = make_tenant(session).id
    wanted = ApiKeyCreate(scopes=[Scope.JOBS_READ])

    assert together(database, lambda session, _: make_key(session, tenant_id, wanted, max_keys=1)) == 1


def test_of_many_uploads_at_the_edge_one_is_kept(database: Database) -> None:
    with database.sessions.begin() as session:
        tenant_id = make_tenant(session).id
        tickets = [datasets.begin_upload(session, tenant_id, "csv", 60) for _ in range(AT_ONCE)]

    def register(session: Session, number: int) -> object:
        stored = StoredObject(sha256=f"{number:064x}", size_bytes=600)
        mapping = DatasetMapping()
        return datasets.register_upload(
            session, tickets[number], stored, name=None, data_format="csv", mapping=mapping, max_bytes=1000
        )

    assert together(database, register) == 1


def test_of_many_workers_at_once_no_more_start_than_the_tenant_may_run(database: Database) -> None:
    with database.sessions.begin() as session:
        for _ in range(AT_ONCE):
            queue = make_job(session).queue

    def claim(session: Session, number: int) -> object:
        return jobs.claim(session, queue, f"worker-{number}", 30, max_running=2)

    assert together(database, claim) == 2


def test_a_tenant_that_runs_as_many_as_it_may_leaves_the_worker_to_others(sqlite: Database) -> None:
    with sqlite.sessions.begin() as session:
        make_job(session, JobStatus.RUNNING)
        queue = make_job(session, priority=100).queue
        other = make_job(session, tenant=make_tenant(session, "other"))
        claimed = jobs.claim(session, queue, "worker", 30, max_running=1)
        nothing = jobs.claim(session, queue, "worker", 30, max_running=1)

    assert claimed is not None
    assert claimed.job_id == other.id
    assert nothing is None


@pytest.mark.parametrize(
    ("status", "verb"), [(JobStatus.PAUSED, verbs.resume), (JobStatus.FAILED, verbs.retry)]
)
def test_what_is_queued_again_needs_room_too(
    sqlite: Database, status: JobStatus, verb: Callable[..., object]
) -> None:
    with sqlite.sessions.begin() as session:
        make_job(session)
        job = make_job(session, status)
        with pytest.raises(QuotaExceeded):
            verb(session, job.tenant_id, job.id, max_queued=1)
        verb(session, job.tenant_id, job.id, max_queued=2)


def test_bytes_of_deleted_datasets_count_no_more(sqlite: Database) -> None:
    with sqlite.sessions.begin() as session:
        dataset = make_dataset(session)
        with pytest.raises(QuotaExceeded):
            datasets.begin_upload(session, dataset.tenant_id, "csv", 60, max_bytes=dataset.size_bytes)
        datasets.delete(session, dataset.tenant_id, dataset.id)
        datasets.begin_upload(session, dataset.tenant_id, "csv", 60, max_bytes=dataset.size_bytes)
