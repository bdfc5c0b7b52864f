from __future__ import annotations

import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from core import migrations
from core.access import service as access
from core.access.scopes import Scope
from core.database import Database
from foretrain.first_start import bring_up_to_date, make_first_key
from foretrain.refusals import Refusal


def set_revision(path: Path, revision: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))


def test_an_empty_folder_gets_its_tables(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'foretrain.db'}"

    bring_up_to_date(url)

    assert migrations.current(url) == migrations.head()


def test_a_database_of_this_release_is_left_as_it_is(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'foretrain.db'}"
    bring_up_to_date(url)

    bring_up_to_date(url)

    assert [path.name for path in tmp_path.glob("foretrain.db.*")] == []


def test_an_older_database_is_copied_aside_with_all_its_rows_before_it_is_migrated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "foretrain.db"
    url = f"sqlite:///{file}"
    bring_up_to_date(url)
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("CREATE TABLE notes (text)")
        connection.execute("INSERT INTO notes VALUES ('kept')")
    older = migrations.head()
    monkeypatch.setattr(migrations, "head", lambda: "9999")  # as if a later release had one more

    bring_up_to_date(url)

    [copy] = tmp_path.glob(f"foretrain.db.{older}.*")
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("SELECT text FROM notes").fetchall() == [("kept",)]


def test_a_database_of_a_later_release_is_refused_and_not_touched(tmp_path: Path) -> None:
    file = tmp_path / "foretrain.db"
    url = f"sqlite:///{file}"
    bring_up_to_date(url)
    set_revision(file, "9999")

    with pytest.raises(Refusal, match="later release"):
        bring_up_to_date(url)

    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("9999",)]


def test_the_first_key_opens_everything_and_only_its_owner_reads_it(sqlite: Database, tmp_path: Path) -> None:
    file = tmp_path / "api_key"

    assert make_first_key(sqlite, file)

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    principal = access.authenticate(sqlite, file.read_text().strip())
    assert principal.scopes == frozenset(Scope)


def test_a_second_start_makes_no_second_key(sqlite: Database, tmp_path: Path) -> None:
    make_first_key(sqlite, tmp_path / "api_key")
    before = (tmp_path / "api_key").read_text()

    assert not make_first_key(sqlite, tmp_path / "api_key")

    assert (tmp_path / "api_key").read_text() == before
    with sqlite.readers.begin() as session:
        assert session.scalar(text("SELECT count(*) FROM api_keys")) == 1
