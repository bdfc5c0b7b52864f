from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import valkey
from sqlalchemy import func, insert, select, update
from sqlalchemy.orm import Session

from core.database import Database, db_now, later
from core.datasets import service as datasets
from core.datasets.lifecycle import DatasetStatus
from core.ids import new_id
from core.jobs import service as jobs
from core.jobs.lifecycle import JobStatus
from core.monitoring import tallies
from core.monitoring.tallies import Key
from core.queue import celery_queue, make_celery, ping
from core.scheduler import Scheduler
from core.storage import ObjectStorage, artifact_key
from core.tables import Dataset, IdempotencyKey, Job, TallyEntry, Upload
from core.workers import service as workers
from tests.conftest import make_settings
from tests.core.datasets.test_inspection import CSV
from tests.factories import claim_job, expire_lease, make_dataset, make_job, make_tenant
from tests.processes import eventually


@pytest.fixture
def broker(broker_url: str) -> Iterator[Any]:
    client: Any = valkey.Valkey(unix_socket_path=broker_url.removeprefix("redis+socket://"))
    yield client
    client.close()


@pytest.fixture
def scheduler(
    database: Database, folder_storage: ObjectStorage, tmp_path: Path, broker_url: str
) -> Iterator[Scheduler]:
    settings = make_settings(tmp_path, broker_url=broker_url, sweep_seconds=0.05)
    celery = make_celery(settings)
    # The first message of a process loads Celery's transport, which may take longer than a nudge waits.
    eventually(lambda: ping(celery))
    made = Scheduler(database, celery, folder_storage, settings)
    yield made
    made.join()


def announce(session: Session, count: int, queue: str = "cpu") -> None:
    for number in range(count):
        name = f"{queue}-worker-{number + 1}"
        workers.announce(session, name=name, queue=queue, devices=1, threads=1, hardware={})


def test_a_lost_job_is_queued_and_its_queue_nudged_in_one_sweep(
    database: Database, scheduler: Scheduler, broker: Any
) -> None:
    with database.sessions.begin() as session:
        announce(session, 2)
        job = make_job(session, JobStatus.RUNNING)
        expire_lease(session, job.id)

    scheduler.run_once()

    with database.readers.begin() as session:
        assert session.get_one(Job, job.id).status is JobStatus.QUEUED
    assert broker.llen(celery_queue("cpu")) == 1


def test_as_many_workers_are_woken_as_rows_wait(
    database: Database, scheduler: Scheduler, broker: Any
) -> None:
    with database.sessions.begin() as session:
        announce(session, 5)
        data = make_dataset(session)
        for _ in range(3):
            make_job(session, dataset=data)

    scheduler.run_once()
    scheduler.run_once()

    assert broker.llen(celery_queue("cpu")) == 3


def test_however_many_rows_wait_no_more_nudges_lie_there_than_workers_are_idle(
    database: Database, scheduler: Scheduler, broker: Any
) -> None:
    with database.sessions.begin() as session:
        announce(session, 3)
        announce(session, 1, queue="gpu")
        busy = make_job(session, training={"accelerator": "cpu"})
        claim_job(session, busy, worker_name="cpu-worker-1")
        row = {column.name: getattr(busy, column.name) for column in Job.__table__.columns}
        row |= {"status": JobStatus.QUEUED, "queued_at": busy.created_at, "lease_until": None}
        session.execute(insert(Job), [row | {"id": new_id("job")} for _ in range(200)])

    for _ in range(3):
        scheduler.run_once()

    # Two idle workers of the CPU's queue, and the GPU's, for whom nothing else waits.
    assert broker.llen(celery_queue("cpu")) == 3
    assert broker.llen(celery_queue("gpu")) == 0


def test_nobody_is_woken_for_nothing(scheduler: Scheduler, broker: Any) -> None:
    scheduler.run_once()

    assert broker.keys("*") == []


def test_a_job_that_waited_too_long_fails(database: Database, scheduler: Scheduler) -> None:
    with database.sessions.begin() as session:
        job = make_job(session, limits={"max_pending_seconds": 60})
        session.execute(update(Job).values(queued_at=later(db_now(), -61)))

    scheduler.run_once()

    with database.readers.begin() as session:
        assert session.get_one(Job, job.id).reason_code == "pending_timeout"


