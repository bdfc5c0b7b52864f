"""Every code that this service can say is explained."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from api.code_catalogue import CATALOGUE
from api.problem_codes import PROBLEM_CODES
from api.validation_problems import _CODES as RENAMED
from core.jobs.lifecycle import FailureReason, RequeueReason
from tests.api.conftest import RunningApi
from tests.api.test_problems import is_problem
from trainer.dataset.schema import FindingCode, ProblemCode
from trainer.events import FailureCode

ROOT = Path(__file__).parents[2]
# What is made with a code, and what that is a code of.
MADE_WITH_A_CODE = {
    "FieldProblem": "field",
    "JsonTroubleError": "field",
    "PydanticCustomError": "field",
    "ColumnProblem": "field",
    "JobWarning": "job_warning",
    "Warned": "job_warning",
    "HttpProblem": "problem",
}


def codes_in_the_source() -> Iterator[tuple[str, str]]:
    """Kind and code of each thing that is made with a code which stands there as a word."""
    for package in ("api", "core", "trainer", "worker"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                    kind = MADE_WITH_A_CODE.get(node.func.id)
                    place = node.args[1:2] if node.func.id == "ColumnProblem" else node.args[:1]
                    named = [keyword.value for keyword in node.keywords if keyword.arg == "code"]
                    for value in [*place, *named] if kind else []:
                        if isinstance(value, ast.Constant) and isinstance(value.value, str):
                            yield kind or "", value.value


def test_every_code_in_the_source_is_in_the_catalogue() -> None:
    said = set(codes_in_the_source())
    assert len(said) > 30
    explained = {(kind, code) for kind, meanings in CATALOGUE.items() for code in meanings}
    explained |= {("problem", code) for code in PROBLEM_CODES}
    assert said - explained == set()


def test_every_listed_code_is_in_the_catalogue_and_no_other() -> None:
    assert CATALOGUE["job_failure"].keys() == {reason.value for reason in FailureReason}
    assert CATALOGUE["job_failure"].keys() >= set(get_args(FailureCode))
    assert CATALOGUE["attempt_outcome"].keys() == {reason.value for reason in RequeueReason}
    assert CATALOGUE["dataset_problem"].keys() == set(get_args(ProblemCode))
    assert CATALOGUE["dataset_finding"].keys() == set(get_args(FindingCode))
    assert CATALOGUE["field"].keys() >= set(RENAMED.values())


def test_every_code_is_explained_over_http(api: RunningApi) -> None:
    for code in {*PROBLEM_CODES, *(code for meanings in CATALOGUE.values() for code in meanings)}:
        said = api.client.get(f"/v1/errors/{code}").json()
        assert said["code"] == code
        for meaning in (said, *said["also"]):
            assert meaning["title"], code
            assert meaning["advice"], code
            assert (meaning["status"] is None) == (meaning["kind"] != "problem")
            assert (meaning["fault"] is None) == (meaning["kind"] != "job_failure")


def test_a_code_with_several_meanings_tells_them_all(api: RunningApi) -> None:
    said = api.client.get("/v1/errors/out_of_memory").json()

    assert [said["kind"], *(meaning["kind"] for meaning in said["also"])] == [
        "job_failure",
        "attempt_outcome",
        "dataset_problem",
    ]


@pytest.mark.parametrize("code", ["nothing", "x" * 90])
def test_what_is_no_code_is_not_found(api: RunningApi, code: str) -> None:
    is_problem(api.client.get(f"/v1/errors/{code}"), 404, "not_found")
