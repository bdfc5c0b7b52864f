"""Who may ask, and what was answered already."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from core.database import JsonColumn, db_now
from core.tables.base import SHA256, Id, Json, Table


class Tenant(Table):
    __tablename__ = "tenants"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    last_served: Mapped[int] = mapped_column(
        default=0,
        doc="Number of its last claim among all; fair share serves the longest unserved tenant first.",
    )
    created_at: Mapped[datetime] = mapped_column(default=db_now())


class ApiKey(Table):
    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(Id, ForeignKey("tenants.id"), index=True)
    public_id: Mapped[str] = mapped_column(
        String(8), unique=True, doc="The part of the key that finds its row; not secret."
    )
    secret_sha256: Mapped[str] = mapped_column(SHA256)
    name: Mapped[str | None] = mapped_column(String(200))
    scopes: Mapped[list[str]] = mapped_column(JsonColumn)
    created_at: Mapped[datetime] = mapped_column(default=db_now())
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None] = mapped_column(
        doc="Written at most once a minute, apart from the requests."
    )


class IdempotencyKey(Table):
    __tablename__ = "idempotency_keys"

    tenant_id: Mapped[str] = mapped_column(Id, ForeignKey("tenants.id"), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(SHA256, doc="Of method, path and body.")
    answer: Mapped[Json | None] = mapped_column(doc="The first answer, for the API to send again.")
    expires_at: Mapped[datetime] = mapped_column(index=True)
