"""Which workers are alive, and what they have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from core.database import db_now, insert_or, later
from core.tables import Worker

LIVE_SECONDS = 60.0


def announce(
    session: Session, *, name: str, queue: str, devices: int, threads: int, hardware: dict[str, Any]
) -> None:
    """Notes a worker, or that it still lives; call it at start and every few seconds, busy or not."""
    facts = {"queue": queue, "devices": devices, "threads": threads, "hardware": hardware}
    session.execute(
        insert_or(session, Worker)
        .values(name=name, **facts)
        .on_conflict_do_update(index_elements=[Worker.name], set_={**facts, "heartbeat_at": db_now()})
    )


def retire(session: Session, name: str) -> None:
    """Forgets a worker that stops in good order."""
    session.execute(delete(Worker).where(Worker.name == name))


def live(session: Session) -> Sequence[Worker]:
    """Those heard of within the last minute, by name."""
    heard_of = later(Worker.heartbeat_at, LIVE_SECONDS) > db_now()
    return session.scalars(select(Worker).where(heard_of).order_by(Worker.name)).all()
