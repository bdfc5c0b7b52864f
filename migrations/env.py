"""Alembic's environment. The connection comes from `core.migrations`, in a transaction and behind a lock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from alembic import context

from core.database import JsonColumn, UtcDateTime
from core.tables import Table

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext


def _render_item(kind: str, item: object, _context: AutogenContext) -> str | Literal[False]:
    # Named as script.py.mako spells them out: a released migration must not change when our types do.
    if kind == "type" and isinstance(item, UtcDateTime):
        return "UtcDateTime"
    if kind == "type" and item is JsonColumn:
        return "Json"
    return False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Table.metadata,
    render_as_batch=True,
    render_item=_render_item,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
