"""Turns pydantic's findings into places and sentences for the person who sent the request."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from api.strict_json import MAX_SHOWN, escape_pointer
from core.errors import FieldProblem

# A request can be wrong in a hundred thousand places; to explain them all would take longer than to serve it.
MAX_ERRORS = 20

# Our codes are a contract; pydantic's names for the same are not.
_CODES = {
    "missing": "required",
    "greater_than": "too_small",
    "greater_than_equal": "too_small",
    "less_than": "too_large",
    "less_than_equal": "too_large",
    "too_short": "too_short",
    "string_too_short": "too_short",
    "too_long": "too_long",
    "string_too_long": "too_long",
    "literal_error": "not_allowed",
    "enum": "not_allowed",
    "string_pattern_mismatch": "wrong_form",
    "finite_number": "not_finite",
}
_WRONG_TYPE = ("_type", "_parsing", "_from_date_parsing", "_attributes_type", "_unicode")


def explain(errors: Sequence[Mapping[str, Any]], body_model: type[BaseModel] | None) -> list[FieldProblem]:
    """One problem per finding, for the first MAX_ERRORS of them.

    `body_model` helps to guess what an unknown field was meant to be.
    """
    return [_explain_one(error, body_model) for error in errors[:MAX_ERRORS]]


def summary(problems: Sequence[FieldProblem]) -> str:
    """One sentence for the whole."""
    if len(problems) == 1:
        return problems[0].detail
    return f"{'At least ' if len(problems) == MAX_ERRORS else ''}{len(problems)} problems; see errors."


def _explain_one(error: Mapping[str, Any], body_model: type[BaseModel] | None) -> FieldProblem:
    kind = str(error["type"])
    source, *steps = error["loc"]
    pointer = _pointer(str(source), steps)
    if kind == "extra_forbidden":
        return _unknown_field(pointer, steps, body_model)
    name = str(steps[-1]) if steps else "The body"
    message = str(error["msg"]).removeprefix("Value error, ")
    return FieldProblem(
        code=_code(kind), detail=f"{name}: {message[:1].lower()}{message[1:]}.", pointer=pointer
    )


def _pointer(source: str, steps: Sequence[object]) -> str:
    # A key of a mapping that is itself wrong comes as [..., key, "[key]"].
    path = "".join(f"/{escape_pointer(str(step))}" for step in steps if step != "[key]")
    return path if source == "body" else f"/{source}{path}"


def _code(kind: str) -> str:
    if kind in _CODES:
        return _CODES[kind]
    return "wrong_type" if kind.endswith(_WRONG_TYPE) else kind


def _unknown_field(pointer: str, steps: Sequence[object], body_model: type[BaseModel] | None) -> FieldProblem:
    name = str(steps[-1])
    known = _field_names(body_model, steps[:-1])
    return FieldProblem(code="unknown_field", detail=unknown_name("field", name, known), pointer=pointer)


def unknown_name(kind: str, name: str, known: Sequence[str]) -> str:
    """A sentence that refuses `name` and offers the nearest of `known`, or all of them."""
    name = name[:MAX_SHOWN]
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"There is no {kind} {name!a}; did you mean {near[0]!a}?"
    choices = f" Known here: {', '.join(sorted(known))}." if known else ""
    return f"There is no {kind} {name!a}; leave it out.{choices}"


def _field_names(model: Any, steps: Sequence[object]) -> list[str]:
    for step in steps:
        field = getattr(model, "model_fields", {}).get(step)
        model = None if field is None else field.annotation
    return list(getattr(model, "model_fields", {}))
