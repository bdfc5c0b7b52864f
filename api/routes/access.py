"""API keys of a tenant, and the record of who did what with them."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Request, Response

from api.dependencies import Admin, ApiKeyId, Cursor, IdempotencyKey, Limit, Service, Trail
from api.openapi import answers, header, json_answer, json_content
from api.strict_route import strict_router
from core import idempotency
from core.access import service
from core.access.schemas import ApiKeyCreate, ApiKeyCreated, ApiKeyRead
from core.audit import service as audit
from core.audit.schemas import AuditEventRead, AuditFilter, Outcome
from core.errors import SecretShownOnce
from core.instants import Instant
from core.pages import DEFAULT_LIMIT, Page

router = strict_router("access")
_SHOWN_TO_NOBODY_ELSE = {"Cache-Control": "no-store"}


class ApiKeyPage(Page[ApiKeyRead]):
    """One page of keys, newest first."""


class AuditEventPage(Page[AuditEventRead]):
    """One page of the record, newest first."""


@router.post(
    "/v1/api_keys",
    status_code=201,
    response_model=ApiKeyCreated,
    operation_id="create_api_key",
    summary="Make an API key",
    openapi_extra={"requestBody": {"content": json_content("api_key_request")}},
    responses=answers(
        "body_timeout",
        "idempotency_mismatch",
        "incomplete_body",
        "invalid_json",
        "quota_exceeded",
        "secret_shown_once",
        "too_large",
        "unsupported_media_type",
        ok_201=json_answer(
            "Made. The secret is in this answer alone.",
            "api_key_created",
            headers={"Location": header("Path of the key.")},
        ),
    ),
)
def create_api_key(
    *,
    request: Request,
    caller: Admin,
    resources: Service,
    trail: Trail,
    body: ApiKeyCreate,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """For the same tenant, with any scopes. Only a hash of its secret is kept, so nobody can show it again.

    That is why a request repeated with its Idempotency-Key makes no second key and answers
    `secret_shown_once` instead of the first answer.
    """
    asked = idempotency.fingerprint(request.method, request.url.path, body.model_dump_json().encode())
    with resources.db.sessions.begin() as session:
        if idempotency_key is not None:
            earlier = idempotency.replay_or_reserve(
                session, caller.tenant_id, idempotency_key, asked, resources.settings.idempotency_hours
            )
            if earlier is not None:
                raise SecretShownOnce(f"This request made {earlier['key_id']}; its secret was shown once.")
        key, secret = service.make_key(session, caller.tenant_id, body, resources.settings.max_api_keys)
        if idempotency_key is not None:
            idempotency.store_answer(session, caller.tenant_id, idempotency_key, {"key_id": key.id})
        trail.note(session, key.id)
    created = ApiKeyCreated(**key.model_dump(), secret=secret).model_dump_json()
    headers = _SHOWN_TO_NOBODY_ELSE | {"Location": key.links["self"]}
    return Response(created, 201, headers, "application/json")


@router.get(
    "/v1/api_keys",
    response_model=ApiKeyPage,
    operation_id="list_api_keys",
    summary="List API keys",
    responses=answers(ok_200=json_answer("Newest first, revoked ones too.", "api_keys")),
)
def list_api_keys(
    *, caller: Admin, resources: Service, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> Page[ApiKeyRead]:
    """Every key of the tenant, with when it was used last and never with its secret."""
    with resources.db.readers.begin() as session:
        return service.list_keys(session, caller.tenant_id, limit=limit, cursor=cursor)


@router.get(
    "/v1/api_keys/{key_id}",
    response_model=ApiKeyRead,
    operation_id="get_api_key",
    summary="Get an API key",
    responses=answers("not_found", ok_200=json_answer("The key without its secret.", "api_key")),
)
def get_api_key(caller: Admin, resources: Service, key_id: ApiKeyId) -> ApiKeyRead:
    """What it may do, until when, and when it was used last.

    One that was revoked is answered with 404, as if there were none: it stays in the list alone, with when
    it was revoked. Revoking it once more is answered with 204 all the same.
    """
    with resources.db.readers.begin() as session:
        return service.get_key(session, caller.tenant_id, key_id)


@router.delete(
    "/v1/api_keys/{key_id}",
    status_code=204,
    operation_id="revoke_api_key",
    summary="Revoke an API key",
    responses=answers("not_found", ok_204={"description": "Revoked, now or before."}),
)
def revoke_api_key(caller: Admin, resources: Service, trail: Trail, key_id: ApiKeyId) -> Response:
    """For good, from the next request on, whichever process answers it. The key stays in the list.

    One that was revoked before is answered with 204 again, so that a repeated request does no harm, and
    keeps its time; to `GET` it is 404 from then on.
    """
    with resources.db.sessions.begin() as session:
        service.revoke_key(session, caller.tenant_id, key_id)
        trail.note(session, key_id)
    return Response(status_code=204)


@router.get(
    "/v1/audit_events",
    response_model=AuditEventPage,
    operation_id="list_audit_events",
    summary="List what was done, and by whom",
    responses=answers(ok_200=json_answer("Newest first.", "audit_events")),
)
def list_audit_events(
    *,
    caller: Admin,
    resources: Service,
    action: Annotated[
        str | None,
        Query(max_length=40, description="`operationId` of an operation.", examples=["submit_job"]),
    ] = None,
    key_id: Annotated[str | None, Query(max_length=40, description="Whose requests.")] = None,
    object_id: Annotated[
        str | None, Query(max_length=40, description="What was made, changed or removed.")
    ] = None,
    outcome: Annotated[Outcome | None, Query(description="Default: either.")] = None,
    created_after: Annotated[Instant | None, Query(description="RFC 3339, with a time zone.")] = None,
    created_before: Annotated[Instant | None, Query(description="RFC 3339, with a time zone.")] = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Page[AuditEventRead]:
    """Every change that a key of the tenant made, and every request that it lacked the scope for.

    An event is written in the transaction of the change itself. It holds no secret and nothing of a body.
    """
    wanted = AuditFilter(action, key_id, object_id, outcome, created_after, created_before)
    with resources.db.readers.begin() as session:
        return audit.list_page(session, caller.tenant_id, wanted, limit=limit, cursor=cursor)
