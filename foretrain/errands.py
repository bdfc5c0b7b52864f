"""What an operator does now and then: migrations, keys, the bucket."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy.exc import OperationalError

from core import migrations
from core.access import service as access
from core.database import connect
from core.errors import ServiceError
from core.storage import create_bucket
from foretrain.refusals import Refusal
from foretrain.setup import set_up

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


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
    tenant: str, scopes: Sequence[str], expires_in_days: int | None, data_dir: Path | None
) -> int:
    """Prints the new key on stdout, alone, so that a script can take it."""
    if data_dir is not None:
        os.environ["FORETRAIN_DATA_DIR"] = str(data_dir.expanduser().absolute())
    db = connect(set_up().database_url)
    expires_at = None if expires_in_days is None else datetime.now(UTC) + timedelta(days=expires_in_days)
    try:
        with db.sessions.begin() as session:
            _, secret = access.create_key(session, tenant, [scope.strip() for scope in scopes], expires_at)
    except ServiceError as error:
        raise Refusal(error.detail) from error
    except OperationalError as error:
        raise Refusal(
            f"The database is not ready ({error.orig}); `foretrain migrate` or `foretrain up` prepares it."
        ) from error
    finally:
        db.dispose()
    _say(secret)
    return 0


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
