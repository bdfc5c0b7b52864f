from __future__ import annotations

import pytest
from sqlalchemy import select, update

from core.audit.schemas import Deed
from core.audit.service import record
from core.database import Database, db_now, later
from core.datasets import repository as dataset_rows
from core.jobs import verbs
from core.jobs.lifecycle import JobStatus
from core.tables import AuditEvent, Dataset, Job
from core.upkeep.retention import delete_old_datasets, delete_old_jobs, forget_old_audit_events
from tests.factories import make_dataset, make_job, make_tenant

WEEK = 7.0
LONG_AGO = later(db_now(), -8 * 24 * 3600)


def age(db: Database) -> None:
    """As if all there is had been made, and had ended, eight days ago."""
    with db.sessions.begin() as session:
        session.execute(update(Job).values(created_at=LONG_AGO))
        session.execute(update(Job).where(Job.finished_at.is_not(None)).values(finished_at=LONG_AGO))
        session.execute(update(Dataset).values(created_at=LONG_AGO))


def jobs_left(db: Database) -> set[str]:
    with db.readers.begin() as session:
        return set(session.scalars(select(Job.id)).all())


def hidden(db: Database) -> list[str]:
    with db.sessions.begin() as session:
        return delete_old_datasets(session, WEEK)


def test_only_jobs_that_ended_long_ago_go(database: Database) -> None:
    with database.sessions.begin() as session:
        rival = make_tenant(session, "rival")
        ended = [make_job(session, status) for status in (JobStatus.SUCCEEDED, JobStatus.FAILED)]
        ended.append(make_job(session, JobStatus.CANCELLED, rival))
        staying = [make_job(session, status) for status in (JobStatus.QUEUED, JobStatus.PAUSED)]
        staying.append(make_job(session, JobStatus.RUNNING))
        retried = make_job(session, JobStatus.FAILED)
    age(database)
    with database.sessions.begin() as session:
        verbs.retry(session, retried.tenant_id, retried.id)
        fresh = make_job(session, JobStatus.SUCCEEDED)

        delete_old_jobs(session, WEEK)

    assert jobs_left(database) == {job.id for job in (*staying, retried, fresh)}
    assert jobs_left(database).isdisjoint(job.id for job in ended)


def test_a_job_that_ran_for_long_counts_from_its_end(sqlite: Database) -> None:
    with sqlite.sessions.begin() as session:
        job = make_job(session, JobStatus.SUCCEEDED)
        session.execute(update(Job).values(created_at=LONG_AGO))

        delete_old_jobs(session, WEEK)

    assert jobs_left(sqlite) == {job.id}


@pytest.mark.parametrize("status", JobStatus)
def test_a_dataset_goes_only_when_no_job_needs_it(database: Database, status: JobStatus) -> None:
    with database.sessions.begin() as session:
        job = make_job(session, status)
        unused = make_dataset(session)
    assert hidden(database) == []
    age(database)
    has_ended = status in {JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED}

    assert set(hidden(database)) == {unused.id, *([job.dataset_id] if has_ended else [])}

    with database.readers.begin() as session:
        purged = {row.id for row in dataset_rows.unpurged(session, 10)}
    assert unused.id in purged


def test_a_dataset_of_a_job_that_ended_lately_stays(database: Database) -> None:
    with database.sessions.begin() as session:
        job = make_job(session, JobStatus.SUCCEEDED)
        session.execute(update(Dataset).values(created_at=LONG_AGO))

    assert hidden(database) == []
    with database.readers.begin() as session:
        assert session.get_one(Dataset, job.dataset_id).deleted_at is None


def test_what_was_recorded_long_ago_is_forgotten_a_part_at_a_time(database: Database) -> None:
    with database.sessions.begin() as session:
        deed = Deed(make_tenant(session).id, "submit_job")
        for _ in range(3):
            record(session, deed)
        session.execute(update(AuditEvent).values(created_at=LONG_AGO))
        record(session, deed)

    with database.sessions.begin() as session:
        assert [forget_old_audit_events(session, WEEK, limit=2) for _ in range(3)] == [2, 1, 0]

        assert len(session.scalars(select(AuditEvent)).all()) == 1
