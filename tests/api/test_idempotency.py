"""One Idempotency-Key, one job: whatever is repeated, refused or sent at once."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.api.conftest import RunningApi
from tests.api.test_jobs import TRAINING, ready_dataset
from tests.api.test_problems import is_problem
from tests.factories import make_dataset, make_tenant


def test_the_same_key_and_body_make_one_job_and_replay_the_first_answer(any_api: RunningApi) -> None:
    body = {"dataset_id": ready_dataset(any_api), "training": TRAINING}
    first = any_api.client.post("/v1/jobs", json=body, headers={"Idempotency-Key": "nightly"})
    reordered = dict(reversed(body.items()))
    again = any_api.client.post("/v1/jobs", json=reordered, headers={"Idempotency-Key": "nightly"})
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert any_api.leftovers()["jobs"] == 1


def test_the_same_key_with_another_body_is_refused(any_api: RunningApi) -> None:
    dataset_id = ready_dataset(any_api)
    headers = {"Idempotency-Key": "nightly"}
    any_api.client.post("/v1/jobs", json={"dataset_id": dataset_id, "training": TRAINING}, headers=headers)
    other = {"dataset_id": dataset_id, "training": TRAINING, "priority": 1}
    is_problem(any_api.client.post("/v1/jobs", json=other, headers=headers), 422, "idempotency_mismatch")
    assert any_api.leftovers()["jobs"] == 1


def test_a_refused_request_does_not_use_up_its_key(api: RunningApi) -> None:
    dataset_id = ready_dataset(api)
    headers = {"Idempotency-Key": "nightly"}
    bad = {"dataset_id": dataset_id, "training": {"target_metrics": ["disk_percent"]}}
    assert api.client.post("/v1/jobs", json=bad, headers=headers).status_code == 422
    good = {"dataset_id": dataset_id, "training": TRAINING}
    assert api.client.post("/v1/jobs", json=good, headers=headers).status_code == 201


def test_another_tenants_key_of_the_same_name_is_another_key(api: RunningApi) -> None:
    headers = {"Idempotency-Key": "nightly"}
    mine = api.client.post(
        "/v1/jobs", json={"dataset_id": ready_dataset(api), "training": TRAINING}, headers=headers
    )
    with api.db.sessions.begin() as session:
        theirs_dataset = make_dataset(session, make_tenant(session, "rival")).id
    theirs = api.client_of("rival").post(
        "/v1/jobs", json={"dataset_id": theirs_dataset, "training": TRAINING}, headers=headers
    )
    assert theirs.status_code == mine.status_code == 201
    assert theirs.json()["id"] != mine.json()["id"]


@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 256, "é"])
def test_a_key_that_cannot_be_one_is_refused(api: RunningApi, key: str) -> None:
    answer = api.client.post(
        "/v1/jobs",
        json={"dataset_id": ready_dataset(api), "training": TRAINING},
        headers={b"Idempotency-Key": key.encode("latin-1")},
    )
    problem = is_problem(answer, 422, "invalid_request")
    assert problem["errors"][0]["pointer"] == "/header/Idempotency-Key"
    assert api.leftovers()["jobs"] == 0


def test_many_at_once_with_one_key_make_one_job(any_api: RunningApi) -> None:
    body = {"dataset_id": ready_dataset(any_api), "training": TRAINING}
    answers: list[Any] = []

    def post() -> None:
        answers.append(any_api.client.post("/v1/jobs", json=body, headers={"Idempotency-Key": "one"}))

    threads = [threading.Thread(target=post) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1
    assert any_api.leftovers()["jobs"] == 1
