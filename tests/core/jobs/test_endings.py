from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select, update

from core.database import Database, db_now, later
from core.jobs import endings, reading, repository, service, verbs
from core.jobs.claim import ClaimedJob
from core.jobs.events import NewEvent
from core.jobs.lifecycle import MAX_PREEMPTIONS, TRANSITIONS, FailureReason, JobStatus, RequeueReason
from core.jobs.schemas import JobRead
from core.tables import Artifact, Job
from tests.factories import claim_job, expire_lease, make_job


def run(db: Database, **body: object) -> ClaimedJob:
    with db.sessions.begin() as session:
        return claim_job(session, make_job(session, **body))  # type: ignore[arg-type]  # fields of JobCreate


def read(db: Database, claimed: ClaimedJob) -> JobRead:
    with db.readers.begin() as session:
        return reading.get_job(session, claimed.tenant_id, claimed.job_id)


def lose(db: Database, claimed: ClaimedJob) -> list[tuple[str, JobStatus]]:
    with db.sessions.begin() as session:
        expire_lease(session, claimed.job_id)
        return service.requeue_lost(session)


def requeue(db: Database, claimed: ClaimedJob, reason: RequeueReason) -> JobStatus:
    with db.sessions.begin() as session:
        return service.requeue(session, claimed.job_id, claimed.token, reason, "it broke")


def claim_again(db: Database, claimed: ClaimedJob) -> ClaimedJob:
    with db.sessions.begin() as session:
        return claim_job(session, session.get_one(Job, claimed.job_id))


def store_weights(db: Database, claimed: ClaimedJob, name: str = "model.ckpt") -> None:
    with db.sessions.begin() as session:
        service.register_checkpoint(
            session,
            claimed.job_id,
            claimed.token,
            name=name,
            key="key",
            size_bytes=1,
            sha256="ab" * 32,
            step=1,
            epoch=0,
            val_loss=1.0,
        )


def use_up_runtime(db: Database, claimed: ClaimedJob, seconds: float) -> None:
    with db.sessions.begin() as session:
        earlier = later(Job.claimed_at, -seconds)
        session.execute(update(Job).where(Job.id == claimed.job_id).values(claimed_at=earlier))


def test_a_finished_job_says_why_and_when(database: Database) -> None:
    claimed = run(database)

    with database.sessions.begin() as session:
        service.finish(session, claimed.job_id, claimed.token, "early_stopped", {"val_loss": 0.5})

    job = read(database, claimed)
    assert (job.status, job.is_terminal, job.stop_reason) == (JobStatus.SUCCEEDED, True, "early_stopped")
    assert job.summary == {"val_loss": 0.5}
    assert job.finished_at is not None
    assert job.phase is None
    assert job.heartbeat_at is None


def test_a_wish_that_came_too_late_changes_nothing(database: Database) -> None:
    claimed = run(database)

    with database.sessions.begin() as session:
        verbs.cancel(session, claimed.tenant_id, claimed.job_id)
        service.finish(session, claimed.job_id, claimed.token, "completed", {})

    assert read(database, claimed).status is JobStatus.SUCCEEDED


def test_a_cancelled_run_does_not_finish(sqlite: Database) -> None:
    claimed = run(sqlite)

    with pytest.raises(ValueError, match="cancelled"), sqlite.sessions.begin() as session:
        service.finish(session, claimed.job_id, claimed.token, "cancelled", {})


def test_a_failure_carries_code_message_and_fault(database: Database) -> None:
    claimed = run(database)

    with database.sessions.begin() as session:
        ended = service.fail(
            session, claimed.job_id, claimed.token, FailureReason.INVALID_DATASET, "No column cpu."
        )

    job = read(database, claimed)
    assert ended is job.status is JobStatus.FAILED
    assert job.status_reason is not None
    assert (job.status_reason.code, job.status_reason.message) == ("invalid_dataset", "No column cpu.")
    assert job.fault == "user"


def test_a_job_wished_cancelled_never_reads_as_failed(database: Database) -> None:
    claimed = run(database)

    with database.sessions.begin() as session:
        verbs.cancel(session, claimed.tenant_id, claimed.job_id)
        ended = service.fail(session, claimed.job_id, claimed.token, FailureReason.INTERNAL, "killed")

    job = read(database, claimed)
    assert ended is job.status is JobStatus.CANCELLED
    assert (job.status_reason, job.fault, job.stop_reason) == (None, None, "cancelled")


def test_a_lost_job_is_queued_again_at_once(database: Database) -> None:
    claimed = run(database)

    assert lose(database, claimed) == [(claimed.job_id, JobStatus.QUEUED)]

    job = read(database, claimed)
    assert (job.status, job.attempt, job.failures) == (JobStatus.QUEUED, 1, 1)
    assert job.status_reason is not None
    assert job.status_reason.code == "worker_lost"
    with database.sessions.begin() as session:
        again = service.claim(session, "cpu", "worker-2", 30)
    assert again is not None
    assert (again.attempt, again.token) == (2, 2)


