from __future__ import annotations

import os
import time

from core.access.repository import find_or_add_tenant
from core.database import Database
from core.datasets import service as datasets
from core.jobs import service, verbs
from core.jobs.claim import ClaimedJob
from core.storage import ObjectStorage, artifact_key
from core.upkeep.garbage import collect_garbage
from tests.factories import claim_job, make_dataset, make_job

# As if a day had passed for whatever has just been stored.
AT_ONCE = -60.0


def a_run(db: Database) -> ClaimedJob:
    with db.sessions.begin() as session:
        return claim_job(session, make_job(session))


def put(storage: ObjectStorage, run: ClaimedJob, name: str) -> str:
    key = artifact_key(run.tenant_id, run.job_id, run.attempt, run.token, name)
    storage.put_bytes(key, b"bytes")
    return key


def publish(db: Database, run: ClaimedJob, name: str, key: str) -> None:
    with db.sessions.begin() as session:
        service.register_artifact(
            session,
            run.job_id,
            run.token,
            name=name,
            key=key,
            size_bytes=5,
            sha256="ab" * 32,
            media_type="text/plain",
        )


def stored(storage: ObjectStorage) -> set[str]:
    return set(storage.list(""))


def test_what_a_row_names_stays_and_what_none_names_goes(database: Database, storage: ObjectStorage) -> None:
    run = a_run(database)
    named, orphan = put(storage, run, "report.html"), put(storage, run, "never-published.bin")
    publish(database, run, "report.html", named)
    with database.sessions.begin() as session:
        data = make_dataset(session)
        upload = datasets.begin_upload(session, data.tenant_id, "csv", expires_seconds=60)
        lost = datasets.begin_upload(session, data.tenant_id, "csv", expires_seconds=60)
        datasets.abandon_upload(session, lost)
    for key in (data.storage_key, upload.storage_key, lost.storage_key):
        storage.put_bytes(key, b"data")

    assert collect_garbage(database, storage, age_seconds=AT_ONCE) == 2

    assert stored(storage) == {named, data.storage_key, upload.storage_key}
    assert orphan not in stored(storage)


def test_what_is_younger_than_a_day_stays(sqlite: Database, folder_storage: ObjectStorage) -> None:
    run = a_run(sqlite)
    young, old = put(folder_storage, run, "young.bin"), put(folder_storage, run, "old.bin")
    path = folder_storage.local_path(old)
    assert path is not None
    a_day_ago = time.time() - 24 * 3600 - 60
    os.utime(path, (a_day_ago, a_day_ago))

    assert collect_garbage(sqlite, folder_storage) == 1

    assert stored(folder_storage) == {young}


def test_files_of_a_deleted_job_that_stayed_behind_go(
    sqlite: Database, folder_storage: ObjectStorage
) -> None:
    run = a_run(sqlite)
    key = put(folder_storage, run, "report.html")
    publish(sqlite, run, "report.html", key)
    with sqlite.sessions.begin() as session:
        service.finish(session, run.job_id, run.token, "completed", {})
        assert verbs.delete(session, run.tenant_id, run.job_id) == [key]

    collect_garbage(sqlite, folder_storage, age_seconds=AT_ONCE)

    assert stored(folder_storage) == set()


def test_what_another_database_keeps_in_the_same_storage_is_let_be(
    sqlite: Database, folder_storage: ObjectStorage
) -> None:
    with sqlite.sessions.begin() as session:
        find_or_add_tenant(session, "acme")
    folder_storage.put_bytes("tenants/ten_of_another/jobs/job_1/a1-t1/model.ckpt", b"theirs")
    folder_storage.put_bytes("somebody/elses", b"file")

    assert collect_garbage(sqlite, folder_storage, age_seconds=AT_ONCE) == 0

    assert len(stored(folder_storage)) == 2


def test_what_a_killed_writer_left_half_written_goes(sqlite: Database, folder_storage: ObjectStorage) -> None:
    run = a_run(sqlite)
    path = folder_storage.local_path(put(folder_storage, run, "model.ckpt"))
    assert path is not None
    half = path.with_name("other.ckpt#1")
    half.write_bytes(b"ha")

    collect_garbage(sqlite, folder_storage, age_seconds=AT_ONCE)

    assert not half.exists()


def test_a_scheduler_that_stops_ends_the_collection(sqlite: Database, folder_storage: ObjectStorage) -> None:
    key = put(folder_storage, a_run(sqlite), "orphan.bin")

    assert collect_garbage(sqlite, folder_storage, age_seconds=AT_ONCE, is_stopping=lambda: True) == 0

    assert stored(folder_storage) == {key}
