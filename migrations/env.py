"""Alembic's environment. The connection comes from `core.migrations`, in a transaction and behind a lock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from alembic import context
from sqlalchemy import Column, Index

from core.database import JsonColumn, UtcDateTime
from core.tables import Table

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext
    from sqlalchemy.sql.schema import SchemaItem


def _render_item(kind: str, item: object, _context: AutogenContext) -> str | Literal[False]:
    # Named as script.py.mako spells them out: a released migration must not change when our types do.
    if kind == "type" and isinstance(item, UtcDateTime):
        return "UtcDateTime"
    if kind == "type" and item is JsonColumn:
        return "Json"
    return False


def _is_compared(
    item: SchemaItem, _name: str | None, _kind: str, _reflected: bool, _compare_to: SchemaItem | None
) -> bool:
    # SQLite does not tell in which direction the columns of an index run.
    is_sqlite = context.get_context().dialect.name == "sqlite"
    is_plain = not isinstance(item, Index) or all(isinstance(part, Column) for part in item.expressions)
    return is_plain or not is_sqlite


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Table.metadata,
    render_as_batch=True,
    render_item=_render_item,
    compare_type=True,
    include_object=_is_compared,
)
with context.begin_transaction():
    context.run_migrations()
