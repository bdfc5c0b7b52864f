"""All SQL on the record of who did what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime

from sqlalchemy import ColumnElement, delete, insert, select
from sqlalchemy.orm import Session

from core.audit.schemas import AuditFilter, Deed, Outcome
from core.pages import newest_first
from core.tables import AuditEvent

PAGE_ORDER = "audit_events-created_at"


# Past the ORM, which takes several times as long for one row: there is one with every write of the API.
_INSERT = insert(AuditEvent)


def add(session: Session, deed: Deed, event_id: str, object_id: str | None, outcome: Outcome) -> None:
    values = {**asdict(deed), "id": event_id, "object_id": object_id, "outcome": outcome}
    session.connection().execute(_INSERT, values)


def page(
    session: Session, tenant_id: str, wanted: AuditFilter, limit: int, cursor: str | None
) -> Sequence[AuditEvent]:
    """Newest first; one row more than `limit`, if there is one."""
    statement = select(AuditEvent).where(AuditEvent.tenant_id == tenant_id, *_conditions(wanted))
    return session.scalars(newest_first(statement, AuditEvent, PAGE_ORDER, limit, cursor)).all()


def _conditions(wanted: AuditFilter) -> list[ColumnElement[bool]]:
    columns = (AuditEvent.action, AuditEvent.key_id, AuditEvent.object_id, AuditEvent.outcome)
    asked = (wanted.action, wanted.key_id, wanted.object_id, wanted.outcome)
    conditions = [column == value for column, value in zip(columns, asked, strict=True) if value is not None]
    if wanted.created_after is not None:
        conditions.append(AuditEvent.created_at > wanted.created_after)
    if wanted.created_before is not None:
        conditions.append(AuditEvent.created_at < wanted.created_before)
    return conditions


def forget_before(session: Session, tenant_id: str, instant: datetime, limit: int) -> int:
    """Removes the oldest that are older than that; how many."""
    old = (
        select(AuditEvent.id)
        .where(AuditEvent.tenant_id == tenant_id, AuditEvent.created_at < instant)
        .order_by(AuditEvent.created_at)
        .limit(limit)
    )
    removed = session.scalars(delete(AuditEvent).where(AuditEvent.id.in_(old)).returning(AuditEvent.id))
    return len(removed.all())
