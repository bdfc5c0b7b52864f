from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import event, text, update

from core.database import Database, db_now, later
from core.jobs import service
from core.jobs.lifecycle import FailureReason, JobStatus, RequeueReason
from core.monitoring import collector
from core.monitoring.collector import DatabaseCollector
from core.tables import Job, Worker
from core.workers import service as workers
from tests.core.monitoring.samples import scrape, value
from tests.factories import claim_job, make_dataset, make_job
from tests.processes import eventually


def test_jobs_are_counted_by_status_and_queue(database: Database) -> None:
    with database.sessions.begin() as session:
        data = make_dataset(session)
        for _ in range(2):
            make_job(session, dataset=data)
        make_job(session, dataset=data, training={"accelerator": "cuda"})
        make_job(session, JobStatus.RUNNING, dataset=data)
        make_job(session, JobStatus.PAUSED, dataset=data)
        make_job(session, JobStatus.SUCCEEDED, dataset=data)

    found = scrape(database)

    assert value(found, "database_up") == 1
    assert value(found, "jobs", status="queued", queue="cpu") == 2
    assert value(found, "jobs", status="queued", queue="gpu") == 1
    assert value(found, "jobs", status="running", queue="cpu") == 1
    assert value(found, "jobs", status="running", queue="gpu") == 0
    assert value(found, "jobs", status="paused", queue="cpu") == 1


def test_the_age_of_the_oldest_queued_job_is_by_queue(database: Database) -> None:
    with database.sessions.begin() as session:
        data = make_dataset(session)
        old = make_job(session, dataset=data)
        make_job(session, dataset=data)
        session.execute(update(Job).where(Job.id == old.id).values(queued_at=later(db_now(), -600)))

    found = scrape(database)

    assert value(found, "oldest_queued_job_age_seconds", queue="cpu") == pytest.approx(600, abs=5)
    assert value(found, "oldest_queued_job_age_seconds", queue="gpu") == 0


def test_ends_are_counted_with_their_reason_and_duration(database: Database) -> None:
    with database.sessions.begin() as session:
        data = make_dataset(session)
        job = make_job(session, dataset=data)
        claimed = claim_job(session, job)
        session.execute(update(Job).where(Job.id == job.id).values(created_at=later(db_now(), -100)))
        service.fail(session, job.id, claimed.token, FailureReason.DIVERGED, "The loss is not finite.")
        make_job(session, JobStatus.SUCCEEDED, dataset=data)
        make_job(session, JobStatus.CANCELLED, dataset=data)

    found = scrape(database)

    failed = {"status": "failed", "reason": "diverged"}
    assert value(found, "job_duration_seconds_count", **failed) == 1
    assert value(found, "job_duration_seconds_bucket", le="60.0", **failed) == 0
    assert value(found, "job_duration_seconds_bucket", le="120.0", **failed) == 1
    assert value(found, "job_duration_seconds_bucket", le="+Inf", **failed) == 1
    assert value(found, "job_duration_seconds_sum", **failed) == pytest.approx(100, abs=5)
    assert value(found, "job_duration_seconds_count", status="succeeded", reason="") == 1
    assert value(found, "job_duration_seconds_count", status="cancelled", reason="") == 1
    assert value(found, "attempt_duration_seconds_count", outcome="succeeded") == 1
    assert value(found, "attempt_duration_seconds_count", outcome="failed") == 1
    assert value(found, "attempt_duration_seconds_count", outcome="cancelled") == 0


def test_a_requeued_run_counts_as_an_attempt_and_not_as_an_end(sqlite: Database) -> None:
    with sqlite.sessions.begin() as session:
        job = make_job(session)
        claimed = claim_job(session, job)
        service.requeue(session, job.id, claimed.token, RequeueReason.CRASHED)

    found = scrape(sqlite)

    assert value(found, "attempt_duration_seconds_count", outcome="crashed") == 1
    assert value(found, "jobs", status="queued", queue="cpu") == 1
    ends = [
        sample for family in found.collect() for sample in family.samples if "job_duration" in sample.name
    ]
    assert {sample.value for sample in ends} == {0.0}


def test_counts_stay_when_the_jobs_are_deleted(sqlite: Database) -> None:
    with sqlite.sessions.begin() as session:
        job = make_job(session, JobStatus.SUCCEEDED)
        session.delete(job)

    assert value(scrape(sqlite), "job_duration_seconds_count", status="succeeded", reason="") == 1


