"""What programs read before they write: the schema of a spec, the meaning of a code, this very interface."""

from __future__ import annotations

import json
from functools import cache
from typing import Annotated, Any

from fastapi import Path, Request, Response
from pydantic import BaseModel, Field

from api.dependencies import IfNoneMatch
from api.etags import polled_response, weak_etag
from api.openapi import answers, header, json_answer
from api.problem_codes import PROBLEM_CODES
from api.strict_route import strict_router
from core.errors import NotFound
from core.jobs.schemas import JobLimits
from trainer.spec_form import form_schema

DIALECT = "https://json-schema.org/draft/2020-12/schema"
router = strict_router("reference")


class ErrorExplanation(BaseModel):
    """What a problem's `code` means."""

    code: str
    status: int = Field(description="HTTP status it comes with.")
    title: str
    advice: str = Field(description="What to do about it.")
    retryable: bool = Field(description="Whether the same request may succeed later.")


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
    summary="Explain an error code",
    responses=answers(
        "not_found",
        with_key=False,
        ok_200=json_answer("The explanation.", "error"),
    ),
)
def explain_error(
    code: Annotated[str, Path(description="`code` of a problem.", examples=["in_use"])],
) -> ErrorExplanation:
    """The `type` of every problem leads here."""
    known = PROBLEM_CODES.get(code)
    if known is None:
        raise NotFound("There is no such error code.")
    return ErrorExplanation(
        code=code, status=known.status, title=known.title, advice=known.advice, retryable=known.retryable
    )


@router.get("/openapi.json", include_in_schema=False)
def get_openapi_document(request: Request) -> dict[str, Any]:
    """This interface."""
    document: dict[str, Any] = request.app.openapi()
    return document
