from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select, update

from core.database import Database, db_now, later
from core.jobs import claiming, reading, service, verbs
from core.jobs.claim import ClaimedJob
from core.jobs.lifecycle import JobStatus, RequeueReason
from core.tables import Job
from tests.factories import make_dataset, make_job, make_tenant
from tests.statements import sqlite_plan, statements


def claim(db: Database, worker_name: str = "worker-1", queue: str = "cpu") -> ClaimedJob | None:
    with db.sessions.begin() as session:
        return service.claim(session, queue, worker_name, lease_seconds=30)


def claimed_names(db: Database) -> list[str | None]:
    """Claims all there is and finishes each at once; names in order of service."""
    names = []
    while (claimed := claim(db)) is not None:
        with db.sessions.begin() as session:
            names.append(session.get_one(Job, claimed.job_id).name)
            service.finish(session, claimed.job_id, claimed.token, "completed", {})
    return names


def at_once(count: int, act: Callable[[int], object]) -> None:
    """Runs `act` in so many threads that all start together; raises what one of them raised."""
    gate = threading.Barrier(count)

    def start(number: int) -> None:
        gate.wait()
        act(number)

    with ThreadPoolExecutor(count) as pool:
        list(pool.map(start, range(count)))


def test_one_job_has_one_winner_among_eight_workers(database: Database) -> None:
    with database.sessions.begin() as session:
        job_id = make_job(session).id
    winners: list[ClaimedJob] = []

    def compete(number: int) -> None:
        claimed = claim(database, f"worker-{number}")
        if claimed is not None:
            winners.append(claimed)

    at_once(8, compete)

    assert [winner.job_id for winner in winners] == [job_id]


@pytest.mark.slow
def test_eight_workers_share_forty_jobs_without_a_double(database: Database) -> None:
    with database.sessions.begin() as session:
        data = make_dataset(session)
        expected = {make_job(session, dataset=data).id for _ in range(40)}
    taken: list[str] = []

    def drain(number: int) -> None:
        while (claimed := claim(database, f"worker-{number}")) is not None:
            taken.append(claimed.job_id)

    at_once(8, drain)

    assert Counter(taken) == Counter(expected)


def test_a_claim_says_all_a_worker_needs(database: Database) -> None:
    with database.sessions.begin() as session:
        job = make_job(session, training={"epochs": 3, "random_seed": 7}, limits={"max_runtime_seconds": 60})
        data = make_dataset(session)

    claimed = claim(database)

    assert claimed is not None
    assert (claimed.job_id, claimed.attempt, claimed.token, claimed.seed) == (job.id, 1, 1, 7)
    assert claimed.spec.epochs == 3
    assert claimed.dataset.dataset_id == job.dataset_id != data.id
    assert claimed.dataset.schema.series_count == 10
    assert claimed.remaining_runtime_seconds == 60
    assert (claimed.checkpoint, claimed.has_weights, claimed.memory_kills) == (None, False, 0)


def test_a_claim_opens_an_attempt_and_writes_an_event(database: Database) -> None:
    with database.sessions.begin() as session:
        job = make_job(session)

    claim(database, "gpu-box-3")

    with database.readers.begin() as session:
        read = reading.get_job(session, job.tenant_id, job.id)
        attempts = reading.list_attempts(session, job.tenant_id, job.id)
        events = reading.list_events(session, job.tenant_id, job.id).items
    assert (read.status, read.phase, read.attempt) == (JobStatus.RUNNING, "preparing", 1)
    assert read.started_at is not None
    assert [(attempt.attempt, attempt.worker_name) for attempt in attempts] == [(1, "gpu-box-3")]
    assert [(event.seq, event.type) for event in events] == [(1, "job.queued"), (2, "job.running")]
    assert events[1].data == {"status": "running", "attempt": 1, "worker": "gpu-box-3"}


def test_higher_priority_goes_first_then_age(sqlite: Database) -> None:
    with sqlite.sessions.begin() as session:
        for name, priority in [("old", 0), ("young", 0), ("urgent", 5), ("idle", -5)]:
            make_job(session, name=name, priority=priority)

    assert claimed_names(sqlite) == ["urgent", "old", "young", "idle"]


def test_tenants_take_turns_however_many_jobs_one_has(database: Database) -> None:
    with database.sessions.begin() as session:
        big, small = make_tenant(session, "big"), make_tenant(session, "small")
        for number in range(4):
            make_job(session, tenant=big, name=f"big-{number}", priority=9)
        for number in range(2):
            make_job(session, tenant=small, name=f"small-{number}")

    assert claimed_names(database) == ["big-0", "small-0", "big-1", "small-1", "big-2", "big-3"]


