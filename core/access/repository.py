"""SQL on tenants and keys."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, exists, or_, select
from sqlalchemy.orm import Session

from core.access.schemas import StoredKey
from core.database import db_now, insert_or
from core.ids import new_id
from core.tables import ApiKey, Tenant


def find_or_add_tenant(session: Session, name: str) -> Tenant:
    """Of two that add the same name at the same time, the later one finds the other's."""
    session.execute(insert_or(session, Tenant).values(id=new_id("ten"), name=name).on_conflict_do_nothing())
    return session.scalars(select(Tenant).where(Tenant.name == name)).one()


def any_tenant(session: Session) -> bool:
    return bool(session.scalar(select(exists().select_from(Tenant))))


def add_key(
    session: Session,
    tenant_id: str,
    public_id: str,
    secret_sha256: str,
    scopes: Sequence[str],
    expires_at: datetime | None,
) -> ApiKey:
    key = ApiKey(
        id=new_id("key"),
        tenant_id=tenant_id,
        public_id=public_id,
        secret_sha256=secret_sha256,
        scopes=list(scopes),
        expires_at=expires_at,
    )
    session.add(key)
    session.flush()
    return key


def find_usable_key(session: Session, public_id: str) -> StoredKey | None:
    """Neither expired nor revoked, by the database's clock."""
    columns = (ApiKey.id, ApiKey.tenant_id, ApiKey.secret_sha256, ApiKey.scopes)
    row = session.execute(select(*columns).where(ApiKey.public_id == public_id, *is_usable())).one_or_none()
    return None if row is None else StoredKey(*row)


def is_usable() -> tuple[ColumnElement[bool], ...]:
    """What holds of a key that is neither revoked nor expired."""
    return ApiKey.revoked_at.is_(None), or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > db_now())
