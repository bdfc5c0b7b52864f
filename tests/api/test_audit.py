"""The record of who did what: nothing that changes anything may be missing from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from core.access.scopes import Scope
from core.jobs.lifecycle import JobStatus
from tests.api.conftest import RunningApi, fleet_csv, running
from tests.api.prometheus import serving_prometheus
from tests.api.routes_of import Operation, operations_of
from tests.conftest import make_settings
from tests.factories import make_dataset, make_job

# What a request needs to come to something: ids in its path, and what `client.request` takes.
Request = tuple[dict[str, str], dict[str, Any]]


@pytest.fixture
def pulling(sqlite_url: str, tmp_path: Path) -> Iterator[RunningApi]:
    """A service that may pull from a server of the test's own."""
    with serving_prometheus() as server:
        settings = make_settings(
            tmp_path, database_url=sqlite_url, pull_urls=[server.url], pull_networks=["127.0.0.1/32"]
        )
        with running(settings) as started:
            yield started.signed_in()


def a_job(status: JobStatus, **sent: Any) -> Callable[[RunningApi], Request]:
    """Of the caller's own, in this status."""

    def prepare(api: RunningApi) -> Request:
        with api.db.sessions.begin() as session:
            return {"job_id": make_job(session, status).id}, sent

    return prepare


def a_dataset(api: RunningApi) -> Request:
    with api.db.sessions.begin() as session:
        return {"dataset_id": make_dataset(session).id}, {}


def a_submission(api: RunningApi) -> Request:
    return {}, {"json": a_dataset(api)[0]}


def a_key(api: RunningApi) -> Request:
    return {"key_id": api.client.post("/v1/api_keys", json={"scopes": ["jobs:read"]}).json()["id"]}, {}


def a_webhook(api: RunningApi, **sent: Any) -> Request:
    asked = {"url": "https://hooks.example.org/"}
    return {"webhook_id": api.client.post("/v1/webhooks", json=asked).json()["id"]}, sent


def a_delivery(api: RunningApi) -> Request:
    ids, _ = a_webhook(api)
    return {"delivery_id": api.client.post(f"/v1/webhooks/{ids['webhook_id']}/test").json()["id"]}, {}


def a_pull(api: RunningApi) -> Request:
    asked = {
        "url": api.settings.pull_urls[0],
        "queries": {"load_average": "node_load1"},
        "start": "2026-03-01T00:00:00Z",
        "end": "2026-03-01T01:00:00Z",
        "step": "30s",
    }
    return {}, {"json": asked}


PREPARE: dict[tuple[str, str], Callable[[RunningApi], Request]] = {
    ("POST", "/v1/jobs"): a_submission,
    ("POST", "/v1/jobs/{job_id}/cancel"): a_job(JobStatus.QUEUED),
    ("POST", "/v1/jobs/{job_id}/pause"): a_job(JobStatus.QUEUED),
    ("POST", "/v1/jobs/{job_id}/resume"): a_job(JobStatus.PAUSED),
    ("POST", "/v1/jobs/{job_id}/retry"): a_job(JobStatus.FAILED),
    ("PATCH", "/v1/jobs/{job_id}"): a_job(JobStatus.QUEUED, json={"revision": 1, "priority": 3}),
    ("DELETE", "/v1/jobs/{job_id}"): a_job(JobStatus.FAILED),
    ("POST", "/v1/datasets"): lambda _: (
        {},
        {"content": fleet_csv(), "headers": {"Content-Type": "text/csv"}},
    ),
    ("POST", "/v1/datasets/pull"): a_pull,
    ("DELETE", "/v1/datasets/{dataset_id}"): a_dataset,
    ("POST", "/v1/api_keys"): lambda _: ({}, {"json": {"scopes": ["jobs:read"]}}),
    ("DELETE", "/v1/api_keys/{key_id}"): a_key,
    ("POST", "/v1/webhooks"): lambda _: ({}, {"json": {"url": "https://hooks.example.org/"}}),
    ("PATCH", "/v1/webhooks/{webhook_id}"): lambda api: a_webhook(api, json={"name": "on-call"}),
    ("DELETE", "/v1/webhooks/{webhook_id}"): a_webhook,
    ("POST", "/v1/webhooks/{webhook_id}/rotate_secret"): a_webhook,
    ("POST", "/v1/webhooks/{webhook_id}/test"): a_webhook,
    ("POST", "/v1/deliveries/{delivery_id}/replay"): a_delivery,
}

