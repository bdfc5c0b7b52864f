"""Who did what, and when."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from core.audit.schemas import Outcome
from core.database import db_now
from core.tables.base import Id, Table, closed


class AuditEvent(Table):
    __tablename__ = "audit_events"
    __table_args__ = (
        Index("ix_audit_events_page", "tenant_id", "created_at", "id"),
        Index("ix_audit_events_object", "tenant_id", "object_id", "created_at", "id"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(Id, ForeignKey("tenants.id"))
    created_at: Mapped[datetime] = mapped_column(default=db_now())
    key_id: Mapped[str | None] = mapped_column(Id, doc="NULL: somebody at the service's own machine.")
    action: Mapped[str] = mapped_column(String(40), doc="An operation's id in the OpenAPI document.")
    object_id: Mapped[str | None] = mapped_column(Id)
    outcome: Mapped[Outcome] = mapped_column(closed(Outcome, "outcome"))
    address: Mapped[str | None] = mapped_column(String(45), doc="As the network or a trusted proxy named it.")
    request_id: Mapped[str | None] = mapped_column(Id)
