"""A real application over a real database and real storage; only the broker is a list."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from fastapi import FastAPI
from sqlalchemy import func, select
from starlette.testclient import TestClient

from api.main import create_app
from api.resources import Queue
from core.access.scopes import Scope
from core.access.service import create_key
from core.database import Database, connect
from core.settings import Settings
from core.storage import ObjectStorage, open_storage
from core.tables import Dataset, IdempotencyKey, Job, Upload
from tests.conftest import S3_KEY_ID, S3_SECRET, make_settings

EVERYTHING = tuple(Scope)


@pytest.fixture(scope="session", autouse=True)
def plain_log() -> Iterator[None]:
    """Structlog's own default draws each traceback for seconds, with all its local values."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(),
        ]
    )
    yield
    structlog.reset_defaults()


@dataclass
class Recorder:
    """In the broker's place: remembers which queues were nudged."""

    nudged: list[str] = field(default_factory=list)
    answers: bool = True

    def queue(self) -> Queue:
        return Queue(nudge=self.nudged.append, ping=lambda: self.answers)


@dataclass
class RunningApi:
    """The application, its first tenant's client, and what lies below it, to look at and to prepare."""

    app: FastAPI
    client: TestClient
    db: Database
    storage: ObjectStorage
    settings: Settings
    broker: Recorder
    tenant: str = "acme"

    def key(self, *scopes: Scope, tenant: str = "acme") -> str:
        """A new key's secret."""
        with self.db.sessions.begin() as session:
            return create_key(session, tenant, scopes or EVERYTHING)[1]

    def signed_in(self) -> RunningApi:
        """The same, its client with a key of the first tenant."""
        self.client.headers["Authorization"] = f"Bearer {self.key()}"
        return self

    def client_of(self, tenant: str, *scopes: Scope) -> TestClient:
        """A client with a new key of `tenant`."""
        return self.client_with(self.key(*scopes, tenant=tenant))

    def client_with(self, key: str | None) -> TestClient:
        """A client that sends `key`, or none."""
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        client = TestClient(self.app, headers=headers, raise_server_exceptions=False)
        # The first client has started the application; this one shares its event loop.
        client.portal = self.client.portal
        return client

    def leftovers(self) -> dict[str, int]:
        """What lies in database and storage: nothing, after a refused request."""
        with self.db.readers.begin() as session:
            counts = {
                table.__tablename__: session.scalar(select(func.count()).select_from(table)) or 0
                for table in (Dataset, Upload, Job, IdempotencyKey)
            }
        return counts | {"objects": sum(1 for _ in self.storage.list("tenants"))}


NOTHING = {"datasets": 0, "uploads": 0, "jobs": 0, "idempotency_keys": 0, "objects": 0}


@contextmanager
def running(settings: Settings) -> Iterator[RunningApi]:
    """The application over `settings`; its client has no key yet."""
    broker = Recorder()
    app = create_app(settings, broker.queue())
    db = connect(settings.database_url)
    storage = open_storage(settings.storage_url, access_key_id=S3_KEY_ID, secret_access_key=S3_SECRET)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield RunningApi(app, client, db, storage, settings, broker)
    db.dispose()


@pytest.fixture
def api(sqlite_url: str, tmp_path: Path) -> Iterator[RunningApi]:
    """On SQLite and a folder, where these make no difference."""
    with running(make_settings(tmp_path, database_url=sqlite_url)) as started:
        yield started.signed_in()


@pytest.fixture
def any_api(database_url: str, tmp_path: Path) -> Iterator[RunningApi]:
    """Once on SQLite, once on Postgres."""
    with running(make_settings(tmp_path, database_url=database_url)) as started:
        yield started.signed_in()


@pytest.fixture(params=["folder", "s3"])
def stored_api(request: pytest.FixtureRequest, sqlite_url: str, tmp_path: Path) -> Iterator[RunningApi]:
    """Once with a folder, once with S3."""
    chosen: dict[str, Any] = {"database_url": sqlite_url}
    if request.param == "s3":
        chosen |= {
            "storage_url": request.getfixturevalue("s3_url"),
            "storage_access_key_id": S3_KEY_ID,
            "storage_secret_access_key": S3_SECRET,
        }
    with running(make_settings(tmp_path, **chosen)) as started:
        yield started.signed_in()


def fleet_csv(
    servers: int = 3, steps: int = 60, columns: tuple[str, ...] = ("cpu_percent", "memory_percent")
) -> bytes:
    """A small fleet at five minutes, every value different."""
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(["timestamp", "server", *columns])
    start = datetime(2026, 1, 1, tzinfo=UTC)
    for server in range(servers):
        for step in range(steps):
            stamp = (start + timedelta(minutes=5 * step)).isoformat()
            values = [round(20 + server + step * 0.37 + place, 2) for place in range(len(columns))]
            writer.writerow([stamp, f"web-{server}", *values])
    return table.getvalue().encode()
