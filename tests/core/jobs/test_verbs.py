"""What an owner may ask for, in every status."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import Select, func, select, update
from sqlalchemy import Table as SqlTable
from sqlalchemy.orm import Session

from core.database import Database, later
from core.datasets import service as datasets
from core.errors import Conflict, InUse, InvalidTransition, NotFound, StaleRevision
from core.jobs import reading, service, verbs
from core.jobs.claim import ClaimedJob
from core.jobs.lifecycle import FailureReason, JobStatus, RequeueReason
from core.jobs.schemas import JobChange, JobRead
from core.tables import Job, JobEvent, Table
from tests.factories import claim_job, make_job, make_tenant

Verb = Callable[[Session, str, str], Job]
VERBS: dict[str, Verb] = {
    "cancel": verbs.cancel,
    "pause": verbs.pause,
    "resume": verbs.resume,
    "retry": verbs.retry,
}
QUEUED, RUNNING, PAUSED = JobStatus.QUEUED, JobStatus.RUNNING, JobStatus.PAUSED
CANCELLED = JobStatus.CANCELLED
# What each verb makes of each status; where nothing stands, it is refused.
TABLE: dict[JobStatus, dict[str, JobStatus]] = {
    QUEUED: {"cancel": CANCELLED, "pause": PAUSED},
    RUNNING: {"cancel": RUNNING, "pause": RUNNING},
    PAUSED: {"cancel": CANCELLED, "pause": PAUSED, "resume": QUEUED},
    JobStatus.SUCCEEDED: {},
    JobStatus.FAILED: {"retry": QUEUED},
    CANCELLED: {"cancel": CANCELLED, "retry": QUEUED},
}


def changes(job: Job) -> tuple[object, ...]:
    """What no refused or repeated verb may touch."""
    wishes = (job.cancel_requested_at, job.pause_requested_at)
    return (job.status, job.revision, job.last_seq, job.queued_at, *wishes)


def apply(session: Session, job: Job, verb: str) -> Job:
    return VERBS[verb](session, job.tenant_id, job.id)


def read(db: Database, job: Job | ClaimedJob) -> JobRead:
    job_id = job.id if isinstance(job, Job) else job.job_id
    with db.readers.begin() as session:
        return reading.get_job(session, job.tenant_id, job_id)


@pytest.mark.parametrize("status", JobStatus)
def test_each_verb_does_what_the_table_says_and_once_only(database: Database, status: JobStatus) -> None:
    for verb in VERBS:
        with database.sessions.begin() as session:
            job = make_job(session, status)
            before = changes(job)
            if verb in TABLE[status]:
                assert apply(session, job, verb).status is TABLE[status][verb], verb
                after = changes(job)

                assert changes(apply(session, job, verb)) == after, verb
            else:
                with pytest.raises(InvalidTransition) as refusal:
                    apply(session, job, verb)

                assert set(refusal.value.allowed) == TABLE[status].keys(), verb
                session.refresh(job)
                assert changes(job) == before, verb


@pytest.mark.parametrize(("wish", "other"), [("cancel", "pause"), ("pause", "cancel")])
def test_a_running_job_notes_each_wish_once_and_no_pause_after_a_cancel(
    database: Database, wish: str, other: str
) -> None:
    with database.sessions.begin() as session:
        job = make_job(session, RUNNING)
        apply(session, job, wish)
        apply(session, job, other)
        apply(session, job, wish)

        types = session.scalars(select(JobEvent.type).where(JobEvent.job_id == job.id)).all()

    noted = [kind for kind in types if kind.endswith("_requested")]
    both = ["job.pause_requested", "job.cancel_requested"]
    assert noted == (both if wish == "pause" else ["job.cancel_requested"])


def test_a_paused_job_is_not_claimed_until_it_is_resumed(database: Database) -> None:
    with database.sessions.begin() as session:
        job = make_job(session)
        apply(session, job, "pause")
        assert service.claim(session, "cpu", "worker-1", 30) is None

        apply(session, job, "resume")

        assert service.claim(session, "cpu", "worker-1", 30) is not None
        assert (job.pause_requested_at, job.reason_code) == (None, None)


def test_a_resumed_job_waits_anew_and_goes_on_from_its_state(database: Database) -> None:
    with database.sessions.begin() as session:
        job = make_job(session, limits={"max_pending_seconds": 60})
        first = claim_job(session, job)
        store(session, first, "resume.safetensors")
        verbs.pause(session, job.tenant_id, job.id)
        service.paused(session, job.id, first.token)
        session.execute(update(Job).values(queued_at=later(Job.queued_at, -600)))

        apply(session, job, "resume")

        assert service.fail_overdue(session) == []
        again = claim_job(session, job)
    assert [state.attempt for state in again.checkpoints] == [1]


def test_a_queued_job_that_was_not_resumed_cannot_be(database: Database) -> None:
    with database.sessions.begin() as session:
        job = make_job(session, PAUSED)
        apply(session, job, "resume")
        lost = claim_job(session, job)
        service.requeue(session, job.id, lost.token, RequeueReason.WORKER_LOST)

        with pytest.raises(InvalidTransition):
            apply(session, job, "resume")


def store(session: Session, claimed: ClaimedJob, name: str) -> None:
    service.register_checkpoint(
        session,
        claimed.job_id,
        claimed.token,
        name=name,
        key=f"{name}-{claimed.attempt}",
        size_bytes=1,
        sha256="ab" * 32,
        step=1,
        epoch=0,
        val_loss=1.0,
    )


def failed_with_all_used_up(session: Session) -> Job:
    """Out of attempts and of time, with weights and a state stored."""
    job = make_job(session, limits={"max_attempts": 2, "max_runtime_seconds": 100})
    for _ in range(2):
        claimed = claim_job(session, job)
        for name in ("model.ckpt", "resume.safetensors"):
            store(session, claimed, name)
        session.execute(update(Job).values(claimed_at=later(Job.claimed_at, -45)))
        service.requeue(session, job.id, claimed.token, RequeueReason.OUT_OF_MEMORY)
    session.refresh(job)
    assert job.status is JobStatus.FAILED
    return job


def test_a_retry_from_the_checkpoint_goes_on_with_attempts_and_time_granted_anew(database: Database) -> None:
    with database.sessions.begin() as session:
        job = failed_with_all_used_up(session)

        verbs.retry(session, job.tenant_id, job.id, "checkpoint")
        again = claim_job(session, job)

    assert (again.attempt, again.has_weights, again.memory_kills) == (3, True, 1)
    assert [state.attempt for state in again.checkpoints] == [2, 1]
    assert again.remaining_runtime_seconds == 100
    shown = read(database, job)
    assert (shown.failures, shown.fault, shown.status_reason, shown.finished_at) == (0, None, None, None)
    assert shown.best_checkpoint is not None
    assert shown.usage.running_seconds == pytest.approx(90, abs=5)


def test_a_retry_from_the_beginning_goes_on_from_nothing(database: Database) -> None:
    with database.sessions.begin() as session:
        job = failed_with_all_used_up(session)

        apply(session, job, "retry")
        again = claim_job(session, job)
        session.execute(update(Job).values(claimed_at=later(Job.claimed_at, -101)))
        ended = service.requeue(session, job.id, again.token, RequeueReason.DRAINED)

    assert (again.checkpoints, again.has_weights, again.memory_kills) == ((), False, 0)
    # The checkpoint of an attempt that was not gone on from is no result of this one.
    assert ended is JobStatus.FAILED
    assert read(database, job).best_checkpoint is None


def test_a_retry_is_repeated_only_if_it_starts_at_the_same_place(database: Database) -> None:
    with database.sessions.begin() as session:
        job = make_job(session, CANCELLED)
        verbs.retry(session, job.tenant_id, job.id, "checkpoint")

        verbs.retry(session, job.tenant_id, job.id, "checkpoint")
        with pytest.raises(InvalidTransition):
            verbs.retry(session, job.tenant_id, job.id, "beginning")


def test_a_job_whose_dataset_was_deleted_is_not_retried(database: Database) -> None:
    with database.sessions.begin() as session:
        job = make_job(session, JobStatus.FAILED)
        datasets.delete(session, job.tenant_id, job.dataset_id)

        with pytest.raises(Conflict, match="deleted"):
            apply(session, job, "retry")


def test_a_retried_job_keeps_its_dataset_from_being_deleted(database: Database) -> None:
    with database.sessions.begin() as session:
        job = make_job(session, JobStatus.FAILED)
        apply(session, job, "retry")

        with pytest.raises(InUse):
            datasets.delete(session, job.tenant_id, job.dataset_id)


def test_labels_and_priority_change_under_the_revision_they_were_read_at(database: Database) -> None:
    with database.sessions.begin() as session:
        job = make_job(session, labels={"env": "test"})
        wanted = JobChange(revision=job.revision, labels={"team": "edge"}, priority=7)

        changed = verbs.change(session, job.tenant_id, job.id, wanted)
        assert (changed.labels, changed.priority, changed.revision) == ({"team": "edge"}, 7, 2)
        with pytest.raises(StaleRevision):
            verbs.change(session, job.tenant_id, job.id, wanted)

        same = JobChange(revision=2, priority=7)
        assert verbs.change(session, job.tenant_id, job.id, same).revision == 2
    with database.readers.begin() as session:
        events = reading.list_events(session, job.tenant_id, job.id).items
    assert [event.type for event in events] == ["job.queued", "job.changed"]


def test_a_raised_priority_is_served_first(database: Database) -> None:
    with database.sessions.begin() as session:
        make_job(session)
        job = make_job(session)
        verbs.change(session, job.tenant_id, job.id, JobChange(revision=1, priority=1))

        claimed = service.claim(session, "cpu", "worker-1", 30)

    assert claimed is not None
    assert claimed.job_id == job.id


def test_a_job_that_has_ended_is_deleted_with_all_that_hangs_on_it(database: Database) -> None:
    with database.sessions.begin() as session:
        other = make_job(session, RUNNING)
        job = make_job(session)
        claimed = claim_job(session, job)
        store(session, claimed, "model.ckpt")
        service.record_log_chunk(session, job.id, claimed.token, "line")
        service.fail(session, job.id, claimed.token, FailureReason.DIVERGED, "The loss is not finite.")

        assert verbs.delete(session, job.tenant_id, job.id) == ["model.ckpt-1"]

        hanging = [table for table in Table.metadata.sorted_tables if "job_id" in table.c]
        rows = {table.name: session.scalar(rows_of(table, job.id)) for table in hanging}
        assert len(rows) > 4
        assert set(rows.values()) == {0}
        assert session.scalars(select(Job.id)).all() == [other.id]


def rows_of(table: SqlTable, job_id: str) -> Select[int]:
    return select(func.count()).select_from(table).where(table.c.job_id == job_id)


@pytest.mark.parametrize("status", [QUEUED, RUNNING, PAUSED])
def test_a_job_that_has_not_ended_is_not_deleted(database: Database, status: JobStatus) -> None:
    with database.sessions.begin() as session:
        job = make_job(session, status)

        with pytest.raises(InvalidTransition, match="cancel it first"):
            verbs.delete(session, job.tenant_id, job.id)


@pytest.mark.parametrize("verb", [*VERBS, "delete"])
def test_another_tenants_job_is_not_there(sqlite: Database, verb: str) -> None:
    with sqlite.sessions.begin() as session:
        job = make_job(session)
        stranger = make_tenant(session, "stranger")

        with pytest.raises(NotFound):
            getattr(verbs, verb)(session, stranger.id, job.id)
