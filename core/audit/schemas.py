"""The record of who did what, as the API shows it. pydantic only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field


class Outcome(StrEnum):
    DONE = "done"
    DENIED = "denied"


@dataclass(frozen=True)
class Deed:
    """What somebody does, as far as it is known before it is done. `key_id` None: at the machine itself."""

    tenant_id: str
    action: str
    key_id: str | None = None
    address: str | None = None
    request_id: str | None = None


@dataclass(frozen=True)
class AuditFilter:
    """What a list is narrowed down to; None narrows nothing."""

    action: str | None = None
    key_id: str | None = None
    object_id: str | None = None
    outcome: Outcome | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None


class AuditEventRead(BaseModel):
    """Something that was done, or was denied. No secret and nothing of a body is in it."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    created_at: datetime
    key_id: str | None = Field(description="Whose request; null for somebody at the service's own machine.")
    action: str = Field(description="`operationId` of the operation, in /openapi.json.")
    object_id: str | None = Field(description="What was made, changed or removed.")
    outcome: Outcome = Field(description="`denied`: the key lacks the scope.")
    address: str | None = Field(description="Where the request came from.")
    request_id: str | None = Field(description="`X-Request-Id` of the answer; the log's lines carry it.")
