"""What an embedded service needs before it can serve: its tables, and a key for its owner."""

from __future__ import annotations

import os
import secrets
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import make_url

from core import migrations
from core.access import service as access
from core.access.scopes import Scope
from foretrain.refusals import Refusal

if TYPE_CHECKING:
    from pathlib import Path

    from core.database import Database

logger = structlog.get_logger(__name__)

TENANT = "default"


def bring_up_to_date(database_url: str) -> None:
    """Migrates the database, an older SQLite file after copying it aside. Refuses a later release's."""
    database = make_url(database_url)
    file = database.database if database.get_backend_name() == "sqlite" else None
    if file is None or os.path.exists(file):  # noqa: PTH110  # SQLAlchemy's own string
        if migrations.is_newer_than_us(database_url):
            raise Refusal(
                "These data were written by a later release of foretrain, which this one cannot read. "
                "Upgrade foretrain, or name another folder with --data-dir."
            )
        revision = migrations.current(database_url)
        if revision == migrations.head():
            return
        if file is not None and revision is not None:
            logger.info("database_copied_before_migration", copy=_copy_aside(file, revision))
    migrations.upgrade(database_url)


def _copy_aside(file: str, revision: str) -> str:
    copy = f"{file}.{revision}.{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    return copy


def make_first_key(db: Database, key_file: Path) -> bool:
    """At the very first start a tenant and a key for all it may do, its secret in `key_file`; else False."""
    with db.sessions.begin() as session:
        if access.tenant_exists(session):
            return False
        _, secret = access.create_key(session, TENANT, list(Scope))
        # Before the commit: a key whose secret nobody has would be worse than a file that fits no key.
        _write_private(key_file, secret + "\n")
    return True


def kept_session_secret(file: Path) -> str:
    """What signs the cookies of the pages: the same at each start, so that a restart signs nobody out."""
    if not file.exists():
        _write_private(file, secrets.token_urlsafe(32) + "\n")
    return file.read_text().strip()


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)
