"""What is sent to a database, and how SQLite would go about it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, event

Sent = list[tuple[str, Any]]


@contextmanager
def statements(engine: Engine) -> Iterator[Sent]:
    """Every statement meanwhile with its values, BEGIN and PRAGMA included."""
    sent: Sent = []

    def note(_connection: Connection, _cursor: object, statement: str, values: object, *_: object) -> None:
        sent.append((statement, values))

    event.listen(engine, "before_cursor_execute", note)
    yield sent
    event.remove(engine, "before_cursor_execute", note)


def sqlite_plan(engine: Engine, statement: str, values: Any) -> list[str]:
    """The steps of SQLite's plan, in its own words."""
    with engine.connect() as connection:
        return [row.detail for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)]
