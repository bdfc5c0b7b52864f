"""Idempotency-Key: the first answer, stored with the row it made in one transaction."""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Any

from sqlalchemy import delete, update
from sqlalchemy.orm import Session

from core.database import db_now, insert_or, later, read_clock
from core.errors import FieldProblem, IdempotencyMismatch, InvalidRequest
from core.tables import IdempotencyKey

MAX_KEY_LENGTH = 255
_KEY = re.compile(rf"[\x21-\x7e]{{1,{MAX_KEY_LENGTH}}}")


def fingerprint(method: str, path: str, body: bytes) -> str:
    """What the key stands for. `path` has the query in it; of an upload, `body` is its sha256 as text."""
    lengths = f"{len(method)} {len(path)} ".encode()
    return hashlib.sha256(lengths + method.encode() + path.encode() + body).hexdigest()


def replay_or_reserve(
    session: Session, tenant_id: str, key: str, request_fingerprint: str, keep_hours: float
) -> dict[str, Any] | None:
    """The stored answer if this key was used before, else None: then make the row and call `store_answer`.

    Call it first in the transaction that makes the row: a second request with the same key waits here
    until the first has committed. Raises IdempotencyMismatch when the key stood for another request,
    InvalidRequest for a key that is empty, longer than 255 characters or not printable ASCII.
    """
    _require_form(key)
    ours = (IdempotencyKey.tenant_id == tenant_id, IdempotencyKey.key == key)
    session.execute(delete(IdempotencyKey).where(*ours, IdempotencyKey.expires_at <= db_now()))
    if _reserve(session, tenant_id, key, request_fingerprint, keep_hours):
        return None
    stored = session.get_one(IdempotencyKey, (tenant_id, key), populate_existing=True)
    return _answer_to(stored, request_fingerprint)


def find_answer(
    session: Session, tenant_id: str, key: str, request_fingerprint: str
) -> dict[str, Any] | None:
    """The stored answer, reserving nothing; for a look before long work. Raises as `replay_or_reserve`."""
    _require_form(key)
    stored = session.get(IdempotencyKey, (tenant_id, key))
    if stored is None or stored.expires_at <= read_clock(session):
        return None
    return _answer_to(stored, request_fingerprint)


def _require_form(key: str) -> None:
    if not _KEY.fullmatch(key):
        detail = f"Idempotency-Key must be 1 to {MAX_KEY_LENGTH} printable ASCII characters without spaces."
        place = "/header/Idempotency-Key"
        raise InvalidRequest(detail, [FieldProblem("invalid_idempotency_key", detail, pointer=place)])


def _answer_to(stored: IdempotencyKey, request_fingerprint: str) -> dict[str, Any]:
    if not hmac.compare_digest(stored.fingerprint, request_fingerprint):
        raise IdempotencyMismatch("This Idempotency-Key was used for another request; take a new one.")
    return stored.answer or {}


def _reserve(session: Session, tenant_id: str, key: str, request_fingerprint: str, keep_hours: float) -> bool:
    statement = (
        insert_or(session, IdempotencyKey)
        .values(
            tenant_id=tenant_id,
            key=key,
            fingerprint=request_fingerprint,
            expires_at=later(db_now(), keep_hours * 3600),
        )
        .on_conflict_do_nothing()
        .returning(IdempotencyKey.key)
    )
    return session.scalar(statement) is not None


def store_answer(session: Session, tenant_id: str, key: str, answer: dict[str, Any]) -> None:
    """Keeps what the API will send again (its own mapping), in the transaction that made the row."""
    session.execute(
        update(IdempotencyKey)
        .where(IdempotencyKey.tenant_id == tenant_id, IdempotencyKey.key == key)
        .values(answer=answer)
    )


def forget(session: Session, tenant_id: str, key: str) -> None:
    """Frees a key whose row came to nothing, so that the same request can be made again."""
    session.execute(
        delete(IdempotencyKey).where(IdempotencyKey.tenant_id == tenant_id, IdempotencyKey.key == key)
    )


def forget_expired(session: Session) -> None:
    """Removes keys kept long enough."""
    session.execute(delete(IdempotencyKey).where(IdempotencyKey.expires_at <= db_now()))
