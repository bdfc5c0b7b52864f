"""/metrics: who may read it, what it counts of requests, and that replicas agree."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from core.jobs.lifecycle import JobStatus
from tests.api.conftest import RunningApi, running
from tests.api.test_problems import is_problem
from tests.conftest import make_settings
from tests.factories import make_job

TOKEN = "prometheus" * 2
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def local(api: RunningApi, address: str = "127.0.0.1") -> TestClient:
    """A client on the same machine, without a key."""
    client = TestClient(api.app, client=(address, 50000), raise_server_exceptions=False)
    client.portal = api.client.portal
    return client


def scrape(api: RunningApi) -> Samples:
    answer = local(api).get("/metrics")
    assert answer.status_code == 200
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples.get((f"foretrain_{name}", frozenset(labels.items())), 0.0)


@pytest.fixture
def guarded(sqlite_url: str, tmp_path: Path) -> Iterator[RunningApi]:
    settings = make_settings(tmp_path, database_url=sqlite_url, metrics_token=TOKEN)
    with running(settings) as api:
        yield api.signed_in()


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_without_a_token_this_machine_may_read(api: RunningApi, address: str) -> None:
    answer = local(api, address).get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert "foretrain_database_up 1.0" in answer.text


def test_without_a_token_nobody_else_may_read_whatever_key_they_have(api: RunningApi) -> None:
    is_problem(api.client.get("/metrics"), 401, "unauthenticated")
    is_problem(local(api, "10.0.0.7").get("/metrics"), 401, "unauthenticated")


def test_what_a_proxy_on_this_machine_passes_on_is_not_from_this_machine(api: RunningApi) -> None:
    for name in ("X-Forwarded-For", "Forwarded"):
        answer = local(api).get("/metrics", headers={name: "for=192.0.2.1"})
        is_problem(answer, 401, "unauthenticated")


def test_with_a_token_only_its_holder_may_read(guarded: RunningApi) -> None:
    is_problem(local(guarded).get("/metrics"), 401, "unauthenticated")
    is_problem(guarded.client.get("/metrics"), 401, "unauthenticated")
    for header in (f"Bearer {TOKEN}x", "Bearer ", TOKEN, "Bearer \u00fc"):
        wrong = local(guarded).get("/metrics", headers={b"Authorization": header.encode()})
        is_problem(wrong, 401, "unauthenticated")

    right = local(guarded, "10.0.0.7").get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    assert right.status_code == 200


def test_requests_are_counted_by_route_and_not_by_path(api: RunningApi) -> None:
    before = scrape(api)
    for number in range(3):
        api.client.get(f"/v1/jobs/job_{number:032}")
    api.client.head("/v1/jobs")
    api.client.get("/v1/nothing")
    api.client.request("FROB", "/v1/jobs")
    after = scrape(api)

    def more(name: str, **labels: str) -> float:
        return value(after, name, **labels) - value(before, name, **labels)

    job = {"method": "GET", "route": "/v1/jobs/{job_id}"}
    assert more("http_requests_total", **job, status="404") == 3
    assert more("http_request_duration_seconds_count", **job) == 3
    assert more("http_requests_total", method="HEAD", route="/v1/jobs", status="200") == 1
    assert more("http_requests_total", method="GET", route="none", status="404") == 1
    assert more("http_requests_total", method="other", route="/v1/jobs", status="405") == 1
    assert value(after, "http_requests_in_progress") == 1  # the scrape itself


def test_calls_to_the_storage_are_counted_by_their_outcome(api: RunningApi) -> None:
    before = scrape(api)
    api.storage.put_bytes("a/key", b"bytes")
    api.storage.delete("a/key")
    after = scrape(api)

    for operation in ("put", "delete"):
        labels = {"operation": operation, "outcome": "ok"}
        name = "storage_operations_total"
        assert value(after, name, **labels) - value(before, name, **labels) == 1


def test_two_replicas_say_the_same_of_what_the_database_knows(
    api: RunningApi, sqlite_url: str, tmp_path: Path
) -> None:
    with api.db.sessions.begin() as session:
        make_job(session, JobStatus.SUCCEEDED)
        make_job(session)

    with running(make_settings(tmp_path, database_url=sqlite_url)) as other:
        one, two = scrape(api), scrape(other)

    known = [
        key for key in one if key[0].startswith(("foretrain_jobs", "foretrain_job_", "foretrain_attempt"))
    ]
    assert value(one, "job_duration_seconds_count", status="succeeded", reason="") == 1
    assert {key: one[key] for key in known} == {key: two[key] for key in known}
