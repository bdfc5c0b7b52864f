"""What endpoints ask for in their signatures."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Header, Path, Query, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer, SecurityScopes
from pydantic import AfterValidator

from api.audit_trail import AuditTrail
from api.resources import Resources
from api.session_cookie import signed_in
from core.access.schemas import Principal
from core.access.scopes import Scope
from core.access.service import authenticate
from core.access.sessions import SignedIn
from core.errors import ArtifactNotFound, Forbidden, NotFound, Unauthenticated
from core.pages import MAX_LIMIT

_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="api_key",
    bearerFormat="ft_<id>_<secret>",
    description="A key made by `foretrain keys create`. Scopes: "
    + ", ".join(f"`{scope}`" for scope in Scope)
    + ".",
)


async def _resources(request: Request) -> Resources:
    return cast("Resources", request.app.state.resources)


def _caller(
    request: Request,
    needed: SecurityScopes,
    resources: Annotated[Resources, Depends(_resources)],
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> Principal:
    key = UncheckedKey(request, _presented(request, credentials), tuple(needed.scopes))
    return key.checked(authenticate(resources.db, key.presented))


@dataclass(frozen=True)
class UncheckedKey:
    """A key as it was sent, for an endpoint that looks it up together with what it asks for."""

    request: Request
    presented: str | SignedIn
    needed_scopes: tuple[str, ...]

    def checked(self, caller: Principal) -> Principal:
        """The key's holder, noted for the log. Raises Forbidden without the scopes, which is recorded.

        Call it outside of a session.
        """
        self.request.state.tenant_id, self.request.state.key_id = caller.tenant_id, caller.key_id
        try:
            for scope in self.needed_scopes:
                caller.require(Scope(scope))
        except Forbidden:
            with self.request.app.state.resources.db.sessions.begin() as session:
                AuditTrail(self.request).note_denied(session)
            raise
        return caller


async def _unchecked_key(
    request: Request,
    needed: SecurityScopes,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> UncheckedKey:
    return UncheckedKey(request, _presented(request, credentials), tuple(needed.scopes))


def _presented(request: Request, credentials: HTTPAuthorizationCredentials | None) -> str | SignedIn:
    """The key that was sent; on the pages, whose scripts send none, the session's."""
    if credentials is not None:
        return credentials.credentials
    session = signed_in(request)
    if session is None:
        raise Unauthenticated("Send an API key: Authorization: Bearer <key>.")
    return session


async def _audit_trail(request: Request) -> AuditTrail:
    return AuditTrail(request)


Service = Annotated[Resources, Depends(_resources)]
Trail = Annotated[AuditTrail, Depends(_audit_trail)]
SessionHolder = Annotated[Principal, Security(_caller, scopes=[])]
JobsReader = Annotated[Principal, Security(_caller, scopes=[Scope.JOBS_READ])]
JobsReadersKey = Annotated[UncheckedKey, Security(_unchecked_key, scopes=[Scope.JOBS_READ])]
JobsWriter = Annotated[Principal, Security(_caller, scopes=[Scope.JOBS_WRITE])]
DatasetsReader = Annotated[Principal, Security(_caller, scopes=[Scope.DATASETS_READ])]
DatasetsWriter = Annotated[Principal, Security(_caller, scopes=[Scope.DATASETS_WRITE])]
Admin = Annotated[Principal, Security(_caller, scopes=[Scope.ADMIN])]


def _named(kind: str, pattern: str, missing: type[NotFound] = NotFound) -> AfterValidator:
    """Refuses what cannot be a name of ours as not found, before the database sees it."""

    def check(value: str) -> str:
        if re.fullmatch(pattern, value) is None:
            raise missing(f"There is no {kind} of this name.")
        return value

    return AfterValidator(check)


JobId = Annotated[
    str,
    Path(description="Id of a job, `job_…`.", examples=["job_019299aabbcc7ddd8eeeffff00002222"]),
    _named("job", r"job_[0-9a-f]{32}"),
]
DatasetId = Annotated[
    str,
    Path(description="Id of a dataset, `ds_…`.", examples=["ds_019299aabbcc7ddd8eeeffff00001111"]),
    _named("dataset", r"ds_[0-9a-f]{32}"),
]
WebhookId = Annotated[
    str,
    Path(description="Id of a webhook, `wh_…`.", examples=["wh_019299aabbcc7ddd8eeeffff00006666"]),
    _named("webhook", r"wh_[0-9a-f]{32}"),
]
DeliveryId = Annotated[
    str,
    Path(description="Id of a delivery, `dlv_…`.", examples=["dlv_019299aabbcc7ddd8eeeffff00007777"]),
    _named("delivery", r"dlv_[0-9a-f]{32}"),
]
ApiKeyId = Annotated[
    str,
    Path(description="Id of an API key, `key_…`.", examples=["key_019299aabbcc7ddd8eeeffff00008888"]),
    _named("API key", r"key_[0-9a-f]{32}"),
]
ArtifactName = Annotated[
    str,
    Path(description="Name of a file the job has stored.", examples=["model.ckpt"]),
    _named("artifact", r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}", ArtifactNotFound),
]
Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Items on a page.")]
Cursor = Annotated[str | None, Query(max_length=1000, description="`next_cursor` of the page before.")]
IfNoneMatch = Annotated[
    str | None,
    Header(alias="If-None-Match", description="An ETag you hold; 304 if it still fits."),
]
Prefer = Annotated[
    str | None,
    Header(
        alias="Prefer",
        description="`wait=N` holds the answer for up to N seconds, until the job's revision or phase is "
        "another than the one in If-None-Match, or than now. `Preference-Applied` says what was granted.",
        examples=["wait=30"],
    ),
]
LastEventId = Annotated[
    str | None,
    Header(
        alias="Last-Event-ID",
        max_length=20,
        description="`id` of the last event you have; the stream goes on behind it.",
        examples=["42"],
    ),
]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="Chosen by you, at most 255 printable ASCII characters. Repeating the request with it "
        "creates nothing twice: the first answer comes again, with `Idempotency-Replayed: true`.",
        examples=["nightly-2026-11-22"],
    ),
]
