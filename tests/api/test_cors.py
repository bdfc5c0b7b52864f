"""Dashboards on other origins: those that are named, and no others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.conftest import RunningApi, running
from tests.api.test_problems import is_problem
from tests.conftest import make_settings

DASHBOARD = "https://grafana.example"


@pytest.fixture
def open_api(sqlite_url: str, tmp_path: Path) -> Iterator[RunningApi]:
    with running(make_settings(tmp_path, database_url=sqlite_url, cors_origins=[DASHBOARD])) as api:
        yield api.signed_in()


def preflight(api: RunningApi, origin: str, headers: str = "authorization") -> object:
    return api.client.options(
        "/v1/jobs",
        headers={
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": headers,
        },
    )


def test_without_origins_no_answer_lets_a_browser_read_it(api: RunningApi) -> None:
    answer = api.client.get("/v1/jobs", headers={"Origin": DASHBOARD})
    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.startswith("access-control")]
    is_problem(preflight(api, DASHBOARD), 405, "method_not_allowed")


def test_a_named_origin_may_read_the_headers_it_needs(open_api: RunningApi) -> None:
    answer = open_api.client.get("/v1/jobs", headers={"Origin": DASHBOARD})
    assert answer.headers["access-control-allow-origin"] == DASHBOARD
    exposed = {name.strip() for name in answer.headers["access-control-expose-headers"].split(",")}
    assert {"Location", "ETag", "Retry-After", "Content-Range", "Repr-Digest"} <= exposed
    assert "access-control-allow-credentials" not in answer.headers


def test_refusals_can_be_read_too(open_api: RunningApi) -> None:
    async def break_down() -> None:
        raise RuntimeError

    open_api.app.add_api_route("/boom", break_down)
    for path in ("/v1/nothing", "/boom"):
        answer = open_api.client.get(path, headers={"Origin": DASHBOARD})
        assert answer.status_code >= 400
        assert answer.headers["access-control-allow-origin"] == DASHBOARD


def test_another_origin_may_not(open_api: RunningApi) -> None:
    answer = open_api.client.get("/v1/jobs", headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in answer.headers
    is_problem(preflight(open_api, "https://evil.example"), 400, "bad_request")


def test_a_preflight_of_a_named_origin_is_granted(open_api: RunningApi) -> None:
    answer = open_api.client.options(
        "/v1/jobs",
        headers={
            "Origin": DASHBOARD,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type,idempotency-key",
        },
    )
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == DASHBOARD
    assert "POST" in answer.headers["access-control-allow-methods"]
    is_problem(preflight(open_api, DASHBOARD, "x-evil"), 400, "bad_request")
