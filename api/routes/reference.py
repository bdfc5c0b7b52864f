"""What programs read before they write: the schema of a spec, the meaning of a code, this very interface."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import cache
from typing import Annotated, Any

from fastapi import Path, Request, Response
from pydantic import BaseModel, Field

from api.code_catalogue import CATALOGUE, CodeKind
from api.dependencies import IfNoneMatch
from api.etags import polled_response, weak_etag
from api.openapi import answers, header, json_answer
from api.problem_codes import PROBLEM_CODES
from api.strict_route import strict_router
from core.errors import NotFound
from core.jobs.lifecycle import FAULTS, FailureReason, Fault
from core.jobs.schemas import JobLimits
from trainer.spec_form import form_schema

DIALECT = "https://json-schema.org/draft/2020-12/schema"
router = strict_router("reference")


class CodeMeaning(BaseModel):
    """What a code means where it stands in such a place."""

    kind: CodeKind = Field(description="Where it stands; `problem` is the `code` of an error answer.")
    status: int | None = Field(description="HTTP status it comes with; null unless `kind` is `problem`.")
    title: str
    advice: str = Field(description="What to do about it.")
    retryable: bool = Field(description="Whether the same thing may succeed later.")
    fault: Fault | None = Field(description="Whose it is; null unless `kind` is `job_failure`.")


class ErrorExplanation(CodeMeaning):
    """What a code means; `also` where the same code stands in other places too."""

    code: str
    also: list[CodeMeaning]


@router.get(
    "/v1/spec/schema",
    operation_id="get_spec_schema",
    summary="Get the JSON Schema of `training` and `limits`",
    response_model=dict[str, Any],
    responses=answers(
        with_key=False,
        ok_200=json_answer(
            "A JSON Schema (2020-12).",
            "spec_schema",
            headers={"ETag": header("Changes with the release alone.")},
        ),
        ok_304={"description": "The schema is the one you hold."},
    ),
)
def get_spec_schema(request: Request, _if_none_match: IfNoneMatch = None) -> Response:
    """Every field of a training spec with type, bounds, default, example and meaning: enough to build a form.

    Beside JSON Schema's own keywords each field has `x-group` and `x-order`, and where it applies `x-unit`,
    `x-needs` (what it takes, in words), `x-needs-fields` (it only matters beside one of these values) and
    `x-supported` (the only value that is taken so far). `x-presets` lists what each preset sets, and
    `x-limits` is the schema of `limits`.
    """
    body = _spec_schema()
    return polled_response(request, body, weak_etag(body))


@cache
def _spec_schema() -> str:
    schema = form_schema()
    limits = JobLimits.model_json_schema()
    return json.dumps({"$schema": DIALECT, **schema, "x-limits": limits})


@router.get(
    "/v1/errors/{code}",
    response_model=ErrorExplanation,
    operation_id="explain_error",
    summary="Explain a code",
    responses=answers(
        "not_found",
        with_key=False,
        ok_200=json_answer("The explanation.", "error"),
    ),
)
def explain_error(
    code: Annotated[str, Path(description="Any code of this service.", max_length=100, examples=["in_use"])],
) -> ErrorExplanation:
    """The `type` of every problem leads here.

    Explained are the codes of problems and of their `errors`, of jobs' failures, attempts and warnings, and
    of datasets' problems and findings.
    """
    meanings = _meanings(code)
    if not meanings:
        raise NotFound("There is no such code.")
    return ErrorExplanation(code=code, also=meanings[1:], **meanings[0].model_dump())


def _meanings(code: str) -> list[CodeMeaning]:
    found = []
    if (problem := PROBLEM_CODES.get(code)) is not None:
        found.append(
            CodeMeaning(
                kind="problem",
                status=problem.status,
                title=problem.title,
                advice=problem.advice,
                retryable=problem.retryable,
                fault=None,
            )
        )
    for kind, meanings in CATALOGUE.items():
        if (meaning := meanings.get(code)) is not None:
            fault = FAULTS[FailureReason(code)] if kind == "job_failure" else None
            found.append(CodeMeaning(kind=kind, status=None, fault=fault, **asdict(meaning)))
    return found


@router.get("/openapi.json", include_in_schema=False)
def get_openapi_document(request: Request) -> dict[str, Any]:
    """This interface."""
    document: dict[str, Any] = request.app.openapi()
    return document
