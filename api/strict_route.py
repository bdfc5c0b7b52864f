"""The route class of every endpoint: refuses query parameters nobody reads, and what is not quite JSON."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from email.message import Message
from typing import Any, get_args, get_origin

from fastapi import APIRouter, Request, Response, params
from fastapi.dependencies.utils import get_flat_params
from fastapi.routing import APIRoute
from pydantic import BaseModel

from api.bodies import receive_body
from api.problems import HttpProblem
from api.strict_json import JsonTroubleError, JsonValue, escape_pointer, parse_json
from api.validation_problems import MAX_ERRORS, summary, unknown_name
from core.errors import FieldProblem, InvalidRequest, UnsupportedMedia

MAX_JSON_BYTES = 1024 * 1024
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class StrictRoute(APIRoute):
    """Unknown and repeated query parameters are 422; a JSON body is read by our own parser."""

    def get_route_handler(self) -> Handler:
        answer = super().get_route_handler()
        known = {
            field.alias: _takes_many(field.field_info.annotation)
            for field in get_flat_params(self.dependant)
            if isinstance(field.field_info, params.Query)
        }
        takes_body = self.body_field is not None
        body_model = _body_model(self)

        async def answer_strictly(request: Request) -> Response:
            refuse_unknown_query(request, known)
            request.state.body_model = body_model
            return await answer(await _with_parsed_body(request) if takes_body else request)

        return answer_strictly


def strict_router(tag: str) -> APIRouter:
    """A router for one subject; each of its routes is strict."""
    return APIRouter(tags=[tag], route_class=StrictRoute)


def _body_model(route: APIRoute) -> type[BaseModel] | None:
    kind = None if route.body_field is None else route.body_field.field_info.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _takes_many(annotation: object) -> bool:
    """Whether a parameter is a list, or a list or None."""
    return any(get_origin(kind) is list for kind in (annotation, *get_args(annotation)))


def refuse_unknown_query(request: Request, known: Mapping[str, bool]) -> None:
    """Raises InvalidRequest for parameters that are unknown, hold a NUL, or stand twice.

    `known` says of each name whether it may be repeated.
    """
    errors = []
    for name in request.query_params:
        values = request.query_params.getlist(name)
        if name not in known:
            code, detail = "unknown_parameter", unknown_name("query parameter", name, [*known])
        elif len(values) > 1 and not known[name]:
            code, detail = "repeated_parameter", f"{name} stands twice; send it once."
        elif any("\0" in value for value in values):
            code, detail = "invalid_character", f"{name} holds a NUL character."
        else:
            continue
        errors.append(FieldProblem(code, detail, f"/query/{escape_pointer(name)}"))
        if len(errors) == MAX_ERRORS:
            break
    if errors:
        raise InvalidRequest(summary(errors), errors)


class _ParsedRequest(Request):
    """A request whose body has been read and parsed."""

    data: bytes
    value: JsonValue

    async def body(self) -> bytes:
        return self.data

    async def json(self) -> JsonValue:
        return self.value


async def _with_parsed_body(request: Request) -> Request:
    idle_seconds = request.app.state.resources.settings.body_idle_seconds
    pieces = [
        piece async for piece in receive_body(request, max_bytes=MAX_JSON_BYTES, idle_seconds=idle_seconds)
    ]
    parsed = _ParsedRequest(request.scope, request.receive)
    parsed.data = b"".join(pieces)
    parsed.value = None
    if parsed.data:
        _require_json(request.headers.get("content-type"))
        parsed.value = _parse(parsed.data)
    return parsed


def _require_json(content_type: str | None) -> None:
    header = Message()
    header["content-type"] = content_type or ""
    if header.get_content_type() != "application/json":
        raise UnsupportedMedia("Send the body as JSON, with the header Content-Type: application/json.")


def _parse(data: bytes) -> JsonValue:
    try:
        return parse_json(data)
    except JsonTroubleError as trouble:
        place = FieldProblem(trouble.code, trouble.detail, trouble.pointer)
        raise HttpProblem("invalid_json", trouble.detail, errors=[place]) from trouble