def test_a_lease_that_still_runs_is_left_alone(database: Database) -> None:
    claimed = run(database)

    with database.sessions.begin() as session:
        assert service.requeue_lost(session) == []

    assert read(database, claimed).status is JobStatus.RUNNING


@pytest.mark.parametrize(
    ("wishes", "becomes"),
    [
        (["cancel"], JobStatus.CANCELLED),
        (["pause"], JobStatus.PAUSED),
        (["pause", "cancel"], JobStatus.CANCELLED),
    ],
)
def test_a_wish_outlives_its_worker_and_cancel_beats_pause(
    database: Database, wishes: list[str], becomes: JobStatus
) -> None:
    claimed = run(database, limits={"max_attempts": 1})
    with database.sessions.begin() as session:
        for wish in wishes:
            getattr(verbs, wish)(session, claimed.tenant_id, claimed.job_id)

    assert lose(database, claimed) == [(claimed.job_id, becomes)]

    assert read(database, claimed).failures == 1


def test_a_paused_run_counts_nowhere_and_says_no_reason(database: Database) -> None:
    claimed = run(database)
    with database.sessions.begin() as session:
        verbs.pause(session, claimed.tenant_id, claimed.job_id)
        assert service.paused(session, claimed.job_id, claimed.token) is JobStatus.PAUSED

    job = read(database, claimed)
    assert (job.status, job.failures, job.preemptions, job.status_reason) == ("paused", 0, 0, None)
    with database.readers.begin() as session:
        [attempt] = reading.list_attempts(session, claimed.tenant_id, claimed.job_id)
    assert attempt.outcome == "paused"


def test_a_run_that_stopped_for_a_pause_is_cancelled_where_that_was_wished_meanwhile(
    database: Database,
) -> None:
    claimed = run(database)
    with database.sessions.begin() as session:
        for wish in (verbs.pause, verbs.cancel):
            wish(session, claimed.tenant_id, claimed.job_id)

        assert service.paused(session, claimed.job_id, claimed.token) is JobStatus.CANCELLED


def test_a_job_lost_too_often_fails_as_worker_lost(database: Database) -> None:
    claimed = run(database, limits={"max_attempts": 2})

    lose(database, claimed)
    lose(database, claim_again(database, claimed))

    job = read(database, claimed)
    assert (job.status, job.failures) == (JobStatus.FAILED, 2)
    assert job.status_reason is not None
    assert (job.status_reason.code, job.fault) == ("worker_lost", "platform")


def test_a_job_that_crashes_again_and_again_ends_as_crash_loop(database: Database) -> None:
    claimed = run(database, limits={"max_attempts": 1})

    assert requeue(database, claimed, RequeueReason.CRASHED) is JobStatus.FAILED

    reason = read(database, claimed).status_reason
    assert reason is not None
    assert reason.code == "crash_loop"


def test_a_job_killed_for_memory_too_often_fails_with_the_cure(database: Database) -> None:
    claimed = run(database, limits={"max_attempts": 2})

    assert requeue(database, claimed, RequeueReason.OUT_OF_MEMORY) is JobStatus.QUEUED
    waiting = read(database, claimed).status_reason
    again = claim_again(database, claimed)
    assert requeue(database, again, RequeueReason.OUT_OF_MEMORY) is JobStatus.FAILED

    job = read(database, claimed)
    assert waiting is not None
    assert (waiting.code, waiting.message) == ("out_of_memory", "it broke")
    assert job.status_reason is not None
    assert (job.status_reason.code, job.fault) == ("out_of_memory", "capacity")
    assert job.status_reason.message.startswith("it broke Halve batch_size")


def test_after_a_crash_the_next_try_waits_a_moment(database: Database) -> None:
    claimed = run(database)

    assert requeue(database, claimed, RequeueReason.CRASHED) is JobStatus.QUEUED

    with database.sessions.begin() as session:
        assert service.claim(session, "cpu", "worker-2", 30) is None


def test_a_drain_counts_as_no_failure_until_there_were_too_many(database: Database) -> None:
    claimed = run(database, limits={"max_attempts": 1})

    assert requeue(database, claimed, RequeueReason.DRAINED) is JobStatus.QUEUED
    assert (read(database, claimed).failures, read(database, claimed).preemptions) == (0, 1)

    with database.sessions.begin() as session:
        session.execute(update(Job).values(preemptions=MAX_PREEMPTIONS))
    assert requeue(database, claim_again(database, claimed), RequeueReason.DRAINED) is JobStatus.FAILED


def test_a_job_whose_time_is_up_is_not_queued_again(database: Database) -> None:
    claimed = run(database, limits={"max_runtime_seconds": 60})
    use_up_runtime(database, claimed, 61)

    assert requeue(database, claimed, RequeueReason.WORKER_LOST) is JobStatus.FAILED

    reason = read(database, claimed).status_reason
    assert reason is not None
    assert reason.code == "timed_out"


@pytest.mark.parametrize("name", ["model.ckpt", "last.ckpt"])
def test_with_weights_stored_a_job_whose_time_is_up_has_succeeded(database: Database, name: str) -> None:
    claimed = run(database, limits={"max_runtime_seconds": 60})
    store_weights(database, claimed, name)
    use_up_runtime(database, claimed, 61)

    assert requeue(database, claimed, RequeueReason.WORKER_LOST) is JobStatus.SUCCEEDED

    assert read(database, claimed).stop_reason == "time_limit"


