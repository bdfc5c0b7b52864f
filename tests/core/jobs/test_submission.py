from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core.database import Database
from core.datasets.lifecycle import DatasetStatus
from core.errors import DatasetNotReady, InvalidSpec
from core.jobs import dry_run, reading, service
from core.jobs.resolution import resolve, steps_needed
from core.jobs.schemas import JobCreate
from core.tables import Job
from core.workers import service as workers
from tests.factories import make_dataset, make_job, make_schema, make_tenant
from trainer.dataset.schema import Column, Finding
from trainer.spec import TrainingSpec


def problems_of(spec: dict[str, Any], **schema: Any) -> dict[str | None, str]:
    with pytest.raises(InvalidSpec) as refusal:
        resolve(TrainingSpec.model_validate(spec), make_schema(**schema))
    return {problem.pointer: problem.code for problem in refusal.value.errors}


def test_a_submitted_job_waits_with_its_first_event(database: Database) -> None:
    with database.sessions.begin() as session:
        job = make_job(session, name="nightly")

    with database.readers.begin() as session:
        events = reading.list_events(session, job.tenant_id, job.id).items
    assert (job.status, job.attempt, job.token, job.queue) == ("queued", 0, 0, "cpu")
    assert [(event.seq, event.type, event.data["status"]) for event in events] == [
        (1, "job.queued", "queued")
    ]


def test_what_is_only_validated_is_not_stored(database: Database) -> None:
    with database.sessions.begin() as session:
        data = make_dataset(session)

    with database.readers.begin() as session:
        resolved = dry_run.validate(session, data.tenant_id, JobCreate(dataset_id=data.id))
        assert session.scalar(select(func.count()).select_from(Job)) == 0
    assert resolved.resolved_spec.target_metrics == ["cpu_percent"]
    assert "target_metrics" in {adjustment.field for adjustment in resolved.adjustments}


def refusal_of(session: Session, tenant_id: str, dataset_id: str) -> InvalidSpec:
    with pytest.raises(InvalidSpec) as refusal:
        service.submit(session, tenant_id, JobCreate(dataset_id=dataset_id))
    return refusal.value


def test_a_dataset_that_is_not_there_is_pointed_at(database: Database) -> None:
    with database.sessions.begin() as session:
        data = make_dataset(session)
        stranger = make_tenant(session, "stranger")
        missing = refusal_of(session, data.tenant_id, "ds_nothing")
        foreign = refusal_of(session, stranger.id, data.id)

    for refusal in (missing, foreign):
        assert [(problem.pointer, problem.code) for problem in refusal.errors] == [
            ("/dataset_id", "unknown_dataset")
        ]


def test_a_dataset_still_inspecting_asks_for_patience(sqlite: Database) -> None:
    with sqlite.sessions.begin() as session:
        data = make_dataset(session, status=DatasetStatus.INSPECTING)

        with pytest.raises(DatasetNotReady, match="inspected"):
            service.submit(session, data.tenant_id, JobCreate(dataset_id=data.id))


def test_a_rejected_dataset_says_why(sqlite: Database) -> None:
    with sqlite.sessions.begin() as session:
        data = make_dataset(session, status=DatasetStatus.REJECTED)

        refusal = refusal_of(session, data.tenant_id, data.id)

    assert refusal.errors[0].code == "rejected_dataset"
    assert "The file is empty." in refusal.detail


@pytest.mark.parametrize(
    ("accelerator", "has_gpu", "queue"),
    [("auto", True, "gpu"), ("auto", False, "cpu"), ("cuda", False, "gpu"), ("cpu", True, "cpu")],
)
def test_the_queue_follows_the_accelerator(
    sqlite: Database, accelerator: str, has_gpu: bool, queue: str
) -> None:
    with sqlite.sessions.begin() as session:
        if has_gpu:
            workers.announce(session, name="w", queue="gpu", devices=1, threads=8, hardware={})

        assert make_job(session, training={"accelerator": accelerator}).queue == queue


def test_a_missing_target_is_answered_with_those_that_are_there() -> None:
    with pytest.raises(InvalidSpec) as refusal:
        resolve(TrainingSpec(target_metrics=["cpu_percent", "cpu_load"]), make_schema())

    (problem,) = refusal.value.errors
    assert problem.pointer == "/training/target_metrics/1"
    assert "cpu_percent, memory_percent, net_in" in problem.detail


def test_a_text_column_is_no_target() -> None:
    assert list(problems_of({"target_metrics": ["region"]})) == ["/training/target_metrics/0"]


def test_every_problem_is_told_at_once() -> None:
    spec = {"target_metrics": ["nope"], "static_categoricals": ["net_in"], "max_minutes": 5.0}

    assert set(problems_of(spec)) == {
        "/training/target_metrics/0",
        "/training/static_categoricals/0",
        "/training/max_minutes",
    }


def test_local_limits_are_not_for_the_service() -> None:
    assert problems_of({"max_minutes": 5.0}) == {"/training/max_minutes": "not_supported"}


def test_series_too_short_for_one_window_are_refused() -> None:
    lengths = {"min": 100, "median": 150, "max": 160}

    assert problems_of({}, series_lengths=lengths) == {"/training/encoder_length": "series_too_short"}


def test_what_is_needed_covers_window_and_tails() -> None:
    spec = TrainingSpec(encoder_length=96, horizon=24, validation_split=0.2, test_split=0.1)

    assert steps_needed(spec, 288) == 96 + 24 + 58 + 29
    assert steps_needed(spec.model_copy(update={"test_split": 0.0}), 100) == 96 + 24 + 24


def test_gaps_are_refused_where_they_were_not_wanted() -> None:
    gaps = Finding(code="gaps", detail="3 series have gaps.", series_count=3, row_count=9, examples=[])

    found = problems_of({"missing_policy": "error"}, findings=[gaps])

    assert found == {"/training/missing_policy": "has_gaps"}


def test_a_constant_target_and_short_series_are_warned_of() -> None:
    flat = Column(name="cpu_percent", type="numeric", missing_count=0, minimum=5, maximum=5, mean=5)
    time = Column(name="timestamp", type="time", missing_count=0)
    lengths = {"min": 10, "median": 288, "max": 288}
    schema = make_schema(columns=[time, flat], group_columns=[], series_lengths=lengths)

    warnings = resolve(TrainingSpec(), schema).warnings

    assert {warning.code for warning in warnings} == {"constant_target", "series_too_short"}


@pytest.mark.parametrize(
    "body",
    [
        {"labels": {"bad key": "x"}},
        {"labels": {'a"b': "x"}},
        {"labels": {"k": "line\nbreak"}},
        {"labels": {"k": "nul\x00"}},
        {"name": ""},
        {"name": "nul\x00"},
        {"priority": 101},
        {"priority": True},
        {"limits": {"max_attempts": 0}},
        {"unknown": 1},
    ],
)
def test_a_body_the_database_could_not_hold_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        JobCreate.model_validate({"dataset_id": "ds_1"} | body)
