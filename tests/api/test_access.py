"""Keys, scopes and tenants, on every route there is."""

from __future__ import annotations

from typing import Any

import pytest

from core.access.scopes import Scope
from core.access.service import create_key
from core.jobs.lifecycle import JobStatus
from core.tables import Artifact, Dataset, Job
from core.webhooks import service as webhooks
from core.webhooks.schemas import WebhookCreate
from tests.api.conftest import RunningApi
from tests.api.routes_of import Operation, operations_of
from tests.factories import make_dataset, make_job, make_tenant

BODIES: dict[Operation, dict[str, Any]] = {
    Operation("POST", "/v1/jobs"): {"json": {"dataset_id": "ds_" + "0" * 32}},
    Operation("PATCH", "/v1/jobs/{job_id}"): {"json": {"revision": 1}},
    Operation("POST", "/v1/api_keys"): {"json": {"scopes": ["jobs:read"]}},
    Operation("POST", "/v1/datasets"): {"params": {"format": "csv"}, "content": b"timestamp,cpu_percent\n"},
    Operation("POST", "/v1/datasets/pull"): {
        "json": {
            "url": "http://prometheus.invalid",
            "queries": {"up": "up"},
            "start": "2026-03-01T00:00:00Z",
            "end": "2026-03-02T00:00:00Z",
            "step": "1min",
        }
    },
    Operation("POST", "/v1/webhooks"): {"json": {"url": "https://hooks.example.org/"}},
    Operation("PATCH", "/v1/webhooks/{webhook_id}"): {"json": {"name": "another"}},
}


def closed_operations(api: RunningApi) -> list[Operation]:
    """Those that a key with the right scope opens."""
    return [one for one in operations_of(api.app) if not one.is_public and one.path != "/metrics"]


def test_every_route_but_the_public_ones_wants_a_key(api: RunningApi) -> None:
    stranger = api.client_with(None)
    for operation in operations_of(api.app):
        answer = stranger.request(operation.method, operation.url(), **BODIES.get(operation, {}))
        if operation.is_public:
            assert answer.status_code == 200, operation
        else:
            assert answer.status_code == 401, operation
            assert answer.json()["code"] == "unauthenticated"
            assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer nonsense",
        "Basic dXNlcjpwYXNz",
        "Bearer ft_aaaaaaaa_" + "b" * 40,
        "Bearer \xe9",
    ],
)
def test_a_key_that_is_none_is_refused_alike(api: RunningApi, header: str) -> None:
    answer = api.client_with(None).get("/v1/jobs", headers={b"Authorization": header.encode("latin-1")})
    assert answer.status_code == 401
    assert answer.json()["code"] == "unauthenticated"


def test_a_key_changed_in_one_character_is_refused(api: RunningApi) -> None:
    key = api.key()
    changed = key[:-1] + ("a" if key[-1] != "a" else "b")
    assert api.client_with(key).get("/v1/jobs").status_code == 200
    assert api.client_with(changed).get("/v1/jobs").status_code == 401


def test_a_key_without_the_scope_may_not_even_learn_whether_a_thing_exists(api: RunningApi) -> None:
    needed = {
        ("GET", "datasets"): Scope.DATASETS_READ,
        ("POST", "datasets"): Scope.DATASETS_WRITE,
        ("DELETE", "datasets"): Scope.DATASETS_WRITE,
        ("GET", "jobs"): Scope.JOBS_READ,
        ("POST", "jobs"): Scope.JOBS_WRITE,
        ("PATCH", "jobs"): Scope.JOBS_WRITE,
        ("DELETE", "jobs"): Scope.JOBS_WRITE,
        ("GET", "queue"): Scope.JOBS_READ,
        ("GET", "capabilities"): Scope.JOBS_READ,
        **{(verb, "webhooks"): Scope.ADMIN for verb in ("GET", "POST", "PATCH", "DELETE")},
        **{(verb, "deliveries"): Scope.ADMIN for verb in ("GET", "POST")},
        ("GET", "api_keys"): Scope.ADMIN,
        ("POST", "api_keys"): Scope.ADMIN,
        ("DELETE", "api_keys"): Scope.ADMIN,
        ("GET", "audit_events"): Scope.ADMIN,
    }
    for operation in closed_operations(api):
        scope = needed[operation.method, operation.path.split("/")[2]]
        others = [other for other in Scope if other not in {scope, Scope.ADMIN}]
        without = api.client_of("acme", *others)
        answer = without.request(operation.method, operation.url(), **BODIES.get(operation, {}))
        assert answer.status_code == 403, operation
        assert answer.json()["code"] == "forbidden"
        assert scope in answer.json()["detail"]
        with_it = api.client_of("acme", scope)
        answer = with_it.request(operation.method, operation.url(), **BODIES.get(operation, {}))
        assert answer.status_code not in {401, 403}, operation


