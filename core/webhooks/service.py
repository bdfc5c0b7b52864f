"""What a tenant does with its webhooks. Functions take a session and never commit.

Each that names a webhook or a delivery raises NotFound for what is not the tenant's.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from core.database import db_now, later, read_clock
from core.errors import Conflict, NotFound, QuotaExceeded
from core.ids import new_id
from core.jobs.schemas import StatusReason
from core.pages import DEFAULT_LIMIT, Page, cut_page
from core.settings import Settings
from core.tables import Webhook, WebhookDelivery
from core.webhooks import repository
from core.webhooks.lifecycle import DeliveryStatus, DisabledCode
from core.webhooks.repository import Message
from core.webhooks.schemas import (
    DeliveryRead,
    SecretRotation,
    WebhookChange,
    WebhookCreate,
    WebhookEvent,
    WebhookRead,
    WebhookWithSecret,
)
from core.webhooks.signing import new_secret
from core.webhooks.target import check_target

TEST_EVENT = "webhook.test"
IN_USE_AGAIN = {
    "disabled_at": None,
    "disabled_code": None,
    "disabled_message": None,
    "failures": 0,
    "failing_since": None,
    "resting_until": None,
}


def create(session: Session, tenant_id: str, asked: WebhookCreate, settings: Settings) -> WebhookWithSecret:
    """Raises InvalidRequest for an address that may not be sent to, QuotaExceeded."""
    check_target(asked.url, settings.webhook_networks)
    repository.lock_tenant(session, tenant_id)
    if repository.count(session, tenant_id) >= settings.max_webhooks:
        raise QuotaExceeded(f"A tenant has at most {settings.max_webhooks} webhooks; delete one first.")
    webhook = Webhook(
        id=new_id("wh"),
        tenant_id=tenant_id,
        url=asked.url,
        name=asked.name,
        event_types=list(asked.event_types),
        secret=new_secret(),
    )
    return _read_with_secret(repository.add(session, webhook))


def get(session: Session, tenant_id: str, webhook_id: str) -> WebhookRead:
    return read_webhook(_there(repository.find(session, tenant_id, webhook_id), webhook_id))


def get_created(session: Session, tenant_id: str, webhook_id: str) -> WebhookWithSecret | None:
    """The answer to the request that made it, once more; None where it was deleted since."""
    webhook = repository.find(session, tenant_id, webhook_id)
    return None if webhook is None else _read_with_secret(webhook)


def list_page(
    session: Session, tenant_id: str, *, limit: int = DEFAULT_LIMIT, cursor: str | None = None
) -> Page[WebhookRead]:
    """Newest first. Raises InvalidRequest for a bad cursor."""
    rows = repository.page(session, tenant_id, limit, cursor)
    shown, next_cursor = cut_page(rows, limit, repository.PAGE_ORDER, repository.page_key)
    return Page(items=[read_webhook(row) for row in shown], next_cursor=next_cursor)


def change(
    session: Session, tenant_id: str, webhook_id: str, asked: WebhookChange, settings: Settings
) -> WebhookRead:
    """Raises InvalidRequest for an address that may not be sent to."""
    if asked.url is not None:
        check_target(asked.url, settings.webhook_networks)
    webhook = _there(repository.lock(session, webhook_id, tenant_id), webhook_id)
    values = asked.model_dump(exclude_none=True, exclude={"enabled"})
    if asked.enabled is False and webhook.disabled_at is None:
        values |= disabled_values(DisabledCode.BY_OWNER, "Disabled by a request of its owner.")
        repository.give_up_pending(session, webhook_id)
    elif asked.enabled and webhook.disabled_at is not None:
        values |= IN_USE_AGAIN
        # An event may have come in while the webhook was being disabled.
        repository.give_up_pending(session, webhook_id)
    return read_webhook(repository.change(session, webhook_id, **values) if values else webhook)


def disabled_values(code: DisabledCode, message: str) -> dict[str, Any]:
    """What a disabled webhook's columns say."""
    return {"disabled_at": db_now(), "disabled_code": code.value, "disabled_message": message}


def delete(session: Session, tenant_id: str, webhook_id: str) -> None:
    """With its deliveries."""
    if not repository.remove(session, tenant_id, webhook_id):
        raise _not_there(webhook_id)


def rotate_secret(
    session: Session, tenant_id: str, webhook_id: str, asked: SecretRotation
) -> WebhookWithSecret:
    """A new secret; the one before signs beside it for a while, and one before that no more."""
    webhook = _there(repository.lock(session, webhook_id, tenant_id), webhook_id)
    overlaps = asked.overlap_seconds > 0
    changed = repository.change(
        session,
        webhook_id,
        secret=new_secret(),
        previous_secret=webhook.secret if overlaps else None,
        previous_secret_expires_at=later(db_now(), asked.overlap_seconds) if overlaps else None,
    )
    return _read_with_secret(changed)


