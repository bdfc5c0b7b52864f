"""All SQL on webhooks and deliveries.

Whoever changes both locks the webhook first, so that no two transactions wait for each other in a ring.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, bindparam, case, delete, exists, func, insert, or_, select, update
from sqlalchemy.orm import Session

from core.database import db_now, later
from core.ids import new_id
from core.pages import Key, decode_cursor
from core.tables import Tenant, Webhook, WebhookDelivery
from core.webhooks.lifecycle import DeliveryStatus
from core.webhooks.schemas import EVERYTHING

PAGE_ORDER = "webhooks"
_UNSYNCED = {"synchronize_session": False}
_FRESH = {"populate_existing": True}


@dataclass(frozen=True)
class Message:
    """What is sent to every webhook that wants it; `event_id` names it to receivers."""

    event_id: str
    event_type: str
    job_id: str | None
    body: str


@dataclass(frozen=True)
class ClaimedDelivery:
    """One attempt to make: where to, what, signed with which keys."""

    id: str
    claim: int
    webhook_id: str
    url: str
    keys: tuple[str, ...]
    event_id: str
    body: str


# Built once: it is asked for with every event of every job.
_LOCK_ENABLED = (
    select(Webhook.id, Webhook.event_types)
    .where(Webhook.tenant_id == bindparam("tenant_id"), Webhook.disabled_at.is_(None))
    .order_by(Webhook.id)
    .with_for_update(read=True, key_share=True)
)


def subscribers(session: Session, tenant_id: str, event_type: str) -> list[str]:
    """Ids of the webhooks that want it. None of them is deleted before this transaction ends."""
    rows = session.connection().execute(_LOCK_ENABLED, {"tenant_id": tenant_id})
    return [row.id for row in rows if EVERYTHING in row.event_types or event_type in row.event_types]


def add_deliveries(session: Session, webhook_ids: Sequence[str], message: Message) -> list[str]:
    """Due at once; their ids."""
    rows: list[dict[str, Any]] = [
        {
            "id": new_id("dlv"),
            "webhook_id": webhook_id,
            "event_id": message.event_id,
            "event_type": message.event_type,
            "job_id": message.job_id,
            "body": message.body,
            "status": DeliveryStatus.PENDING,
        }
        for webhook_id in webhook_ids
    ]
    session.execute(insert(WebhookDelivery).values(next_attempt_at=db_now()), rows)
    return [row["id"] for row in rows]


def lock_tenant(session: Session, tenant_id: str) -> None:
    """Whoever else counts the tenant's webhooks in order to add one waits."""
    session.execute(select(Tenant.id).where(Tenant.id == tenant_id).with_for_update(key_share=True))


def count(session: Session, tenant_id: str) -> int:
    return session.scalar(select(func.count()).where(Webhook.tenant_id == tenant_id)) or 0


def add(session: Session, webhook: Webhook) -> Webhook:
    session.add(webhook)
    session.flush()
    return webhook


def find(session: Session, tenant_id: str, webhook_id: str) -> Webhook | None:
    return session.scalars(
        select(Webhook).where(Webhook.id == webhook_id, Webhook.tenant_id == tenant_id)
    ).one_or_none()


def lock(session: Session, webhook_id: str, tenant_id: str | None = None) -> Webhook | None:
    """The row as it is now; nobody else changes or deletes it before this transaction ends."""
    statement = select(Webhook).where(Webhook.id == webhook_id)
    if tenant_id is not None:
        statement = statement.where(Webhook.tenant_id == tenant_id)
    locked = statement.with_for_update(key_share=True)
    return session.scalars(locked, execution_options=_FRESH).one_or_none()


def change(session: Session, webhook_id: str, **values: Any) -> Webhook:
    statement = update(Webhook).where(Webhook.id == webhook_id).values(**values).returning(Webhook)
    return session.scalars(statement, execution_options=_UNSYNCED | _FRESH).one()


def remove(session: Session, tenant_id: str, webhook_id: str) -> bool:
    """With its deliveries; whether it was there."""
    statement = delete(Webhook).where(Webhook.id == webhook_id, Webhook.tenant_id == tenant_id)
    return session.scalar(statement.returning(Webhook.id), execution_options=_UNSYNCED) is not None


def page(session: Session, tenant_id: str, limit: int, cursor: str | None) -> Sequence[Webhook]:
    """Newest first; one row more than `limit`, if there is one."""
    statement = select(Webhook).where(Webhook.tenant_id == tenant_id)
    if cursor is not None:
        statement = statement.where(Webhook.id < decode_cursor(PAGE_ORDER, cursor, (str,))[0])
    return session.scalars(statement.order_by(Webhook.id.desc()).limit(limit + 1)).all()


