"""Keys as customers see them; the secret is shown once and never stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field

from core.access.scopes import Scope
from core.errors import Forbidden
from core.instants import Instant
from core.jobs.schemas import DisplayName
from core.open_enums import Open


class ApiKeyCreate(BaseModel):
    """What a new key may do, and until when."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: DisplayName | None = Field(None, description="For people; need not be unique.")
    scopes: list[Scope] = Field(min_length=1, max_length=len(Scope))
    expires_at: Instant | None = Field(None, description="Default: never.")


class ApiKeyRead(BaseModel):
    """A key without its secret."""

    id: str
    name: str | None
    tenant: str = Field(description="The tenant's name.")
    prefix: str = Field(description="The first characters of the key, by which to recognise it.")
    scopes: list[Open[Scope]]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None = Field(description="To within about a minute.")
    revoked_at: datetime | None
    links: dict[str, str]

    @classmethod
    def of(cls, row: Any, tenant_name: str) -> Self:
        """From `core.tables.ApiKey`."""
        return cls(
            id=row.id,
            name=row.name,
            tenant=tenant_name,
            prefix=f"ft_{row.public_id}",
            scopes=[Scope(scope) for scope in row.scopes],
            created_at=row.created_at,
            expires_at=row.expires_at,
            last_used_at=row.last_used_at,
            revoked_at=row.revoked_at,
            links={"self": f"/v1/api_keys/{row.id}"},
        )


class ApiKeyCreated(ApiKeyRead):
    """A new key, this once with its secret."""

    secret: str = Field(description="Send it as `Authorization: Bearer …`. It is not shown again.")


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
