"""Datasets pulled from Prometheus: only from where the operator allows, and pinned."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.conftest import NOTHING, RunningApi, running
from tests.api.prometheus import Prometheus, serving_prometheus
from tests.api.test_problems import is_problem
from tests.conftest import make_settings

HOUR = {"start": "2026-03-01T00:00:00Z", "end": "2026-03-01T01:00:00Z", "step": "30s"}
LOAD = {"queries": {"load_average": "node_load1"}}


@pytest.fixture
def prometheus() -> Iterator[Prometheus]:
    with serving_prometheus() as server:
        yield server


@pytest.fixture
def pulling(sqlite_url: str, tmp_path: Path, prometheus: Prometheus) -> Iterator[RunningApi]:
    """A service that may pull from the server, and from one whose address is not allowed."""
    login = prometheus.url.replace("http://", "http://ops:p%40ss@") + "/tenant"
    settings = make_settings(
        tmp_path,
        database_url=sqlite_url,
        pull_urls=[prometheus.url, prometheus.url.replace("127.0.0.1", "localhost"), login],
        pull_networks=["127.0.0.1/32"],
    )
    with running(settings) as started:
        yield started.signed_in()


def pull(api: RunningApi, url: str, **changes: Any) -> Any:
    return api.client.post("/v1/datasets/pull", json={"url": url} | HOUR | LOAD | changes)


def test_a_pulled_range_is_a_dataset_with_its_samples_pinned(
    pulling: RunningApi, prometheus: Prometheus
) -> None:
    answer = pull(pulling, prometheus.url, name="last hour")
    assert answer.status_code == 201, answer.text
    dataset = answer.json()
    assert (dataset["status"], dataset["format"], dataset["name"]) == ("ready", "prometheus", "last hour")
    assert dataset["schema"]["row_count"] == 2 * 121
    assert dataset["schema"]["group_columns"] == ["instance"]
    assert [column["name"] for column in dataset["schema"]["columns"]] == [
        "timestamp",
        "instance",
        "load_average",
    ]
    again = pull(pulling, prometheus.url)
    assert (again.status_code, again.json()["id"]) == (200, dataset["id"])
    other = pull(pulling, prometheus.url, mapping={"columns": {"load_average": {"name": "load"}}})
    assert other.status_code == 201
    assert other.json()["id"] != dataset["id"]


def test_a_long_range_is_pulled_in_pieces_that_make_one_series(
    pulling: RunningApi, prometheus: Prometheus
) -> None:
    week = HOUR | {"end": "2026-03-08T00:00:00Z"}
    answer = pull(pulling, prometheus.url, **week, queries={"a": "up", "b": "node_load1 # the first"})
    assert answer.status_code == 201, answer.text
    assert answer.json()["schema"]["row_count"] == 2 * (7 * 2880 + 1)
    assert answer.json()["schema"]["findings"] == []
    assert len(prometheus.queries) == 2 * 3


def test_an_idempotency_key_brings_the_first_pull_s_dataset_whatever_the_server_says_now(
    pulling: RunningApi, prometheus: Prometheus
) -> None:
    body = {"url": prometheus.url} | HOUR | LOAD
    headers = {"Idempotency-Key": "hour-1"}
    first = pulling.client.post("/v1/datasets/pull", json=body, headers=headers)
    asked = len(prometheus.queries)
    again = pulling.client.post("/v1/datasets/pull", json=body, headers=headers)
    assert len(prometheus.queries) == asked
    assert again.json() == first.json()
    assert again.headers["idempotency-replayed"] == "true"
    other = pulling.client.post("/v1/datasets/pull", json=body | {"step": "1min"}, headers=headers)
    is_problem(other, 422, "idempotency_mismatch")


def test_the_operator_s_login_is_sent_and_is_never_the_caller_s(
    pulling: RunningApi, prometheus: Prometheus
) -> None:
    assert pull(pulling, prometheus.url + "/tenant/").status_code == 201
    assert prometheus.paths == ["/tenant/api/v1/query_range"]
    assert prometheus.logins == ["Basic b3BzOnBAc3M="]
    with_login = prometheus.url.replace("http://", "http://ops:p%40ss@") + "/tenant"
    is_problem(pull(pulling, with_login), 422, "source_not_allowed")


@pytest.mark.parametrize(
    ("allowed", "asked"),
    [
        ("http://127.0.0.1", "http://127.1"),
        ("http", "https"),
        ("http", "gopher"),
        ("http://127.0.0.1", "http://127.0.0.1@evil.example"),
        ("", "x"),
    ],
)
def test_an_address_like_an_allowed_one_is_never_asked(
    pulling: RunningApi, prometheus: Prometheus, allowed: str, asked: str
) -> None:
    is_problem(pull(pulling, prometheus.url.replace(allowed, asked, 1)), 422, "source_not_allowed")
    assert prometheus.queries == []


@pytest.mark.parametrize("end", ["/api", "/..", "?x=1", "#x", "%2f", ":80"])
def test_an_address_that_goes_on_after_an_allowed_one_is_never_asked(
    pulling: RunningApi, prometheus: Prometheus, end: str
) -> None:
    is_problem(pull(pulling, prometheus.url + end), 422, "source_not_allowed")
    assert prometheus.queries == []


@pytest.mark.parametrize(
    "url", ["http://169.254.169.254/latest", "file:///etc/passwd", "http://[::1", "http://a:b", ""]
)
def test_another_address_is_never_asked_and_nothing_is_stored(pulling: RunningApi, url: str) -> None:
    is_problem(pull(pulling, url), 422, "source_not_allowed")
    assert pulling.leftovers() == NOTHING


def test_a_name_that_is_allowed_and_stands_for_a_private_address_is_not_reached(
    sqlite_url: str, tmp_path: Path, prometheus: Prometheus
) -> None:
    with running(make_settings(tmp_path, database_url=sqlite_url, pull_urls=[prometheus.url])) as api:
        answer = is_problem(pull(api.signed_in(), prometheus.url), 422, "source_not_allowed")
        assert "127.0.0.1" not in answer["detail"]
        assert api.leftovers() == NOTHING
    assert prometheus.queries == []


def test_a_redirect_leads_nowhere(pulling: RunningApi, prometheus: Prometheus) -> None:
    prometheus.answer_with = (302, {"Location": prometheus.url + "/elsewhere"}, b"")
    is_problem(pull(pulling, prometheus.url), 502, "source_failed")
    assert len(prometheus.queries) == 1


@pytest.mark.parametrize(
    ("answer", "status", "code"),
    [
        ((503, {}, b"busy"), 502, "source_failed"),
        ((200, {"Content-Length": "9999"}, b'{"status":"succ'), 502, "source_failed"),
        ((400, {}, b'{"status":"error","error":"parse error"}'), 422, "invalid_request"),
        (
            (200, {}, b'{"status":"success","data":{"resultType":"matrix","result":[]}}'),
            422,
            "invalid_dataset",
        ),
        ((200, {}, b"<html>"), 415, "unsupported_media_type"),
        ((200, {}, b"\x80\x04pickle"), 415, "unsupported_media_type"),
    ],
)
def test_what_the_server_answers_amiss_leaves_nothing_behind(
    pulling: RunningApi, prometheus: Prometheus, answer: Any, status: int, code: str
) -> None:
    prometheus.answer_with = answer
    problem = is_problem(pull(pulling, prometheus.url), status, code)
    if code == "invalid_request":
        assert problem["errors"][0]["pointer"] == "/queries/load_average"
        assert "parse error" in problem["detail"]
    assert pulling.leftovers() == NOTHING


def test_a_server_that_cannot_be_reached_is_a_failed_source(pulling: RunningApi) -> None:
    with serving_prometheus() as gone:
        pass
    settings = pulling.settings.model_copy(update={"pull_urls": [gone.url]})
    with running(settings) as api:
        is_problem(pull(api.signed_in(), gone.url), 502, "source_failed")


def test_an_answer_beyond_the_limit_is_cut_and_forgotten(
    sqlite_url: str, tmp_path: Path, prometheus: Prometheus
) -> None:
    settings = make_settings(
        tmp_path,
        database_url=sqlite_url,
        pull_urls=[prometheus.url],
        pull_networks=["127.0.0.0/8"],
        max_upload_bytes=2000,
    )
    with running(settings) as api:
        is_problem(pull(api.signed_in(), prometheus.url), 413, "too_large")
        assert api.leftovers() == NOTHING


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"queries": {}}, "/queries"),
        ({"queries": {'x", "", "") or secret': "up"}}, None),
        ({"step": "0s"}, "/step"),
        ({"end": HOUR["start"]}, ""),
        ({"start": "2026-03-01T00:00:00"}, "/start"),
        ({"end": "2126-03-01T00:00:00Z", "step": "1s"}, ""),
        ({"headers": {"X": "1"}}, "/headers"),
    ],
)
def test_a_range_that_cannot_be_pulled_is_refused_before_anyone_is_asked(
    pulling: RunningApi, prometheus: Prometheus, changes: dict[str, Any], pointer: str | None
) -> None:
    problem = is_problem(pull(pulling, prometheus.url, **changes), 422, "invalid_request")
    if pointer is not None:
        assert problem["errors"][0]["pointer"] == pointer
    assert prometheus.queries == []
