"""What an owner does with a job that is there, over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from core.errors import StorageUnavailable
from core.jobs import service
from core.jobs.lifecycle import FailureReason, JobStatus
from core.storage import ObjectStorage
from core.workers import service as workers
from tests.api.conftest import NOTHING, RunningApi, running
from tests.api.test_artifacts import a_run, store
from tests.api.test_jobs import existing_job
from tests.api.test_problems import is_problem
from tests.conftest import make_settings
from tests.factories import make_dataset, make_job, make_tenant

VERBS = ("cancel", "pause", "resume", "retry")


def post(api: RunningApi, job_id: str, verb: str, body: dict[str, Any] | None = None) -> Any:
    return api.client.post(f"/v1/jobs/{job_id}/{verb}", json=body)


@pytest.mark.parametrize(
    ("status", "verb", "becomes"),
    [
        (JobStatus.QUEUED, "cancel", "cancelled"),
        (JobStatus.QUEUED, "pause", "paused"),
        (JobStatus.PAUSED, "resume", "queued"),
        (JobStatus.CANCELLED, "retry", "queued"),
    ],
)
def test_a_verb_answers_the_job_as_it_is_then_and_repeated_the_same(
    any_api: RunningApi, status: JobStatus, verb: str, becomes: str
) -> None:
    job_id = existing_job(any_api, status)

    first, again = post(any_api, job_id, verb), post(any_api, job_id, verb, {})

    assert (first.status_code, first.json()["status"]) == (200, becomes)
    assert (again.status_code, again.json()["revision"]) == (200, first.json()["revision"])
    assert any_api.broker.nudged == (["cpu", "cpu"] if becomes == "queued" else [])


@pytest.mark.parametrize("verb", ["cancel", "pause"])
def test_a_running_job_notes_the_wish(any_api: RunningApi, verb: str) -> None:
    job_id = existing_job(any_api, JobStatus.RUNNING)
    answer = post(any_api, job_id, verb, {})
    assert answer.status_code == 202
    assert answer.json()["status"] == "running"
    assert answer.json()[f"{verb}_requested_at"]


def test_what_does_not_fit_the_status_is_refused_with_what_does(api: RunningApi) -> None:
    job_id = existing_job(api, JobStatus.FAILED)
    for verb in ("cancel", "pause", "resume"):
        assert is_problem(post(api, job_id, verb), 409, "invalid_transition")["allowed"] == ["retry"]


@pytest.mark.parametrize("verb", VERBS)
def test_verbs_take_no_fields_there_are_not(api: RunningApi, verb: str) -> None:
    answer = post(api, existing_job(api), verb, {"mode": "now"})
    assert is_problem(answer, 422, "invalid_request")["errors"][0]["pointer"] == "/mode"


def test_a_retry_starts_where_it_is_told(api: RunningApi) -> None:
    job_id = existing_job(api, JobStatus.FAILED)
    wrong = is_problem(post(api, job_id, "retry", {"from": "nowhere"}), 422, "invalid_request")
    assert (wrong["errors"][0]["pointer"], wrong["errors"][0]["code"]) == ("/from", "not_allowed")

    answer = post(api, job_id, "retry", {"from": "checkpoint"})

    assert (answer.status_code, answer.json()["status"]) == (200, "queued")
    events = api.client.get(f"/v1/jobs/{job_id}/events").json()["items"]
    assert events[-1]["data"]["from"] == "checkpoint"


def test_a_retry_without_its_dataset_is_a_conflict(api: RunningApi) -> None:
    job_id = existing_job(api, JobStatus.FAILED)
    dataset_id = api.client.get(f"/v1/jobs/{job_id}").json()["dataset_id"]
    assert api.client.delete(f"/v1/datasets/{dataset_id}").status_code == 204

    is_problem(post(api, job_id, "retry"), 409, "conflict")


def test_labels_and_priority_are_changed_once_per_revision(any_api: RunningApi) -> None:
    job_id = existing_job(any_api, labels={"env": "test"})
    change = {"revision": 1, "labels": {"team": "edge"}, "priority": 7}

    answer = any_api.client.patch(f"/v1/jobs/{job_id}", json=change)

    assert answer.status_code == 200, answer.text
    job = answer.json()
    assert (job["labels"], job["priority"], job["revision"]) == ({"team": "edge"}, 7, 2)
    is_problem(any_api.client.patch(f"/v1/jobs/{job_id}", json=change), 412, "stale_revision")
    assert any_api.client.get("/v1/jobs?label=team:edge").json()["items"][0]["id"] == job_id


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"priority": 1}, "/revision"),
        ({"revision": 1, "priority": 101}, "/priority"),
        ({"revision": 1, "labels": {"a b": "x"}}, "/labels/a b"),
        ({"revision": 1, "status": "succeeded"}, "/status"),
    ],
)
def test_a_change_is_checked_like_a_submission(api: RunningApi, change: dict[str, Any], pointer: str) -> None:
    answer = api.client.patch(f"/v1/jobs/{existing_job(api)}", json=change)
    assert is_problem(answer, 422, "invalid_request")["errors"][0]["pointer"] == pointer


def ended_with_a_file(api: RunningApi) -> str:
    run = a_run(api)
    store(api, run, "model.ckpt", b"weights")
    with api.db.sessions.begin() as session:
        service.fail(session, run.job_id, run.token, FailureReason.INTERNAL, "broken")
    return run.job_id


def test_a_deleted_job_is_gone_with_its_files(stored_api: RunningApi) -> None:
    job_id = ended_with_a_file(stored_api)

    assert stored_api.client.delete(f"/v1/jobs/{job_id}").status_code == 204

    is_problem(stored_api.client.delete(f"/v1/jobs/{job_id}"), 404, "not_found")
    assert stored_api.leftovers() == NOTHING | {"datasets": 1}


def test_a_job_that_has_not_ended_is_not_deleted(api: RunningApi) -> None:
    answer = api.client.delete(f"/v1/jobs/{existing_job(api)}")
    assert is_problem(answer, 409, "invalid_transition")["allowed"] == ["cancel", "pause"]


def test_a_storage_that_is_down_does_not_keep_a_job_from_being_deleted(
    api: RunningApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise StorageUnavailable("away")

    job_id = ended_with_a_file(api)
    monkeypatch.setattr(ObjectStorage, "delete", refuse)

    assert api.client.delete(f"/v1/jobs/{job_id}").status_code == 204
    assert api.client.get(f"/v1/jobs/{job_id}").status_code == 404


@pytest.mark.parametrize(("may_run", "reason"), [(1, "no more than 1 may run at once"), (2, "Next in line")])
def test_a_job_says_when_it_waits_for_the_tenants_own_running_ones(
    sqlite_url: str, tmp_path: Path, may_run: int, reason: str
) -> None:
    with running(make_settings(tmp_path, database_url=sqlite_url, max_running_jobs=may_run)) as api:
        client = api.signed_in().client
        with api.db.sessions.begin() as session:
            workers.announce(session, name="w", queue="gpu", devices=4, threads=2, hardware={})
            data = make_dataset(session)
            make_job(session, JobStatus.RUNNING, dataset=data)
            job_id = make_job(session, JobStatus.PAUSED, dataset=data).id

        resumed = post(api, job_id, "resume").json()
        read = client.get(f"/v1/jobs/{job_id}").json()
        [listed] = client.get("/v1/jobs", params={"status": "queued"}).json()["items"]

    assert all(reason in job["queue"]["reason"] for job in (resumed, read, listed))


def test_anothers_running_jobs_are_not_counted(sqlite_url: str, tmp_path: Path) -> None:
    with running(make_settings(tmp_path, database_url=sqlite_url, max_running_jobs=1)) as api:
        with api.db.sessions.begin() as session:
            workers.announce(session, name="w", queue="gpu", devices=4, threads=2, hardware={})
            make_job(session, JobStatus.RUNNING, tenant=make_tenant(session, "other"))
            job_id = make_job(session).id

        read = api.signed_in().client.get(f"/v1/jobs/{job_id}").json()

    assert read["queue"]["reason"] == "Next in line for a worker."