def page_of_deliveries(
    session: Session, webhook_id: str, status: DeliveryStatus | None, limit: int, cursor: str | None
) -> Sequence[WebhookDelivery]:
    """Newest first; one row more than `limit`, if there is one."""
    statement = select(WebhookDelivery).where(WebhookDelivery.webhook_id == webhook_id)
    if status is not None:
        statement = statement.where(WebhookDelivery.status == status)
    if cursor is not None:
        seen = decode_cursor(deliveries_order(webhook_id), cursor, (str,))[0]
        statement = statement.where(WebhookDelivery.id < seen)
    return session.scalars(statement.order_by(WebhookDelivery.id.desc()).limit(limit + 1)).all()


def deliveries_order(webhook_id: str) -> str:
    return f"deliveries {webhook_id}"


def page_key(row: Webhook | WebhookDelivery) -> Key:
    return (row.id,)


def find_delivery(session: Session, tenant_id: str, delivery_id: str) -> WebhookDelivery | None:
    statement = (
        select(WebhookDelivery)
        .join(Webhook, Webhook.id == WebhookDelivery.webhook_id)
        .where(WebhookDelivery.id == delivery_id, Webhook.tenant_id == tenant_id)
    )
    return session.scalars(statement, execution_options=_FRESH).one_or_none()


def due_webhooks(session: Session, but: Sequence[str], limit: int) -> Sequence[str]:
    """Ids of those with something to send now, the longest unserved first, without those in `but`."""
    waits = exists().where(WebhookDelivery.webhook_id == Webhook.id, _is_due())
    return session.scalars(
        select(Webhook.id)
        .where(Webhook.disabled_at.is_(None), Webhook.id.not_in(but), waits)
        .where(or_(Webhook.resting_until.is_(None), Webhook.resting_until <= db_now()))
        .order_by(Webhook.attempted_at.is_not(None), Webhook.attempted_at)
        .limit(limit)
    ).all()


def claim(session: Session, webhook_id: str, lease_seconds: float) -> ClaimedDelivery | None:
    """The delivery that has been due for longest; unless it is settled, it is due again after the lease."""
    oldest = (
        select(WebhookDelivery.id)
        .where(WebhookDelivery.webhook_id == webhook_id, _is_due())
        .order_by(WebhookDelivery.next_attempt_at, WebhookDelivery.id)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    claimed = session.scalars(
        update(WebhookDelivery)
        .where(WebhookDelivery.id == oldest)
        .values(
            claim=WebhookDelivery.claim + 1,
            tries=WebhookDelivery.tries + 1,
            next_attempt_at=later(db_now(), lease_seconds),
        )
        .returning(WebhookDelivery),
        execution_options=_UNSYNCED | _FRESH,
    ).one_or_none()
    if claimed is None:
        return None
    previous_key = case((Webhook.previous_secret_expires_at > db_now(), Webhook.previous_secret))
    webhook = session.execute(
        select(Webhook.url, Webhook.secret, previous_key).where(Webhook.id == webhook_id)
    ).one()
    return ClaimedDelivery(
        id=claimed.id,
        claim=claimed.claim,
        webhook_id=webhook_id,
        url=webhook.url,
        keys=tuple(key for key in webhook[1:] if key is not None),
        event_id=claimed.event_id,
        body=claimed.body,
    )


def _is_due() -> ColumnElement[bool]:
    return WebhookDelivery.next_attempt_at <= db_now()


def lock_claimed(session: Session, claimed: ClaimedDelivery) -> WebhookDelivery | None:
    """The row if this claim still holds it."""
    return session.scalars(
        select(WebhookDelivery)
        .where(
            WebhookDelivery.id == claimed.id,
            WebhookDelivery.claim == claimed.claim,
            WebhookDelivery.status == DeliveryStatus.PENDING,
        )
        .with_for_update(),
        execution_options=_FRESH,
    ).one_or_none()


def change_delivery(session: Session, delivery_id: str, **values: Any) -> WebhookDelivery:
    statement = (
        update(WebhookDelivery)
        .where(WebhookDelivery.id == delivery_id)
        .values(**values)
        .returning(WebhookDelivery)
    )
    return session.scalars(statement, execution_options=_UNSYNCED | _FRESH).one()


def give_up_pending(session: Session, webhook_id: str) -> None:
    """All that waits to be sent there."""
    session.execute(
        update(WebhookDelivery)
        .where(WebhookDelivery.webhook_id == webhook_id, WebhookDelivery.next_attempt_at.is_not(None))
        .values(status=DeliveryStatus.FAILED, next_attempt_at=None, finished_at=db_now()),
        execution_options=_UNSYNCED,
    )


def forget_deliveries(session: Session, keep_seconds: float, limit: int) -> int:
    """Deletes some that ended longer ago; how many."""
    old = (
        select(WebhookDelivery.id)
        .where(WebhookDelivery.finished_at < later(db_now(), -keep_seconds))
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    statement = delete(WebhookDelivery).where(WebhookDelivery.id.in_(old)).returning(WebhookDelivery.id)
    return len(session.scalars(statement, execution_options=_UNSYNCED).all())
