"""Webhooks over HTTP; what is sent to them is tested in tests/core/webhooks."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from core.jobs.lifecycle import JobStatus
from tests.api.conftest import RunningApi, running
from tests.conftest import make_settings
from tests.factories import make_job, make_tenant

URL = "https://hooks.example.org/foretrain?team=edge"


def create(api: RunningApi, **chosen: Any) -> dict[str, Any]:
    answer = api.client.post("/v1/webhooks", json={"url": URL} | chosen)
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.json()
    return body


def test_a_webhook_is_made_read_changed_and_deleted(any_api: RunningApi) -> None:
    made = create(any_api, name="on-call", event_types=["job.failed"])
    address = f"/v1/webhooks/{made['id']}"
    assert made["secret"].startswith("whsec_")
    read = any_api.client.get(address).json()
    assert read == {name: value for name, value in made.items() if name != "secret"}

    changed = any_api.client.patch(address, json={"url": "https://other.example.org", "event_types": ["*"]})
    assert changed.status_code == 200
    assert changed.json() == read | {"url": "https://other.example.org", "event_types": ["*"]}
    disabled = any_api.client.patch(address, json={"enabled": False}).json()
    assert disabled["disabled_reason"]["code"] == "by_owner"
    assert not disabled["enabled"]
    enabled = any_api.client.patch(address, json={"enabled": True}).json()
    assert enabled["enabled"]
    assert enabled["disabled_at"] is None

    assert any_api.client.delete(address).status_code == 204
    assert any_api.client.get(address).status_code == 404
    assert any_api.client.delete(address).status_code == 404


def test_the_list_goes_on_where_the_cursor_says(api: RunningApi) -> None:
    made = [create(api)["id"] for _ in range(5)]
    first = api.client.get("/v1/webhooks", params={"limit": 3}).json()
    rest = api.client.get("/v1/webhooks", params={"limit": 3, "cursor": first["next_cursor"]}).json()
    assert [one["id"] for one in (*first["items"], *rest["items"])] == made[::-1]
    assert rest["next_cursor"] is None
    assert "secret" not in first["items"][0]


def test_the_deliveries_of_a_webhook_are_listed_tested_and_replayed(any_api: RunningApi) -> None:
    webhook = create(any_api)
    with any_api.db.sessions.begin() as session:
        job = make_job(session, JobStatus.CANCELLED, make_tenant(session, any_api.tenant))
    address = f"/v1/webhooks/{webhook['id']}/deliveries"
    page = any_api.client.get(address, params={"limit": 1}).json()
    assert [one["event_type"] for one in page["items"]] == ["job.cancelled"]
    more = any_api.client.get(address, params={"cursor": page["next_cursor"]}).json()
    assert [(one["event_type"], one["job_id"]) for one in more["items"]] == [("job.queued", job.id)]

    tested = any_api.client.post(f"/v1/webhooks/{webhook['id']}/test")
    assert tested.status_code == 202
    assert tested.json()["event_type"] == "webhook.test"
    assert tested.json()["status"] == "pending"
    assert any_api.client.get(tested.json()["links"]["self"]).json() == tested.json()

    any_api.client.patch(f"/v1/webhooks/{webhook['id']}", json={"enabled": False})
    given_up = any_api.client.get(address, params={"status": "failed"}).json()["items"]
    assert len(given_up) == 3
    replay = f"/v1/deliveries/{given_up[0]['id']}/replay"
    refused = any_api.client.post(replay)
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert any_api.client.post(f"/v1/webhooks/{webhook['id']}/test").status_code == 409
    any_api.client.patch(f"/v1/webhooks/{webhook['id']}", json={"enabled": True})
    replayed = any_api.client.post(replay)
    assert replayed.status_code == 202
    assert replayed.json()["status"] == "pending"
    assert replayed.json()["finished_at"] is None


def test_a_secret_is_rotated_and_shown_only_then(api: RunningApi) -> None:
    made = create(api)
    address = f"/v1/webhooks/{made['id']}"
    rotated = api.client.post(f"{address}/rotate_secret", json={"overlap_seconds": 60}).json()
    assert rotated["secret"] != made["secret"]
    read = api.client.get(address).json()
    assert read["previous_secret_expires_at"] == rotated["previous_secret_expires_at"] is not None
    assert "secret" not in read
    assert api.client.post(f"{address}/rotate_secret").status_code == 200


def test_an_idempotency_key_makes_one_webhook_and_keeps_no_copy_of_its_secret(api: RunningApi) -> None:
    headers = {"Idempotency-Key": "hook-1"}
    first = api.client.post("/v1/webhooks", json={"url": URL}, headers=headers)
    again = api.client.post("/v1/webhooks", json={"url": URL}, headers=headers)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.json() == first.json()
    assert again.headers["Location"] == f"/v1/webhooks/{first.json()['id']}"
    other = api.client.post("/v1/webhooks", json={"url": f"{URL}&x=1"}, headers=headers)
    assert other.json()["code"] == "idempotency_mismatch"
    api.client.delete(again.headers["Location"])
    anew = api.client.post("/v1/webhooks", json={"url": URL}, headers=headers)
    assert anew.status_code == 201
    assert anew.json()["id"] != first.json()["id"]
    assert len(api.client.get("/v1/webhooks").json()["items"]) == 1


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/url"),
        ({"url": "https://10.0.0.1/"}, "/url"),
        ({"url": "ftp://h/"}, "/url"),
        ({"url": URL + "\n"}, "/url"),
        ({"url": URL, "event_types": []}, "/event_types"),
        ({"url": URL, "event_types": ["job.suceeded"]}, "/event_types/0"),
        ({"url": URL, "tenant_id": "ten_1"}, "/tenant_id"),
        ({"url": URL, "secret": "whsec_mine"}, "/secret"),
    ],
)
def test_what_is_wrong_is_pointed_at(api: RunningApi, body: dict[str, Any], pointer: str) -> None:
    answer = api.client.post("/v1/webhooks", json=body)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"].startswith(pointer)


def test_a_tenant_has_at_most_so_many(api: RunningApi) -> None:
    for _ in range(api.settings.max_webhooks):
        create(api)
    refused = api.client.post("/v1/webhooks", json={"url": URL})
    assert (refused.status_code, refused.json()["code"]) == (429, "quota_exceeded")
    assert api.client_of("rival").post("/v1/webhooks", json={"url": URL}).status_code == 201


@pytest.mark.slow
def test_of_requests_that_come_at_once_at_the_edge_of_the_quota_one_is_taken(
    postgres_url: str, tmp_path: Path
) -> None:
    with running(make_settings(tmp_path, database_url=postgres_url, max_webhooks=1)) as api:
        clients = [api.client_of("acme") for _ in range(4)]
        with ThreadPoolExecutor(4) as threads:
            answers = list(threads.map(lambda one: one.post("/v1/webhooks", json={"url": URL}), clients))
    assert sorted(answer.status_code for answer in answers) == [201, 429, 429, 429]