def test_a_tenant_with_less_running_is_served_first(database: Database) -> None:
    with database.sessions.begin() as session:
        busy, idle = make_tenant(session, "busy"), make_tenant(session, "idle")
        make_job(session, JobStatus.RUNNING, tenant=idle)
        for _ in range(2):
            make_job(session, JobStatus.RUNNING, tenant=busy)
        make_job(session, tenant=busy, name="of-busy", priority=9)
        # Longest unserved would be `busy`; what runs now counts more.
        make_job(session, tenant=idle, name="of-idle")

    claimed = claim(database)

    assert claimed is not None
    with database.readers.begin() as session:
        assert session.get_one(Job, claimed.job_id).name == "of-idle"


def test_workers_at_once_take_the_most_urgent_jobs(database: Database) -> None:
    with database.sessions.begin() as session:
        data = make_dataset(session)
        jobs = [make_job(session, dataset=data, priority=number) for number in range(8)]
    taken: list[str] = []

    def take_one(number: int) -> None:
        claimed = claim(database, f"worker-{number}")
        assert claimed is not None
        taken.append(claimed.job_id)

    at_once(4, take_one)

    assert set(taken) == {job.id for job in jobs[4:]}


def claimed_at_once(db: Database, workers: int) -> list[ClaimedJob]:
    """What so many workers claim that all ask in the same moment."""
    found: list[ClaimedJob | None] = []
    at_once(workers, lambda number: found.append(claim(db, f"worker-{number}")))
    return [one for one in found if one is not None]


def test_workers_at_once_serve_a_small_tenant_beside_a_big_one(database: Database) -> None:
    with database.sessions.begin() as session:
        for name, count in (("big", 24), ("small", 6)):
            tenant = make_tenant(session, name)
            data = make_dataset(session, tenant)
            for _ in range(count):
                make_job(session, tenant=tenant, dataset=data, name=name, priority=9 if name == "big" else 0)
    served: list[str | None] = []
    # Round by round: a worker that gets no turn to finish its job would count as its tenant's share.
    while claimed := claimed_at_once(database, workers=4):
        with database.sessions.begin() as session:
            for one in claimed:
                served.append(session.get_one(Job, one.job_id).name)
                service.finish(session, one.job_id, one.token, "completed", {})

    assert Counter(served) == {"big": 24, "small": 6}
    # Taking turns, the last of six comes twelfth; four workers that choose at once may be off by one each.
    assert max(place for place, name in enumerate(served) if name == "small") < 12 + 8


def test_positions_in_the_queue_are_the_order_of_service(database: Database) -> None:
    with database.sessions.begin() as session:
        big, small = make_tenant(session, "big"), make_tenant(session, "small")
        jobs = [make_job(session, tenant=big, name=f"big-{number}") for number in range(3)]
        jobs += [make_job(session, tenant=small, name=f"small-{number}") for number in range(2)]

    with database.readers.begin() as session:
        places = {job.name: reading.read_job(session, job).queue for job in jobs}

    in_line = sorted(places, key=lambda name: places[name].position)  # type: ignore[union-attr]  # all are queued
    assert in_line == claimed_names(database) == ["big-0", "small-0", "big-1", "small-1", "big-2"]


def test_a_worker_claims_only_from_its_queue_and_within_its_devices(database: Database) -> None:
    with database.sessions.begin() as session:
        job = make_job(session, training={"accelerator": "cuda"})
        session.execute(update(Job).where(Job.id == job.id).values(devices=2))

    assert claim(database, queue="cpu") is None
    assert claim(database, queue="gpu") is None
    with database.sessions.begin() as session:
        assert service.claim(session, "gpu", "worker-1", 30, devices=2) is not None


def test_a_job_is_not_claimed_before_its_time(database: Database) -> None:
    with database.sessions.begin() as session:
        job = make_job(session)
        session.execute(update(Job).where(Job.id == job.id).values(not_before=later(db_now(), 60)))
    assert claim(database) is None
    with database.sessions.begin() as session:
        assert claiming.count_claimable(session) == {}
        session.execute(update(Job).where(Job.id == job.id).values(not_before=later(db_now(), -1)))

    assert claim(database) is not None


def test_cancel_of_a_queued_job_never_starts_it(database: Database) -> None:
    with database.sessions.begin() as session:
        job = make_job(session)
        verbs.cancel(session, job.tenant_id, job.id)

    assert claim(database) is None