def test_an_inspection_that_broke_off_is_taken_up(
    database: Database, scheduler: Scheduler, folder_storage: ObjectStorage
) -> None:
    with database.sessions.begin() as session:
        data = make_dataset(session, status=DatasetStatus.INSPECTING)
        session.execute(update(Dataset).values(inspection_lease_until=later(db_now(), -1)))
    folder_storage.put_bytes(data.storage_key, CSV.encode())

    scheduler.run_once()
    scheduler.join()

    with database.readers.begin() as session:
        assert session.get_one(Dataset, data.id).status is DatasetStatus.READY


def test_what_only_a_newer_release_can_inspect_keeps_nothing_from_its_turn(
    database: Database, scheduler: Scheduler, folder_storage: ObjectStorage
) -> None:
    """As after an upgrade that was taken back."""
    with database.sessions.begin() as session:
        newer = make_dataset(session, status=DatasetStatus.INSPECTING)
        newer.mapping = {"of_a_later_release": True}
        data = make_dataset(session, status=DatasetStatus.INSPECTING)
        for dataset, seconds_ago in ((newer, 2), (data, 1)):
            lost = update(Dataset).where(Dataset.id == dataset.id)
            session.execute(lost.values(inspection_lease_until=later(db_now(), -seconds_ago)))
    folder_storage.put_bytes(data.storage_key, CSV.encode())

    for _ in range(2):
        scheduler.run_once()
        scheduler.join()

    with database.readers.begin() as session:
        assert session.get_one(Dataset, data.id).status is DatasetStatus.READY
        left = session.get_one(Dataset, newer.id)
        assert (left.status, left.inspection_attempt) == (DatasetStatus.INSPECTING, 0)


def test_an_upload_that_never_finished_is_removed(
    database: Database, scheduler: Scheduler, folder_storage: ObjectStorage
) -> None:
    with database.sessions.begin() as session:
        tenant_id = make_tenant(session).id
        stale = datasets.begin_upload(session, tenant_id, "csv", expires_seconds=-1)
        datasets.begin_upload(session, tenant_id, "csv", expires_seconds=60)
    folder_storage.put_bytes(stale.storage_key, b"half")

    scheduler.run_once()

    assert list(folder_storage.list("")) == []
    with database.readers.begin() as session:
        assert session.scalar(select(func.count()).select_from(Upload)) == 1


def test_the_bytes_of_a_rejected_dataset_go_and_its_row_stays(
    database: Database, scheduler: Scheduler, folder_storage: ObjectStorage
) -> None:
    with database.sessions.begin() as session:
        data = make_dataset(session, status=DatasetStatus.REJECTED)
    folder_storage.put_bytes(data.storage_key, b"data")

    scheduler.run_once()

    assert list(folder_storage.list("")) == []
    with database.readers.begin() as session:
        row = session.get_one(Dataset, data.id)
        assert row.purged_at is not None
        assert row.deleted_at is None


def test_the_bytes_of_a_deleted_dataset_go(
    database: Database, scheduler: Scheduler, folder_storage: ObjectStorage
) -> None:
    with database.sessions.begin() as session:
        data = make_dataset(session)
        datasets.delete(session, data.tenant_id, data.id)
    folder_storage.put_bytes(data.storage_key, b"data")

    scheduler.run_once()

    assert list(folder_storage.list("")) == []
    with database.readers.begin() as session:
        assert session.get_one(Dataset, data.id).purged_at is not None


def test_what_was_kept_long_enough_goes_with_its_bytes(
    sqlite: Database, folder_storage: ObjectStorage, tmp_path: Path
) -> None:
    kept_for = {"job_retention_days": 7, "dataset_retention_days": 7}
    settings = make_settings(tmp_path, broker_url=f"redis+socket://{tmp_path}/none.sock", **kept_for)
    with sqlite.sessions.begin() as session:
        job = make_job(session)
        claimed = claim_job(session, job)
        key = artifact_key(job.tenant_id, job.id, 1, 1, "report.html")
        facts: dict[str, Any] = {"name": "report.html", "key": key, "size_bytes": 1, "sha256": "ab" * 32}
        jobs.register_artifact(session, job.id, claimed.token, **facts, media_type="text/html")
        jobs.finish(session, job.id, claimed.token, "completed", {})
        long_ago = later(db_now(), -8 * 24 * 3600)
        session.execute(update(Job).values(created_at=long_ago, finished_at=long_ago))
        session.execute(update(Dataset).values(created_at=long_ago))
        data = session.get_one(Dataset, job.dataset_id)
    for stored in (key, data.storage_key):
        folder_storage.put_bytes(stored, b"x")
    scheduler = Scheduler(sqlite, make_celery(settings), folder_storage, settings)

    scheduler.run_once()
    scheduler.join()

    assert list(folder_storage.list("")) == []