def test_a_silent_worker_is_down_and_in_sight_for_an_hour(database: Database) -> None:
    gpu = {"index": 0, "utilization": 0.97, "memory_used_bytes": 5, "memory_bytes": 80}
    facts: dict[str, Any] = {
        "queue": "gpu",
        "devices": 1,
        "threads": 4,
        "hardware": {},
        "readings": {"gpus": [gpu]},
    }
    with database.sessions.begin() as session:
        for name, age in (("lively", 0), ("silent", 90), ("forgotten", 4000)):
            workers.announce(session, name=name, **facts)
            seen = later(db_now(), -age)
            session.execute(update(Worker).where(Worker.name == name).values(heartbeat_at=seen))
        job = make_job(session, training={"accelerator": "cuda"})
        claim_job(session, job, "lively")
        session.execute(update(Job).values(progress={"windows_per_second": 812.5}))

    found = scrape(database)

    assert value(found, "worker_up", worker="lively", queue="gpu") == 1
    assert value(found, "worker_up", worker="silent", queue="gpu") == 0
    assert value(found, "worker_up", worker="forgotten", queue="gpu") is None
    silence = value(found, "worker_heartbeat_age_seconds", worker="silent", queue="gpu")
    assert silence == pytest.approx(90, abs=5)
    assert value(found, "worker_training_windows_per_second", worker="lively", queue="gpu") == 812.5
    assert value(found, "gpu_utilization_ratio", worker="lively", gpu="0") == 0.97
    assert value(found, "gpu_memory_used_bytes", worker="lively", gpu="0") == 5
    assert value(found, "gpu_utilization_ratio", worker="silent", gpu="0") is None


def test_scrapes_within_a_few_seconds_cost_one_look(sqlite: Database) -> None:
    statements: list[str] = []
    event.listen(sqlite.engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))
    collector = DatabaseCollector(sqlite)

    first = list(collector.collect())
    assert [family.name for family in collector.collect()] == [family.name for family in first]

    assert len([statement for statement in statements if statement.startswith("SELECT")]) == 7


def test_all_who_wait_while_a_look_takes_long_share_the_next(
    sqlite: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collector, "KEPT_SECONDS", 0.02)
    looking, may_end = threading.Event(), threading.Event()
    slow = DatabaseCollector(sqlite)
    looks: list[float] = []

    def look_long() -> None:
        looks.append(time.monotonic())
        looking.set()
        may_end.wait(10)
        # The later ones take longer than what they see is kept for, too.
        eventually(lambda: time.monotonic() > looks[-1] + 0.1)

    monkeypatch.setattr(slow, "_look", look_long)
    line = CountingLock()
    monkeypatch.setattr(slow, "_lock", line)
    with ThreadPoolExecutor(4) as scrapers:
        first = scrapers.submit(lambda: list(slow.collect()))
        assert looking.wait(10)
        assert eventually(lambda: time.monotonic() > looks[0] + 0.1)
        others = [scrapers.submit(lambda: list(slow.collect())) for _ in range(3)]
        assert eventually(lambda: line.asked == 4)
        may_end.set()
        for one in (first, *others):
            one.result(10)

    assert len(looks) == 2


class CountingLock:
    """Tells how many have asked for it."""

    def __init__(self) -> None:
        self.asked = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self.asked += 1
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


@pytest.mark.slow
def test_a_job_that_moves_on_between_two_statements_of_a_look_is_counted_once(postgres: Database) -> None:
    with postgres.sessions.begin() as session:
        make_job(session, JobStatus.RUNNING)

    def pause(*_: object) -> None:
        with postgres.sessions.begin() as session:
            session.execute(update(Job).values(status=JobStatus.PAUSED))

    # The first statement counts what runs, a later one what is paused.
    event.listen(postgres.engine, "after_cursor_execute", pause, once=True)
    during, afterwards = scrape(postgres), scrape(postgres)

    for found, running, paused in ((during, 1, 0), (afterwards, 0, 1)):
        assert value(found, "jobs", status="running", queue="cpu") == running
        assert value(found, "jobs", status="paused", queue="cpu") == paused


def test_without_a_database_nothing_is_said_but_that(sqlite: Database) -> None:
    with sqlite.sessions.begin() as session:
        session.execute(text("ALTER TABLE tallies RENAME TO gone"))

    found = scrape(sqlite)

    assert [family.name for family in found.collect()] == ["foretrain_database_up"]
    assert value(found, "database_up") == 0


def test_jobs_are_found_by_index_however_many_have_ended(database: Database) -> None:
    asked: list[str] = []
    event.listen(database.engine, "before_cursor_execute", lambda *arguments: asked.append(arguments[2]))
    value(scrape(database), "database_up")
    on_postgres = database.engine.dialect.name == "postgresql"
    explain = "EXPLAIN" if on_postgres else "EXPLAIN QUERY PLAN"

    for status in ("queued", "running", "paused"):
        about = next(one for one in asked if f"status = '{status}'" in one)
        with database.readers.begin() as session:
            if on_postgres:
                # Of an empty table Postgres would rather read the whole.
                session.execute(text("SET LOCAL enable_seqscan = off"))
            plan = " ".join(str(row) for row in session.execute(text(f"{explain} {about}")))
        assert f"ix_jobs_{status}" in plan
