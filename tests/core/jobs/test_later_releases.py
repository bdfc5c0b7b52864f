"""Rows that a later release has written: left by workers that cannot read them, and shown all the same."""

from __future__ import annotations

from sqlalchemy import update
from sqlalchemy.orm import Session

from core.database import Database
from core.datasets.schemas import DatasetRead
from core.jobs import reading, service
from core.jobs.lifecycle import JobStatus
from core.tables import Dataset, Job
from tests.core.jobs.test_claim import claim
from tests.factories import make_job, make_tenant
from trainer.spec import TrainingSpec


def written_by_a_later_release(session: Session, job: Job) -> None:
    session.execute(update(Job).where(Job.id == job.id).values(spec=job.spec | {"dream_length": 8}))


def test_a_job_that_this_release_cannot_read_is_left_and_those_behind_it_are_claimed(
    database: Database,
) -> None:
    with database.sessions.begin() as session:
        tenant = make_tenant(session)
        later_one = make_job(session, tenant=tenant, priority=9)
        ours = make_job(session, tenant=tenant)
        before = later_one.revision, later_one.last_seq
        written_by_a_later_release(session, later_one)
    passed_over: set[str] = set()

    for max_running in (None, 5):
        with database.sessions.begin() as session:
            claimed = service.claim(session, "cpu", "old", 30, 1, max_running, passed_over)
        if max_running is None:
            assert claimed is not None
            assert claimed.job_id == ours.id
        else:
            assert claimed is None

    assert passed_over == {later_one.id}
    with database.sessions.begin() as session:
        left = session.get_one(Job, later_one.id)
        assert (left.status, left.attempt, left.token) == (JobStatus.QUEUED, 0, 0)
        assert (left.revision, left.last_seq) == before
        assert reading.list_attempts(session, tenant.id, later_one.id) == []


def test_what_one_worker_left_a_newer_one_claims(database: Database) -> None:
    with database.sessions.begin() as session:
        job = make_job(session)
        spec = job.spec
        written_by_a_later_release(session, job)
    assert claim(database) is None
    with database.sessions.begin() as session:  # as the newer one reads it
        session.execute(update(Job).where(Job.id == job.id).values(spec=spec))

    claimed = claim(database)

    assert claimed is not None
    assert (claimed.job_id, claimed.attempt) == (job.id, 1)


def test_what_a_later_release_has_stored_is_shown(database: Database) -> None:
    with database.sessions.begin() as session:
        job = make_job(session)
        written_by_a_later_release(session, job)
        news = [{"field": "epochs", "reason": "short", "since": "today"}]
        session.execute(update(Job).where(Job.id == job.id).values(adjustments=news))
        data = session.get_one(Dataset, job.dataset_id)
        session.execute(
            update(Dataset).where(Dataset.id == data.id).values(mapping=data.mapping | {"moon": "phase"})
        )
    with database.readers.begin() as session:
        shown = reading.get_job(session, job.tenant_id, job.id)
        dataset = DatasetRead.from_row(session.get_one(Dataset, job.dataset_id))

    assert isinstance(shown.spec, TrainingSpec)
    assert shown.adjustments[0].field == "epochs"
    assert dataset.table is not None
