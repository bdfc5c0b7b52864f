"""Calls about API keys."""

from __future__ import annotations

from collections.abc import AsyncIterator

from core.access.schemas import ApiKeyCreate, ApiKeyCreated, ApiKeyRead
from foretrain.client.exchange import PAGE_SIZE, fetch, fetch_as, fetch_each
from foretrain.client.wire import Request, Wire


async def create_api_key(wire: Wire, key: ApiKeyCreate) -> ApiKeyCreated:
    """A key of the same tenant, this once with its secret. Not repeated: a lost answer is a lost secret."""
    body = key.model_dump(mode="json", exclude_unset=True)
    return await fetch_as(
        wire, ApiKeyCreated, Request("POST", "/v1/api_keys", json=body, is_repeatable=False)
    )


def list_api_keys(wire: Wire, *, page_size: int = PAGE_SIZE) -> AsyncIterator[ApiKeyRead]:
    """Newest first, revoked ones too."""
    return fetch_each(wire, ApiKeyRead, "/v1/api_keys", {"limit": page_size})


async def get_api_key(wire: Wire, key_id: str) -> ApiKeyRead:
    """What it may do, until when, and when it was used last; one that was revoked is in the list alone."""
    return await fetch_as(wire, ApiKeyRead, Request("GET", f"/v1/api_keys/{key_id}"))


async def revoke_api_key(wire: Wire, key_id: str) -> None:
    """For good, from the next request on. One that was revoked before is no problem."""
    await fetch(wire, Request("DELETE", f"/v1/api_keys/{key_id}"))
