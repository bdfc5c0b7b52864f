"""Where events are sent: webhooks, and the log of what was sent to them."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Request, Response

from api.dependencies import Admin, Cursor, DeliveryId, IdempotencyKey, Limit, Service, Trail, WebhookId
from api.openapi import answers, header, json_answer, json_content
from api.strict_route import strict_router
from core import idempotency
from core.pages import DEFAULT_LIMIT, Page
from core.webhooks import service
from core.webhooks.lifecycle import DeliveryStatus
from core.webhooks.schemas import (
    DeliveryRead,
    SecretRotation,
    WebhookChange,
    WebhookCreate,
    WebhookRead,
    WebhookWithSecret,
)

router = strict_router("webhooks")
# Of operations that take a body.
_BODY_REFUSALS = ("body_timeout", "incomplete_body", "invalid_json", "too_large", "unsupported_media_type")


class WebhookPage(Page[WebhookRead]):
    """One page of webhooks."""


class DeliveryPage(Page[DeliveryRead]):
    """One page of a webhook's deliveries."""


@router.post(
    "/v1/webhooks",
    status_code=201,
    response_model=WebhookWithSecret,
    operation_id="create_webhook",
    summary="Create a webhook",
    openapi_extra={"requestBody": {"content": json_content("webhook_request")}},
    responses=answers(
        *_BODY_REFUSALS,
        "idempotency_mismatch",
        "quota_exceeded",
        ok_201=json_answer(
            "Created. `secret` is shown this once.",
            "new_webhook",
            headers={
                "Location": header("Path of the webhook."),
                "Idempotency-Replayed": header("`true` when this key has made the webhook before."),
            },
        ),
    ),
)
def create_webhook(
    *,
    request: Request,
    caller: Admin,
    resources: Service,
    trail: Trail,
    body: WebhookCreate,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Each event of the tenant's jobs from now on is POSTed to the address, within seconds.

    The body is the event as `GET /v1/jobs/{id}/events` lists it. It is signed by the Standard Webhooks
    specification (`webhook-id`, `webhook-timestamp`, `webhook-signature`): verify it with one of its
    libraries. An event may come twice, with the same `webhook-id`, and out of order: `seq` has the order.
    Any 2xx within ten seconds is a delivery; what fails is tried again over three days.
    """
    settings = resources.settings
    with resources.db.sessions.begin() as session:
        if idempotency_key is not None:
            sent = body.model_dump_json(exclude_unset=True).encode()
            fingerprint = idempotency.fingerprint(request.method, request.url.path, sent)
            earlier = idempotency.replay_or_reserve(
                session, caller.tenant_id, idempotency_key, fingerprint, settings.idempotency_hours
            )
            webhook_id = (earlier or {}).get("webhook_id", "")
            known = service.get_created(session, caller.tenant_id, webhook_id)
            if known is not None:
                return _created(known, {"Idempotency-Replayed": "true"})
        webhook = service.create(session, caller.tenant_id, body, settings)
        trail.note(session, webhook.id)
        if idempotency_key is not None:
            # The secret stays in one place: a replay reads it from the webhook.
            answer = {"webhook_id": webhook.id}
            idempotency.store_answer(session, caller.tenant_id, idempotency_key, answer)
    return _created(webhook, {})


def _created(webhook: WebhookWithSecret, headers: dict[str, str]) -> Response:
    location = {"Location": f"/v1/webhooks/{webhook.id}"}
    return Response(webhook.model_dump_json(), 201, location | headers, "application/json")


@router.get(
    "/v1/webhooks",
    response_model=WebhookPage,
    operation_id="list_webhooks",
    summary="List webhooks",
    responses=answers(ok_200=json_answer("Newest first.", "webhooks")),
)
def list_webhooks(
    *, caller: Admin, resources: Service, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> Page[WebhookRead]:
    """The tenant's webhooks, without their secrets."""
    with resources.db.readers.begin() as session:
        return service.list_page(session, caller.tenant_id, limit=limit, cursor=cursor)


@router.get(
    "/v1/webhooks/{webhook_id}",
    response_model=WebhookRead,
    operation_id="get_webhook",
    summary="Get a webhook",
    responses=answers("not_found", ok_200=json_answer("The webhook.", "webhook")),
)
def get_webhook(caller: Admin, resources: Service, webhook_id: WebhookId) -> WebhookRead:
    """Where it points, and since when it fails or is disabled, if it is."""
    with resources.db.readers.begin() as session:
        return service.get(session, caller.tenant_id, webhook_id)


@router.patch(
    "/v1/webhooks/{webhook_id}",
    response_model=WebhookRead,
    operation_id="change_webhook",
    summary="Change, disable or enable a webhook",
    openapi_extra={"requestBody": {"content": json_content("webhook_change")}},
    responses=answers(
        *_BODY_REFUSALS, "not_found", ok_200=json_answer("The webhook as it is now.", "webhook")
    ),
)
def change_webhook(
    *, caller: Admin, resources: Service, trail: Trail, webhook_id: WebhookId, body: WebhookChange
) -> WebhookRead:
    """A new address gets what waits to be sent, too. Events of a time when it is disabled are not sent later.

    A webhook whose endpoint answers 410, or to which nothing could be delivered for days, is disabled by the
    service; `disabled_reason` says so.
    """
    with resources.db.sessions.begin() as session:
        trail.note(session, webhook_id)
        return service.change(session, caller.tenant_id, webhook_id, body, resources.settings)


@router.delete(
    "/v1/webhooks/{webhook_id}",
    status_code=204,
    operation_id="delete_webhook",
    summary="Delete a webhook",
    responses=answers("not_found", ok_204={"description": "Deleted."}),
)
def delete_webhook(caller: Admin, resources: Service, trail: Trail, webhook_id: WebhookId) -> Response:
    """With the log of its deliveries; what waits to be sent is not sent."""
    with resources.db.sessions.begin() as session:
        service.delete(session, caller.tenant_id, webhook_id)
        trail.note(session, webhook_id)
    return Response(status_code=204)


@router.post(
    "/v1/webhooks/{webhook_id}/rotate_secret",
    response_model=WebhookWithSecret,
    operation_id="rotate_webhook_secret",
    summary="Give a webhook a new secret",
    openapi_extra={"requestBody": {"content": json_content("secret_rotation")}},
    responses=answers(
        *_BODY_REFUSALS,
        "not_found",
        ok_200=json_answer("`secret` is shown this once.", "new_webhook"),
    ),
)
def rotate_webhook_secret(
    *,
    caller: Admin,
    resources: Service,
    trail: Trail,
    webhook_id: WebhookId,
    body: SecretRotation | None = None,
) -> WebhookWithSecret:
    """For a day, or as long as `overlap_seconds` says, requests carry a signature of the old secret as well.

    The libraries of Standard Webhooks take a request with any signature that fits. Of a second rotation
    within that time the first secret signs no more.
    """
    with resources.db.sessions.begin() as session:
        trail.note(session, webhook_id)
        return service.rotate_secret(session, caller.tenant_id, webhook_id, body or SecretRotation())


@router.post(
    "/v1/webhooks/{webhook_id}/test",
    status_code=202,
    response_model=DeliveryRead,
    operation_id="test_webhook",
    summary="Send a test event",
    responses=answers(
        "conflict", "not_found", ok_202=json_answer("To be sent within seconds: read it again.", "delivery")
    ),
)
def test_webhook(caller: Admin, resources: Service, trail: Trail, webhook_id: WebhookId) -> DeliveryRead:
    """An event `webhook.test`, signed and delivered like any other. `conflict` for a disabled webhook."""
    with resources.db.sessions.begin() as session:
        trail.note(session, webhook_id)
        return service.send_test(session, caller.tenant_id, webhook_id)


@router.get(
    "/v1/webhooks/{webhook_id}/deliveries",
    response_model=DeliveryPage,
    operation_id="list_deliveries",
    summary="List a webhook's deliveries",
    responses=answers("not_found", ok_200=json_answer("Newest first.", "deliveries")),
)
def list_deliveries(
    *,
    caller: Admin,
    resources: Service,
    webhook_id: WebhookId,
    status: Annotated[DeliveryStatus | None, Query(description="Only these.")] = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Page[DeliveryRead]:
    """What was sent there or waits to be, with every attempt. Ended deliveries are kept for a month."""
    with resources.db.readers.begin() as session:
        return service.list_deliveries(
            session, caller.tenant_id, webhook_id, status=status, limit=limit, cursor=cursor
        )


@router.get(
    "/v1/deliveries/{delivery_id}",
    response_model=DeliveryRead,
    operation_id="get_delivery",
    summary="Get a delivery",
    responses=answers("not_found", ok_200=json_answer("The delivery.", "delivery")),
)
def get_delivery(caller: Admin, resources: Service, delivery_id: DeliveryId) -> DeliveryRead:
    """Its attempts so far, and when the next one comes."""
    with resources.db.readers.begin() as session:
        return service.get_delivery(session, caller.tenant_id, delivery_id)


@router.post(
    "/v1/deliveries/{delivery_id}/replay",
    status_code=202,
    response_model=DeliveryRead,
    operation_id="replay_delivery",
    summary="Send a delivery again",
    responses=answers(
        "conflict", "not_found", ok_202=json_answer("To be sent within seconds: read it again.", "delivery")
    ),
)
def replay_delivery(caller: Admin, resources: Service, trail: Trail, delivery_id: DeliveryId) -> DeliveryRead:
    """With the same `webhook-id` and body, and all its tries anew. `conflict` for a disabled webhook."""
    with resources.db.sessions.begin() as session:
        trail.note(session, delivery_id)
        return service.replay(session, caller.tenant_id, delivery_id)
