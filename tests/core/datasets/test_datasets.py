from __future__ import annotations

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import func, select, update

from core.database import Database, db_now, later
from core.datasets import service
from core.datasets.lifecycle import DatasetStatus
from core.datasets.schemas import DatasetRead
from core.datasets.service import Inspection, UploadTicket
from core.errors import InspectionLost, InUse, NotFound
from core.jobs.lifecycle import JobStatus
from core.storage import StoredObject
from core.tables import Dataset, Upload
from tests.factories import make_dataset, make_job, make_schema, make_tenant
from trainer.dataset.schema import DatasetMapping, DatasetProblem

STORED = StoredObject(1000, hashlib.sha256(b"content").hexdigest())
PROBLEM = DatasetProblem(code="no_time_column", detail="Name the time column.", column="when")
LEASE = 30.0


def begin(db: Database, tenant: str = "acme") -> UploadTicket:
    with db.sessions.begin() as session:
        owner = make_tenant(session, tenant)
        return service.begin_upload(session, owner.id, "csv", expires_seconds=3600)


def upload(
    db: Database,
    tenant: str = "acme",
    mapping: DatasetMapping | None = None,
    stored: StoredObject = STORED,
) -> tuple[Dataset, bool]:
    ticket = begin(db, tenant)
    with db.sessions.begin() as session:
        return service.register_upload(
            session, ticket, stored, name="fleet", data_format="csv", mapping=mapping or DatasetMapping()
        )


def begin_inspection(db: Database, dataset_id: str) -> Inspection | None:
    with db.sessions.begin() as session:
        return service.begin_inspection(session, dataset_id, LEASE)


def lose_lease(db: Database, dataset_id: str) -> None:
    with db.sessions.begin() as session:
        past = later(db_now(), -1)
        session.execute(update(Dataset).where(Dataset.id == dataset_id).values(inspection_lease_until=past))


def status_of(db: Database, dataset: Dataset) -> DatasetStatus:
    with db.readers.begin() as session:
        return service.get(session, dataset.tenant_id, dataset.id).status


def test_an_upload_becomes_a_dataset_that_is_inspected(database: Database) -> None:
    dataset, is_new = upload(database)

    assert is_new
    assert (dataset.status, dataset.size_bytes, dataset.sha256) == ("inspecting", 1000, STORED.sha256)
    with database.readers.begin() as session:
        assert session.scalar(select(func.count()).select_from(Upload)) == 0


def test_the_same_bytes_are_one_dataset(database: Database) -> None:
    first, _ = upload(database)
    second, is_new = upload(database)

    assert (second.id, is_new) == (first.id, False)


def test_the_same_bytes_read_otherwise_are_another_dataset(database: Database) -> None:
    upload(database)

    assert upload(database, mapping=DatasetMapping(time_column="when"))[1]


def test_the_same_bytes_of_another_tenant_are_another_dataset(database: Database) -> None:
    upload(database)

    assert upload(database, tenant="other")[1]


def test_bytes_once_rejected_or_deleted_may_come_again(database: Database) -> None:
    first, _ = upload(database)
    inspection = begin_inspection(database, first.id)
    assert inspection is not None
    with database.sessions.begin() as session:
        service.finish_inspection(session, inspection, PROBLEM)
    second, is_new = upload(database)
    assert is_new
    with database.sessions.begin() as session:
        service.delete(session, second.tenant_id, second.id)

    assert upload(database)[1]


def test_ten_uploads_of_the_same_bytes_at_once_are_one_dataset(database: Database) -> None:
    gate = threading.Barrier(10)

    def race(_: int) -> tuple[str, bool]:
        gate.wait()
        dataset, is_new = upload(database)
        return dataset.id, is_new

    with ThreadPoolExecutor(10) as pool:
        outcomes = list(pool.map(race, range(10)))

    assert len({dataset_id for dataset_id, _ in outcomes}) == 1
    assert [is_new for _, is_new in outcomes].count(True) == 1


def test_an_upload_that_took_too_long_is_not_registered(database: Database) -> None:
    ticket = begin(database)
    with database.sessions.begin() as session:
        session.execute(update(Upload).values(expires_at=later(db_now(), -1)))

    with pytest.raises(NotFound), database.sessions.begin() as session:
        service.register_upload(
            session, ticket, STORED, name=None, data_format="csv", mapping=DatasetMapping()
        )


def test_an_abandoned_upload_leaves_nothing(database: Database) -> None:
    ticket = begin(database)

    with database.sessions.begin() as session:
        service.abandon_upload(session, ticket)
        assert session.scalar(select(func.count()).select_from(Upload)) == 0


def test_an_inspection_has_one_holder(database: Database) -> None:
    dataset, _ = upload(database)

    assert begin_inspection(database, dataset.id) is not None
    assert begin_inspection(database, dataset.id) is None


def test_the_scheduler_leaves_a_fresh_upload_to_its_api(database: Database) -> None:
    dataset, _ = upload(database)

    with database.readers.begin() as session:
        assert service.lost_inspections(session) == []
    lose_lease(database, dataset.id)
    with database.readers.begin() as session:
        assert service.lost_inspections(session) == [dataset.id]


