"""Every error answer of this service: RFC 9457 problem+json with a stable code and a sentence that helps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel, Field
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.types import Scope

from api.problem_codes import PROBLEM_CODES, SERVICE_CODES
from api.validation_problems import MAX_ERRORS, explain, summary
from core.errors import FieldProblem, InvalidTransition, ServiceError

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 5
MAX_PATH = 500
_DATABASE_IS_DOWN = (OperationalError, InterfaceError, PoolTimeoutError)

log = structlog.get_logger(__name__)


class ProblemDetail(BaseModel):
    """One thing that is wrong, and where."""

    pointer: str | None = Field(
        None,
        description="JSON pointer into the body, or `/query/<name>`, `/header/<name>`, `/path/<name>`.",
        examples=["/training/epochs"],
    )
    code: str = Field(description="What is wrong, for programs.", examples=["too_large"])
    detail: str = Field(description="What is wrong and what to do, for people.")
    column: str | None = Field(None, description="Column of the uploaded file.")
    row: int | None = Field(None, description="Row of data in the file, from 1; the header does not count.")


class Problem(BaseModel):
    """An error (RFC 9457). Members that do not apply are left out; new ones may come."""

    type: str = Field(description="Where this code is explained.", examples=["/v1/errors/invalid_request"])
    title: str
    status: int
    detail: str
    instance: str = Field(description="Path of the request.")
    code: str = Field(description="What went wrong, for programs; /v1/errors/{code} explains each.")
    request_id: str = Field(description="Names this request in the service's log.", examples=["req_0192f0c1"])
    retryable: bool = Field(description="Whether the same request may succeed later.")
    errors: list[ProblemDetail] | None = None
    allowed: list[str] | None = Field(None, description="With `invalid_transition`: the verbs that fit.")


class HttpProblem(Exception):
    """A refusal only HTTP knows; `code` is one of `PROBLEM_CODES`."""

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        errors: Sequence[FieldProblem] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = dict(headers or {})


def problem_response(
    scope: Scope,
    code: str,
    detail: str,
    *,
    errors: Sequence[FieldProblem] = (),
    allowed: Sequence[str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """`code` as an answer to the request in `scope`, with the headers its status asks for."""
    known = PROBLEM_CODES[code]
    problem = Problem(
        type=f"/v1/errors/{code}",
        title=known.title,
        status=known.status,
        detail=detail,
        instance=scope["path"][:MAX_PATH],
        code=code,
        request_id=scope["state"]["request_id"],
        retryable=known.retryable,
        errors=[_detail(error) for error in errors[:MAX_ERRORS]] or None,
        allowed=None if allowed is None else list(allowed),
    )
    return Response(
        problem.model_dump_json(exclude_none=True),
        known.status,
        _status_headers(known.status) | dict(headers or {}),
        MEDIA_TYPE,
    )


def _detail(error: FieldProblem) -> ProblemDetail:
    return ProblemDetail(
        pointer=error.pointer, code=error.code, detail=error.detail, column=error.column, row=error.row
    )


def _status_headers(status: int) -> dict[str, str]:
    headers = {"Cache-Control": "no-store"}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="foretrain"'
    if status in {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.REQUEST_TIMEOUT}:
        headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return headers


def answer_with_problems(app: FastAPI) -> None:
    """Lets `app` answer every refusal below its routes, and the framework's own, as a problem."""
    for kind in (ServiceError, HttpProblem, RequestValidationError, HTTPException, *_DATABASE_IS_DOWN):
        app.add_exception_handler(kind, _answer)


async def _answer(request: Request, error: Exception) -> Response:
    match error:
        case ServiceError():
            return _service_refusal(request, error)
        case HttpProblem():
            return problem_response(
                request.scope, error.code, error.detail, errors=error.errors, headers=error.headers
            )
        case RequestValidationError():
            return _validation_refusal(request, error)
        case HTTPException():
            return _framework_refusal(request, error)
    # For the log alone, and the driver's own words: SQLAlchemy's hold the values of the statement.
    log.error("database does not answer", reason=str(getattr(error, "orig", error)))
    return problem_response(request.scope, "database_unavailable", "The database does not answer; try again.")


def _service_refusal(request: Request, error: ServiceError) -> Response:
    if error.code not in SERVICE_CODES:
        log.error("a service error that is not for customers", code=error.code, exc_info=error)
        return unexpected_error(request.scope)
    allowed = error.allowed if isinstance(error, InvalidTransition) else None
    return problem_response(request.scope, error.code, error.detail, errors=error.errors, allowed=allowed)


def _validation_refusal(request: Request, error: RequestValidationError) -> Response:
    problems = explain(error.errors(), request.scope["state"].get("body_model"))
    is_not_built = all(problem.code == "not_supported" for problem in problems)
    code = "not_supported" if is_not_built else "invalid_request"
    return problem_response(request.scope, code, summary(problems), errors=problems)


def _framework_refusal(request: Request, error: HTTPException) -> Response:
    path = request.scope["path"][:MAX_PATH]
    if error.status_code == HTTPStatus.NOT_FOUND:
        return problem_response(request.scope, "unknown_path", f"There is no path {path}.")
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = ", ".join(allowed_methods(request.app, path))
        return problem_response(
            request.scope, "method_not_allowed", f"{path} takes {allowed}.", headers={"Allow": allowed}
        )
    code = "too_large" if error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE else "bad_request"
    return problem_response(request.scope, code, str(error.detail))


def allowed_methods(app: FastAPI, path: str) -> list[str]:
    """Methods of the routes of exactly this path, or else of all whose parameters match it.

    The framework's own answer names those of the first match alone.
    """
    matching = [
        route
        for route in iter_route_contexts(app.routes)
        if route.path_regex is not None and route.path_regex.match(path)
    ]
    exact = [route for route in matching if route.path == path]
    methods: set[str] = set()
    for route in exact or matching:
        methods |= route.methods or set()
    return sorted(methods | ({"HEAD"} if "GET" in methods else set()))


def unexpected_error(scope: Scope) -> Response:
    """A 500 that says nothing about what broke."""
    return problem_response(scope, "internal", "Something broke on our side; it has been logged.")
