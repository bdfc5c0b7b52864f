"""What an operator does now and then: migrations, keys, the bucket."""

from __future__ import annotations

import os
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy.exc import OperationalError

from core import migrations
from core.access import service as access
from core.audit import service as audit
from core.audit.schemas import Deed
from core.database import connect, read_clock
from core.errors import ServiceError
from core.pages import MAX_LIMIT
from core.storage import create_bucket
from foretrain.refusals import Refusal
from foretrain.setup import set_up

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from sqlalchemy.orm import Session

    from core.access.schemas import ApiKeyRead


def migrate_database() -> int:
    """Brings the database of FORETRAIN_DATABASE_URL to this release's schema."""
    settings = set_up()
    try:
        if migrations.is_newer_than_us(settings.database_url):
            raise Refusal("The database was migrated by a later release of foretrain; upgrade this one.")
        before = migrations.current(settings.database_url)
        migrations.upgrade(settings.database_url)
    except OperationalError as error:
        raise Refusal(f"The database does not answer: {error.orig}") from error
    head = migrations.head()
    _say(
        f"The database is at revision {head}, as before."
        if before == head
        else f"Migrated to revision {head}."
    )
    return 0


def create_api_key(
    tenant: str,
    scopes: Sequence[str],
    expires_in_days: int | None,
    data_dir: Path | None,
    name: str | None = None,
) -> int:
    """Prints the new key on stdout, alone, so that a script can take it."""
    expires_at = None if expires_in_days is None else datetime.now(UTC) + timedelta(days=expires_in_days)
    with _session(data_dir) as session:
        key, secret = access.create_key(
            session, tenant, [scope.strip() for scope in scopes], expires_at, name
        )
        audit.record(session, Deed(access.tenant_id_of(session, tenant), "create_api_key"), key.id)
    _say(secret)
    return 0


def list_api_keys(tenant: str, data_dir: Path | None) -> int:
    """A line for each key, newest first: id, first characters, scopes, state, last use, name."""
    with _session(data_dir) as session:
        tenant_id, now = access.tenant_id_of(session, tenant), read_clock(session)
        cursor, is_first = None, True
        while is_first or cursor is not None:
            page = access.list_keys(session, tenant_id, limit=MAX_LIMIT, cursor=cursor)
            for key in page.items:
                _say(_line(key, now))
            cursor, is_first = page.next_cursor, False
    return 0


def _line(key: ApiKeyRead, now: datetime) -> str:
    state = "usable"
    if key.revoked_at is not None:
        state = f"revoked {key.revoked_at:%Y-%m-%d}"
    elif key.expires_at is not None:
        state = f"{'expired' if key.expires_at <= now else 'until'} {key.expires_at:%Y-%m-%d}"
    used = "never used" if key.last_used_at is None else f"used {key.last_used_at:%Y-%m-%d %H:%M}Z"
    return "\t".join([key.id, key.prefix, ",".join(key.scopes), state, used, key.name or ""]).rstrip()


def revoke_api_key(tenant: str, key_id: str, data_dir: Path | None) -> int:
    """Takes effect at once, in every process of the service."""
    with _session(data_dir) as session:
        tenant_id = access.tenant_id_of(session, tenant)
        access.revoke_key(session, tenant_id, key_id)
        audit.record(session, Deed(tenant_id, "revoke_api_key"), key_id)
    _say(f"{key_id} is revoked.")
    return 0


@contextmanager
def _session(data_dir: Path | None) -> Iterator[Session]:
    """One transaction on the service's database. Turns what it says no with into a Refusal."""
    if data_dir is not None:
        os.environ["FORETRAIN_DATA_DIR"] = str(data_dir.expanduser().absolute())
    db = connect(set_up().database_url)
    try:
        with db.sessions.begin() as session:
            yield session
    except ServiceError as error:
        raise Refusal(error.detail) from error
    except OperationalError as error:
        raise Refusal(
            f"The database is not ready ({error.orig}); `foretrain migrate` or `foretrain up` prepares it."
        ) from error
    finally:
        db.dispose()


def create_storage_bucket() -> int:
    """Makes the bucket or folder of FORETRAIN_STORAGE_URL."""
    settings = set_up()
    key_id, key = settings.storage_access_key_id, settings.storage_secret_access_key
    try:
        made = create_bucket(
            settings.storage_url,
            access_key_id=None if key_id is None else key_id.get_secret_value(),
            secret_access_key=None if key is None else key.get_secret_value(),
        )
    except (ServiceError, ValueError) as error:
        raise Refusal(str(error)) from error
    _say("The bucket is made." if made else "The bucket was there already.")
    return 0


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201  # a command line speaks
