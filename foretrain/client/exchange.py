"""A request and its answer: refusals become exceptions, and what may be tried again is."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any, Generic, TypeVar
from uuid import uuid4

import httpx2
from pydantic import BaseModel, RootModel, ValidationError

from core.stored import without_unknown_keys
from foretrain.client.problems import AnswerNotUnderstood, ServiceProblem, ServiceUnreachable
from foretrain.client.wire import Answer, Query, Request, Wire

T = TypeVar("T")
Model = TypeVar("Model", bound=BaseModel)

TRIES = 5
FIRST_PAUSE_SECONDS = 0.5
# A Retry-After beyond it is for the caller to decide on.
LONGEST_PAUSE_SECONDS = 30.0
PAGE_SIZE = 100

_NOT_DONE = {429, 503}  # the service says that it has not begun
_LOST_BEHIND_A_PROXY = {502, 504}


class _Object(RootModel[dict[str, Any]]):
    pass


class _Page(BaseModel, Generic[Model]):
    items: list[Model]
    next_cursor: str | None


async def exchange(wire: Wire, request: Request, take: Callable[[Answer], Awaitable[T]]) -> T:
    """What `take` makes of the answer, which is a success or a 304.

    A broken connection, 429 and 503 are tried again: up to TRIES times in all, after a random pause that
    grows, or after the one that the service asks for. Raises ServiceProblem and ServiceUnreachable.
    """
    tries = 0
    while True:
        tries += 1
        try:
            async with wire.open(request) as answer:
                if answer.response.is_success or answer.response.status_code == httpx2.codes.NOT_MODIFIED:
                    return await take(answer)
                problem = await problem_of(answer)
            if tries == TRIES or not _may_try_again(request, problem):
                raise problem
            seconds = pause_seconds(tries, problem.retry_after_seconds)
        except httpx2.TransportError as error:
            if tries == TRIES or not (request.is_repeatable or isinstance(error, httpx2.ConnectError)):
                raise ServiceUnreachable(_sentence(error)) from error
            seconds = pause_seconds(tries)
        await wire.pause(seconds)


async def fetch(wire: Wire, request: Request) -> httpx2.Response:
    """The answer, read whole."""

    async def whole(answer: Answer) -> httpx2.Response:
        await answer.read()
        return answer.response

    return await exchange(wire, request, whole)


async def fetch_as(wire: Wire, model: type[Model], request: Request) -> Model:
    """The answer's body, typed. Raises AnswerNotUnderstood."""
    return typed(model, (await fetch(wire, request)).content)


def typed(model: type[Model], content: bytes | str) -> Model:
    """JSON of the service as one of our types; keys that a later release has added are left out.

    Raises AnswerNotUnderstood, also where a later release says something new under a key of today.
    """
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        rest = _without_new_keys(content, error)
        if rest is None:
            raise _not_understood(model, error) from error
    try:
        return model.model_validate_json(rest)
    except ValidationError as error:
        raise _not_understood(model, error) from error


def parsed(content: bytes) -> dict[str, Any]:
    """JSON of the service, an object. Raises AnswerNotUnderstood."""
    return typed(_Object, content).root


def listed(model: type[Model], content: bytes) -> list[Model]:
    """The items of one page, typed. Raises AnswerNotUnderstood."""
    return typed(_Page[model], content).items  # type: ignore[valid-type]  # made here


async def fetch_each(
    wire: Wire, model: type[Model], path: str, query: Query | None = None
) -> AsyncIterator[Model]:
    """The items of a list, page after page. Raises AnswerNotUnderstood."""
    asked: dict[str, str | int | list[str]] = dict(query or {})
    while True:
        page = await fetch_as(wire, _Page[model], Request("GET", path, asked))  # type: ignore[valid-type]  # made here
        for item in page.items:
            yield item
        if page.next_cursor is None:
            return
        asked["cursor"] = page.next_cursor


def _without_new_keys(content: bytes | str, error: ValidationError) -> str | None:
    if not any(one["type"] == "extra_forbidden" for one in error.errors(include_url=False)):
        return None  # it may be no JSON at all
    return json.dumps(without_unknown_keys(json.loads(content), error))


def _not_understood(model: type[BaseModel], error: ValidationError) -> AnswerNotUnderstood:
    first = error.errors(include_url=False, include_context=False)[0]
    place = ".".join(map(str, first["loc"])) or "the whole"
    return AnswerNotUnderstood(
        f"The answer is no {model.__name__.lstrip('_')} as this release of foretrain knows it ({place}: "
        f"{first['msg']}). Is the address right, and the release not older than the service's?"
    )


def made_repeatable(request: Request, idempotency_key: str | None = None) -> Request:
    """With a key by which the service recognises a POST that it has seen."""
    key = idempotency_key or uuid4().hex
    return replace(request, headers={**request.headers, "Idempotency-Key": key})


def pause_seconds(tries: int, asked_seconds: float | None = None) -> float:
    """Before the next try. Random, so that many callers who were cut off at once do not return at once."""
    grown = FIRST_PAUSE_SECONDS * 2 ** (tries - 1)
    return (asked_seconds or 0.0) + random.uniform(0, min(grown, LONGEST_PAUSE_SECONDS))  # noqa: S311


def _may_try_again(request: Request, problem: ServiceProblem) -> bool:
    if (problem.retry_after_seconds or 0.0) > LONGEST_PAUSE_SECONDS:
        return False
    if problem.status in _NOT_DONE:
        return True
    # The service's own 502 has a code: it has tried, and says so.
    return request.is_repeatable and problem.status in _LOST_BEHIND_A_PROXY and problem.code == "unknown"


async def problem_of(answer: Answer) -> ServiceProblem:
    """Of an answer that is a refusal."""
    try:
        problem = json.loads(await answer.read())
    except ValueError:
        problem = {}
    return ServiceProblem(
        answer.response.status_code,
        problem if isinstance(problem, dict) else {},
        _retry_after(answer.response),
    )


def _retry_after(response: httpx2.Response) -> float | None:
    try:
        return max(0.0, float(response.headers["Retry-After"]))
    except (KeyError, ValueError):  # a date is allowed too, but not what this service sends
        return None


def _sentence(error: httpx2.TransportError) -> str:
    where = f" from {error.request.url.scheme}://{error.request.url.netloc.decode()}"
    return f"no answer{where}: {error or type(error).__name__}"
