"""Submitting, reading and listing jobs."""

from __future__ import annotations

from typing import Any

import pytest

from core.datasets.lifecycle import DatasetStatus
from core.jobs import service
from core.jobs.lifecycle import JobStatus
from core.jobs.schemas import JobRead, ResolvedTraining
from tests.api.conftest import NOTHING, RunningApi
from tests.api.test_problems import is_problem
from tests.factories import claim_job, make_dataset, make_job, make_tenant
from trainer.events import ProgressReported
from trainer.spec import TrainingSpec

TRAINING = {"target_metrics": ["cpu_percent", "memory_percent"], "encoder_length": 24, "horizon": 6}


def ready_dataset(api: RunningApi, status: DatasetStatus = DatasetStatus.READY) -> str:
    with api.db.sessions.begin() as session:
        return make_dataset(session, make_tenant(session), status).id


def submit(api: RunningApi, dataset_id: str, **more: Any) -> Any:
    return api.client.post("/v1/jobs", json={"dataset_id": dataset_id, "training": TRAINING} | more)


def existing_job(api: RunningApi, status: JobStatus = JobStatus.QUEUED, **body: Any) -> str:
    with api.db.sessions.begin() as session:
        return make_job(session, status, make_tenant(session), training=TRAINING, **body).id


# --- submitting


def test_a_submitted_job_is_queued_and_the_queue_nudged_after_the_commit(any_api: RunningApi) -> None:
    dataset_id = ready_dataset(any_api)
    answer = submit(any_api, dataset_id, name="nightly", labels={"env": "prod"}, priority=7)
    assert answer.status_code == 201, answer.text
    job = JobRead.model_validate(answer.json())
    assert answer.headers["location"] == f"/v1/jobs/{job.id}"
    assert (job.status, job.is_terminal, job.attempt) == (JobStatus.QUEUED, False, 0)
    assert (job.name, job.labels, job.priority) == ("nightly", {"env": "prod"}, 7)
    assert job.dataset_id == dataset_id
    assert isinstance(job.spec, TrainingSpec)
    assert job.spec.target_metrics == ["cpu_percent", "memory_percent"]
    assert job.queue is not None
    assert any_api.broker.nudged == ["cpu"]
    assert any_api.client.get(answer.headers["location"]).json()["id"] == job.id


def test_validate_only_answers_what_would_be_trained_and_stores_nothing(any_api: RunningApi) -> None:
    dataset_id = ready_dataset(any_api)
    answer = any_api.client.post(
        "/v1/jobs?validate_only=true",
        json={"dataset_id": dataset_id, "training": {"target_metrics": ["cpu_percent"]}},
        headers={"Idempotency-Key": "unused"},
    )
    assert answer.status_code == 200, answer.text
    resolved = ResolvedTraining.model_validate(answer.json())
    assert resolved.resolved_spec.target_metrics == ["cpu_percent"]
    assert resolved.resolved_spec.known_covariates
    assert any_api.leftovers() == NOTHING | {"datasets": 1}
    assert any_api.broker.nudged == []
    assert "location" not in answer.headers


def test_validate_only_shows_what_a_preset_fills_in(api: RunningApi) -> None:
    dataset_id = ready_dataset(api)
    body = {"dataset_id": dataset_id, "training": {"preset": "production", "epochs": 3}}

    resolved = api.client.post("/v1/jobs?validate_only=true", json=body).json()["resolved_spec"]

    assert (resolved["preset"], resolved["epochs"]) == ("production", 3)
    assert resolved["accumulate_grad_batches"] == 2
    assert resolved["target_metrics"] == ["cpu_percent", "memory_percent"]
    assert (resolved["auto_lr_find"], resolved["precision"]) == (True, "16-mixed")


def test_validate_only_refuses_what_a_submission_would(api: RunningApi) -> None:
    dataset_id = ready_dataset(api)
    body = {"dataset_id": dataset_id, "training": {"target_metrics": ["disk_percent"]}}
    dry, real = (
        api.client.post("/v1/jobs?validate_only=true", json=body),
        api.client.post("/v1/jobs", json=body),
    )
    assert dry.status_code == real.status_code == 422
    assert dry.json()["errors"] == real.json()["errors"]


