"""What waits in each queue and who is there for it, for a reader's session."""

from __future__ import annotations

from sqlalchemy.orm import Session

from core.jobs import queries
from core.jobs.schemas import Queues, QueueState
from core.workers import service as workers
from core.workers.capacity import QUEUES, serving


def read_queues(session: Session) -> Queues:
    """Every queue there is, whether anything waits in it or not."""
    counts, living, idle = queries.queue_counts(session), workers.live(session), workers.idle(session)
    states = []
    for name in QUEUES:
        queued, running, oldest_seconds = counts.get(name, (0, 0, None))
        states.append(
            QueueState(
                name=name,
                queued=queued,
                running=running,
                oldest_seconds=None if oldest_seconds is None else max(0.0, oldest_seconds),
                workers=len(serving(living, name)),
                idle_workers=len(serving(idle, name)),
            )
        )
    return Queues(queues=states)