def test_admin_may_everything_of_its_tenant(api: RunningApi) -> None:
    admin = api.client_of("acme", Scope.ADMIN)
    for operation in closed_operations(api):
        answer = admin.request(operation.method, operation.url(), **BODIES.get(operation, {}))
        assert answer.status_code not in {401, 403}, operation


@pytest.fixture
def others(any_api: RunningApi) -> dict[str, str]:
    """What another tenant has of everything that an id names; its job has a file."""
    with any_api.db.sessions.begin() as session:
        tenant = make_tenant(session, "rival")
        dataset = make_dataset(session, tenant)
        asked = WebhookCreate(url="https://hooks.example.org/")
        webhook = webhooks.create(session, tenant.id, asked, any_api.settings)
        job = make_job(session, JobStatus.QUEUED, tenant, dataset)
        session.add(
            Artifact(
                id="art_" + "1" * 32,
                job_id=job.id,
                attempt=1,
                name="model.ckpt",
                storage_key=f"tenants/{tenant.id}/jobs/{job.id}/a1-t1/model.ckpt",
                media_type="application/octet-stream",
                size_bytes=3,
                sha256="0" * 64,
            )
        )
        any_api.storage.put_bytes(f"tenants/{tenant.id}/jobs/{job.id}/a1-t1/model.ckpt", b"abc")
        key, _ = create_key(session, "rival", [Scope.JOBS_READ])
        delivery = webhooks.list_deliveries(session, tenant.id, webhook.id).items[0]
        return {
            "job_id": job.id,
            "dataset_id": dataset.id,
            "webhook_id": webhook.id,
            "delivery_id": delivery.id,
            "key_id": key.id,
        }


def test_what_another_tenant_has_is_not_found_on_any_route(
    any_api: RunningApi, others: dict[str, str]
) -> None:
    owner = any_api.client_of("rival")
    for operation in closed_operations(any_api):
        if not operation.is_about_one_thing:
            continue
        url = operation.url(**others)
        body = BODIES.get(operation, {})
        answer = any_api.client.request(operation.method, url, **body)
        assert answer.status_code == 404, operation
        missing = any_api.client.request(operation.method, operation.url(), **body)
        hide = {"request_id", "instance", "detail"}
        assert {k: v for k, v in answer.json().items() if k not in hide} == {
            k: v for k, v in missing.json().items() if k not in hide
        }
        if operation.method == "GET":
            assert any_api.client.head(url).status_code == 404
            assert owner.get(url).status_code != 404 or operation.path.endswith("/result")


@pytest.mark.usefixtures("others")
def test_lists_hold_only_ones_own(any_api: RunningApi) -> None:
    for path in ("/v1/jobs", "/v1/datasets", "/v1/webhooks"):
        assert any_api.client.get(path).json()["items"] == []
        assert len(any_api.client_of("rival").get(path).json()["items"]) == 1


def test_another_tenants_dataset_cannot_be_trained_on(any_api: RunningApi, others: dict[str, str]) -> None:
    answer = any_api.client.post("/v1/jobs", json={"dataset_id": others["dataset_id"]})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/dataset_id"
    with any_api.db.readers.begin() as session:
        assert session.query(Job).count() == 1
        assert session.query(Dataset).count() == 1