@pytest.mark.parametrize("name", ["model.ckpt", "last.ckpt"])
def test_an_earlier_attempts_weights_are_complete_when_the_time_limit_makes_them_the_result(
    database: Database, name: str
) -> None:
    claimed = run(database, limits={"max_runtime_seconds": 60})
    store_weights(database, claimed, name)
    lose(database, claimed)
    second = claim_again(database, claimed)
    use_up_runtime(database, second, 61)

    assert requeue(database, second, RequeueReason.WORKER_LOST) is JobStatus.SUCCEEDED

    with database.readers.begin() as session:
        assert session.scalars(select(Artifact.complete)).all() == [True]


def test_a_state_to_resume_from_is_no_result(sqlite: Database) -> None:
    claimed = run(sqlite, limits={"max_runtime_seconds": 60})
    store_weights(sqlite, claimed, "resume.safetensors")
    use_up_runtime(sqlite, claimed, 61)

    assert requeue(sqlite, claimed, RequeueReason.WORKER_LOST) is JobStatus.FAILED


def test_a_job_cancelled_while_it_waits_again_does_not_read_as_crashed(database: Database) -> None:
    claimed = run(database)
    requeue(database, claimed, RequeueReason.CRASHED)

    with database.sessions.begin() as session:
        verbs.cancel(session, claimed.tenant_id, claimed.job_id)

    job = read(database, claimed)
    assert (job.status, job.stop_reason, job.status_reason) == ("cancelled", "cancelled", None)


def test_running_time_adds_up_over_attempts(database: Database) -> None:
    claimed = run(database)
    use_up_runtime(database, claimed, 100)
    lose(database, claimed)
    second = claim_again(database, claimed)
    use_up_runtime(database, second, 50)

    assert read(database, claimed).usage.running_seconds == pytest.approx(150, abs=5)


def test_each_attempt_tells_how_it_ended(database: Database) -> None:
    claimed = run(database)
    lose(database, claimed)
    second = claim_again(database, claimed)
    with database.sessions.begin() as session:
        service.fail(session, second.job_id, second.token, FailureReason.DIVERGED, "The loss is not finite.")

    with database.readers.begin() as session:
        attempts = reading.list_attempts(session, claimed.tenant_id, claimed.job_id)
    assert [(one.attempt, one.outcome) for one in attempts] == [(1, "worker_lost"), (2, "failed")]
    assert attempts[1].message == "The loss is not finite."
    assert all(one.ended_at is not None for one in attempts)


def test_a_job_that_nobody_takes_fails_in_the_end(database: Database) -> None:
    with database.sessions.begin() as session:
        patient = make_job(session)
        hurried = make_job(session, limits={"max_pending_seconds": 60})
        assert service.fail_overdue(session) == []
        session.execute(update(Job).values(queued_at=later(db_now(), -61)))

        assert service.fail_overdue(session) == [hurried.id]

    with database.readers.begin() as session:
        job = reading.get_job(session, hurried.tenant_id, hurried.id)
        assert reading.get_job(session, patient.tenant_id, patient.id).status is JobStatus.QUEUED
    assert job.status is JobStatus.FAILED
    assert job.status_reason is not None
    assert (job.status_reason.code, job.fault) == ("pending_timeout", "capacity")


def test_whatever_a_message_holds_it_can_be_stored(database: Database) -> None:
    claimed = run(database)
    message = "a\x00b\ud800c" + "x" * 9999

    with database.sessions.begin() as session:
        service.fail(session, claimed.job_id, claimed.token, FailureReason.INTERNAL, message)

    reason = read(database, claimed).status_reason
    assert reason is not None
    assert reason.message.startswith("a\ufffdb?cxxx")
    assert len(reason.message) == endings.MAX_MESSAGE


@pytest.mark.parametrize("start", JobStatus)
def test_a_transition_happens_only_where_the_table_has_it(database: Database, start: JobStatus) -> None:
    for to in JobStatus:
        with database.sessions.begin() as session:
            job = make_job(session, start)
            values = {"reason_code": "internal", "lease_until": later(db_now(), 30)}
            moved = repository.transition(session, job.id, to, NewEvent("job.changed"), values=values)

        assert (moved is not None) == (to in TRANSITIONS[start]), to
        with database.readers.begin() as session:
            events = reading.list_events(session, job.tenant_id, job.id).items
        assert (events[-1].type == "job.changed") == (moved is not None)


def test_events_of_writers_at_once_are_numbered_without_gaps(database: Database) -> None:
    claimed = run(database)

    def write(_: int) -> None:
        for _ in range(5):
            with database.sessions.begin() as session:
                service.record_phase(session, claimed.job_id, claimed.token, "training")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))

    with database.readers.begin() as session:
        events = reading.list_events(session, claimed.tenant_id, claimed.job_id).items
    assert [event.seq for event in events] == list(range(1, 23))
