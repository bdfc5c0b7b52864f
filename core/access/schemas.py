"""Keys as customers see them; the secret is shown once and never stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pydantic import BaseModel, Field

from core.access.scopes import Scope
from core.errors import Forbidden


class ApiKeyRead(BaseModel):
    id: str
    tenant: str = Field(description="The tenant's name.")
    prefix: str = Field(description="The first characters of the key, by which to recognise it.")
    scopes: list[Scope]
    created_at: datetime
    expires_at: datetime | None


@dataclass(frozen=True)
class StoredKey:
    """What is kept of a key that may still be used."""

    id: str
    tenant_id: str
    secret_sha256: str
    scopes: Sequence[str]


@dataclass(frozen=True)
class Principal:
    """Who is asking."""

    tenant_id: str
    key_id: str
    scopes: frozenset[Scope]

    def require(self, scope: Scope) -> None:
        """Raises Forbidden unless the key has the scope; `admin` has every scope of its tenant."""
        if scope not in self.scopes and Scope.ADMIN not in self.scopes:
            raise Forbidden(f"This key lacks the scope {scope}.")
