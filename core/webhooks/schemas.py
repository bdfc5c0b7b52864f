"""Webhooks and deliveries as the API takes and shows them. pydantic only."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from core.jobs.lifecycle import EventType
from core.jobs.schemas import DisplayName, StatusReason
from core.open_enums import Open
from core.webhooks.lifecycle import DeliveryStatus, Outcome

TargetUrl = Annotated[
    str,
    StringConstraints(min_length=1, max_length=2000, pattern=r"^[\x21-\x7e]+$"),
    Field(
        description="https:// or http://, printable ASCII, without a login. Redirects are not followed.",
        examples=["https://hooks.example.org/foretrain?team=edge"],
    ),
]
EVERYTHING = "*"
EventTypes = Annotated[
    list[EventType | Literal["*"]],
    Field(min_length=1, max_length=32, description="Send only these; `*` is all, those to come included."),
]
DAY_SECONDS = 86_400


class WebhookCreate(BaseModel):
    """Where to send which events of the tenant's jobs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: TargetUrl
    event_types: EventTypes = ["*"]
    name: DisplayName | None = None


class WebhookChange(BaseModel):
    """What is left out stays as it is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: TargetUrl | None = None
    event_types: EventTypes | None = None
    name: DisplayName | None = None
    enabled: bool | None = Field(
        None,
        strict=True,
        description="`false` gives up what waits to be sent; `true` starts anew, with the next event.",
    )


class SecretRotation(BaseModel):
    """How long receivers have to learn the new secret."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    overlap_seconds: int = Field(
        DAY_SECONDS,
        ge=0,
        le=7 * DAY_SECONDS,
        strict=True,
        description="So long the old secret signs, too: `webhook-signature` then lists two signatures.",
    )


class WebhookRead(BaseModel):
    """Where events are sent."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    url: str
    name: str | None
    event_types: list[str]
    enabled: bool
    disabled_at: datetime | None
    disabled_reason: StatusReason | None = Field(
        description="`by_owner`, `gone` (the endpoint answered 410) or `failing` (for days)."
    )
    failing_since: datetime | None = Field(description="Nothing has been delivered since.")
    attempted_at: datetime | None = Field(description="Of the last attempt.")
    previous_secret_expires_at: datetime | None = Field(
        description="Until then the secret before the last rotation signs, too."
    )
    created_at: datetime
    links: dict[str, str]


class WebhookWithSecret(WebhookRead):
    """A webhook just made, or with a new secret."""

    secret: str = Field(description="Verify signatures with it; it is not shown again.")


class DeliveryAttempt(BaseModel):
    """One POST to the endpoint."""

    started_at: datetime
    duration_seconds: float
    outcome: Open[Outcome] = Field(
        description="`delivered` is any 2xx; `blocked`: the host stands for an address that is not public."
    )
    response_status: int | None
    response_excerpt: str | None = Field(description="The first bytes of the answer's body, as text.")


class DeliveryRead(BaseModel):
    """One event for one webhook. `event_id` is the `webhook-id` of every attempt."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    webhook_id: str
    event_id: str
    event_type: str
    job_id: str | None
    status: Open[DeliveryStatus]
    attempts: list[DeliveryAttempt] = Field(description="Oldest first; the newest twenty.")
    next_attempt_at: datetime | None = Field(description="Null once it is delivered or given up.")
    created_at: datetime
    finished_at: datetime | None
    links: dict[str, str] = Field(default_factory=dict)


class WebhookEvent(BaseModel):
    """The body of a webhook: an entry of a job's log of events; under 4 KB."""

    id: str
    seq: int
    type: str
    created_at: datetime
    job_id: str | None = Field(description="Null in `webhook.test`.")
    data: dict[str, Any]
