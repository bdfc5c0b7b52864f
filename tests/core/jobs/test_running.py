"""What the holder of a token may write, and that nobody else may."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core.database import Database
from core.errors import LeaseLost
from core.jobs import reading, recording, service, verbs
from core.jobs.claim import ClaimedJob, RegisteredArtifact
from core.jobs.events import MAX_DATA_BYTES, NewEvent
from core.jobs.lifecycle import FailureReason, RequeueReason
from core.jobs.schemas import JobRead, MetricReport
from core.tables import Artifact, Job, JobEvent, JobLogChunk, JobMetric
from tests.factories import claim_job, expire_lease, make_job
from trainer.events import Adjustment, ProgressReported, Resolved

PROGRESS = ProgressReported(
    fraction=0.5, epoch=1, epochs=2, step=50, total_steps=100, windows_per_second=80.0, eta_seconds=60.0
)
RESOLVED = Resolved(
    resolved_spec={"epochs": 3},
    adjustments=[Adjustment(field="precision", requested="16-mixed", effective="32-true", reason="no GPU")],
    windows={"train": 100, "validation": 20, "test": 10},
    total_steps=12,
    parameters=4567,
)
SHA = "ab" * 32


@pytest.fixture
def claimed(database: Database) -> ClaimedJob:
    with database.sessions.begin() as session:
        return claim_job(session, make_job(session))


def read(db: Database, claimed: ClaimedJob) -> JobRead:
    with db.readers.begin() as session:
        return reading.get_job(session, claimed.tenant_id, claimed.job_id)


def event_types(db: Database, claimed: ClaimedJob) -> list[str]:
    with db.readers.begin() as session:
        return [e.type for e in reading.list_events(session, claimed.tenant_id, claimed.job_id).items]


def put_artifact(session: Session, claimed: ClaimedJob, name: str, key: str) -> RegisteredArtifact:
    return service.register_artifact(
        session,
        claimed.job_id,
        claimed.token,
        name=name,
        key=key,
        size_bytes=3,
        sha256=SHA,
        media_type="text/plain",
    )


def put_checkpoint(
    session: Session, claimed: ClaimedJob, step: int, val_loss: float | None
) -> RegisteredArtifact:
    return service.register_checkpoint(
        session,
        claimed.job_id,
        claimed.token,
        name="model.ckpt",
        key=f"key-{step}",
        size_bytes=3,
        sha256=SHA,
        step=step,
        epoch=1,
        val_loss=val_loss,
    )


def put_metric(session: Session, claimed: ClaimedJob, step: int, value: float | None) -> None:
    report = MetricReport(step=step, epoch=1, values={"val_loss": value})
    service.record_metrics(session, claimed.job_id, claimed.token, [report])


Write = Callable[[Session, str, int], object]
WRITES: dict[str, Write] = {
    "renew_lease": lambda s, j, t: service.renew_lease(s, j, t, 30, PROGRESS),
    "record_phase": lambda s, j, t: service.record_phase(s, j, t, "training"),
    "record_resolved": lambda s, j, t: service.record_resolved(s, j, t, RESOLVED),
    "record_warning": lambda s, j, t: service.record_warning(s, j, t, "flat", "x is flat"),
    "record_metrics": lambda s, j, t: service.record_metrics(
        s, j, t, [MetricReport(step=1, epoch=0, values={"val_loss": 1.0})]
    ),
    "record_log_chunk": lambda s, j, t: service.record_log_chunk(s, j, t, "line\n"),
    "register_artifact": lambda s, j, t: service.register_artifact(
        s, j, t, name="report.html", key="k", size_bytes=1, sha256=SHA, media_type="text/html"
    ),
    "register_checkpoint": lambda s, j, t: service.register_checkpoint(
        s, j, t, name="model.ckpt", key="k", size_bytes=1, sha256=SHA, step=1, epoch=0, val_loss=1.0
    ),
    "finish": lambda s, j, t: service.finish(s, j, t, "completed", {}),
    "fail": lambda s, j, t: service.fail(s, j, t, FailureReason.INTERNAL, "broken"),
    "cancelled": service.cancelled,
    "paused": service.paused,
    "requeue": lambda s, j, t: service.requeue(s, j, t, RequeueReason.CRASHED),
}


@pytest.mark.parametrize("name", WRITES)
def test_a_stale_token_writes_nothing(database: Database, claimed: ClaimedJob, name: str) -> None:
    with database.sessions.begin() as session:
        expire_lease(session, claimed.job_id)
        service.requeue_lost(session)
        second = service.claim(session, "cpu", "worker-2", 30)
    assert second is not None
    before = everything(database)

    with pytest.raises(LeaseLost), database.sessions.begin() as session:
        WRITES[name](session, claimed.job_id, claimed.token)

    assert everything(database) == before


@pytest.mark.parametrize("name", WRITES)
def test_nothing_is_written_after_the_end(database: Database, claimed: ClaimedJob, name: str) -> None:
    with database.sessions.begin() as session:
        service.finish(session, claimed.job_id, claimed.token, "completed", {})
    before = everything(database)

    with pytest.raises(LeaseLost), database.sessions.begin() as session:
        WRITES[name](session, claimed.job_id, claimed.token)

    assert everything(database) == before


def everything(db: Database) -> list[Any]:
    with db.readers.begin() as session:
        rows = [session.execute(select(Job.__table__)).all()]
        rows += [
            session.execute(select(func.count()).select_from(table)).all()
            for table in (JobEvent, JobMetric, JobLogChunk, Artifact)
        ]
        return rows


def test_a_renewal_moves_the_lease_and_tells_progress(database: Database, claimed: ClaimedJob) -> None:
    revision = read(database, claimed).revision
    with database.sessions.begin() as session:
        expire_lease(session, claimed.job_id)
        wishes = service.renew_lease(session, claimed.job_id, claimed.token, 30, PROGRESS)
        assert service.requeue_lost(session) == []

    job = read(database, claimed)
    assert not wishes.cancel
    assert job.progress is not None
    assert (job.progress.fraction, job.progress.step) == (0.5, 50)
    assert job.progress.eta_at == job.progress.updated_at + timedelta(seconds=60)
    assert job.revision == revision


def test_a_renewal_brings_back_the_wish_to_cancel(database: Database, claimed: ClaimedJob) -> None:
    with database.sessions.begin() as session:
        verbs.cancel(session, claimed.tenant_id, claimed.job_id)

    with database.sessions.begin() as session:
        assert service.renew_lease(session, claimed.job_id, claimed.token, 30).cancel


def test_what_the_trainer_resolved_takes_the_place_of_what_the_submission_foresaw(
    database: Database, claimed: ClaimedJob
) -> None:
    assert "precision" not in {adjustment.field for adjustment in read(database, claimed).adjustments}

    with database.sessions.begin() as session:
        service.record_resolved(session, claimed.job_id, claimed.token, RESOLVED)

    job = read(database, claimed)
    by_field = {adjustment.field: adjustment.reason for adjustment in job.adjustments}
    assert by_field == {"precision": RESOLVED.adjustments[0].reason}
    assert job.resolved_spec == {"epochs": 3}
    assert job.plan is not None
    assert job.plan.total_steps == 12


def test_what_is_resolved_anew_within_an_attempt_replaces_all_of_the_first(
    database: Database, claimed: ClaimedJob
) -> None:
    halved = Adjustment(field="batch_size", requested=64, effective=32, reason="memory did not suffice")
    anew = RESOLVED.model_copy(
        update={"resolved_spec": {"batch_size": 32}, "adjustments": [halved], "total_steps": 24}
    )

    with database.sessions.begin() as session:
        service.record_resolved(session, claimed.job_id, claimed.token, RESOLVED)
        service.record_resolved(session, claimed.job_id, claimed.token, anew)

    job = read(database, claimed)
    assert job.resolved_spec == {"batch_size": 32}
    assert job.adjustments == [halved]
    assert job.plan is not None
    assert job.plan.total_steps == 24


def test_the_same_warning_is_kept_once(database: Database, claimed: ClaimedJob) -> None:
    with database.sessions.begin() as session:
        for _ in range(2):
            service.record_warning(session, claimed.job_id, claimed.token, "flat", "disk is flat")

    assert [warning.code for warning in read(database, claimed).warnings].count("flat") == 1
    assert event_types(database, claimed).count("job.warning") == 1


def test_a_metric_reported_again_is_overwritten(database: Database, claimed: ClaimedJob) -> None:
    with database.sessions.begin() as session:
        put_metric(session, claimed, step=10, value=3.0)
        put_metric(session, claimed, step=10, value=2.0)
        put_metric(session, claimed, step=20, value=math.nan)

    with database.readers.begin() as session:
        (series,) = reading.read_metrics(session, claimed.tenant_id, claimed.job_id)
    assert [(point.step, point.value) for point in series.points] == [(10, 2.0), (20, None)]


def test_one_report_may_hold_more_rows_than_one_statement(database: Database, claimed: ClaimedJob) -> None:
    reports = [MetricReport(step=step, epoch=0, values={"a": 1.0, "b": 2.0}) for step in range(600)]

    with database.sessions.begin() as session:
        service.record_metrics(session, claimed.job_id, claimed.token, reports)

    with database.readers.begin() as session:
        series = reading.read_metrics(session, claimed.tenant_id, claimed.job_id, from_step=100)
    assert [(one.name, len(one.points)) for one in series] == [("a", 500), ("b", 500)]


def test_of_each_step_the_latest_attempt_is_shown(database: Database, claimed: ClaimedJob) -> None:
    with database.sessions.begin() as session:
        for step in (10, 20, 30):
            put_metric(session, claimed, step, value=1.0)
        service.requeue(session, claimed.job_id, claimed.token, RequeueReason.WORKER_LOST)
        second = service.claim(session, "cpu", "worker-2", 30)
        assert second is not None
        put_metric(session, second, step=20, value=2.0)

    with database.readers.begin() as session:
        (latest,) = reading.read_metrics(session, claimed.tenant_id, claimed.job_id)
        (first,) = reading.read_metrics(
            session, claimed.tenant_id, claimed.job_id, attempt=1, names=["val_loss"]
        )
        assert reading.read_metrics(session, claimed.tenant_id, claimed.job_id, names=["other"]) == []
    assert [(p.step, p.attempt, p.value) for p in latest.points] == [(10, 1, 1.0), (20, 2, 2.0), (30, 1, 1.0)]
    assert [p.attempt for p in first.points] == [1, 1, 1]


def test_a_log_keeps_its_head_and_its_tail(database: Database, claimed: ClaimedJob) -> None:
    line = "x" * 1023 + "\n"
    with database.sessions.begin() as session:
        service.record_log_chunk(session, claimed.job_id, claimed.token, "the head\x00\n")
        for _ in range(12):
            service.record_log_chunk(session, claimed.job_id, claimed.token, line * 100)
        service.record_log_chunk(session, claimed.job_id, claimed.token, "the end\n")

    with database.readers.begin() as session:
        chunks = reading.list_log_chunks(session, claimed.tenant_id, claimed.job_id, limit=500).items
    assert chunks[0].text == "the head\ufffd\n"
    assert chunks[-1].text == "the end\n"
    kept = sum(len(chunk.text) for chunk in chunks)
    assert recording.LOG_TOTAL_BYTES - recording.CHUNK_CHARACTERS < kept <= recording.LOG_TOTAL_BYTES
    numbers = [chunk.seq for chunk in chunks]
    assert numbers != list(range(numbers[0], numbers[-1] + 1))


def test_a_checkpoint_made_anew_replaces_the_older(database: Database, claimed: ClaimedJob) -> None:
    with database.sessions.begin() as session:
        first = put_checkpoint(session, claimed, step=10, val_loss=3.0)
        second = put_checkpoint(session, claimed, step=20, val_loss=math.inf)

    assert (first.replaced_key, second.replaced_key) == (None, "key-10")
    assert first.artifact_id == second.artifact_id
    with database.readers.begin() as session:
        row = reading.get_artifact(session, claimed.tenant_id, claimed.job_id, "model.ckpt")
    assert (row.storage_key, row.step) == ("key-20", 20)
    best = read(database, claimed).best_checkpoint
    assert best is not None
    assert (best.step, best.val_loss) == (20, None)


def put_state(session: Session, claimed: ClaimedJob, step: int) -> str | None:
    return service.register_checkpoint(
        session,
        claimed.job_id,
        claimed.token,
        name="resume.safetensors",
        key=f"state-{step}",
        size_bytes=1,
        sha256=SHA,
        step=step,
        epoch=0,
        val_loss=None,
    ).replaced_key


def test_the_last_two_states_of_a_run_are_kept_until_it_succeeds(
    database: Database, claimed: ClaimedJob
) -> None:
    def stored() -> dict[str, int | None]:
        with database.readers.begin() as session:
            rows = reading.list_artifacts(session, claimed.tenant_id, claimed.job_id)
        return {row.name: row.step for row in rows}

    with database.sessions.begin() as session:
        replaced = [put_state(session, claimed, step) for step in (10, 20, 30)]
        # The answer to the last was lost, and it is published once more.
        replaced.append(put_state(session, claimed, 30))

    assert replaced == [None, None, "state-10", None]
    assert stored() == {"resume.safetensors": 30, "resume-older.safetensors": 20}

    with database.sessions.begin() as session:
        service.finish(session, claimed.job_id, claimed.token, "completed", {})
    assert stored() == {"resume.safetensors": 30}


def test_artifacts_are_complete_once_the_job_succeeded(database: Database, claimed: ClaimedJob) -> None:
    with database.sessions.begin() as session:
        put_checkpoint(session, claimed, step=10, val_loss=3.0)
    with database.readers.begin() as session:
        (before,) = reading.list_artifacts(session, claimed.tenant_id, claimed.job_id)

    with database.sessions.begin() as session:
        service.finish(session, claimed.job_id, claimed.token, "completed", {})

    with database.readers.begin() as session:
        (after,) = reading.list_artifacts(session, claimed.tenant_id, claimed.job_id)
    assert (before.complete, after.complete) == (False, True)


def test_a_failed_job_still_lists_its_checkpoint(database: Database, claimed: ClaimedJob) -> None:
    with database.sessions.begin() as session:
        put_checkpoint(session, claimed, step=10, val_loss=3.0)
        service.fail(session, claimed.job_id, claimed.token, FailureReason.DIVERGED, "nan")

    with database.readers.begin() as session:
        (artifact,) = reading.list_artifacts(session, claimed.tenant_id, claimed.job_id)
    assert (artifact.name, artifact.complete) == ("model.ckpt", False)


def test_of_two_attempts_the_later_ones_file_is_offered(database: Database, claimed: ClaimedJob) -> None:
    with database.sessions.begin() as session:
        put_artifact(session, claimed, "report.html", "first")
        put_artifact(session, claimed, "metrics.csv", "only-first")
        service.requeue(session, claimed.job_id, claimed.token, RequeueReason.WORKER_LOST)
        second = service.claim(session, "cpu", "worker-2", 30)
        assert second is not None
        put_artifact(session, second, "report.html", "second")

    with database.readers.begin() as session:
        listed = reading.list_artifacts(session, claimed.tenant_id, claimed.job_id)
        row = reading.get_artifact(session, claimed.tenant_id, claimed.job_id, "report.html")
    assert [(artifact.name, artifact.attempt) for artifact in listed] == [
        ("metrics.csv", 1),
        ("report.html", 2),
    ]
    assert row.storage_key == "second"


def test_events_are_numbered_without_gaps(database: Database, claimed: ClaimedJob) -> None:
    with database.sessions.begin() as session:
        service.record_phase(session, claimed.job_id, claimed.token, "training")
        put_checkpoint(session, claimed, step=10, val_loss=3.0)
        put_artifact(session, claimed, "report.html", "k")
        service.finish(session, claimed.job_id, claimed.token, "early_stopped", {"val_loss": 1.0})

    with database.readers.begin() as session:
        events = reading.list_events(session, claimed.tenant_id, claimed.job_id).items
    assert [event.seq for event in events] == [1, 2, 3, 4, 5, 6]
    assert [event.type for event in events] == [
        "job.queued",
        "job.running",
        "job.phase",
        "job.checkpoint",
        "job.artifact",
        "job.succeeded",
    ]
    assert events[-1].data["stop_reason"] == "early_stopped"


def test_an_event_stays_small_whatever_it_tells(sqlite: Database) -> None:
    with sqlite.sessions.begin() as session:
        job = make_job(session)
    event = NewEvent("job.failed", {"message": "ü" * 9000, "columns": ["c" * 200] * 60, "code": "internal"})

    data = event.data(job)

    assert len(str(data).encode()) < MAX_DATA_BYTES
    assert (data["status"], data["code"], data["truncated"]) == ("queued", "internal", True)