def test_cancel_and_claim_at_once_agree_on_what_happened(database: Database) -> None:
    for _ in range(10):
        with database.sessions.begin() as session:
            job = make_job(session)
        claims: list[ClaimedJob | None] = []

        def race(number: int, job: Job = job, claims: list[ClaimedJob | None] = claims) -> None:
            if number:
                claims.append(claim(database))
            else:
                with database.sessions.begin() as session:
                    verbs.cancel(session, job.tenant_id, job.id)

        at_once(2, race)

        with database.sessions.begin() as session:
            row = session.scalars(select(Job).where(Job.id == job.id)).one()
            if claims == [None]:
                assert row.status is JobStatus.CANCELLED
            else:
                assert (row.status, row.attempt) == (JobStatus.RUNNING, 1)
                assert row.cancel_requested_at is not None
                service.cancelled(session, job.id, row.token)


def store(db: Database, claimed: ClaimedJob, name: str, step: int) -> None:
    with db.sessions.begin() as session:
        service.register_checkpoint(
            session,
            claimed.job_id,
            claimed.token,
            name=name,
            key=f"key-{name}-{step}",
            size_bytes=step,
            sha256=f"{step:064}",
            step=step,
            epoch=1,
            val_loss=None,
        )


def next_attempt(db: Database, claimed: ClaimedJob, reason: RequeueReason) -> ClaimedJob:
    with db.sessions.begin() as session:
        service.requeue(session, claimed.job_id, claimed.token, reason)
        session.execute(update(Job).values(not_before=None))
    again = claim(db)
    assert again is not None
    return again


def test_the_next_attempt_goes_on_from_the_newest_state_and_knows_the_ones_before(database: Database) -> None:
    with database.sessions.begin() as session:
        make_job(session)
    first = claim(database)
    assert first is not None
    for step in (10, 20):
        store(database, first, "resume.safetensors", step)
    second = next_attempt(database, first, RequeueReason.DRAINED)
    store(database, second, "resume.safetensors", 30)

    third = next_attempt(database, second, RequeueReason.DRAINED)

    assert second.checkpoint is not None
    assert (second.checkpoint.storage_key, second.checkpoint.step) == ("key-resume.safetensors-20", 20)
    assert [(one.attempt, one.step) for one in third.checkpoints] == [(2, 30), (1, 20), (1, 10)]


def test_weights_of_an_earlier_attempt_are_no_state_to_go_on_from(database: Database) -> None:
    with database.sessions.begin() as session:
        make_job(session)
    first = claim(database)
    assert first is not None
    store(database, first, "last.ckpt", 10)

    second = next_attempt(database, first, RequeueReason.DRAINED)

    assert (second.checkpoint, second.has_weights) == (None, True)


def test_a_claim_says_how_often_memory_did_not_suffice(database: Database) -> None:
    with database.sessions.begin() as session:
        make_job(session, limits={"max_attempts": 9})
    claimed = claim(database)
    assert claimed is not None
    killed = RequeueReason.OUT_OF_MEMORY

    for reason in (killed, RequeueReason.CRASHED, killed, RequeueReason.DRAINED):
        claimed = next_attempt(database, claimed, reason)

    assert (claimed.attempt, claimed.memory_kills) == (5, 2)


def test_running_time_of_earlier_attempts_is_taken_off(database: Database) -> None:
    with database.sessions.begin() as session:
        job = make_job(session, limits={"max_runtime_seconds": 100})
    first = claim(database)
    assert first is not None
    with database.sessions.begin() as session:
        session.execute(update(Job).values(claimed_at=later(Job.claimed_at, -40)))
        service.requeue(session, job.id, first.token, RequeueReason.DRAINED)

    second = claim(database)

    assert second is not None
    assert second.remaining_runtime_seconds is not None
    assert 55 < second.remaining_runtime_seconds <= 60


def test_a_claim_looks_at_one_job_of_each_tenant_however_many_wait_or_have_ended(sqlite: Database) -> None:
    with sqlite.sessions.begin() as session:
        for _ in range(2):
            make_job(session)

    with statements(sqlite.engine) as sent:
        assert claim(sqlite) is not None

    choosing = [one for one in sent if one[0].startswith("SELECT") and "last_served" in one[0]]
    locking = [one for one in sent if one[0].startswith("SELECT jobs_1.id")]
    steps = [step for one in (*choosing, *locking) for step in sqlite_plan(sqlite.engine, *one)]
    by_tenant = "USING INDEX ix_jobs_queued (tenant_id=? AND queue=?)"
    assert len([step for step in steps if by_tenant in step]) == 2
    assert not [step for step in steps if step.startswith("SCAN jobs")]
    # What few tenants there are is sorted, the jobs are not.
    assert len([step for step in steps if "TEMP B-TREE" in step]) == 1
