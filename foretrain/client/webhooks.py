"""Calls about webhooks and what was sent to them."""

from __future__ import annotations

from collections.abc import AsyncIterator

from core.webhooks.schemas import (
    DeliveryRead,
    SecretRotation,
    WebhookChange,
    WebhookCreate,
    WebhookRead,
    WebhookWithSecret,
)
from foretrain.client.exchange import PAGE_SIZE, fetch, fetch_as, fetch_each
from foretrain.client.wire import Request, Wire


async def create_webhook(wire: Wire, webhook: WebhookCreate) -> WebhookWithSecret:
    """Sends events to a URL from now on. The secret that signs them is in this answer alone."""
    body = webhook.model_dump(mode="json", exclude_unset=True)
    return await fetch_as(
        wire, WebhookWithSecret, Request("POST", "/v1/webhooks", json=body, is_repeatable=False)
    )


def list_webhooks(wire: Wire, *, page_size: int = PAGE_SIZE) -> AsyncIterator[WebhookRead]:
    """Newest first."""
    return fetch_each(wire, WebhookRead, "/v1/webhooks", {"limit": page_size})


async def get_webhook(wire: Wire, webhook_id: str) -> WebhookRead:
    """Where it points, and since when it fails or is disabled, if it is."""
    return await fetch_as(wire, WebhookRead, Request("GET", f"/v1/webhooks/{webhook_id}"))


async def change_webhook(wire: Wire, webhook_id: str, change: WebhookChange) -> WebhookRead:
    """What `change` leaves out stays as it is."""
    body = change.model_dump(mode="json", exclude_unset=True)
    return await fetch_as(wire, WebhookRead, Request("PATCH", f"/v1/webhooks/{webhook_id}", json=body))


async def delete_webhook(wire: Wire, webhook_id: str) -> None:
    """With the log of its deliveries."""
    await fetch(wire, Request("DELETE", f"/v1/webhooks/{webhook_id}", is_repeatable=False))


async def rotate_webhook_secret(
    wire: Wire, webhook_id: str, rotation: SecretRotation | None = None
) -> WebhookWithSecret:
    """A new secret, this once; the old one signs too for as long as `rotation` says."""
    body = (rotation or SecretRotation()).model_dump(mode="json", exclude_unset=True)
    path = f"/v1/webhooks/{webhook_id}/rotate_secret"
    return await fetch_as(wire, WebhookWithSecret, Request("POST", path, json=body, is_repeatable=False))


async def test_webhook(wire: Wire, webhook_id: str) -> DeliveryRead:
    """Sends it an event that says nothing."""
    return await _send(wire, f"/v1/webhooks/{webhook_id}/test")


def list_deliveries(
    wire: Wire, webhook_id: str, *, page_size: int = PAGE_SIZE
) -> AsyncIterator[DeliveryRead]:
    """What was sent and what waits to be, newest first."""
    return fetch_each(wire, DeliveryRead, f"/v1/webhooks/{webhook_id}/deliveries", {"limit": page_size})


async def get_delivery(wire: Wire, delivery_id: str) -> DeliveryRead:
    """Its attempts so far, and when the next one comes."""
    return await fetch_as(wire, DeliveryRead, Request("GET", f"/v1/deliveries/{delivery_id}"))


async def replay_delivery(wire: Wire, delivery_id: str) -> DeliveryRead:
    """Sends it once more."""
    return await _send(wire, f"/v1/deliveries/{delivery_id}/replay")


async def _send(wire: Wire, path: str) -> DeliveryRead:
    return await fetch_as(wire, DeliveryRead, Request("POST", path, is_repeatable=False))