def test_a_sweep_collects_garbage(
    database: Database, scheduler: Scheduler, folder_storage: ObjectStorage
) -> None:
    with database.sessions.begin() as session:
        job = make_job(session)
    key = artifact_key(job.tenant_id, job.id, 1, 1, "orphan.bin")
    folder_storage.put_bytes(key, b"x")
    path = folder_storage.local_path(key)
    assert path is not None
    os.utime(path, (0, 0))

    scheduler.run_once()
    scheduler.join()

    assert list(folder_storage.list("")) == []


def test_old_idempotency_keys_go(database: Database, scheduler: Scheduler) -> None:
    with database.sessions.begin() as session:
        tenant_id = make_tenant(session).id
        session.add(
            IdempotencyKey(tenant_id=tenant_id, key="old", fingerprint="x", expires_at=later(db_now(), -1))
        )

    scheduler.run_once()

    with database.readers.begin() as session:
        assert session.scalar(select(func.count()).select_from(IdempotencyKey)) == 0


def test_without_a_broker_everything_else_goes_on(
    sqlite: Database, folder_storage: ObjectStorage, tmp_path: Path
) -> None:
    settings = make_settings(tmp_path, broker_url=f"redis+socket://{tmp_path}/none.sock")
    with sqlite.sessions.begin() as session:
        job = make_job(session, JobStatus.RUNNING)
        expire_lease(session, job.id)

    scheduler = Scheduler(sqlite, make_celery(settings), folder_storage, settings)
    scheduler.run_once()
    scheduler.join()

    with sqlite.readers.begin() as session:
        assert session.get_one(Job, job.id).status is JobStatus.QUEUED


def test_a_sweep_survives_a_database_that_is_gone(
    folder_storage: ObjectStorage, tmp_path: Path, postgres: Database
) -> None:
    settings = make_settings(tmp_path, broker_url=f"redis+socket://{tmp_path}/none.sock")
    broken: Any = _Broken()
    gone = replace(postgres, sessions=broken, readers=broken)

    scheduler = Scheduler(gone, make_celery(settings), folder_storage, settings)
    scheduler.run_once()
    scheduler.join()


class _Broken:
    def begin(self) -> object:
        raise ConnectionError


def test_two_schedulers_requeue_a_lost_job_once(
    database: Database, scheduler: Scheduler, folder_storage: ObjectStorage, tmp_path: Path, broker_url: str
) -> None:
    settings = make_settings(tmp_path, broker_url=broker_url)
    other = Scheduler(database, make_celery(settings), folder_storage, settings)
    with database.sessions.begin() as session:
        jobs = [make_job(session, JobStatus.RUNNING) for _ in range(5)]
        for job in jobs:
            expire_lease(session, job.id)

    threads = [threading.Thread(target=one.run_once) for one in (scheduler, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other.join()

    with database.readers.begin() as session:
        rows = [session.get_one(Job, job.id) for job in jobs]
    assert {(row.status, row.failures) for row in rows} == {(JobStatus.QUEUED, 1)}


def test_the_scheduler_sweeps_until_it_is_told_to_stop(database: Database, scheduler: Scheduler) -> None:
    stop = threading.Event()
    thread = threading.Thread(target=scheduler.run, args=(stop,))
    thread.start()

    with database.sessions.begin() as session:
        job = make_job(session, JobStatus.RUNNING)
        expire_lease(session, job.id)
    status = JobStatus.RUNNING
    while status is JobStatus.RUNNING:
        thread.join(timeout=0.01)
        with database.readers.begin() as session:
            status = session.get_one(Job, job.id).status
    stop.set()
    thread.join(timeout=10)

    assert not thread.is_alive()
    assert status is JobStatus.QUEUED


def test_expired_leases_and_the_schedulers_own_rounds_are_counted(
    database: Database, scheduler: Scheduler
) -> None:
    with database.sessions.begin() as session:
        data = make_dataset(session)
        for _ in range(2):
            expire_lease(session, make_job(session, JobStatus.RUNNING, dataset=data).id)

    scheduler.run_once()
    scheduler.run_once()

    with database.readers.begin() as session:
        totals = tallies.read(session)
        assert session.scalar(select(func.count()).select_from(TallyEntry)) == 0
    assert totals[Key("lease_expired")].count == 2
    assert totals[Key("scheduler_round")].count == 1
    assert sum(total.count for key, total in totals.items() if key.outcome == "worker_lost") == 2
