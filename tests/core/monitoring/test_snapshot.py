"""One look at the database is of one moment."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select

from core.database import Database, connect, see_one_moment
from core.tables import Tenant
from tests.factories import make_tenant

COUNT = select(func.count()).select_from(Tenant)


def test_what_is_committed_between_two_reads_is_not_seen(database: Database) -> None:
    with database.readers.begin() as session:
        see_one_moment(session)
        before = session.scalar(COUNT)
        with database.sessions.begin() as other:
            make_tenant(other)
        assert session.scalar(COUNT) == before

    with database.readers.begin() as session:
        assert session.scalar(COUNT) == (before or 0) + 1


@pytest.mark.filterwarnings("ignore:Connection is already established")
def test_a_transaction_that_has_read_before_is_refused(postgres_url: str) -> None:
    db = connect(postgres_url)
    with db.readers.begin() as session:
        session.scalar(COUNT)
        with pytest.raises(RuntimeError, match="has read before"):
            see_one_moment(session)
    db.dispose()
