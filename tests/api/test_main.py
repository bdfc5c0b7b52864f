"""The application as a whole: what it loads, and that no route forgets to be strict."""

from __future__ import annotations

import subprocess
import sys

import pytest
from fastapi.routing import iter_route_contexts

from api.pages.routes import FRAMES
from api.strict_route import StrictRoute
from tests.api.conftest import RunningApi
from tests.api.routes_of import operations_of
from tests.api.test_problems import is_problem

HEAVY = ("torch", "lightning", "pytorch_forecasting", "pandas", "numpy", "matplotlib", "pyarrow")


@pytest.mark.slow
def test_importing_the_api_loads_nothing_that_trains() -> None:
    code = f"import sys, api.main; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_route_is_a_strict_one(api: RunningApi) -> None:
    for route in iter_route_contexts(api.app.routes):
        is_page = route.path in FRAMES or route.path in {"/", "/login", "/static/{digest}/{name}"}
        assert is_page or isinstance(route.original_route, StrictRoute), route.path


def test_every_route_refuses_a_query_parameter_that_nobody_reads(api: RunningApi) -> None:
    for operation in operations_of(api.app):
        answer = api.client.request(operation.method, operation.url(), params={"surprise": "1"})
        problem = is_problem(answer, 422, "invalid_request")
        assert problem["errors"][0] == {
            "pointer": "/query/surprise",
            "code": "unknown_parameter",
            "detail": problem["detail"],
        }


def test_the_document_is_served(api: RunningApi) -> None:
    assert api.client.get("/openapi.json").json() == api.app.openapi()


def test_the_schema_of_a_spec_is_served_with_its_bounds(api: RunningApi) -> None:
    schema = api.client.get("/v1/spec/schema").json()
    assert schema["properties"]["epochs"]["default"] == 20
    assert schema["properties"]["epochs"]["maximum"] == 1000
    assert schema["additionalProperties"] is False
    assert schema["x-limits"]["properties"]["max_attempts"]["x-unit"] == "attempts"


def test_the_schema_of_a_spec_is_not_sent_twice(api: RunningApi) -> None:
    tag = api.client.get("/v1/spec/schema").headers["etag"]

    assert api.client.get("/v1/spec/schema", headers={"If-None-Match": tag}).status_code == 304
