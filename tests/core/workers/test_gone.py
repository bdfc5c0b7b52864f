from __future__ import annotations

from sqlalchemy import select, update

from core.database import Database, db_now, later
from core.tables import Worker
from core.workers import service as workers
from core.workers.service import GONE_SECONDS
from tests.factories import claim_job, make_job


def test_a_worker_silent_for_a_day_is_forgotten_unless_it_holds_a_job(database: Database) -> None:
    with database.sessions.begin() as session:
        for name in ("gone", "holding", "quiet"):
            workers.announce(session, name=name, queue="cpu", devices=1, threads=1, hardware={})
        claim_job(session, make_job(session), worker_name="holding")
        for names, seconds in ((("gone", "holding"), GONE_SECONDS + 60), (("quiet",), GONE_SECONDS - 60)):
            since = later(db_now(), -seconds)
            session.execute(update(Worker).where(Worker.name.in_(names)).values(heartbeat_at=since))
    with database.sessions.begin() as session:
        assert workers.forget_gone(session) == ["gone"]
    with database.readers.begin() as session:
        assert session.scalars(select(Worker.name).order_by(Worker.name)).all() == ["holding", "quiet"]