def training(**fields: Any) -> dict[str, Any]:
    return {"training": fields}


# The body, the problem's code, where it points, and the code there.
BAD_BODIES: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "misspelt field": (training(epoch=3), "invalid_request", "/training/epoch", "unknown_field"),
    "unknown field": ({"tenant_id": "ten_1"}, "invalid_request", "/tenant_id", "unknown_field"),
    "status by hand": ({"status": "succeeded"}, "invalid_request", "/status", "unknown_field"),
    "unknown limit": ({"limits": {"max_run": 1}}, "invalid_request", "/limits/max_run", "unknown_field"),
    "too large": (training(batch_size=10**6), "invalid_request", "/training/batch_size", "too_large"),
    "too small": (training(epochs=0), "invalid_request", "/training/epochs", "too_small"),
    "wrong type": (training(epochs="3"), "invalid_request", "/training/epochs", "wrong_type"),
    "not one of": (training(precision="8-bit"), "invalid_request", "/training/precision", "not_allowed"),
    "heads": (training(hidden_size=30), "invalid_request", "/training", "heads_do_not_divide"),
    "not built": (training(compile="auto"), "not_supported", "/training/compile", "not_supported"),
    "label key": ({"labels": {"a b": "x"}}, "invalid_request", "/labels/a b", "wrong_form"),
    "label text": ({"labels": {"a": "x\ny"}}, "invalid_request", "/labels/a", "wrong_form"),
    "priority": ({"priority": 1.5}, "invalid_request", "/priority", "wrong_type"),
    "missing target": (
        training(target_metrics=["disk_percent"]),
        "invalid_spec",
        "/training/target_metrics/0",
        "",
    ),
    "text target": (
        training(target_metrics=["cpu_percent", "region"]),
        "invalid_spec",
        "/training/target_metrics/1",
        "",
    ),
    "no such dataset": ({"dataset_id": "ds_" + "0" * 32}, "invalid_spec", "/dataset_id", "unknown_dataset"),
}


@pytest.mark.parametrize("what", BAD_BODIES)
def test_a_bad_body_is_refused_with_its_place_and_stores_nothing(api: RunningApi, what: str) -> None:
    body, code, pointer, error_code = BAD_BODIES[what]
    dataset_id = ready_dataset(api)
    answer = api.client.post(
        "/v1/jobs", json={"dataset_id": dataset_id} | body, headers={"Idempotency-Key": "k"}
    )
    problem = is_problem(answer, 422, code)
    error = problem["errors"][0]
    assert error["pointer"] == pointer
    assert not error_code or error["code"] == error_code
    assert len(error["detail"]) > 15
    assert api.leftovers() == NOTHING | {"datasets": 1}
    assert api.broker.nudged == []


def test_a_misspelt_field_is_told_its_name(api: RunningApi) -> None:
    answer = submit(api, ready_dataset(api), training={"target_metric": ["cpu_percent"]})
    assert "did you mean 'target_metrics'" in answer.json()["detail"]


def test_a_target_that_is_not_there_is_answered_with_those_that_are(api: RunningApi) -> None:
    answer = submit(api, ready_dataset(api), training={"target_metrics": ["disk_percent"]})
    detail = answer.json()["errors"][0]["detail"]
    assert {"cpu_percent", "memory_percent", "net_in"} <= set(
        detail.replace(",", " ").replace(".", " ").split()
    )


def test_several_mistakes_are_told_at_once(api: RunningApi) -> None:
    answer = submit(api, "ds_x", training={"epochs": 0, "batch_size": 0}, prioritty=1)
    problem = is_problem(answer, 422, "invalid_request")
    assert {error["pointer"] for error in problem["errors"]} == {
        "/training/epochs",
        "/training/batch_size",
        "/prioritty",
    }


