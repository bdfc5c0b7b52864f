from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from core.database import Database, db_now, later
from core.errors import ArtifactNotFound, InvalidRequest, NotFound
from core.jobs import reading, service
from core.jobs.lifecycle import JobStatus
from core.jobs.reading import JobFilter
from core.tables import Job
from core.workers import service as workers
from tests.factories import claim_job, make_dataset, make_job, make_tenant
from trainer.spec import TrainingSpec


def names(db: Database, tenant_id: str, job_filter: JobFilter, limit: int = 50) -> list[str | None]:
    with db.readers.begin() as session:
        return [job.name for job in reading.list_jobs(session, tenant_id, job_filter, limit=limit).items]


def test_pages_neither_skip_nor_repeat_while_jobs_are_added(database: Database) -> None:
    with database.sessions.begin() as session:
        data = make_dataset(session)
        expected = [make_job(session, dataset=data).id for _ in range(7)][::-1]
    seen, cursor = [], None

    while True:
        with database.sessions.begin() as session:
            page = reading.list_jobs(session, data.tenant_id, limit=3, cursor=cursor)
            make_job(session, dataset=data)
        seen += [job.id for job in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break

    assert seen == expected


def test_jobs_of_the_same_instant_are_all_shown(database: Database) -> None:
    with database.sessions.begin() as session:
        data = make_dataset(session)
        ids = {make_job(session, dataset=data).id for _ in range(5)}
        session.execute(update(Job).values(created_at=data.created_at))
    seen, cursor = [], None

    for _ in range(3):
        with database.readers.begin() as session:
            page = reading.list_jobs(session, data.tenant_id, limit=2, cursor=cursor, sort="created_at")
        seen += [job.id for job in page.items]
        cursor = page.next_cursor

    assert cursor is None
    assert sorted(seen) == sorted(ids)


def test_the_last_page_has_no_cursor_even_when_it_is_full(sqlite: Database) -> None:
    with sqlite.sessions.begin() as session:
        data = make_dataset(session)
        for _ in range(2):
            make_job(session, dataset=data)

        assert reading.list_jobs(session, data.tenant_id, limit=2).next_cursor is None
        assert reading.list_jobs(session, "ten_other", limit=2).items == []


@pytest.mark.parametrize("cursor", ["", "x", "!!!", "bnVsbA", "WyJqb2JzLWNyZWF0ZWRfYXQiLDFd"])
def test_a_made_up_cursor_is_refused(sqlite: Database, cursor: str) -> None:
    with pytest.raises(InvalidRequest, match="cursor"), sqlite.readers.begin() as session:
        reading.list_jobs(session, "ten_1", cursor=cursor)


def test_a_cursor_of_another_order_is_refused(sqlite: Database) -> None:
    with sqlite.sessions.begin() as session:
        data = make_dataset(session)
        for _ in range(2):
            make_job(session, dataset=data)
        cursor = reading.list_jobs(session, data.tenant_id, limit=1).next_cursor

        with pytest.raises(InvalidRequest):
            reading.list_jobs(session, data.tenant_id, limit=1, cursor=cursor, sort="created_at")


def test_filters_apply_before_the_page_is_cut(database: Database) -> None:
    with database.sessions.begin() as session:
        data = make_dataset(session)
        for name, env in [("1", "prod"), ("2", "test"), ("3", "prod"), ("4", "test"), ("5", "test")]:
            make_job(session, dataset=data, name=name, labels={"env": env, "team": "a"})

    assert names(database, data.tenant_id, JobFilter(labels={"env": "prod"}), limit=2) == ["3", "1"]
    assert names(database, data.tenant_id, JobFilter(labels={"env": "prod", "team": "b"})) == []


@pytest.mark.parametrize("key", ["env", "a.b", "a/b-c", "0"])
@pytest.mark.parametrize("value", ["x", "", "it's", '"quoted"', "%", "ümlaut"])
def test_any_label_can_be_filtered_for(database: Database, key: str, value: str) -> None:
    with database.sessions.begin() as session:
        data = make_dataset(session)
        make_job(session, dataset=data, name="with", labels={key: value})
        make_job(session, dataset=data, name="without", labels={key: "other"})

    assert names(database, data.tenant_id, JobFilter(labels={key: value})) == ["with"]


def test_jobs_are_found_by_status_and_age(database: Database) -> None:
    with database.sessions.begin() as session:
        data = make_dataset(session)
        make_job(session, dataset=data, name="old")
        session.execute(update(Job).values(created_at=later(db_now(), -60)))
        fresh = make_job(session, dataset=data, name="fresh")
        make_job(session, JobStatus.CANCELLED, dataset=data, name="gone")

    queued = JobFilter(statuses=[JobStatus.QUEUED])
    assert names(database, data.tenant_id, queued) == ["fresh", "old"]
    recent = JobFilter(created_after=fresh.created_at - timedelta(seconds=30))
    assert names(database, data.tenant_id, recent) == ["gone", "fresh"]


def test_only_a_queued_job_has_a_place_in_the_queue(database: Database) -> None:
    with database.sessions.begin() as session:
        data = make_dataset(session)
        running = make_job(session, JobStatus.RUNNING, dataset=data)
        first, second = make_job(session, dataset=data), make_job(session, dataset=data)
        places = {job.id: reading.read_job(session, job).queue for job in (running, first, second)}

    assert places[running.id] is None
    assert [places[job.id].position for job in (first, second)] == [1, 2]  # type: ignore[union-attr]  # both are queued


def test_the_place_says_what_the_job_waits_for(database: Database) -> None:
    def reason(job: Job) -> str:
        with database.readers.begin() as session:
            place = reading.get_job(session, job.tenant_id, job.id).queue
        assert place is not None
        return place.reason

    with database.sessions.begin() as session:
        data = make_dataset(session)
        first, second = make_job(session, dataset=data), make_job(session, dataset=data)
    assert reason(first) == "No live worker can hold it: none serves the queue cpu."

    with database.sessions.begin() as session:
        workers.announce(session, name="w", queue="gpu", devices=1, threads=2, hardware={})
    assert reason(first) == "Next in line for a worker."
    assert reason(second) == "Waits for 1 job ahead."

    with database.sessions.begin() as session:
        session.execute(update(Job).where(Job.id == first.id).values(not_before=later(db_now(), 9)))
    assert reason(first) == "Waits a moment before the next try."

    with database.sessions.begin() as session:
        session.execute(update(Job).where(Job.id == first.id).values(devices=2))
    assert reason(first).startswith("No live worker can hold it: it needs 2 devices")


def test_a_worker_that_missed_heartbeats_shows_as_stalled(database: Database) -> None:
    with database.sessions.begin() as session:
        job = make_job(session, JobStatus.RUNNING)
        assert not reading.read_job(session, job).stalled
        session.execute(update(Job).values(heartbeat_at=later(db_now(), -20)))

        assert reading.get_job(session, job.tenant_id, job.id).stalled


def test_a_job_shows_what_was_asked_and_what_became_of_it(sqlite: Database) -> None:
    with sqlite.sessions.begin() as session:
        job = make_job(
            session,
            name="nightly",
            labels={"env": "prod"},
            priority=3,
            training={"target_metrics": ["cpu_percent", "net_in"]},
            limits={"max_runtime_seconds": 60, "max_pending_seconds": 70, "max_attempts": 5},
        )
        read = reading.read_job(session, job)

    assert (read.name, read.labels, read.priority) == ("nightly", {"env": "prod"}, 3)
    assert isinstance(read.spec, TrainingSpec)
    assert read.spec.known_covariates is None
    assert read.resolved_spec is not None
    assert read.resolved_spec["known_covariates"]
    assert (read.limits.max_runtime_seconds, read.limits.max_attempts) == (60, 5)
    assert read.links["self"] == f"/v1/jobs/{job.id}"
    assert read.revision == 1


def test_live_workers_are_those_heard_of(database: Database) -> None:
    with database.sessions.begin() as session:
        for name in ("b", "a", "a"):
            workers.announce(session, name=name, queue="gpu", devices=2, threads=8, hardware={"gpu": "H100"})
        assert [worker.name for worker in workers.live(session)] == ["a", "b"]

        workers.retire(session, "a")
        assert [worker.name for worker in workers.live(session)] == ["b"]


READS: dict[str, Callable[[Session, str, str], Any]] = {
    "job": reading.get_job,
    "attempts": reading.list_attempts,
    "events": reading.list_events,
    "events_after": lambda session, tenant_id, job_id: reading.events_after(session, tenant_id, job_id, 0),
    "logs": reading.list_log_chunks,
    "metrics": reading.read_metrics,
    "artifacts": reading.list_artifacts,
    "artifact": lambda session, tenant_id, job_id: reading.get_artifact(session, tenant_id, job_id, "x"),
}


@pytest.mark.parametrize("name", READS)
def test_another_tenants_job_is_not_there(sqlite: Database, name: str) -> None:
    with sqlite.sessions.begin() as session:
        job = make_job(session, JobStatus.RUNNING)
        stranger = make_tenant(session, "stranger")

        with pytest.raises(NotFound) as refusal:
            READS[name](session, stranger.id, job.id)

    assert refusal.value.code == "not_found"


def test_a_missing_artifact_is_named(sqlite: Database) -> None:
    with sqlite.sessions.begin() as session:
        job = make_job(session)

        with pytest.raises(ArtifactNotFound, match=r"report\.html"):
            reading.get_artifact(session, job.tenant_id, job.id, "report.html")


def test_pages_of_events_and_logs_go_on_where_they_ended(database: Database) -> None:
    with database.sessions.begin() as session:
        claimed = claim_job(session, make_job(session))
        for number in range(5):
            service.record_phase(session, claimed.job_id, claimed.token, "training")
            service.record_log_chunk(session, claimed.job_id, claimed.token, f"line {number}\n")

    with database.readers.begin() as session:
        first = reading.list_events(session, claimed.tenant_id, claimed.job_id, limit=4)
        rest = reading.list_events(
            session, claimed.tenant_id, claimed.job_id, limit=4, cursor=first.next_cursor
        )
        after = reading.events_after(session, claimed.tenant_id, claimed.job_id, 4)
        log_start = reading.list_log_chunks(session, claimed.tenant_id, claimed.job_id, limit=3)
        log_rest = reading.list_log_chunks(
            session, claimed.tenant_id, claimed.job_id, limit=3, cursor=log_start.next_cursor, attempt=1
        )
    assert [event.seq for event in first.items + rest.items] == [1, 2, 3, 4, 5, 6, 7]
    assert after == rest.items
    assert rest.next_cursor is log_rest.next_cursor is None
    assert [chunk.text for chunk in log_start.items + log_rest.items] == [f"line {n}\n" for n in range(5)]
