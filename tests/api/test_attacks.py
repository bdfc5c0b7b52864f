"""Attacks that every route must stand, on every route there is; SECURITY.md names the tests of the others."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from core.access.scopes import Scope
from core.access.service import create_key
from core.jobs.lifecycle import JobStatus
from core.pages import encode_cursor
from core.tables import ApiKey, Dataset, Job, Tenant, Webhook
from core.webhooks import service as webhooks
from core.webhooks.schemas import WebhookCreate
from tests.api.conftest import RunningApi, fleet_csv, running
from tests.api.routes_of import NOBODYS, Operation, operations_of
from tests.api.test_access import BODIES, closed_operations
from tests.api.test_audit import a_webhook
from tests.api.test_over_the_wire import served
from tests.conftest import make_settings
from tests.factories import make_dataset, make_job, make_tenant

MARKER = "hunter2-must-not-be-seen"
# What only the service decides, by the names of its columns.
NOT_THEIRS = ("id", "tenant_id", "status", "token", "attempt", "storage_key", "secret_sha256", "revoked_at")
CRLF = "%0d%0aX-Evil:%201"
CLIENTS = 500


def rows_of_rival(api: RunningApi) -> list[Any]:
    with api.db.readers.begin() as session:
        tenant_id = session.scalars(select(Tenant.id).where(Tenant.name == "rival")).one()
        return [
            row
            for table in (Dataset, Job, Webhook, ApiKey)
            for row in session.execute(
                select(table.__table__).where(table.tenant_id == tenant_id).order_by(table.id)
            )
        ]


@pytest.fixture
def rival(api: RunningApi) -> Iterator[None]:
    """Another tenant has a job, a dataset, a webhook and a key; whatever is tried, they stay as they are."""
    with api.db.sessions.begin() as session:
        tenant = make_tenant(session, "rival")
        make_job(session, JobStatus.QUEUED, tenant, make_dataset(session, tenant))
        asked = WebhookCreate(url="https://hooks.example.org/")
        webhooks.create(session, tenant.id, asked, api.settings)
        create_key(session, "rival", [Scope.ADMIN])
    before = rows_of_rival(api)
    assert len(before) == 4
    yield
    assert rows_of_rival(api) == before


def with_json(api: RunningApi) -> list[Operation]:
    """Operations whose body is a JSON object."""
    document = api.app.openapi()["paths"]
    return [
        one
        for one in closed_operations(api)
        if "application/json"
        in document[one.path][one.method.lower()].get("requestBody", {}).get("content", {})
    ]


@pytest.mark.usefixtures("rival")
def test_no_body_takes_a_field_that_is_not_the_callers_to_set(api: RunningApi) -> None:
    operations, before = with_json(api), api.leftovers()
    assert len(operations) >= 8
    for operation in operations:
        asked = BODIES.get(operation, {}).get("json", {})
        for name in set(NOT_THEIRS) - set(asked):
            answer = api.client.request(operation.method, operation.url(), json=asked | {name: "x"})
            assert answer.status_code == 422, (operation, name)
            pointers = [error["pointer"] for error in answer.json()["errors"]]
            assert f"/{name}" in pointers, (operation, name)
    assert api.leftovers() == before


@pytest.mark.usefixtures("rival")
def test_no_list_can_be_asked_for_without_bounds_or_with_a_forged_cursor(api: RunningApi) -> None:
    document = api.app.openapi()["paths"]
    with api.db.sessions.begin() as session:
        ids = {"job_id": make_job(session).id}
    ids |= a_webhook(api)[0]
    checked = 0
    for operation in closed_operations(api):
        described = document[operation.path][operation.method.lower()]
        if "limit" not in {parameter["name"] for parameter in described.get("parameters", [])}:
            continue
        checked += 1
        url = operation.url(**ids)
        for limit in ("1000000000", "1e9", "-1", "0", "9" * 400):
            assert api.client.get(url, params={"limit": limit}).status_code == 422, (operation, limit)
        forged = encode_cursor("jobs", (2**70, "x"))
        for cursor in ("x", "A" * 900, forged, "W10", "\u0661"):
            assert api.client.get(url, params={"cursor": cursor}).status_code == 422, (operation, cursor)
    assert checked >= 5


@pytest.mark.usefixtures("rival")
def test_no_path_or_header_of_a_request_becomes_a_header_of_the_answer(api: RunningApi) -> None:
    sent = {"X-Request-Id": "evil", "Idempotency-Key": "evil", "If-None-Match": "evil", "Prefer": "evil"}
    for operation in closed_operations(api):
        url = operation.url(**dict.fromkeys(NOBODYS, CRLF)) + f"?{CRLF}={CRLF}"
        answer = api.client.request(
            operation.method, url, headers=sent, **BODIES.get(operation, {}) | {"params": None}
        )
        assert answer.status_code in {404, 422}, (operation, answer.text)
        assert "x-evil" not in answer.headers
        assert not any("evil" in value.lower() for value in answer.headers.values()), operation


@pytest.mark.usefixtures("rival")
@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "%2e%2e%2fmodel.ckpt",
        "/etc/passwd",
        "model.ckpt%00.html",
        "a" * 4096,
        "%e2%80%ae",
        ".",
    ],
)
def test_the_name_of_a_file_leads_nowhere_else(api: RunningApi, name: str) -> None:
    with api.db.sessions.begin() as session:
        job_id = make_job(session).id

    answer = api.client.get(f"/v1/jobs/{job_id}/artifacts/{name}")

    assert answer.status_code == 404 or json.loads(answer.text).keys() == {"items", "next_cursor"}


@pytest.mark.usefixtures("rival")
@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "CON", "a" * 200, "\u202etxt.exe", "<script>", "'; DROP"]
)
def test_a_name_is_a_label_and_no_part_of_a_place(api: RunningApi, name: str) -> None:
    answer = api.client.post(
        "/v1/datasets", params={"name": name}, content=fleet_csv(), headers={"Content-Type": "text/csv"}
    )

    assert answer.json()["name"] == name
    stored = [path for path in api.storage.list("tenants") if "ds_" in str(path)]
    assert len(stored) == 1
    assert name not in str(stored[0])


@pytest.mark.usefixtures("rival")
def test_nothing_that_was_sent_is_in_the_log_but_the_path(
    api: RunningApi, capsys: pytest.CaptureFixture[str]
) -> None:
    key = api.key()
    client = api.client_with(key)
    for operation in operations_of(api.app):
        asked = dict(BODIES.get(operation, {}))
        if "json" in asked:
            asked["json"] = asked["json"] | {"name": MARKER}
        headers = {"Idempotency-Key": MARKER, "User-Agent": MARKER, "Cookie": f"session={MARKER}"}
        asked["params"] = asked.get("params", {}) | {"q": MARKER}
        client.request(operation.method, operation.url(), headers=headers, **asked)
        asked["params"] = {name: value for name, value in asked["params"].items() if name != "q"}
        client.request(operation.method, operation.url(), headers=headers, **asked)

    out, err = capsys.readouterr()

    assert out.count("method=") >= 2 * 20
    assert MARKER not in out + err
    assert key not in out + err
    assert key.rsplit("_", 1)[1] not in out + err


def test_a_full_queue_is_a_429_and_the_others_work_on(sqlite_url: str, tmp_path: Path) -> None:
    with running(make_settings(tmp_path, database_url=sqlite_url, max_queued_jobs=1)) as started:
        api = started.signed_in()
        with api.db.sessions.begin() as session:
            body = {"dataset_id": make_dataset(session).id}
        first, second = (api.client.post("/v1/jobs", json=body) for _ in range(2))
        assert (first.status_code, second.status_code) == (201, 429)
        assert second.json()["code"] == "quota_exceeded"
        assert int(second.headers["retry-after"]) > 0
        assert api.client.get("/v1/jobs").status_code == 200
        with api.db.sessions.begin() as session:
            theirs = {"dataset_id": make_dataset(session, make_tenant(session, "rival")).id}
        assert api.client_of("rival").post("/v1/jobs", json=theirs).status_code == 201
        with api.db.readers.begin() as session:
            assert len(session.scalars(select(Job.id)).all()) == 2


@pytest.fixture
def many_files() -> Iterator[None]:
    """Both ends of the sockets are ours here."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, before[1]), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.slow
