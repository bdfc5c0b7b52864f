"""Tenants and their API keys."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from datetime import datetime

from sqlalchemy.orm import Session

from core.access import repository
from core.access.schemas import ApiKeyCreate, ApiKeyRead, Principal, StoredKey
from core.access.scopes import Scope
from core.access.secrets import KeyText, make_key_text, parse_key_text
from core.access.sessions import SignedIn
from core.database import Database, read_clock
from core.errors import FieldProblem, InvalidRequest, NotFound, QuotaExceeded, Unauthenticated
from core.pages import DEFAULT_LIMIT, Page, cut_page, newest_first_key
from core.tables import ApiKey

MAX_TENANT_NAME = 200


def create_key(
    session: Session,
    tenant_name: str,
    scopes: Iterable[str],
    expires_at: datetime | None = None,
    name: str | None = None,
) -> tuple[ApiKeyRead, str]:
    """A new key and its secret, which nobody can read again; the tenant is made if it is new.

    Raises InvalidRequest for an unknown scope, none at all, or a name that is empty or unprintable.
    """
    _check_tenant_name(tenant_name)
    granted = _check_scopes(scopes)
    tenant = repository.find_or_add_tenant(session, tenant_name)
    return _add_key(session, tenant.id, granted, expires_at, name)


def make_key(session: Session, tenant_id: str, wanted: ApiKeyCreate, max_keys: int) -> tuple[ApiKeyRead, str]:
    """The same over HTTP, within the tenant. Raises QuotaExceeded, InvalidRequest (an expiry in the past)."""
    if wanted.expires_at is not None and wanted.expires_at <= read_clock(session):
        detail = "expires_at lies in the past."
        raise InvalidRequest(detail, [FieldProblem("in_the_past", detail, pointer="/expires_at")])
    repository.lock_tenant(session, tenant_id)
    if repository.count_usable_keys(session, tenant_id) >= max_keys:
        raise QuotaExceeded(f"A tenant has at most {max_keys} usable API keys; revoke one first.")
    scopes = list(dict.fromkeys(wanted.scopes))
    return _add_key(session, tenant_id, scopes, wanted.expires_at, wanted.name)


def _add_key(
    session: Session, tenant_id: str, scopes: list[Scope], expires_at: datetime | None, name: str | None
) -> tuple[ApiKeyRead, str]:
    text = make_key_text()
    key = repository.add_key(session, tenant_id, text.public_id, text.sha256, scopes, expires_at, name)
    return ApiKeyRead.of(key, repository.tenant_name(session, tenant_id)), text.token


def list_keys(
    session: Session, tenant_id: str, *, limit: int = DEFAULT_LIMIT, cursor: str | None = None
) -> Page[ApiKeyRead]:
    """Newest first, revoked and expired ones too. Raises InvalidRequest for a bad cursor."""
    rows = repository.page(session, tenant_id, limit, cursor)
    shown, next_cursor = cut_page(rows, limit, repository.PAGE_ORDER, newest_first_key)
    tenant = repository.tenant_name(session, tenant_id)
    return Page(items=[ApiKeyRead.of(row, tenant) for row in shown], next_cursor=next_cursor)


def get_key(session: Session, tenant_id: str, key_id: str) -> ApiKeyRead:
    """Raises NotFound, for one that was revoked as well: that is kept for the record, in the list."""
    key = _there(repository.find_key(session, tenant_id, key_id), key_id)
    if key.revoked_at is not None:
        raise NotFound(f"The API key {key_id} was revoked; the list of keys says when.")
    return ApiKeyRead.of(key, repository.tenant_name(session, tenant_id))


def revoke_key(session: Session, tenant_id: str, key_id: str) -> None:
    """For good, from the next request on: nobody keeps a key in memory. Raises NotFound."""
    _there(repository.revoke(session, tenant_id, key_id), key_id)


def _there(key: ApiKey | None, key_id: str) -> ApiKey:
    if key is None:
        raise NotFound(f"There is no API key {key_id}.")
    return key


def tenant_id_of(session: Session, tenant_name: str) -> str:
    """Raises NotFound."""
    tenant = repository.find_tenant(session, tenant_name)
    if tenant is None:
        raise NotFound(f"There is no tenant {tenant_name}.")
    return tenant.id


def _check_tenant_name(name: str) -> None:
    if not name.strip() or len(name) > MAX_TENANT_NAME or not name.isprintable():
        detail = f"A tenant's name has 1 to {MAX_TENANT_NAME} printable characters."
        raise InvalidRequest(detail, [FieldProblem(code="invalid_name", detail=detail, pointer="/tenant")])


def _check_scopes(scopes: Iterable[str]) -> list[Scope]:
    asked = list(dict.fromkeys(scopes))
    known = [scope.value for scope in Scope]
    unknown = [scope for scope in asked if scope not in known]
    if unknown or not asked:
        which = f"Unknown scope {', '.join(unknown)}" if unknown else "No scope given"
        detail = f"{which}; there are {', '.join(known)}."
        raise InvalidRequest(detail, [FieldProblem(code="invalid_scope", detail=detail, pointer="/scopes")])
    return [Scope(scope) for scope in asked]


def authenticate(db: Database, presented: str | SignedIn) -> Principal:
    """Whose key this is, in one statement. Call it outside of a session.

    Raises Unauthenticated for a key that is unknown, mistyped, expired or revoked, without saying which.
    """
    claim = read_claim(presented)
    with db.lookups.connect() as connection:
        return admit(claim, repository.find_usable_key(connection, claim.public_id))


def read_claim(presented: str | SignedIn) -> KeyText | SignedIn:
    """Which key it is that somebody has sent, or signed in with. Raises Unauthenticated for no key at all."""
    if isinstance(presented, SignedIn):
        return presented
    text = parse_key_text(presented)
    if text is None:
        raise _refusal()
    return text


def admit(claim: KeyText | SignedIn, key: StoredKey | None) -> Principal:
    """The holder of the key that was found under the claim's public id. Raises Unauthenticated.

    Who has signed in has shown the secret then.
    """
    if key is None:
        raise _refusal()
    if isinstance(claim, KeyText) and not hmac.compare_digest(key.secret_sha256, claim.sha256):
        raise _refusal()
    return Principal(key.tenant_id, key.id, frozenset(Scope(scope) for scope in key.scopes))


def _refusal() -> Unauthenticated:
    return Unauthenticated("The API key is not valid. Send it as `Authorization: Bearer ft_…`.")


def tenant_exists(session: Session) -> bool:
    """Whether any tenant was ever made: `foretrain up` makes the first."""
    return repository.any_tenant(session)