def test_a_body_that_is_wrong_in_very_many_places_is_refused_briefly(api: RunningApi) -> None:
    answer = api.client.post("/v1/jobs", json={"x" * 5000: 1} | dict.fromkeys(map(str, range(50_000)), 1))
    problem = is_problem(answer, 422, "invalid_request")
    assert len(problem["errors"]) == 20
    assert len(answer.content) < 20_000


@pytest.mark.parametrize(
    ("raw", "status", "code"),
    [
        (b"", 422, "invalid_request"),
        (b"null", 422, "invalid_request"),
        (b"[]", 422, "invalid_request"),
        (b"{", 400, "invalid_json"),
        (b'{"dataset_id":"a","dataset_id":"b"}', 400, "invalid_json"),
        (b'{"dataset_id":"a","priority":NaN}', 400, "invalid_json"),
        (b'{"dataset_id":"a","training":{"dropout":1e999}}', 400, "invalid_json"),
        (b'{"dataset_id":"a","labels":' + b'{"a":' * 100_000, 400, "invalid_json"),
        (b'{"dataset_id":"a\\u0000"}', 400, "invalid_json"),
        (b'{"dataset_id":"\\ud800"}', 400, "invalid_json"),
        (b'{"dataset_id":"' + b"a" * 1_000_000 + b'"}', 422, "invalid_request"),
        (b'{"dataset_id":"' + b"a" * 1_100_000 + b'"}', 413, "too_large"),
        (b'{"priority":' + b"9" * 5000 + b"}", 400, "invalid_json"),
        (b'{"dataset_id":"a","priority":' + b"9" * 400 + b"}", 422, "invalid_request"),
    ],
)
def test_what_is_not_quite_json_is_never_taken_nor_a_500(
    api: RunningApi, raw: bytes, status: int, code: str
) -> None:
    answer = api.client.post("/v1/jobs", content=raw, headers={"Content-Type": "application/json"})
    is_problem(answer, status, code)
    assert len(answer.content) < 5000
    assert api.leftovers() == NOTHING


@pytest.mark.parametrize(
    "content_type", [None, "text/plain", "application/x-www-form-urlencoded", "application/xml"]
)
def test_a_body_that_does_not_say_it_is_json_is_a_415(api: RunningApi, content_type: str | None) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    answer = api.client.post("/v1/jobs", content=b'{"dataset_id":"a"}', headers=headers)
    assert "Content-Type: application/json" in is_problem(answer, 415, "unsupported_media_type")["detail"]


def test_a_dataset_that_is_still_inspecting_is_a_409_worth_repeating(any_api: RunningApi) -> None:
    dataset_id = ready_dataset(any_api, DatasetStatus.INSPECTING)
    problem = is_problem(submit(any_api, dataset_id), 409, "dataset_not_ready")
    assert problem["retryable"] is True
    assert problem["errors"][0]["pointer"] == "/dataset_id"
    assert any_api.leftovers() == NOTHING | {"datasets": 1}


# --- reading


def test_an_unchanged_job_is_a_304_and_a_change_is_not(any_api: RunningApi) -> None:
    with any_api.db.sessions.begin() as session:
        claimed = claim_job(session, make_job(session, tenant=make_tenant(session), training=TRAINING))
    url = f"/v1/jobs/{claimed.job_id}"
    first = any_api.client.get(url)
    assert first.headers["etag"].startswith('W/"')
    assert int(first.headers["retry-after"]) > 0
    assert first.json()["status"] == "running"
    held = {"If-None-Match": first.headers["etag"]}
    with any_api.db.sessions.begin() as session:
        service.renew_lease(session, claimed.job_id, claimed.token, 30)
    unchanged = any_api.client.get(url, headers=held)
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert unchanged.headers["etag"] == first.headers["etag"]
    progress = ProgressReported(
        fraction=0.5, epoch=1, epochs=2, step=5, total_steps=10, windows_per_second=10.0, eta_seconds=1.0
    )
    with any_api.db.sessions.begin() as session:
        service.renew_lease(session, claimed.job_id, claimed.token, 30, progress)
    changed = any_api.client.get(url, headers=held)
    assert changed.status_code == 200
    assert changed.headers["etag"] != first.headers["etag"]
    assert changed.json()["progress"]["step"] == 5


