"""Every field of TrainingSpec as an option of the command line."""

from __future__ import annotations

import inspect
import types
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional, Union, get_args, get_origin

import typer
from pydantic import ValidationError

from foretrain.refusals import Refusal
from trainer.spec import TrainingSpec

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

_SHORT_NAMES = {"target_metrics": "--target"}
_PANEL = "What to train"


def spec_parameters() -> list[inspect.Parameter]:
    """For the signature of a Typer command. Each is None unless given: defaults stay those of the spec."""
    return [_parameter(name, field) for name, field in TrainingSpec.model_fields.items()]


def build_spec(options: dict[str, Any]) -> TrainingSpec:
    """The spec of the options that were given. Raises Refusal, naming the options."""
    given = {
        name: _value(TrainingSpec.model_fields[name], value)
        for name, value in options.items()
        if value is not None
    }
    try:
        return TrainingSpec(**given)
    except ValidationError as error:
        raise Refusal("; ".join(_problem(problem) for problem in error.errors(include_url=False))) from error


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    kind = _plain_type(field.annotation)
    option = f"--{name.replace('_', '-')}"
    names = [f"{option}/--no-{name.replace('_', '-')}"] if kind is bool else [option]
    if name in _SHORT_NAMES:
        names.insert(0, _SHORT_NAMES[name])
    option_info = typer.Option(*names, help=_help(field), rich_help_panel=_PANEL, show_default=False)
    annotation: Any = Annotated[Optional[kind], option_info]  # noqa: UP045  # `kind | None` fails for Literal
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _plain_type(annotation: Any) -> Any:
    """The type of one value on the command line; a list is given as text, separated by commas."""
    origin = get_origin(annotation)
    if origin in {Union, types.UnionType}:
        [inner] = [part for part in get_args(annotation) if part is not type(None)]
        return _plain_type(inner)
    if origin is Annotated:
        return _plain_type(get_args(annotation)[0])
    if origin is list:
        return list[str]
    return annotation if origin is Literal or annotation in {bool, int, float} else str


def _help(field: FieldInfo) -> str:
    default = field.get_default(call_default_factory=True)
    shown = "" if default is None or default == [] else f" Default: {_show(default)}."
    return f"{field.description or ''}{shown}".strip()


def _show(value: object) -> str:
    if isinstance(value, list):
        return ",".join(_show(part) for part in value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _value(field: FieldInfo, value: Any) -> Any:
    if not isinstance(value, list):
        return value
    parts = [part.strip() for text in value for part in text.split(",") if part.strip()]
    is_numbers = "float" in str(field.annotation)
    return [_parse_number(part) for part in parts] if is_numbers else parts


def _parse_number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise Refusal(f"{text!r} is not a number") from error


def _problem(problem: Any) -> str:
    name = str(problem["loc"][0]).replace("_", "-") if problem["loc"] else ""
    message = str(problem["msg"]).removeprefix("Value error, ")
    return f"--{name}: {message}" if name else message
