"""What every area's tests stand on: real databases, a real broker, real object storage, nothing installed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import NullPool, create_engine, make_url, text

from core import migrations
from core.database import Database, connect
from core.settings import Settings
from core.storage import ObjectStorage, create_bucket, open_storage
from core.tables import Table
from tests.servers import run_postgres, run_s3, run_valkey

# A session left over from a test that failed must not hold its locks against the next.
LEAVE_ME_ALONE = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
S3_KEY_ID, S3_SECRET = "test", "testing"  # moto takes any


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a superuser's database: the tests' own server, or FORETRAIN_TEST_DATABASE_URL."""
    given = os.environ.get("FORETRAIN_TEST_DATABASE_URL")
    if given:
        yield make_url(given).set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
        return
    with run_postgres() as url:
        yield url


@pytest.fixture(scope="session")
def migrated_postgres_url(postgres_server: str) -> Iterator[str]:
    """One migrated database that the tests hand on, emptied."""
    with new_database(postgres_server) as url:
        migrations.upgrade(url)
        yield url


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated file to copy."""
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    migrations.upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """A fresh, migrated SQLite database."""
    path = tmp_path / "foretrain.db"
    shutil.copyfile(sqlite_template, path)
    return f"sqlite:///{path}"


@pytest.fixture
def postgres_url(migrated_postgres_url: str) -> str:
    """A migrated Postgres database without a row: emptying one is ten times as fast as making one."""
    engine = create_engine(migrated_postgres_url, poolclass=NullPool)
    tables = ", ".join(table.name for table in Table.metadata.sorted_tables)
    with engine.begin() as connection:
        connection.execute(text(LEAVE_ME_ALONE))
        connection.execute(text(f"TRUNCATE {tables}"))
    return migrated_postgres_url


@pytest.fixture
def empty_postgres_url(postgres_server: str) -> Iterator[str]:
    """A Postgres database without tables."""
    with new_database(postgres_server) as url:
        yield url


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def database_url(request: pytest.FixtureRequest) -> str:
    """Each test once on SQLite and once on Postgres, which `make test-quick` leaves out."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A fresh, migrated database of either kind."""
    db = connect(database_url)
    yield db
    db.dispose()


@pytest.fixture
def sqlite(sqlite_url: str) -> Iterator[Database]:
    """A fresh, migrated database, where the kind makes no difference."""
    db = connect(sqlite_url)
    yield db
    db.dispose()


@pytest.fixture
def postgres(postgres_url: str) -> Iterator[Database]:
    """A fresh, migrated database, where it must be Postgres."""
    db = connect(postgres_url)
    yield db
    db.dispose()


@contextmanager
def new_database(server: str) -> Iterator[str]:
    """The URL of a database without tables; it is dropped in the end."""
    name = f"foretrain_test_{uuid4().hex[:12]}"
    _administer(server, f'CREATE DATABASE "{name}"')
    yield make_url(server).set(database=name).render_as_string(hide_password=False)
    _administer(server, f'DROP DATABASE "{name}" WITH (FORCE)')


def _administer(server: str, statement: str) -> None:
    engine = create_engine(server, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(text(statement))


@pytest.fixture
def broker_url() -> Iterator[str]:
    """An empty Valkey of the test's own: it starts in a few hundredths of a second."""
    with run_valkey() as url:
        yield url


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of an S3 endpoint."""
    with run_s3() as address:
        yield address


@pytest.fixture
def s3_url(s3_server: str) -> str:
    """A fresh bucket, and a prefix in it. Its credentials are S3_KEY_ID and S3_SECRET."""
    return new_bucket(s3_server)


def new_bucket(server: str) -> str:
    """The URL of a prefix in it, on that S3 endpoint."""
    url = f"s3://bucket-{uuid4().hex[:12]}/some/prefix?endpoint={server}&region=us-east-1&allow_http=true"
    create_bucket(url, access_key_id=S3_KEY_ID, secret_access_key=S3_SECRET)
    return url


@pytest.fixture
def folder_storage(tmp_path: Path) -> ObjectStorage:
    """Objects in a folder."""
    return open_storage((tmp_path / "objects").as_uri())


@pytest.fixture
def s3_storage(s3_url: str) -> ObjectStorage:
    """Objects in a bucket."""
    return open_storage(s3_url, access_key_id=S3_KEY_ID, secret_access_key=S3_SECRET)


@pytest.fixture(params=["folder", "s3"])
def storage(request: pytest.FixtureRequest) -> ObjectStorage:
    """Each test once on a folder and once on S3."""
    chosen: ObjectStorage = request.getfixturevalue(f"{request.param}_storage")
    return chosen


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """One machine's settings below the test's folder, with nothing taken from the environment."""
    return make_settings(tmp_path)


def make_settings(data_dir: Path, **chosen: Any) -> Settings:
    """Settings below `data_dir`; an event stream of a job that goes on ends before a test gets impatient."""
    return Settings(data_dir=data_dir, **{"event_stream_seconds": 0.2} | chosen)
