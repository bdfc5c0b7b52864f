"""Commands that speak to a service: how they find it, how they answer, and what their exit codes mean."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

import typer

from foretrain.refusals import Refusal, spoken_refusals

if TYPE_CHECKING:
    from pydantic import BaseModel

    from foretrain.client import Client, ServiceProblem

Body = TypeVar("Body", bound="BaseModel")

EXIT_CODES = (
    "Exit codes: 0 done; 1 the job failed; 2 wrong use; 3 the service refused; 4 nobody answered; "
    "5 the job was cancelled; 6 not ended in time; 7 the answer is none of this release's; "
    "130 interrupted (a job goes on)."
)
_PIPED_WIDTH = 250
JOB_FAILED, REFUSED, UNREACHABLE, JOB_CANCELLED, NOT_ENDED, NOT_UNDERSTOOD = 1, 3, 4, 5, 6, 7
INTERRUPTED = 130

Url = Annotated[
    str | None,
    typer.Option("--url", help="Of the service; else FORETRAIN_URL, `foretrain login`, `foretrain up`."),
]
ApiKey = Annotated[
    str | None, typer.Option("--api-key", help="Else FORETRAIN_API_KEY, which no list of processes shows.")
]
AsJson = Annotated[bool, typer.Option("--json", help="For scripts: one JSON object; of a list one a line.")]


def remote_app(subject: str) -> typer.Typer:
    """A group of commands that speak to a service."""
    return typer.Typer(no_args_is_help=True, help=subject, epilog=EXIT_CODES)


def speaking(command: Callable[..., None]) -> Callable[..., None]:
    """The command with --url and --api-key in the place of its first parameter, a client."""

    def connected(*, url: str | None, api_key: str | None, **own: Any) -> None:
        with speaking_to(url, api_key) as client:
            command(client, **own)

    connected.__name__, connected.__doc__, connected.__module__ = (
        command.__name__,
        command.__doc__,
        command.__module__,
    )
    # Commands know the client's class only where types are checked: its import takes longer than `--help`.
    hints = get_type_hints(command, localns={"Client": object}, include_extras=True)
    _, *own = inspect.signature(command).parameters.values()
    parameters = [
        *(each.replace(annotation=hints[each.name], kind=inspect.Parameter.KEYWORD_ONLY) for each in own),
        inspect.Parameter("url", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Url),
        inspect.Parameter("api_key", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=ApiKey),
    ]
    connected.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # Typer reads it
    connected.__annotations__ = {}
    return connected


@contextmanager
def speaking_to(url: str | None, api_key: str | None) -> Iterator[Client]:
    """A client; what goes wrong becomes a sentence on stderr and an exit code."""
    with spoken_refusals():
        from foretrain.cli.connection import find_connection
        from foretrain.client import (
            AnswerNotUnderstood,
            Client,
            NotEndedInTime,
            ServiceProblem,
            ServiceUnreachable,
        )

        found = find_connection(url, api_key)
        try:
            with Client(found.url, found.api_key) as client:
                yield client
        except ServiceProblem as problem:
            _end(REFUSED, _refusal(problem))
        except ServiceUnreachable as error:
            _end(UNREACHABLE, str(error))
        except AnswerNotUnderstood as error:
            _end(NOT_UNDERSTOOD, str(error))
        except NotEndedInTime as error:
            _end(NOT_ENDED, str(error))
        except KeyboardInterrupt:
            _end(INTERRUPTED, "interrupted; what runs on the service goes on")


def checked(model: type[Body], asked: dict[str, Any]) -> Body:
    """What is to be sent. Raises Refusal with the place, the value and what is allowed."""
    from pydantic import ValidationError

    try:
        return model.model_validate(asked)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in problem["loc"])
        value = problem["input"]
        # What is wrong with a whole is said by the message; the whole would bury it.
        wrong = f", not {value!r}" if isinstance(value, str | int | float) else ""
        raise Refusal(f"{place}: {problem['msg']}{wrong}") from error


def _refusal(problem: ServiceProblem) -> str:
    places = [f"  {error.get('pointer', '')}: {error.get('detail', '')}" for error in problem.errors]
    return "\n".join([f"{problem.detail} ({problem.code})", *places])


def _end(code: int, sentence: str) -> None:
    print(f"foretrain: {sentence}", file=sys.stderr)  # noqa: T201  # a command line speaks
    raise typer.Exit(code)


def say(line: str) -> None:
    """To stdout."""
    print(line, flush=True)  # noqa: T201  # a command line speaks


def say_json(value: BaseModel | dict[str, Any]) -> None:
    """One object on one line, with the names of the HTTP API."""
    shown = value if isinstance(value, dict) else value.model_dump(mode="json", by_alias=True)
    say(json.dumps(shown, ensure_ascii=False))


def say_table(columns: list[str], rows: Iterable[list[object]]) -> None:
    """For people; a long cell is wrapped, never cut."""
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    # A pipe has no width: what reads it wants a row a line.
    width = None if sys.stdout.isatty() else _PIPED_WIDTH
    Console(highlight=False, markup=False, width=width).print(table)
