"""JSON as RFC 8259 means it: no NaN, no duplicate names, no depth or characters that break a database."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import TypeAlias

JsonValue: TypeAlias = "dict[str, JsonValue] | list[JsonValue] | str | int | float | bool | None"

MAX_DEPTH = 32
MAX_SHOWN = 100

_STRING = re.compile(r'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_BRACKET = re.compile(r"[\[\]{}]")
# An escape that stands for NUL, which Postgres cannot hold, or for half a character, which is no text.
_RISKY_ESCAPE = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


class JsonTroubleError(ValueError):
    """Why a text is not acceptable JSON, and where: a JSON pointer, "" for the text as a whole."""

    def __init__(self, code: str, detail: str, pointer: str = "") -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.pointer = pointer


class _Repeated(dict[str, JsonValue]):
    """An object in which a name stands twice."""

    name: str


def parse_json(data: bytes) -> JsonValue:
    """`data`, UTF-8, as a value. Raises JsonTroubleError."""
    text = _decode(data)
    _check_depth(text)
    surprises = _Surprises()
    try:
        value: JsonValue = json.loads(
            text,
            parse_constant=surprises.note_number,
            parse_float=surprises.note_number,
            object_pairs_hook=surprises.note_object,
        )
    except json.JSONDecodeError as error:
        raise JsonTroubleError(
            "syntax", f"This is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}."
        ) from error
    except ValueError as error:  # an integer of more digits than Python converts
        raise JsonTroubleError("number_too_large", "A number has too many digits.") from error
    if surprises.seen or _RISKY_ESCAPE.search(text):
        for trouble in _troubles(value, ""):
            raise trouble
    return value


def _decode(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise JsonTroubleError("encoding", f"The text is not UTF-8: byte {error.start} is wrong.") from error


def _check_depth(text: str) -> None:
    depth = 0
    for bracket in _BRACKET.finditer(_STRING.sub("", text)):
        depth += 1 if bracket[0] in "[{" else -1
        if depth > MAX_DEPTH:
            raise JsonTroubleError("too_deep", f"Arrays and objects are nested more than {MAX_DEPTH} deep.")


class _Surprises:
    """Hooks for the parser that note whether a closer look is worth its time."""

    def __init__(self) -> None:
        self.seen = False

    def note_number(self, text: str) -> float:
        number = float(text)
        self.seen = self.seen or not math.isfinite(number)
        return number

    def note_object(self, pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
        value = dict(pairs)
        if len(value) == len(pairs):
            return value
        self.seen = True
        repeated = _Repeated(value)
        names: set[str] = set()
        for name, _ in pairs:
            if name in names:
                repeated.name = name
            names.add(name)
        return repeated


def _troubles(value: JsonValue, pointer: str) -> Iterator[JsonTroubleError]:
    if isinstance(value, dict):
        if isinstance(value, _Repeated):
            yield JsonTroubleError(
                "duplicate_name", f"The name {value.name[:MAX_SHOWN]!a} stands twice.", pointer
            )
        for name, item in value.items():
            if _UNSTORABLE.search(name):
                yield JsonTroubleError(
                    "invalid_character", "A name holds a NUL or half a character.", pointer
                )
            yield from _troubles(item, f"{pointer}/{escape_pointer(name)}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _troubles(item, f"{pointer}/{index}")
    elif isinstance(value, float) and not math.isfinite(value):
        yield JsonTroubleError("not_finite", "NaN and infinity are not JSON; send a finite number.", pointer)
    elif isinstance(value, str) and _UNSTORABLE.search(value):
        yield JsonTroubleError("invalid_character", "The text holds a NUL or half a character.", pointer)


def escape_pointer(name: str) -> str:
    """A name as one step of a JSON pointer (RFC 6901); a very long one is cut, for it goes into an answer."""
    return name[:MAX_SHOWN].replace("~", "~0").replace("/", "~1")
