"""Lists that cost the same however many jobs there are."""

from __future__ import annotations

import pytest
from sqlalchemy import delete, select

from core.database import Database
from core.jobs import reading, verbs
from core.jobs.lifecycle import JobStatus
from core.jobs.reading import JobFilter
from core.jobs.schemas import JobChange
from core.tables import Job, JobLabel
from tests.factories import make_dataset, make_job
from tests.statements import sqlite_plan, statements

FILTERS = {
    "none": JobFilter(),
    "status": JobFilter(statuses=[JobStatus.FAILED]),
    "statuses": JobFilter(statuses=[JobStatus.QUEUED, JobStatus.SUCCEEDED]),
    "label": JobFilter(labels={"env": "prod"}),
    "labels": JobFilter(labels={"env": "prod", "team": "a"}),
    "label and ended": JobFilter(labels={"env": "prod"}, statuses=[JobStatus.SUCCEEDED]),
    "label and queued": JobFilter(labels={"env": "prod"}, statuses=[JobStatus.QUEUED]),
}


@pytest.mark.parametrize("name", FILTERS)
def test_a_page_is_read_in_the_order_of_an_index(sqlite: Database, name: str) -> None:
    with sqlite.sessions.begin() as session:
        data = make_dataset(session)
        for _ in range(3):
            make_job(session, dataset=data, labels={"env": "prod", "team": "a"})
        cursor = reading.list_jobs(session, data.tenant_id, limit=1).next_cursor
    for sort, where in (("-created_at", cursor), ("created_at", None)):
        with statements(sqlite.engine) as sent, sqlite.readers.begin() as session:
            reading.list_jobs(session, data.tenant_id, FILTERS[name], sort=sort, cursor=where)  # type: ignore[arg-type]  # of its literals

        plan = sqlite_plan(sqlite.engine, *next(one for one in sent if "jobs.created_at" in one[0]))
        scans = [step for step in plan if step.startswith(("SCAN jobs", "SCAN job_labels"))]
        # One sort, of the page that was found.
        assert (scans, sum("TEMP B-TREE" in step for step in plan)) == ([], 1), plan


def test_several_statuses_make_one_list(database: Database) -> None:
    with database.sessions.begin() as session:
        data = make_dataset(session)
        kinds = [JobStatus.QUEUED, JobStatus.CANCELLED, JobStatus.SUCCEEDED, JobStatus.QUEUED]
        made = [make_job(session, kind, dataset=data).id for kind in kinds]
    wanted = JobFilter(statuses=[JobStatus.SUCCEEDED, JobStatus.QUEUED])
    with database.readers.begin() as session:
        first = reading.list_jobs(session, data.tenant_id, wanted, limit=2)
        rest = reading.list_jobs(session, data.tenant_id, wanted, limit=2, cursor=first.next_cursor)

    assert [job.id for job in first.items + rest.items] == [made[3], made[2], made[0]]
    assert rest.next_cursor is None


def test_a_changed_label_is_found_and_the_old_one_no_more(database: Database) -> None:
    with database.sessions.begin() as session:
        data = make_dataset(session)
        job = make_job(session, dataset=data, labels={"env": "test"})
        verbs.change(session, data.tenant_id, job.id, JobChange(revision=1, labels={"env": "prod"}))

        def found(value: str) -> list[str]:
            wanted = JobFilter(labels={"env": value})
            return [one.id for one in reading.list_jobs(session, data.tenant_id, wanted).items]

        assert (found("prod"), found("test")) == ([job.id], [])


def test_a_deleted_jobs_labels_go_with_it(database: Database) -> None:
    with database.sessions.begin() as session:
        job = make_job(session, labels={"env": "test"})
        session.execute(delete(Job).where(Job.id == job.id))

        assert session.scalars(select(JobLabel)).all() == []
