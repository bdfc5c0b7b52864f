"""The OpenAPI document: what every operation takes and answers, errors included, for client generators."""

from __future__ import annotations

import copy
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from api.examples import EXAMPLES
from api.problem_codes import PROBLEM_CODES
from api.problems import MEDIA_TYPE, Problem, ProblemDetail

BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
ARTIFACT_PATH = "/v1/jobs/{job_id}/artifacts/{name}"
_REF = "#/components/schemas/{model}"
EXAMPLE_NAME = "x-example-name"

# What any operation may answer, and what any that needs a key may answer beside it.
_ANYWHERE = ("invalid_request", "internal")
_WITH_KEY = (*_ANYWHERE, "unauthenticated", "forbidden", "rate_limited", "database_unavailable")

DESCRIPTION = """\
Training as a service for the Temporal Fusion Transformer on server metrics: upload a table, post a job,
poll it, download the checkpoint.

Errors are `application/problem+json` (RFC 9457) with a stable `code`; `GET /v1/errors/{code}` explains each.
Values of enumerations may grow: treat one you do not know as you would a new one. Unknown request fields and
query parameters are refused. Every GET also answers HEAD. Times are UTC.
"""
TAGS = [
    {"name": "datasets", "description": "Tables of server metrics."},
    {"name": "jobs", "description": "Training jobs: submit, follow, pause, resume, cancel, retry."},
    {"name": "artifacts", "description": "What a job has stored: checkpoints, results, reports."},
    {
        "name": "webhooks",
        "description": "Events sent to an address of yours, signed.",
    },
    {"name": "access", "description": "API keys, and the record of who did what."},
    {"name": "fleet", "description": "What there is to train on, and what waits for it."},
    {
        "name": "reference",
        "description": "Schemas and codes, for programs.",
    },
    {"name": "health", "description": "For load balancers and supervisors."},
]


def answers(
    *codes: str, with_key: bool = True, **examples: dict[str, Any]
) -> dict[int | str, dict[str, Any]]:
    """`responses` of an operation: its error codes, those of every operation, and `ok_<status>` entries."""
    responses = _problem_answers([*codes, *(_WITH_KEY if with_key else _ANYWHERE)])
    for name, answer in examples.items():
        responses[int(name.removeprefix("ok_"))] = answer
    return responses


def json_answer(description: str, example: str, **more: Any) -> dict[str, Any]:
    """A JSON answer with an example, by its name; `headers` and `model` may follow."""
    return {"description": description, "content": json_content(example), **more}


def json_content(example: str) -> dict[str, Any]:
    """JSON with an example. Its name stands for it at first: FastAPI would drop the nulls within."""
    return {"application/json": {EXAMPLE_NAME: example}}


def header(description: str) -> dict[str, Any]:
    return {"description": description, "schema": {"type": "string"}}


def _problem_answers(codes: list[str]) -> dict[int | str, dict[str, Any]]:
    by_status: dict[int, list[str]] = {}
    for code in dict.fromkeys(codes):
        by_status.setdefault(PROBLEM_CODES[code].status, []).append(code)
    return {status: _problem_answer(same) for status, same in sorted(by_status.items())}


def _problem_answer(codes: list[str]) -> dict[str, Any]:
    return {
        "description": "; ".join(f"`{code}`: {PROBLEM_CODES[code].title}" for code in codes),
        "content": {
            MEDIA_TYPE: {
                "schema": {"$ref": _REF.format(model="Problem")},
                "examples": {code: {"value": _problem_example(code)} for code in codes},
            }
        },
    }


def _problem_example(code: str) -> dict[str, object]:
    known = PROBLEM_CODES[code]
    return {
        "type": f"/v1/errors/{code}",
        "title": known.title,
        "status": known.status,
        "detail": known.advice,
        "instance": "/v1/jobs",
        "code": code,
        "request_id": "req_019299aabbcc7ddd8eeeffff00005555",
        "retryable": known.retryable,
    }


class DocumentedApp(FastAPI):
    """FastAPI whose document has our problems in place of its own, and names HEAD for downloads."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            self.openapi_schema = _document(self)
        return self.openapi_schema


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes, tags=TAGS
    )
    schemas = document["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for model in (Problem, ProblemDetail):
        schemas[model.__name__] = model.model_json_schema(ref_template=_REF)
        schemas[model.__name__].pop("$defs", None)
    _put_examples(document["paths"])
    _document_head(document["paths"][ARTIFACT_PATH])
    return document


def _put_examples(part: Any) -> None:
    if isinstance(part, list):
        for item in part:
            _put_examples(item)
    elif isinstance(part, dict):
        if EXAMPLE_NAME in part:
            part["example"] = EXAMPLES[part.pop(EXAMPLE_NAME)]
        for item in part.values():
            _put_examples(item)


def _document_head(path: dict[str, Any]) -> None:
    head = copy.deepcopy(path["get"])
    head["operationId"] = "head_artifact"
    head["summary"] = "Ask for a file's size, digest and entity tag"
    for answer in head["responses"].values():
        answer.pop("content", None)
    path["head"] = head