# Posts that store nothing.
ONLY_ANSWERS = {"/v1/jobs/estimate"}


def changing(api: RunningApi) -> list[Operation]:
    return [
        one
        for one in operations_of(api.app)
        if one.method not in {"GET", "HEAD"} and one.path not in ONLY_ANSWERS
    ]


def events(api: RunningApi, **asked: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.client.get("/v1/audit_events", params=asked).json()["items"]
    return found


def test_every_operation_that_changes_something_is_recorded_with_its_request(pulling: RunningApi) -> None:
    for operation in changing(pulling):
        ids, sent = PREPARE[operation.method, operation.path](pulling)
        answer = pulling.client.request(operation.method, operation.url(**ids), **sent)
        assert answer.status_code in {200, 201, 202, 204}, (operation, answer.text)

        event = events(pulling, limit=1)[0]

        assert event["request_id"] == answer.headers["x-request-id"], operation
        assert event["object_id"] == next(iter(ids.values()), None) or answer.json()["id"], operation
        assert event["outcome"] == "done"
        assert event["key_id"].startswith("key_")


def test_what_is_refused_leaves_no_event_and_a_replay_no_second(api: RunningApi) -> None:
    _, sent = a_submission(api)
    job_id = api.client.post("/v1/jobs", **sent, headers={"Idempotency-Key": "x"}).json()["id"]
    again = api.client.post("/v1/jobs", **sent, headers={"Idempotency-Key": "x"})
    refused = api.client.post(f"/v1/jobs/{job_id}/resume")

    assert (again.status_code, refused.status_code) == (201, 409)
    assert [event["action"] for event in events(api)] == ["submit_job"]


def test_a_request_without_the_scope_is_recorded_as_denied(any_api: RunningApi) -> None:
    with any_api.db.sessions.begin() as session:
        job_id = make_job(session).id
    poor = any_api.client_of("acme", Scope.DATASETS_READ)

    denied = [
        poor.get(f"/v1/jobs/{job_id}"),
        poor.post(f"/v1/jobs/{job_id}/cancel"),
        poor.get("/v1/api_keys"),
    ]

    assert [answer.status_code for answer in denied] == [403, 403, 403]
    found = events(any_api, outcome="denied")
    assert [event["action"] for event in found] == ["list_api_keys", "cancel_job", "get_job"]
    assert [event["object_id"] for event in found] == [None, job_id, job_id]
    assert found[0]["request_id"] == denied[-1].headers["x-request-id"]


def test_the_event_is_there_with_the_change_or_neither_is(api: RunningApi) -> None:
    with api.db.sessions.begin() as session:
        job_id = make_job(session).id
    with api.db.engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER no_record BEFORE INSERT ON audit_events BEGIN SELECT RAISE(ABORT, 'full'); END"
        )

    assert api.client.post(f"/v1/jobs/{job_id}/cancel").status_code == 500

    assert api.client.get(f"/v1/jobs/{job_id}").json()["status"] == "queued"


def test_filters_narrow_the_record(api: RunningApi) -> None:
    with api.db.sessions.begin() as session:
        job_id = make_job(session).id
    api.client.post(f"/v1/jobs/{job_id}/pause")
    api.client.post(f"/v1/jobs/{job_id}/resume")
    second = events(api)[0]

    assert [event["action"] for event in events(api, object_id=job_id)] == ["resume_job", "pause_job"]
    assert [event["action"] for event in events(api, action="pause_job")] == ["pause_job"]
    assert events(api, key_id="key_" + "0" * 32) == []
    assert len(events(api, key_id=second["key_id"])) == 2
    assert [event["action"] for event in events(api, created_before=second["created_at"])] == ["pause_job"]
    assert events(api, created_after=second["created_at"]) == []


def test_the_record_of_another_tenant_is_not_shown(api: RunningApi) -> None:
    api.client.post("/v1/api_keys", json={"scopes": ["jobs:read"]})

    assert api.client_of("rival", Scope.ADMIN).get("/v1/audit_events").json()["items"] == []
