"""Pages of a list: opaque keyset cursors that neither skip nor repeat a row when others are added."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, Field
from sqlalchemy import Select, literal, tuple_

from core.database import EPOCH, UtcDateTime
from core.errors import FieldProblem, InvalidRequest

T = TypeVar("T")
Row = TypeVar("Row")
DEFAULT_LIMIT = 50
MAX_LIMIT = 500
Key = tuple[str | int, ...]
# Within what Postgres, SQLite and datetime can hold; a forged cursor must not become a server error.
LARGEST_NUMBER = 2**53


class Page(BaseModel, Generic[T]):
    """One page of a list; `next_cursor` is null at the end."""

    items: list[T]
    next_cursor: str | None = Field(description="Pass it as `cursor` to get the next page.")


def cut_page(
    rows: Sequence[Row], limit: int, order: str, key: Callable[[Row], Key]
) -> tuple[Sequence[Row], str | None]:
    """The page and the cursor behind it. `rows` holds one more than `limit` where the list goes on."""
    shown = rows[:limit]
    goes_on = len(rows) > limit
    return shown, encode_cursor(order, key(shown[-1])) if goes_on else None


def encode_cursor(order: str, key: Key) -> str:
    """`order` names the list and its sorting, so that a cursor of another list is refused."""
    raw = json.dumps([order, *key], separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def decode_cursor(order: str, cursor: str, kinds: tuple[type, ...]) -> tuple[Any, ...]:
    """The key of the last row already seen, each part of its kind.

    Raises InvalidRequest for anything `encode_cursor` did not make for this list.
    """
    try:
        parts = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, ValueError, RecursionError) as error:
        raise _invalid_cursor() from error
    if not isinstance(parts, list) or len(parts) != len(kinds) + 1 or parts[0] != order:
        raise _invalid_cursor()
    if not all(_fits(part, kind) for part, kind in zip(parts[1:], kinds, strict=True)):
        raise _invalid_cursor()
    return tuple(parts[1:])


def _fits(part: object, kind: type) -> bool:
    if type(part) is not kind:
        return False
    if isinstance(part, str):
        return part.isascii() and part.isprintable()
    return isinstance(part, int) and 0 <= part <= LARGEST_NUMBER


def to_microseconds(instant: datetime) -> int:
    """Since 1970."""
    return (instant - EPOCH) // timedelta(microseconds=1)


def from_microseconds(micros: int) -> datetime:
    """The reverse of `to_microseconds`."""
    return EPOCH + timedelta(microseconds=micros)


def newest_first(
    statement: Select[Any], table: Any, order: str, limit: int, cursor: str | None
) -> Select[Any]:
    """A page by `created_at` and `id`: one row more than `limit`, if there is one. Raises InvalidRequest."""
    if cursor is not None:
        micros, row_id = decode_cursor(order, cursor, (int, str))
        seen = tuple_(literal(from_microseconds(micros), UtcDateTime()), literal(row_id))
        statement = statement.where(tuple_(table.created_at, table.id) < seen)
    return statement.order_by(table.created_at.desc(), table.id.desc()).limit(limit + 1)


def newest_first_key(row: Any) -> Key:
    """Where such a page was cut, for `cut_page`."""
    return to_microseconds(row.created_at), row.id


def _invalid_cursor() -> InvalidRequest:
    detail = "The cursor is not one this list gave out; start again without it."
    return InvalidRequest(detail, [FieldProblem("invalid_cursor", detail, pointer="/query/cursor")])
