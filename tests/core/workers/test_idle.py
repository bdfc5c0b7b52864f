from __future__ import annotations

from sqlalchemy import update

from core.database import Database, db_now, later
from core.tables import Job, Worker
from core.workers import service as workers
from tests.factories import claim_job, make_job


def test_idle_are_those_that_live_and_whose_job_nobody_renews(database: Database) -> None:
    def idle() -> list[str]:
        with database.readers.begin() as session:
            return [worker.name for worker in workers.idle(session)]

    with database.sessions.begin() as session:
        for name in ("busy", "dead", "free"):
            workers.announce(session, name=name, queue="cpu", devices=1, threads=1, hardware={})
        claim_job(session, make_job(session), worker_name="busy")
        silent = later(db_now(), -61)
        session.execute(update(Worker).where(Worker.name == "dead").values(heartbeat_at=silent))
    assert idle() == ["free"]

    # It died and is back under its name, while the job of its former life waits for its lease to run out.
    with database.sessions.begin() as session:
        session.execute(update(Job).values(heartbeat_at=later(db_now(), -21)))
    assert idle() == ["busy", "free"]
