"""SQL on tenants and keys."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, Select, bindparam, exists, func, or_, select, update
from sqlalchemy.orm import Session

from core.access.schemas import StoredKey
from core.database import db_now, insert_or, later, read_clock
from core.ids import new_id
from core.pages import newest_first
from core.tables import ApiKey, Tenant

PAGE_ORDER = "api_keys-created_at"


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
    name: str | None = None,
) -> ApiKey:
    key = ApiKey(
        id=new_id("key"),
        tenant_id=tenant_id,
        public_id=public_id,
        secret_sha256=secret_sha256,
        name=name,
        scopes=list(scopes),
        expires_at=expires_at,
    )
    session.add(key)
    session.flush()
    return key


def tenant_name(session: Session, tenant_id: str) -> str:
    return session.scalars(select(Tenant.name).where(Tenant.id == tenant_id)).one()


def find_tenant(session: Session, name: str) -> Tenant | None:
    return session.scalars(select(Tenant).where(Tenant.name == name)).one_or_none()


# Built once, as in core.jobs.polling: finding a statement in the cache anew costs more than running it.
_LOCK_TENANT = select(Tenant.id).where(Tenant.id == bindparam("tenant_id")).with_for_update(key_share=True)


def lock_tenant(session: Session, tenant_id: str) -> None:
    """One transaction at a time counts what a tenant has and adds to it; new rows of others do not wait."""
    session.connection().execute(_LOCK_TENANT, {"tenant_id": tenant_id})


def count_usable_keys(session: Session, tenant_id: str) -> int:
    statement = select(func.count()).select_from(ApiKey).where(ApiKey.tenant_id == tenant_id, *is_usable())
    return session.scalars(statement).one()


def find_key(session: Session, tenant_id: str, key_id: str) -> ApiKey | None:
    """Revoked and expired ones too."""
    return session.scalars(_of_tenant(tenant_id, key_id)).one_or_none()


def page(session: Session, tenant_id: str, limit: int, cursor: str | None) -> Sequence[ApiKey]:
    """Newest first; one row more than `limit`, if there is one."""
    statement = select(ApiKey).where(ApiKey.tenant_id == tenant_id)
    return session.scalars(newest_first(statement, ApiKey, PAGE_ORDER, limit, cursor)).all()


def revoke(session: Session, tenant_id: str, key_id: str) -> ApiKey | None:
    """None where there is no such key; one that was revoked before keeps its time."""
    key = session.scalars(
        _of_tenant(tenant_id, key_id).with_for_update(), execution_options={"populate_existing": True}
    ).one_or_none()
    if key is not None and key.revoked_at is None:
        key.revoked_at = read_clock(session)
        session.flush()
    return key


def _of_tenant(tenant_id: str, key_id: str) -> Select[ApiKey]:
    return select(ApiKey).where(ApiKey.id == key_id, ApiKey.tenant_id == tenant_id)


def note_used(session: Session, key_ids: Collection[str], every_seconds: float) -> None:
    """Whichever of several processes comes first within that time writes."""
    before = later(db_now(), -every_seconds)
    is_old = or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at < before)
    session.execute(update(ApiKey).where(ApiKey.id.in_(key_ids), is_old).values(last_used_at=db_now()))


def is_usable() -> tuple[ColumnElement[bool], ...]:
    """What holds of a key that is neither revoked nor expired."""
    return ApiKey.revoked_at.is_(None), or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > db_now())


_SELECT_USABLE_KEY = select(ApiKey.id, ApiKey.tenant_id, ApiKey.secret_sha256, ApiKey.scopes).where(
    ApiKey.public_id == bindparam("public_id"), *is_usable()
)


def find_usable_key(connection: Connection, public_id: str) -> StoredKey | None:
    """Neither expired nor revoked, by the database's clock."""
    row = connection.execute(_SELECT_USABLE_KEY, {"public_id": public_id}).one_or_none()
    return None if row is None else StoredKey(*row)
