"""Who asks for what, for the record that is kept of it."""

from __future__ import annotations

import re
from typing import Any

from fastapi import Request
from sqlalchemy.orm import Session

from core.audit import service as audit
from core.audit.schemas import Deed, Outcome

_ID = re.compile(r"[a-z]{2,4}_[0-9a-f]{32}")


class AuditTrail:
    """Of one request; its caller must be known before anything is noted."""

    def __init__(self, request: Request) -> None:
        self._request = request

    def note(self, session: Session, object_id: str) -> None:
        """In the transaction that does it."""
        audit.record(session, self._deed(), object_id)

    def note_denied(self, session: Session) -> None:
        """In a transaction of its own, for the request's ends in nothing."""
        named = (value for value in self._request.path_params.values() if _ID.fullmatch(value))
        audit.record(session, self._deed(), next(named, None), Outcome.DENIED)

    def _deed(self) -> Deed:
        state, route = self._request.state, self._request.scope["route"]
        return Deed(
            tenant_id=state.tenant_id,
            key_id=state.key_id,
            action=_operation_of(route),
            address=state.address,
            request_id=state.request_id,
        )


def _operation_of(route: Any) -> str:
    operation: str = route.operation_id
    return operation
