from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import func, literal, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError, StatementError

from core.database import (
    Database,
    UtcDateTime,
    connect,
    db_now,
    dump_json,
    later,
    read_clock,
    seconds_between,
)
from core.tables import Dataset, Job, Tenant
from tests.factories import make_dataset, make_job, make_tenant
from worker.outage import DATABASE_OUTAGE


def pragma(db: Database, name: str) -> object:
    with db.sessions.begin() as session:
        return session.execute(text(f"PRAGMA {name}")).scalar_one()


@pytest.mark.parametrize(
    ("name", "value"),
    [("foreign_keys", 1), ("journal_mode", "wal"), ("synchronous", 2), ("busy_timeout", 30_000)],
)
def test_sqlite_is_set_up_on_every_connection(sqlite: Database, name: str, value: object) -> None:
    assert pragma(sqlite, name) == value


def test_a_writer_on_sqlite_holds_the_lock_from_its_first_moment(sqlite: Database) -> None:
    entered: list[float] = []

    def enter() -> None:
        with sqlite.sessions.begin() as session:
            session.execute(select(1))
            entered.append(time.monotonic())

    with sqlite.sessions.begin() as session:
        session.execute(select(1))
        other = threading.Thread(target=enter)
        other.start()
        other.join(timeout=0.3)
        assert entered == []
    other.join()
    assert len(entered) == 1


def test_a_reader_on_sqlite_waits_for_no_writer(sqlite: Database) -> None:
    with sqlite.sessions.begin() as writer:
        make_tenant(writer)
        with sqlite.readers.begin() as reader:
            assert reader.scalar(select(func.count()).select_from(Tenant)) == 0


def test_a_transaction_on_sqlite_covers_ddl(sqlite: Database) -> None:
    def create_and_fail() -> None:
        with sqlite.engine.begin() as connection:
            connection.execute(text("CREATE TABLE half (id INTEGER)"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        create_and_fail()

    with sqlite.engine.begin() as connection:
        names = connection.execute(text("SELECT name FROM sqlite_master")).scalars().all()
    assert "half" not in names


def test_a_reader_cannot_write(database: Database) -> None:
    with pytest.raises(DBAPIError), database.readers.begin() as session:
        make_tenant(session)

    with database.sessions.begin() as session:
        make_tenant(session)


def test_a_foreign_key_must_exist(database: Database) -> None:
    with pytest.raises(IntegrityError), database.sessions.begin() as session:
        make_dataset(session, Tenant(id="ten_nobody"))


def test_times_come_back_aware_and_in_utc(database: Database) -> None:
    berlin = datetime(2026, 7, 1, 12, 0, 0, 123456, tzinfo=timezone(timedelta(hours=2)))

    with database.sessions.begin() as session:
        back = session.execute(select(literal(berlin, UtcDateTime()))).scalar_one()

    assert back == berlin
    assert back.tzinfo is UTC


def test_a_naive_time_is_refused(database: Database) -> None:
    with pytest.raises(StatementError, match="time zone"), database.sessions.begin() as session:
        session.execute(select(literal(datetime(2026, 7, 1), UtcDateTime())))  # noqa: DTZ001


def test_the_databases_clock_is_utc_and_moves_within_a_transaction(database: Database) -> None:
    with database.sessions.begin() as session:
        first = read_clock(session)
        deadline = time.monotonic() + 5
        while read_clock(session) == first:
            assert time.monotonic() < deadline

    assert abs(first - datetime.now(UTC)) < timedelta(seconds=5)


def test_instants_are_shifted_and_subtracted_by_the_database(database: Database) -> None:
    start = literal(datetime(2026, 1, 1, tzinfo=UTC), UtcDateTime())

    with database.sessions.begin() as session:
        end, between = session.execute(
            select(later(start, 90.5), seconds_between(start, later(start, literal(12))))
        ).one()

    assert end == datetime(2026, 1, 1, 0, 1, 30, 500_000, tzinfo=UTC)
    assert between == pytest.approx(12.0)


def test_a_lease_can_be_compared_with_the_clock_in_sql(database: Database) -> None:
    with database.sessions.begin() as session:
        assert session.execute(select(later(db_now(), 5) > db_now())).scalar_one()
        assert not session.execute(select(later(db_now(), -5) > db_now())).scalar_one()


def test_json_columns_keep_what_a_customer_may_send(database: Database) -> None:
    spec = {"text": "ümlaut \\u0000 \x00", "none": None, "big": 2**40}

    with database.sessions.begin() as session:
        dataset = make_dataset(session)
        dataset.mapping = spec
    with database.readers.begin() as session:
        back = session.get_one(Dataset, dataset.id).mapping

    assert back == {"text": "ümlaut \\u0000 \ufffd", "none": None, "big": 2**40}


def test_json_without_a_value_is_null_in_sql(database: Database) -> None:
    with database.sessions.begin() as session:
        job = make_job(session)
        assert session.scalar(select(func.count()).where(Job.id == job.id, Job.summary.is_(None))) == 1


def test_json_has_null_for_what_is_not_finite() -> None:
    assert dump_json({"loss": [float("nan"), 1.5], "deep": {"best": float("-inf")}}) == (
        '{"loss":[null,1.5],"deep":{"best":null}}'
    )


def test_a_finished_status_needs_its_time(database: Database) -> None:
    with database.sessions.begin() as session:
        job = make_job(session)
    with pytest.raises(IntegrityError), database.sessions.begin() as session:
        session.execute(text("UPDATE jobs SET status = 'succeeded' WHERE id = :id"), {"id": job.id})


def test_a_status_that_does_not_exist_is_refused(database: Database) -> None:
    with database.sessions.begin() as session:
        job = make_job(session)
    with pytest.raises(IntegrityError), database.sessions.begin() as session:
        session.execute(text("UPDATE jobs SET status = 'resting' WHERE id = :id"), {"id": job.id})


def test_the_locks_of_a_process_that_stands_still_are_released(postgres_url: str) -> None:
    frozen, other = connect(postgres_url, lock_seconds=0.2), connect(postgres_url)
    with other.sessions.begin() as session:
        make_tenant(session)
    standing_still = frozen.sessions()
    standing_still.scalars(select(Tenant).with_for_update()).one()

    with other.sessions.begin() as session:
        session.scalars(select(Tenant).with_for_update()).one()

    with pytest.raises(DATABASE_OUTAGE):
        standing_still.execute(select(1))
    standing_still.close()
    frozen.dispose()
    other.dispose()


def test_commits_are_durable_though_the_server_s_default_is_not(postgres_url: str) -> None:
    # The tests' own server is started with synchronous_commit=off.
    db = connect(postgres_url)
    with db.sessions.begin() as session:
        assert session.scalar(text("SHOW synchronous_commit")) == "on"
    db.dispose()


def test_the_folder_of_a_sqlite_file_is_made(tmp_path: Path) -> None:
    db = connect(f"sqlite:///{tmp_path / 'new' / 'deeper' / 'x.db'}")

    with db.sessions.begin() as session:
        assert session.execute(select(1)).scalar_one() == 1
    db.dispose()
