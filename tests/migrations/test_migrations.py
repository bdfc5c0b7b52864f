from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import inspect, text

from core import migrations
from core.database import connect


@pytest.fixture(params=["sqlite", "postgres"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'empty.db'}"
    url: str = request.getfixturevalue("empty_postgres_url")
    return url


def tables(url: str) -> set[str]:
    db = connect(url)
    names = set(inspect(db.engine).get_table_names())
    db.dispose()
    return names - {"alembic_version"}


def test_head_and_back_to_base_leaves_nothing(empty_url: str) -> None:
    migrations.upgrade(empty_url)
    assert "jobs" in tables(empty_url)

    migrations.downgrade(empty_url, "base")
    assert tables(empty_url) == set()
    assert migrations.current(empty_url) is None

    migrations.upgrade(empty_url)
    assert migrations.current(empty_url) == migrations.head()


def test_the_migrated_schema_is_the_one_of_the_tables(empty_url: str) -> None:
    migrations.upgrade(empty_url)

    migrations.differences(empty_url)


def test_every_constraint_has_a_name(empty_url: str) -> None:
    migrations.upgrade(empty_url)

    db = connect(empty_url)
    found = inspect(db.engine)
    for table in tables(empty_url):
        names = [found.get_pk_constraint(table)["name"]]
        names += [one["name"] for one in found.get_foreign_keys(table)]
        names += [one["name"] for one in found.get_check_constraints(table)]
        names += [one["name"] for one in found.get_unique_constraints(table)]
        assert all(names), table
    assert {"ck_jobs_status", "ck_jobs_ended_has_time"} <= {
        constraint["name"] for constraint in found.get_check_constraints("jobs")
    }
    db.dispose()


def test_migrating_twice_changes_nothing(empty_url: str) -> None:
    migrations.upgrade(empty_url)
    migrations.upgrade(empty_url)

    assert migrations.current(empty_url) == migrations.head()


def test_a_failed_migration_leaves_nothing_behind(empty_url: str) -> None:
    db = connect(empty_url)
    with db.engine.begin() as connection:
        connection.execute(text("CREATE TABLE jobs (id TEXT)"))
    db.dispose()

    with pytest.raises(Exception, match="jobs"):
        migrations.upgrade(empty_url)

    assert tables(empty_url) == {"jobs"}


def test_a_database_of_a_later_release_is_known_as_such(empty_url: str) -> None:
    migrations.upgrade(empty_url)
    assert not migrations.is_newer_than_us(empty_url)
    db = connect(empty_url)
    with db.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    db.dispose()

    assert migrations.is_newer_than_us(empty_url)


@pytest.mark.slow
def test_processes_that_migrate_at_once_do_it_once(empty_url: str) -> None:
    command = [
        sys.executable,
        "-c",
        "import sys; from core import migrations; migrations.upgrade(sys.argv[1])",
    ]

    started = [subprocess.Popen([*command, empty_url]) for _ in range(3)]

    assert [process.wait() for process in started] == [0, 0, 0]
    assert migrations.current(empty_url) == migrations.head()
