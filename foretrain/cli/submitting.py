"""`foretrain jobs submit`: with one option per field of TrainingSpec."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from core.jobs.schemas import JobCreate
from foretrain.cli.remote import ApiKey, AsJson, Url, say, say_json, speaking_to
from foretrain.refusals import Refusal, spoken_refusals
from foretrain.training_options import build_spec, spec_parameters

_OWN: dict[str, tuple[Any, Any]] = {
    "dataset": (Annotated[str | None, typer.Option(help="`ds_…`; else as the file of --spec says.")], None),
    "spec": (
        Annotated[
            str | None,
            typer.Option(
                help="A job as JSON, in a file or, with -, on stdin; options go over it.", metavar="FILE"
            ),
        ],
        None,
    ),
    "name": (Annotated[str | None, typer.Option(help="For people.")], None),
    "label": (Annotated[list[str] | None, typer.Option(help="key:value; may be repeated.")], None),
    "priority": (Annotated[int | None, typer.Option(help="Higher first.")], None),
    "idempotency_key": (
        Annotated[str | None, typer.Option(help="A command repeated with the same one makes one job.")],
        None,
    ),
    "validate_only": (
        Annotated[bool, typer.Option("--validate-only", help="Print what would be trained; queue nothing.")],
        False,
    ),
    "as_json": (AsJson, False),
    "url": (Url, None),
    "api_key": (ApiKey, None),
}


def build_command() -> Callable[..., Any]:
    """The command; it prints the new job's id."""

    def submit(
        *,
        dataset: str | None,
        spec: str | None,
        name: str | None,
        label: list[str] | None,
        priority: int | None,
        idempotency_key: str | None,
        validate_only: bool,
        as_json: bool,
        url: str | None,
        api_key: str | None,
        **spec_options: Any,
    ) -> None:
        """Queue a job and print its id."""
        with spoken_refusals():
            given = {"dataset_id": dataset, "name": name, "priority": priority, "labels": _labels(label)}
            job = _job(_read(spec), given, spec_options)
        with speaking_to(url, api_key) as client:
            if validate_only:
                say_json(client.validate(job))
                return
            made = client.submit(job, idempotency_key=idempotency_key)
            if as_json:
                say_json(made)
            else:
                say(made.id)

    kind = inspect.Parameter.KEYWORD_ONLY
    own = [
        inspect.Parameter(name, kind, default=default, annotation=annotation)
        for name, (annotation, default) in _OWN.items()
    ]
    names = {parameter.name for parameter in own}
    fields = [parameter for parameter in spec_parameters() if parameter.name not in names]
    submit.__signature__ = inspect.Signature([*own, *fields])  # type: ignore[attr-defined]  # Typer reads it
    submit.__annotations__ = {}
    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    single.command()(submit)
    return single


def _read(spec: str | None) -> dict[str, Any]:
    if spec is None:
        return {}
    try:
        read = json.loads(sys.stdin.read() if spec == "-" else Path(spec).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Refusal(f"--spec: {error}") from error
    if not isinstance(read, dict):
        raise Refusal("--spec: the file holds no JSON object")
    return read


def _job(read: dict[str, Any], given: dict[str, Any], spec_options: dict[str, Any]) -> JobCreate:
    training = build_spec(spec_options).model_dump(mode="json", exclude_unset=True)
    said = {name: value for name, value in given.items() if value is not None}
    try:
        return JobCreate.model_validate(read | said | {"training": read.get("training", {}) | training})
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in problem["loc"])
        raise Refusal(f"{place}: {problem['msg']}") from error


def _labels(label: list[str] | None) -> dict[str, str] | None:
    if label is None:
        return None
    pairs = [each.partition(":") for each in label]
    if not all(colon for _, colon, _ in pairs):
        raise Refusal("--label: write key:value")
    return {key: value for key, _, value in pairs}