def send_test(session: Session, tenant_id: str, webhook_id: str) -> DeliveryRead:
    """A delivery of an event that tells of nothing. Raises Conflict for a disabled webhook."""
    webhook = _there(repository.lock(session, webhook_id, tenant_id), webhook_id)
    _require_enabled(webhook)
    event = WebhookEvent(
        id=new_id("evt"),
        seq=1,
        type=TEST_EVENT,
        created_at=read_clock(session),
        job_id=None,
        data={"webhook_id": webhook_id},
    )
    message = Message(event.id, event.type, None, event.model_dump_json())
    (delivery_id,) = repository.add_deliveries(session, [webhook_id], message)
    _wake(session, webhook)
    return get_delivery(session, tenant_id, delivery_id)


def list_deliveries(
    session: Session,
    tenant_id: str,
    webhook_id: str,
    *,
    status: DeliveryStatus | None = None,
    limit: int = DEFAULT_LIMIT,
    cursor: str | None = None,
) -> Page[DeliveryRead]:
    """Newest first. Raises InvalidRequest for a bad cursor."""
    _there(repository.find(session, tenant_id, webhook_id), webhook_id)
    rows = repository.page_of_deliveries(session, webhook_id, status, limit, cursor)
    order = repository.deliveries_order(webhook_id)
    shown, next_cursor = cut_page(rows, limit, order, repository.page_key)
    return Page(items=[_read_delivery(row) for row in shown], next_cursor=next_cursor)


def get_delivery(session: Session, tenant_id: str, delivery_id: str) -> DeliveryRead:
    return _read_delivery(_find_delivery(session, tenant_id, delivery_id))


def replay(session: Session, tenant_id: str, delivery_id: str) -> DeliveryRead:
    """Due at once, as on its first day. Raises Conflict for a disabled webhook."""
    webhook_id = _find_delivery(session, tenant_id, delivery_id).webhook_id
    webhook = _there(repository.lock(session, webhook_id, tenant_id), webhook_id)
    _require_enabled(webhook)
    replayed = repository.change_delivery(
        session,
        delivery_id,
        status=DeliveryStatus.PENDING,
        next_attempt_at=db_now(),
        finished_at=None,
        tries=0,
    )
    _wake(session, webhook)
    return _read_delivery(replayed)


def _wake(session: Session, webhook: Webhook) -> None:
    # Somebody is watching: the endpoint's rest is over.
    if webhook.resting_until is not None:
        repository.change(session, webhook.id, resting_until=None)


def _require_enabled(webhook: Webhook) -> None:
    if webhook.disabled_at is not None:
        raise Conflict('The webhook is disabled; PATCH it with {"enabled": true} first.')


def _there(webhook: Webhook | None, webhook_id: str) -> Webhook:
    if webhook is None:
        raise _not_there(webhook_id)
    return webhook


def _not_there(webhook_id: str) -> NotFound:
    return NotFound(f"There is no webhook {webhook_id}.")


def _find_delivery(session: Session, tenant_id: str, delivery_id: str) -> WebhookDelivery:
    delivery = repository.find_delivery(session, tenant_id, delivery_id)
    if delivery is None:
        raise NotFound(f"There is no delivery {delivery_id}.")
    return delivery


def read_webhook(webhook: Webhook) -> WebhookRead:
    """The row as the API shows it: without its secret."""
    address = f"/v1/webhooks/{webhook.id}"
    return WebhookRead(
        id=webhook.id,
        url=webhook.url,
        name=webhook.name,
        event_types=webhook.event_types,
        enabled=webhook.disabled_at is None,
        disabled_at=webhook.disabled_at,
        disabled_reason=_disabled_reason(webhook),
        failing_since=webhook.failing_since,
        attempted_at=webhook.attempted_at,
        previous_secret_expires_at=webhook.previous_secret_expires_at,
        created_at=webhook.created_at,
        links={"self": address, "deliveries": f"{address}/deliveries"},
    )


def _disabled_reason(webhook: Webhook) -> StatusReason | None:
    if webhook.disabled_code is None:
        return None
    return StatusReason(code=webhook.disabled_code, message=webhook.disabled_message or "")


def _read_with_secret(webhook: Webhook) -> WebhookWithSecret:
    return WebhookWithSecret(**dict(read_webhook(webhook)), secret=webhook.secret)


def _read_delivery(delivery: WebhookDelivery) -> DeliveryRead:
    read = DeliveryRead.model_validate(delivery)
    links = {"self": f"/v1/deliveries/{read.id}", "webhook": f"/v1/webhooks/{read.webhook_id}"}
    return read.model_copy(update={"links": links})
