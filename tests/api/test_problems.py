"""Every refusal reads the same: a problem with a code, and nothing of our insides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from api.problem_codes import PROBLEM_CODES, SERVICE_CODES
from core import errors
from core.access.secrets import make_key_text
from core.errors import ServiceError, StorageUnavailable
from core.storage import ObjectStorage
from tests.api.conftest import RunningApi, running
from tests.api.routes_of import operations_of
from tests.conftest import make_settings

# These never reach a customer: whoever holds a lease or a key of storage deals with them.
INTERNAL = {
    "internal",
    "storage_key_missing",
    "storage_key_exists",
    "lease_lost",
    "inspection_lost",
    "conflict",
}


def is_problem(answer: Any, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem["code"] == code
    assert problem["status"] == status
    assert problem["type"] == f"/v1/errors/{code}"
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert problem["instance"] == answer.request.url.path[:500]
    assert problem["title"]
    assert problem["detail"]
    return problem


def service_errors(kind: type[ServiceError] = ServiceError) -> set[type[ServiceError]]:
    children = set(kind.__subclasses__())
    return children | {grandchild for child in children for grandchild in service_errors(child)}


def test_every_service_error_has_its_place_in_the_table() -> None:
    kinds = {kind for kind in service_errors() if kind.__module__ == errors.__name__}
    assert {kind.code for kind in kinds} - INTERNAL <= SERVICE_CODES.keys()
    for kind in kinds:
        if kind.code in SERVICE_CODES:
            assert kind.retryable == SERVICE_CODES[kind.code].retryable, kind


def test_every_code_is_explained_at_the_problems_type(api: RunningApi) -> None:
    for code, known in PROBLEM_CODES.items():
        said = api.client.get(f"/v1/errors/{code}").json()
        assert (
            said.items()
            >= {
                "code": code,
                "kind": "problem",
                "status": known.status,
                "title": known.title,
                "advice": known.advice,
                "retryable": known.retryable,
            }.items()
        )
    is_problem(api.client.get("/v1/errors/nonsense"), 404, "not_found")


@pytest.mark.parametrize("path", ["/v1", "/v1/job", "/v1/jobs/", "/v2/jobs", "/docs", "/v1/jobs/a%2Fb"])
def test_a_path_there_is_not_is_a_problem(api: RunningApi, path: str) -> None:
    is_problem(api.client.get(path), 404, "unknown_path")


def test_a_method_that_does_not_fit_names_all_that_do(api: RunningApi) -> None:
    answer = api.client.put("/v1/jobs")
    is_problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "GET, HEAD, POST"
    assert api.client.patch("/v1/datasets/x").headers["allow"] == "DELETE, GET, HEAD"


@pytest.mark.parametrize(
    "path", ["/v1/jobs/nonsense", "/v1/jobs/job_%00", "/v1/datasets/ds_x", "/v1/jobs/" + "a" * 4000]
)
def test_an_id_that_cannot_be_one_is_not_found(api: RunningApi, path: str) -> None:
    is_problem(api.client.get(path), 404, "not_found")


def test_an_unexpected_error_is_logged_and_says_nothing_of_itself(api: RunningApi) -> None:
    async def break_down() -> None:
        raise RuntimeError("the secret is swordfish")

    api.app.add_api_route("/boom", break_down)
    with capture_logs() as logs:
        answer = api.client.get("/boom")
    problem = is_problem(answer, 500, "internal")
    assert "swordfish" not in answer.text
    assert problem["retryable"] is True
    assert any(entry["event"] == "unexpected error" for entry in logs)


def test_an_error_inside_core_that_is_not_for_customers_is_a_500(api: RunningApi) -> None:
    def lose() -> None:
        raise errors.LeaseLost("job_1 of worker-7")

    api.app.add_api_route("/lost", lose)
    answer = api.client.get("/lost")
    is_problem(answer, 500, "internal")
    assert "worker-7" not in answer.text


def test_without_a_database_everything_is_a_503_but_the_process_lives(tmp_path: Path) -> None:
    dead = make_settings(tmp_path, database_url="postgresql://nobody:hunter2@127.0.0.1:1/nothing")
    with running(dead) as api:
        answer = api.client_with(make_key_text().token).get("/v1/jobs")
        is_problem(answer, 503, "database_unavailable")
        assert answer.headers["retry-after"]
        assert "hunter2" not in answer.text
        assert api.client.get("/livez").json() == {"status": "alive"}
        problem = is_problem(api.client.get("/readyz"), 503, "not_ready")
        assert [error["code"] for error in problem["errors"]] == ["database_unavailable"]


def test_each_request_is_logged_once_without_key_query_or_body(api: RunningApi) -> None:
    with capture_logs() as logs:
        api.client.get("/v1/jobs?label=secret:value")
    lines = [entry for entry in logs if entry["event"] == "request"]
    assert len(lines) == 1
    line = lines[0]
    assert (line["method"], line["path"], line["status"]) == ("GET", "/v1/jobs", 200)
    assert line["tenant_id"].startswith("ten_")
    assert line["key_id"].startswith("key_")
    key = api.client.headers["Authorization"].removeprefix("Bearer ")
    assert key not in str(logs)
    assert "secret" not in str(logs)


def test_a_probe_is_logged_only_when_it_fails(api: RunningApi) -> None:
    with capture_logs() as logs:
        api.client.get("/livez")
    assert logs == []


def test_requests_have_ids_of_their_own(api: RunningApi) -> None:
    ids = {api.client.get("/livez").headers["x-request-id"] for _ in range(5)}
    assert len(ids) == 5


def test_every_get_answers_head_with_the_same_headers_and_no_body(api: RunningApi) -> None:
    for operation in operations_of(api.app):
        if operation.method != "GET":
            continue
        got, head = api.client.get(operation.url()), api.client.head(operation.url())
        assert head.status_code == got.status_code, operation
        assert head.content == b"", operation
        assert head.headers["content-type"] == got.headers["content-type"]
        assert abs(int(head.headers["content-length"]) - int(got.headers["content-length"])) <= 8, operation


def test_no_answer_may_be_taken_for_another_type(api: RunningApi) -> None:
    for path in ("/livez", "/nonsense", "/v1/jobs"):
        assert api.client.get(path).headers["x-content-type-options"] == "nosniff"


def test_a_storage_that_is_down_is_a_503(api: RunningApi, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_storage: ObjectStorage) -> None:
        raise StorageUnavailable("The storage folder is missing.")

    monkeypatch.setattr(ObjectStorage, "check", refuse)
    problem = is_problem(api.client.get("/readyz"), 503, "not_ready")
    assert [error["code"] for error in problem["errors"]] == ["storage_unavailable"]


def test_a_broker_that_is_down_is_degraded_not_unready(api: RunningApi) -> None:
    assert api.client.get("/readyz").json()["status"] == "ready"
    api.broker.answers = False
    answer = api.client.get("/readyz")
    assert answer.status_code == 200
    assert answer.json() == {"status": "degraded", "database": "ok", "storage": "ok", "broker": "unavailable"}
