"""Where tenants want to hear of events, and what is sent there."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from core.database import JsonColumn, db_now
from core.tables.base import Id, Json, Table, closed
from core.webhooks.lifecycle import DeliveryStatus


class Webhook(Table):
    __tablename__ = "webhooks"
    __table_args__ = (
        Index("ix_webhooks_page", "tenant_id", "id"),
        CheckConstraint("(disabled_at IS NULL) = (disabled_code IS NULL)", "disabled_has_reason"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(Id, ForeignKey("tenants.id"))
    url: Mapped[str] = mapped_column(Text)
    name: Mapped[str | None] = mapped_column(String(200))
    event_types: Mapped[list[str]] = mapped_column(JsonColumn, doc="`*` stands for all.")
    secret: Mapped[str] = mapped_column(Text, doc="Readable, for it signs; `whsec_…`.")
    previous_secret: Mapped[str | None] = mapped_column(Text)
    previous_secret_expires_at: Mapped[datetime | None] = mapped_column(
        doc="Until then the previous secret signs, too."
    )
    disabled_at: Mapped[datetime | None]
    disabled_code: Mapped[str | None] = mapped_column(String(40))
    disabled_message: Mapped[str | None] = mapped_column(Text)
    failures: Mapped[int] = mapped_column(default=0, doc="Attempts in a row that did not deliver.")
    failing_since: Mapped[datetime | None] = mapped_column(doc="The first of these.")
    resting_until: Mapped[datetime | None] = mapped_column(
        doc="Nothing is sent there earlier, so that an endpoint that is down occupies nobody."
    )
    attempted_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=db_now())


class WebhookDelivery(Table):
    """One event for one webhook: written with the event, gone some time after its end."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        CheckConstraint("(status = 'pending') = (next_attempt_at IS NOT NULL)", "pending_has_time"),
        CheckConstraint("(status = 'pending') = (finished_at IS NULL)", "ended_has_time"),
        Index("ix_webhook_deliveries_page", "webhook_id", "id"),
        Index(
            "ix_webhook_deliveries_pending",
            "webhook_id",
            "next_attempt_at",
            postgresql_where=text("next_attempt_at IS NOT NULL"),
            sqlite_where=text("next_attempt_at IS NOT NULL"),
        ),
        Index(
            "ix_webhook_deliveries_finished",
            "finished_at",
            postgresql_where=text("finished_at IS NOT NULL"),
            sqlite_where=text("finished_at IS NOT NULL"),
        ),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    webhook_id: Mapped[str] = mapped_column(Id, ForeignKey("webhooks.id", ondelete="CASCADE"))
    event_id: Mapped[str] = mapped_column(Id)
    event_type: Mapped[str] = mapped_column(String(40))
    job_id: Mapped[str | None] = mapped_column(Id, doc="No foreign key: the job may be deleted before.")
    body: Mapped[str] = mapped_column(Text, doc="What is signed and sent, byte for byte, each time.")
    status: Mapped[DeliveryStatus] = mapped_column(closed(DeliveryStatus, "status"))
    next_attempt_at: Mapped[datetime | None] = mapped_column(
        doc="While it is being sent: when it is taken for lost, and sent again."
    )
    claim: Mapped[int] = mapped_column(default=0, doc="Raised by each claim; only its holder may settle it.")
    tries: Mapped[int] = mapped_column(default=0, doc="Claims since it was made or replayed.")
    attempts: Mapped[list[Json]] = mapped_column(JsonColumn, default=list, doc="DeliveryAttempt, the newest.")
    created_at: Mapped[datetime] = mapped_column(default=db_now())
    finished_at: Mapped[datetime | None]
