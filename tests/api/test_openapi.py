"""The document that clients are generated from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from openapi_spec_validator import validate

from api.main import create_app
from api.problem_codes import PROBLEM_CODES
from core.datasets.lifecycle import DatasetStatus
from core.jobs.lifecycle import JobStatus
from core.settings import Settings

Operation = tuple[str, str, dict[str, Any]]

# Answered to requests that reach no operation, so no operation can show them.
OF_NO_OPERATION = {"bad_request", "method_not_allowed", "unknown_path"}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    return create_app(Settings(data_dir=tmp_path_factory.mktemp("data")))


@pytest.fixture(scope="module")
def document(app: FastAPI) -> dict[str, Any]:
    return app.openapi()


@pytest.fixture(scope="module")
def operations(document: dict[str, Any]) -> list[Operation]:
    return [
        (path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def test_the_document_is_valid_openapi(document: dict[str, Any]) -> None:
    validate(document)
    assert document["openapi"].startswith("3.1")


def is_page(route: Any) -> bool:
    """For people: the pages themselves, and the cookie they sign in by."""
    module: str = route.endpoint.__module__
    return route.path == "/session" or module.startswith("api.pages")


def test_every_served_route_is_documented_and_the_other_way_round(
    app: FastAPI, operations: list[Operation]
) -> None:
    served = {
        (route.path, method)
        for route in iter_route_contexts(app.routes)
        for method in route.methods or ()
        if route.path != "/openapi.json" and not is_page(route)
    }
    documented = {(path, method.upper()) for path, method, _ in operations if method != "head"}
    assert served == documented


def test_every_operation_says_what_it_is(operations: list[Operation]) -> None:
    for path, method, operation in operations:
        assert operation["summary"], (path, method)
        assert operation["description"].strip(), (path, method)
        assert operation["tags"], (path, method)
    names = [operation["operationId"] for _, _, operation in operations]
    assert len(set(names)) == len(names)


def test_every_parameter_and_body_is_described(operations: list[Operation]) -> None:
    for path, method, operation in operations:
        for parameter in operation.get("parameters", []):
            assert parameter.get("description"), (path, method, parameter["name"])
        if method == "post" and "requestBody" in operation:
            assert operation["requestBody"]["content"], (path, method)


def test_every_operation_declares_its_errors_as_problems(operations: list[Operation]) -> None:
    for path, method, operation in operations:
        errors = {status: answer for status, answer in operation["responses"].items() if int(status) >= 400}
        assert {"422", "500"} <= errors.keys(), (path, method)
        if path.startswith("/v1/") and not path.startswith(("/v1/errors", "/v1/spec")):
            assert {"401", "403", "503"} <= errors.keys(), (path, method)
            assert operation["security"], (path, method)
        if "{" in path:
            assert "404" in errors, (path, method)
        if method != "head":
            for answer in errors.values():
                assert list(answer["content"]) == ["application/problem+json"], (path, method)


def test_every_success_with_a_body_has_a_named_schema(operations: list[Operation]) -> None:
    anonymous = {"get_spec_schema", "stream_events", "download_artifact", "head_artifact", "scrape_metrics"}
    for path, method, operation in operations:
        for status, answer in operation["responses"].items():
            if status in {"200", "201", "202"} and operation["operationId"] not in anonymous:
                schema = answer["content"]["application/json"]["schema"]
                assert schema["$ref"].startswith("#/components/schemas/"), (path, method, status)


def each_example(
    document: dict[str, Any], operations: list[Operation]
) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    for path, method, operation in operations:
        bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
        for body in bodies:
            for media_type, content in body.get("content", {}).items():
                schema = {**content.get("schema", {}), "components": document["components"]}
                values = [entry["value"] for entry in content.get("examples", {}).values()]
                values += [content["example"]] if "example" in content else []
                for value in values:
                    yield f"{method} {path} {media_type}", value, schema


def test_every_example_fits_its_schema(document: dict[str, Any], operations: list[Operation]) -> None:
    checked = list(each_example(document, operations))
    assert len(checked) > 100
    for place, value, schema in checked:
        problems = [error.message for error in jsonschema_rs.Draft202012Validator(schema).iter_errors(value)]
        assert not problems, (place, problems)


def test_no_json_answer_lacks_an_example(operations: list[Operation]) -> None:
    for path, method, operation in operations:
        for status, answer in operation["responses"].items():
            for media_type, content in answer.get("content", {}).items():
                if media_type.endswith("json"):
                    assert content.get("example") or content.get("examples"), (path, method, status)


def test_no_json_request_lacks_an_example(operations: list[Operation]) -> None:
    for path, method, operation in operations:
        content = operation.get("requestBody", {}).get("content", {}).get("application/json", {"example": {}})
        assert content.keys() & {"example", "examples"}, (path, method)


def test_every_problem_is_explained_and_has_an_example(
    document: dict[str, Any], operations: list[Operation]
) -> None:
    codes = {
        value["code"]
        for place, value, _ in each_example(document, operations)
        if place.endswith("problem+json")
    }
    assert codes == PROBLEM_CODES.keys() - OF_NO_OPERATION


def test_nothing_of_the_frameworks_own_errors_is_left(document: dict[str, Any]) -> None:
    assert "HTTPValidationError" not in str(document)


@pytest.mark.parametrize(
    ("schema", "field", "words"),
    [
        ("JobRead", "status", [status.value for status in JobStatus]),
        ("JobRead", "fault", ["user", "platform", "capacity"]),
        ("DatasetRead", "status", [status.value for status in DatasetStatus]),
    ],
)
def test_words_of_answers_are_named_and_others_of_later_releases_allowed(
    document: dict[str, Any], schema: str, field: str, words: list[str]
) -> None:
    schemas = document["components"]["schemas"]
    kinds = schemas[schema]["properties"][field]["anyOf"]
    named = [schemas[kind["$ref"].rpartition("/")[2]] if "$ref" in kind else kind for kind in kinds]

    assert sorted(words) in [sorted(kind.get("enum", [])) for kind in named]
    assert {"type": "string"} in named