@pytest.mark.usefixtures("many_files")
def test_five_hundred_clients_that_dawdle_keep_nobody_waiting(sqlite_url: str, tmp_path: Path) -> None:
    settings = make_settings(
        tmp_path, database_url=sqlite_url, max_streams=2 * CLIENTS, requests_per_minute=None
    )
    with running(settings) as started, served(started.signed_in()) as wire, ExitStack() as held:
        head = f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: {wire.authorization}\r\n"
        kinds = [
            head.encode()[:60],
            f"{head}Content-Type: application/json\r\nContent-Length: 900\r\n\r\n{{".encode(),
            wire.upload_head("Content-Length: 100000") + b"timestamp,server,cpu_percent\n",
        ]
        for number in range(CLIENTS):
            connection = held.enter_context(wire.connect())
            connection.sendall(kinds[number % len(kinds)])

        rival = {"Authorization": f"Bearer {started.key(tenant='rival')}"}
        seconds = []
        for _ in range(5):
            begun = time.perf_counter()
            assert wire.http.get("/v1/jobs").status_code == 200
            assert wire.http.get("/v1/jobs", headers=rival).status_code == 200
            assert wire.http.get("/livez").status_code == 200
            seconds.append((time.perf_counter() - begun) / 3)

    assert sorted(seconds)[2] < 1