def test_a_job_that_has_ended_says_so_and_asks_for_no_more_polling(api: RunningApi) -> None:
    answer = api.client.get(f"/v1/jobs/{existing_job(api, JobStatus.SUCCEEDED)}")
    assert answer.json()["is_terminal"] is True
    assert answer.json()["stop_reason"] == "completed"
    assert "retry-after" not in answer.headers


def test_a_failed_job_carries_code_reason_and_fault(api: RunningApi) -> None:
    job = api.client.get(f"/v1/jobs/{existing_job(api, JobStatus.FAILED)}").json()
    assert job["status_reason"]["code"] == "diverged"
    assert job["fault"] == "user"


# --- listing


def test_jobs_are_filtered_sorted_and_cut_into_pages(any_api: RunningApi) -> None:
    prod = [existing_job(any_api, labels={"env": "prod", "team": "a"}) for _ in range(3)]
    existing_job(any_api, labels={"env": "dev"})
    cancelled = existing_job(any_api, JobStatus.CANCELLED, labels={"env": "prod"})

    def ids(**params: Any) -> list[str]:
        page = any_api.client.get("/v1/jobs", params=params).json()
        return [item["id"] for item in page["items"]]

    assert len(ids()) == 5
    assert ids(status="cancelled") == [cancelled]
    assert ids(status="queued,cancelled", label="env:prod", sort="created_at") == [*prod, cancelled]
    assert set(ids(label=["env:prod", "team:a"])) == set(prod)
    assert ids(label="env:nowhere") == []
    assert ids(created_after="2100-01-01T00:00:00Z") == []
    first = any_api.client.get("/v1/jobs", params={"label": "env:prod", "limit": 3}).json()
    assert len(first["items"]) == 3
    rest = any_api.client.get(
        "/v1/jobs", params={"label": "env:prod", "limit": 3, "cursor": first["next_cursor"]}
    ).json()
    assert rest["next_cursor"] is None
    assert {item["id"] for item in first["items"] + rest["items"]} == {*prod, cancelled}


@pytest.mark.parametrize(
    ("params", "pointer"),
    [
        ({"limit": 0}, "/query/limit"),
        ({"limit": 10**9}, "/query/limit"),
        ({"limit": "ten"}, "/query/limit"),
        ({"status": "done"}, "/query/status"),
        ({"label": "prod"}, "/query/label"),
        ({"sort": "name"}, "/query/sort"),
        ({"created_after": "yesterday"}, "/query/created_after"),
        ({"created_after": "2026-01-01T00:00:00"}, "/query/created_after"),
        ({"created_after": "0.5"}, "/query/created_after"),
        ({"created_after": "0001-01-01T00:00:00+14:00"}, "/query/created_after"),
        ({"created_after": "9999-12-31T23:59:59-14:00"}, "/query/created_after"),
        ({"cursor": "nonsense"}, "/query/cursor"),
        ({"cursor": "WyJqb2JzIl0"}, "/query/cursor"),
        ({"page": 2}, "/query/page"),
        ({"status": ["queued", "running"]}, "/query/status"),
        ({"label": "a:\0"}, "/query/label"),
    ],
)
def test_a_bad_query_is_refused_with_its_place(api: RunningApi, params: dict[str, Any], pointer: str) -> None:
    problem = is_problem(api.client.get("/v1/jobs", params=params), 422, "invalid_request")
    assert [error["pointer"] for error in problem["errors"]] == [pointer]


def test_a_cursor_of_another_list_or_sorting_is_refused(api: RunningApi) -> None:
    for _ in range(2):
        existing_job(api)
    cursor = api.client.get("/v1/jobs?limit=1").json()["next_cursor"]
    is_problem(api.client.get(f"/v1/jobs?sort=created_at&cursor={cursor}"), 422, "invalid_request")
    is_problem(api.client.get(f"/v1/datasets?cursor={cursor}"), 422, "invalid_request")
