"""One engine, two kinds of session, one clock: the same code on SQLite and Postgres."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Connection,
    DateTime,
    Dialect,
    Engine,
    Float,
    FunctionElement,
    TypeDecorator,
    create_engine,
    event,
    make_url,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import SQLCoreOperations
from sqlalchemy.types import TypeEngine

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SQLITE_BUSY_TIMEOUT_MS = 30_000
_ESCAPED_NUL = "\\u0000"
_NUL_IN_JSON = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")


@dataclass(frozen=True)
class Database:
    """`sessions` for everything that may write, `readers` for the rest: those refuse writes.

    `lookups` is for reads of a single statement, which is its own transaction: no BEGIN, no COMMIT.
    On SQLite a writer's transaction starts with BEGIN IMMEDIATE, so that it waits its turn at the start
    instead of failing in the middle; a reader's is deferred and waits for nobody.
    """

    engine: Engine
    sessions: sessionmaker[Session]
    readers: sessionmaker[Session]
    lookups: Engine

    def check(self) -> None:
        """Raises sqlalchemy.exc.SQLAlchemyError unless the database answers now; for readiness."""
        with self.readers.begin() as session:
            session.execute(select(1))

    def dispose(self) -> None:
        """Closes every pooled connection."""
        self.engine.dispose()


def connect(url: str, *, lock_seconds: float = 30.0) -> Database:
    """Nothing is opened before the first session. `postgres://` and `postgresql://` mean psycopg 3.

    `lock_seconds`: Postgres ends a transaction whose process has said nothing for so long, with its locks.
    """
    is_sqlite = make_url(url).get_backend_name() == "sqlite"
    engine = _sqlite_engine(url) if is_sqlite else _postgres_engine(url, lock_seconds)
    readers = engine.execution_options(foretrain_read_only=True, **_read_only_options(engine))
    return Database(
        engine=engine,
        sessions=sessionmaker(engine, expire_on_commit=False),
        readers=sessionmaker(readers, expire_on_commit=False),
        lookups=engine.execution_options(foretrain_single=True, **_single_options(engine)),
    )


def _read_only_options(engine: Engine) -> dict[str, bool]:
    return {"postgresql_readonly": True} if engine.dialect.name == "postgresql" else {}


def _single_options(engine: Engine) -> dict[str, str]:
    # SQLite's driver is in that mode anyhow, and SQLAlchemy would not leave it so.
    return {"isolation_level": "AUTOCOMMIT"} if engine.dialect.name == "postgresql" else {}


def _sqlite_engine(url: str) -> Engine:
    database = make_url(url).database
    if database:
        Path(database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(
        url,
        json_serializer=dump_json,
        hide_parameters=True,
        connect_args={"timeout": SQLITE_BUSY_TIMEOUT_MS / 1000},
    )
    event.listen(engine, "connect", _prepare_sqlite_connection)
    event.listen(engine, "begin", _begin_on_sqlite)
    return engine


def _prepare_sqlite_connection(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    # The driver's own control opens no transaction before a SELECT or DDL; `_begin_on_sqlite` does.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {SQLITE_BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.close()


def _begin_on_sqlite(connection: Connection) -> None:
    options = connection.get_execution_options()
    if options.get("foretrain_single", False):
        return
    read_only = options.get("foretrain_read_only", False)
    connection.exec_driver_sql(f"PRAGMA query_only = {'ON' if read_only else 'OFF'}")
    connection.exec_driver_sql("BEGIN DEFERRED" if read_only else "BEGIN IMMEDIATE")


def _postgres_engine(url: str, lock_seconds: float) -> Engine:
    target = make_url(url.replace("postgres://", "postgresql://", 1)).set(drivername="postgresql+psycopg")
    return create_engine(
        target,
        json_serializer=dump_json,
        # An error's text is logged; what customers sent must not stand in it.
        hide_parameters=True,
        pool_pre_ping=True,
        pool_size=10,
        max_overflow=20,
        connect_args={
            "connect_timeout": 5,
            # A server that is gone without a word is noticed before the kernel's quarter of an hour is over.
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 30_000,
            # A frozen process must not keep its row locks: the scheduler skips those rows meanwhile.
            # An answered request is a promise, even where the server by default forgets its last commits.
            # A plan that was kept from when a table was small reads a million rows where an index has one.
            "options": "-c timezone=UTC -c lock_timeout=30s -c synchronous_commit=on "
            "-c plan_cache_mode=force_custom_plan "
            f"-c idle_in_transaction_session_timeout={round(lock_seconds * 1000)}",
        },
    )


def see_one_moment(session: Session) -> None:
    """All reads of this transaction see the database as of the first of them; SQLite's always do.

    RuntimeError where, on Postgres, it has begun to read.
    """
    if session.get_bind().dialect.name == "postgresql":
        level = "REPEATABLE READ"
        connection = session.connection(execution_options={"isolation_level": level})
        # For one that is open already, the session takes no options.
        if connection.get_execution_options().get("isolation_level") != level:
            raise RuntimeError("the transaction has read before: it cannot be of one moment any more")


def insert_or(session: Session, table: type[Any]) -> postgresql.Insert | sqlite.Insert:
    """An INSERT that knows ON CONFLICT, in the session's dialect."""
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    return insert(table)