def test_a_good_file_becomes_ready(database: Database) -> None:
    dataset, _ = upload(database)
    inspection = begin_inspection(database, dataset.id)
    assert inspection is not None

    with database.sessions.begin() as session:
        service.finish_inspection(session, inspection, make_schema())

    with database.readers.begin() as session:
        read = DatasetRead.from_row(service.get(session, dataset.tenant_id, dataset.id))
    assert read.status is DatasetStatus.READY
    assert read.inspected_at is not None
    assert read.model_dump(by_alias=True)["schema"]["series_count"] == 10


def test_a_bad_file_is_rejected_with_its_problem(database: Database) -> None:
    dataset, _ = upload(database)
    inspection = begin_inspection(database, dataset.id)
    assert inspection is not None

    with database.sessions.begin() as session:
        service.finish_inspection(session, inspection, PROBLEM)

    with database.readers.begin() as session:
        read = DatasetRead.from_row(service.get(session, dataset.tenant_id, dataset.id))
    assert (read.status, read.problem) == (DatasetStatus.REJECTED, PROBLEM)


def test_an_inspection_that_was_taken_over_writes_nothing(database: Database) -> None:
    dataset, _ = upload(database)
    first = begin_inspection(database, dataset.id)
    assert first is not None
    lose_lease(database, dataset.id)
    assert begin_inspection(database, dataset.id) is not None

    with pytest.raises(InspectionLost), database.sessions.begin() as session:
        service.finish_inspection(session, first, PROBLEM)
    with pytest.raises(InspectionLost), database.sessions.begin() as session:
        service.renew_inspection(session, first, LEASE)

    assert status_of(database, dataset) is DatasetStatus.INSPECTING


def test_an_inspection_lost_twice_is_given_up(database: Database) -> None:
    dataset, _ = upload(database)
    for _ in range(2):
        assert begin_inspection(database, dataset.id) is not None
        lose_lease(database, dataset.id)

    assert begin_inspection(database, dataset.id) is None

    with database.readers.begin() as session:
        rejected = service.get(session, dataset.tenant_id, dataset.id)
    assert rejected.problem is not None
    assert (rejected.status, rejected.problem["code"]) == (DatasetStatus.REJECTED, "inspection_failed")


def test_an_inspection_given_back_counts_nowhere(database: Database) -> None:
    dataset, _ = upload(database)
    for _ in range(3):
        inspection = begin_inspection(database, dataset.id)
        assert inspection is not None
        with database.sessions.begin() as session:
            service.release_inspection(session, inspection)
        lose_lease(database, dataset.id)

    assert status_of(database, dataset) is DatasetStatus.INSPECTING


def test_a_rejected_dataset_can_leave_without_a_trace(database: Database) -> None:
    with database.sessions.begin() as session:
        rejected = make_dataset(session, status=DatasetStatus.REJECTED)
        ready = make_dataset(session)

        assert service.discard_rejected(session, ready.tenant_id, ready.id) is None
        assert service.discard_rejected(session, rejected.tenant_id, rejected.id) == rejected.storage_key
        assert session.scalars(select(Dataset.id)).all() == [ready.id]


@pytest.mark.parametrize("status", [JobStatus.QUEUED, JobStatus.RUNNING, JobStatus.PAUSED])
def test_a_dataset_that_a_job_needs_stays(database: Database, status: JobStatus) -> None:
    with database.sessions.begin() as session:
        data = make_dataset(session)
        make_job(session, status, dataset=data)

        with pytest.raises(InUse):
            service.delete(session, data.tenant_id, data.id)


def test_a_dataset_goes_once_its_jobs_have_ended(database: Database) -> None:
    with database.sessions.begin() as session:
        data = make_dataset(session)
        for status in (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED):
            make_job(session, status, dataset=data)

        assert service.delete(session, data.tenant_id, data.id) == data.storage_key

        with pytest.raises(NotFound):
            service.get(session, data.tenant_id, data.id)
        assert service.list_page(session, data.tenant_id).items == []


def test_a_dataset_is_not_deleted_under_a_job_being_submitted(postgres: Database) -> None:
    with postgres.sessions.begin() as session:
        data = make_dataset(session)
    outcome: list[str] = []

    def delete() -> None:
        with postgres.sessions.begin() as session:
            try:
                service.delete(session, data.tenant_id, data.id)
                outcome.append("deleted")
            except InUse:
                outcome.append("in use")

    with postgres.sessions.begin() as session:
        make_job(session, dataset=data)
        other = threading.Thread(target=delete)
        other.start()
        other.join(timeout=0.3)
        assert outcome == []
    other.join()

    assert outcome == ["in use"]


def test_another_tenants_dataset_is_not_there(database: Database) -> None:
    with database.sessions.begin() as session:
        data = make_dataset(session)
        stranger = make_tenant(session, "stranger")

        for act in (service.get, service.delete):
            with pytest.raises(NotFound):
                act(session, stranger.id, data.id)
        assert service.list_page(session, stranger.id).items == []


def test_pages_of_datasets_are_newest_first(database: Database) -> None:
    with database.sessions.begin() as session:
        ids = [make_dataset(session).id for _ in range(5)][::-1]
        tenant_id = make_tenant(session).id

    with database.readers.begin() as session:
        first = service.list_page(session, tenant_id, limit=3)
        rest = service.list_page(session, tenant_id, limit=3, cursor=first.next_cursor)
    assert [dataset.id for dataset in first.items + rest.items] == ids
    assert rest.next_cursor is None
