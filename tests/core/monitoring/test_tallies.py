from __future__ import annotations

import threading

import pytest
from sqlalchemy import func, select

from core.database import Database
from core.monitoring import tallies
from core.monitoring.tallies import BEYOND, Key, Tallied, Total
from core.tables import Tally, TallyEntry


def totals(db: Database) -> dict[Key, Total]:
    with db.readers.begin() as session:
        return tallies.read(session)


def fold(db: Database, limit: int = tallies.FOLDED_AT_ONCE) -> int:
    with db.sessions.begin() as session:
        return tallies.fold(session, limit)


def test_folding_moves_entries_into_totals_and_changes_no_count(database: Database) -> None:
    with database.sessions.begin() as session:
        tallies.note(session, Tallied.ATTEMPT, "succeeded", seconds=12.5)
        tallies.note(session, Tallied.ATTEMPT, "succeeded", seconds=15.0)
        tallies.note(session, Tallied.JOB, "failed", "diverged", seconds=1e9)
        tallies.note(session, Tallied.LEASE_EXPIRED, times=3)
    before = totals(database)

    assert fold(database) == 6

    assert totals(database) == before
    assert before == {
        Key("attempt", "succeeded", "", 15): Total(2, 27.5),
        Key("job", "failed", "diverged", BEYOND): Total(1, 1e9),
        Key("lease_expired"): Total(3, 0.0),
    }
    with database.readers.begin() as session:
        assert session.scalar(select(func.count()).select_from(TallyEntry)) == 0


def test_what_is_noted_later_is_added_to_the_totals(database: Database) -> None:
    for _ in range(2):
        with database.sessions.begin() as session:
            tallies.note(session, Tallied.FENCED, times=2)
        fold(database)

    with database.sessions.begin() as session:
        tallies.note(session, Tallied.FENCED)
    assert totals(database) == {Key("fenced"): Total(5, 0.0)}


def test_nothing_is_counted_of_a_transaction_that_is_rolled_back(sqlite: Database) -> None:
    with sqlite.sessions() as session:
        tallies.note(session, Tallied.FENCED)
        session.rollback()

    assert totals(sqlite) == {}


def test_noting_nothing_writes_nothing(sqlite: Database) -> None:
    with sqlite.sessions.begin() as session:
        tallies.note(session, Tallied.LEASE_EXPIRED, times=0)

    assert totals(sqlite) == {}


@pytest.mark.slow
def test_schedulers_that_fold_at_once_count_each_entry_once(postgres: Database) -> None:
    with postgres.sessions.begin() as session:
        for outcome in ("succeeded", "failed", "cancelled"):
            tallies.note(session, Tallied.ATTEMPT, outcome, seconds=3.0, times=50)
    gate = threading.Barrier(4)

    def fold_all() -> None:
        gate.wait()
        while fold(postgres, limit=7):
            pass

    threads = [threading.Thread(target=fold_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    with postgres.readers.begin() as session:
        rows = session.execute(select(Tally.outcome, Tally.count, Tally.seconds)).all()
    assert sorted(rows) == [("cancelled", 50, 150.0), ("failed", 50, 150.0), ("succeeded", 50, 150.0)]