def dump_json(value: Any) -> str:
    """JSON that both databases take: null for what is not finite, U+FFFD for NUL, no lone surrogates."""
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    except ValueError:
        text = json.dumps(_finite(value), allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    # Asked first, for the pattern takes four times as long as the JSON itself.
    return clean_text(_NUL_IN_JSON.sub(r"\1\\ufffd", text) if _ESCAPED_NUL in text else text)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    return [_finite(part) for part in value] if isinstance(value, list | tuple) else value


def clean_text(text: str) -> str:
    """Text that both databases take: NUL and lone surrogates, which a log may hold, are replaced."""
    return text.replace("\x00", "\ufffd").encode(errors="replace").decode()


JsonColumn = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC datetime; on SQLite whole microseconds since 1970, for there DateTime reads back naive."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        kind: TypeEngine[Any] = BigInteger() if dialect.name == "sqlite" else DateTime(timezone=True)
        return dialect.type_descriptor(kind)

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a datetime without a time zone")
        if dialect.name == "sqlite":
            return (value - EPOCH) // timedelta(microseconds=1)
        return value.astimezone(UTC)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if dialect.name == "sqlite":
            return EPOCH + timedelta(microseconds=int(value))
        instant: datetime = value
        return instant.astimezone(UTC)


class db_now(FunctionElement[datetime]):  # noqa: N801  # reads as the SQL function it is
    """The database's clock at the moment the row is touched, not at the start of the transaction."""

    type = UtcDateTime()
    inherit_cache = True


class later(FunctionElement[datetime]):  # noqa: N801
    """`later(instant, seconds)`: the instant that many seconds later; both may be columns."""

    type = UtcDateTime()
    inherit_cache = True

    def __init__(self, instant: SQLCoreOperations[Any], seconds: SQLCoreOperations[Any] | float) -> None:
        super().__init__(instant, seconds)


class seconds_between(FunctionElement[float]):  # noqa: N801
    """`seconds_between(start, end)`: end minus start, in seconds."""

    type = Float()
    inherit_cache = True


def read_clock(session: Session) -> datetime:
    """The database's time, for what is computed here."""
    return session.execute(select(db_now())).scalar_one()


@compiles(db_now, "postgresql")
def _postgres_now(_element: db_now, _compiler: SQLCompiler, **_kw: Any) -> str:
    return "clock_timestamp()"


@compiles(db_now, "sqlite")
def _sqlite_now(_element: db_now, _compiler: SQLCompiler, **_kw: Any) -> str:
    return "(CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER) * 1000)"


@compiles(later, "postgresql")
def _postgres_later(element: later, compiler: SQLCompiler, **kw: Any) -> str:
    instant, seconds = (compiler.process(part, **kw) for part in element.clauses)
    return f"({instant} + make_interval(secs => CAST({seconds} AS double precision)))"


@compiles(later, "sqlite")
def _sqlite_later(element: later, compiler: SQLCompiler, **kw: Any) -> str:
    instant, seconds = (compiler.process(part, **kw) for part in element.clauses)
    return f"({instant} + CAST({seconds} * 1000000 AS INTEGER))"


@compiles(seconds_between, "postgresql")
def _postgres_seconds_between(element: seconds_between, compiler: SQLCompiler, **kw: Any) -> str:
    start, end = (compiler.process(part, **kw) for part in element.clauses)
    return f"CAST(EXTRACT(EPOCH FROM {end} - {start}) AS double precision)"


@compiles(seconds_between, "sqlite")
def _sqlite_seconds_between(element: seconds_between, compiler: SQLCompiler, **kw: Any) -> str:
    start, end = (compiler.process(part, **kw) for part in element.clauses)
    return f"(({end} - {start}) / 1000000.0)"
