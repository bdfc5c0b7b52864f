"""Sign-in on the pages: a signed ticket that names a key and holds nothing of its secret."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass

from itsdangerous import BadSignature, URLSafeTimedSerializer


@dataclass(frozen=True)
class SignedIn:
    """Somebody who has shown the key of this public id before; whether it may still be used is not said."""

    public_id: str


class Tickets:
    """Issues tickets and knows its own again, for so many hours.

    All processes that serve the same pages need the same secret; without one, tickets end with the process.
    """

    def __init__(self, secret: str | None, hours: float) -> None:
        self.seconds = int(hours * 3600)
        self._serializer = URLSafeTimedSerializer(
            secret or secrets.token_urlsafe(32),
            salt="foretrain-session",
            signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256},
        )

    def issue(self, public_id: str) -> str:
        """For the holder of the key of this public id, which has been checked."""
        return str(self._serializer.dumps(public_id))

    def read(self, ticket: str) -> SignedIn | None:
        """None for what was not issued here, was changed, or is too old."""
        try:
            return SignedIn(str(self._serializer.loads(ticket, max_age=self.seconds)))
        except BadSignature:
            return None
