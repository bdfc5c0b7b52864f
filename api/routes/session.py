"""Signing in on the pages: a key for a cookie. Programs send the key itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import Request, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from api.dependencies import Service, SessionHolder
from api.session_cookie import give_cookie, require_same_origin, signed_in, take_cookie
from api.strict_route import strict_router
from core.access.scopes import Scope
from core.access.service import authenticate, read_claim

router = strict_router("session")


class SignIn(BaseModel):
    """A key of the tenant whose jobs are to be seen."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)] = Field(
        repr=False
    )


class SessionRead(BaseModel):
    """What the session's key may do."""

    key_id: str
    scopes: list[Scope]
    expires_at: datetime | None = Field(None, description="When one has to sign in anew.")


@router.post("/session", response_model=SessionRead, include_in_schema=False)
def sign_in(request: Request, response: Response, resources: Service, body: SignIn) -> SessionRead:
    """Raises Unauthenticated for a key that may not be used."""
    require_same_origin(request)
    claim = read_claim(body.key)
    caller = authenticate(resources.db, body.key)
    request.state.tenant_id, request.state.key_id = caller.tenant_id, caller.key_id
    give_cookie(request, response, resources.tickets.issue(claim.public_id), resources.tickets.seconds)
    response.headers["Cache-Control"] = "no-store"
    ends = datetime.now(UTC) + timedelta(seconds=resources.tickets.seconds)
    return SessionRead(key_id=caller.key_id, scopes=sorted(caller.scopes), expires_at=ends)


@router.get("/session", response_model=SessionRead, include_in_schema=False)
def read_session(caller: SessionHolder, response: Response) -> SessionRead:
    """Who the pages' scripts run for."""
    response.headers["Cache-Control"] = "no-store"
    return SessionRead(key_id=caller.key_id, scopes=sorted(caller.scopes))


@router.delete("/session", status_code=204, include_in_schema=False)
def sign_out(request: Request) -> Response:
    """Without a session, too: the cookie is gone afterwards."""
    signed_in(request)  # refuses another site's page
    response = Response(status_code=204)
    take_cookie(request, response)
    return response
