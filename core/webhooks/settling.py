"""What follows from one attempt: for the delivery, and for the webhook it was made for."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from core.database import db_now, later, read_clock
from core.tables import Webhook, WebhookDelivery
from core.webhooks import repository
from core.webhooks.lifecycle import (
    DeliveryStatus,
    DisabledCode,
    Outcome,
    rest_seconds,
    seconds_to_next_try,
)
from core.webhooks.repository import ClaimedDelivery
from core.webhooks.schemas import DeliveryAttempt
from core.webhooks.sending import Answer
from core.webhooks.service import IN_USE_AGAIN, disabled_values

ATTEMPTS_KEPT = 20
DAY_SECONDS = 86_400.0


def settle(
    session: Session,
    claimed: ClaimedDelivery,
    attempt: DeliveryAttempt,
    answer: Answer,
    disable_days: float,
) -> DisabledCode | None:
    """Takes note of the attempt; why the webhook is disabled, if it is now.

    Nothing where the delivery is not this claim's any more: whoever holds it takes note of its own.
    """
    webhook = repository.lock(session, claimed.webhook_id)
    delivery = None if webhook is None else repository.lock_claimed(session, claimed)
    if webhook is None or delivery is None:
        return None
    attempts = [*delivery.attempts, attempt.model_dump(mode="json")][-ATTEMPTS_KEPT:]
    values = _delivered() if answer.is_delivered else _not_delivered(delivery, answer)
    repository.change_delivery(session, delivery.id, attempts=attempts, **values)
    if answer.is_delivered:
        repository.change(session, webhook.id, attempted_at=db_now(), **IN_USE_AGAIN)
        return None
    return _note_failure(session, webhook, answer, disable_days)


def _delivered() -> dict[str, Any]:
    return {"status": DeliveryStatus.DELIVERED, "next_attempt_at": None, "finished_at": db_now()}


def _not_delivered(delivery: WebhookDelivery, answer: Answer) -> dict[str, Any]:
    seconds = seconds_to_next_try(delivery.tries, answer.retry_after_seconds)
    if seconds is None:
        return {"status": DeliveryStatus.FAILED, "next_attempt_at": None, "finished_at": db_now()}
    return {"next_attempt_at": later(db_now(), seconds)}


def _note_failure(
    session: Session, webhook: Webhook, answer: Answer, disable_days: float
) -> DisabledCode | None:
    failures = webhook.failures + 1
    rest = rest_seconds(failures, answer.retry_after_seconds)
    values: dict[str, Any] = {
        "attempted_at": db_now(),
        "failures": failures,
        "failing_since": webhook.failing_since or db_now(),
        "resting_until": later(db_now(), rest),
    }
    why = _disabling(session, webhook, answer, disable_days)
    if why is not None:
        values |= disabled_values(*why)
        repository.give_up_pending(session, webhook.id)
    repository.change(session, webhook.id, **values)
    return None if why is None else why[0]


def _disabling(
    session: Session, webhook: Webhook, answer: Answer, disable_days: float
) -> tuple[DisabledCode, str] | None:
    if answer.outcome is Outcome.GONE:
        return DisabledCode.GONE, "The endpoint answered 410 Gone."
    if webhook.failing_since is None:
        return None
    failing = (read_clock(session) - webhook.failing_since).total_seconds()
    if failing < disable_days * DAY_SECONDS:
        return None
    return (
        DisabledCode.FAILING,
        f"Nothing was delivered for {disable_days:g} days; the last attempt: {answer.outcome}.",
    )
