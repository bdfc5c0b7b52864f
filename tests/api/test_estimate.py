"""What a job would be: asked for over HTTP, and nothing is stored."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import update

from core.jobs.lifecycle import JobStatus
from core.tables import Job
from tests.api.conftest import RunningApi
from tests.api.test_problems import is_problem
from tests.factories import make_dataset, make_job, make_schema, make_tenant
from trainer.dataset.schema import Finding

TRAINING = {"encoder_length": 48, "horizon": 12, "epochs": 2, "batch_size": 32, "hidden_size": 16}
PROGRESS = {
    "fraction": 1.0,
    "epoch": 2,
    "epochs": 2,
    "step": 10,
    "total_steps": 10,
    "windows_per_second": None,
    "eta_at": None,
    "updated_at": "2026-11-22T12:00:00Z",
}


@pytest.fixture
def dataset_id(any_api: RunningApi) -> str:
    gaps = Finding(code="gaps", detail="3 steps are missing.", series_count=1, row_count=3, examples=[])
    with any_api.db.sessions.begin() as session:
        return make_dataset(session, make_tenant(session), schema=make_schema(findings=[gaps])).id


def estimate(api: RunningApi, dataset_id: str, **more: Any) -> dict[str, Any]:
    answer = api.client.post(
        "/v1/jobs/estimate", json={"dataset_id": dataset_id, "training": TRAINING} | more
    )
    assert answer.status_code == 200, answer.text
    read: dict[str, Any] = answer.json()
    return read


def job_at(api: RunningApi, windows_per_second: float, **training: Any) -> None:
    """A job that has ended, and had this speed."""
    with api.db.sessions.begin() as session:
        job = make_job(session, JobStatus.SUCCEEDED, make_tenant(session), training=TRAINING | training)
        progress = PROGRESS | {"windows_per_second": windows_per_second}
        session.execute(update(Job).where(Job.id == job.id).values(progress=progress))


def test_an_estimate_says_what_the_job_would_be_and_stores_nothing(
    any_api: RunningApi, dataset_id: str
) -> None:
    before = any_api.leftovers()

    said = estimate(any_api, dataset_id)

    assert any_api.leftovers() == before
    assert any_api.broker.nudged == []
    assert said["resolved_spec"]["target_metrics"] == ["cpu_percent"]
    assert "target_metrics" in [adjustment["field"] for adjustment in said["adjustments"]]
    assert {"code": "gaps", "message": "3 steps are missing."} in said["warnings"]
    # Ten series of 288 steps; tails of 58 and 29.
    assert said["train_windows"] == {"low": 10 * 142, "high": 10 * 142}
    assert said["steps"] == {"low": 90, "high": 90}
    assert said["parameters"]["low"] == said["parameters"]["high"] > 1000
    assert said["memory_bytes"]["low"] > 45 * 2**20
    assert said["queue"] == {
        "position": 1,
        "reason": "No live worker can hold it: none serves the queue cpu.",
    }


def test_without_any_speed_seen_there_is_no_duration(any_api: RunningApi, dataset_id: str) -> None:
    said = estimate(any_api, dataset_id)

    assert (said["duration_seconds"], said["speed"]) == (None, None)


def test_the_duration_spans_the_speeds_of_jobs_alike(any_api: RunningApi, dataset_id: str) -> None:
    for speed in (100.0, 400.0):
        job_at(any_api, speed)
    job_at(any_api, 9000.0, hidden_size=8)
    job_at(any_api, 9000.0, devices=2)

    said = estimate(any_api, dataset_id, limits={"max_runtime_seconds": 20})

    assert said["speed"] == {
        "windows_per_second_low": 100.0,
        "windows_per_second_high": 400.0,
        "job_count": 2,
        "alike": True,
    }
    assert said["duration_seconds"] == {"low": 7, "high": 29}
    assert "time_limit_likely" in [warning["code"] for warning in said["warnings"]]


def test_speeds_of_other_jobs_stand_in_and_that_is_said(any_api: RunningApi, dataset_id: str) -> None:
    job_at(any_api, 9000.0, hidden_size=8)

    assert estimate(any_api, dataset_id)["speed"]["alike"] is False


def test_a_job_would_stand_behind_those_that_wait(any_api: RunningApi, dataset_id: str) -> None:
    with any_api.db.sessions.begin() as session:
        for _ in range(2):
            make_job(session, tenant=make_tenant(session))

    assert estimate(any_api, dataset_id)["queue"]["position"] == 3
    assert estimate(any_api, dataset_id, priority=5)["queue"]["position"] == 1


def test_an_estimate_refuses_what_a_job_would(any_api: RunningApi, dataset_id: str) -> None:
    for training, pointer in (
        ({"target_metrics": ["absent"]}, "/training/target_metrics/0"),
        ({"encoder_length": 2000}, "/training/encoder_length"),
    ):
        answer = any_api.client.post(
            "/v1/jobs/estimate", json={"dataset_id": dataset_id, "training": training}
        )
        assert is_problem(answer, 422, "invalid_spec")["errors"][0]["pointer"] == pointer


def test_a_dry_run_takes_no_idempotency_key(any_api: RunningApi, dataset_id: str) -> None:
    body = {"dataset_id": dataset_id, "training": TRAINING}
    key = {"Idempotency-Key": "once"}
    before = any_api.leftovers()

    said = any_api.client.post("/v1/jobs?validate_only=true", json=body, headers=key)

    assert said.status_code == 200
    assert any_api.leftovers() == before
    assert [warning["code"] for warning in said.json()["warnings"]] == ["gaps"]
    assert any_api.client.post("/v1/jobs", json=body, headers=key).status_code == 201
