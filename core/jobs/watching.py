"""Jobs that somebody waits for: how they stand now, all in one statement, and their latest events."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from core.database import Database
from core.jobs import queries
from core.jobs.lifecycle import JobStatus
from core.jobs.schemas import EventRead, Progress
from core.tables import Job

# Built once, as in `polling`; by primary key, whatever the table holds.
_SELECT_STATES = select(Job.id, Job.status, Job.revision, Job.phase, Job.last_seq, Job.progress).where(
    Job.id.in_(bindparam("job_ids", expanding=True))
)


@dataclass(frozen=True)
class WatchedState:
    """What of a job a waiting client is woken for."""

    status: JobStatus
    revision: int
    phase: str | None
    last_seq: int
    progress: Mapping[str, Any] | None

    @property
    def mark(self) -> str:
        """Changes with revision and phase, never with progress."""
        return change_mark(self.revision, self.phase)

    def shown_progress(self) -> Progress | None:
        """As the job itself shows it."""
        return None if self.progress is None else Progress.model_validate(self.progress)


def change_mark(revision: int, phase: str | None) -> str:
    """What `Prefer: wait` waits for a change of; letters, digits, `_` and `-`."""
    return f"{revision}-{phase or 'none'}"


def watched_states(db: Database, job_ids: Collection[str]) -> dict[str, WatchedState]:
    """By job; those that are not there any more are left out. Call it outside of a session."""
    with db.lookups.connect() as connection:
        rows = connection.execute(_SELECT_STATES, {"job_ids": sorted(job_ids)}).all()
    return {
        row.id: WatchedState(row.status, row.revision, row.phase, row.last_seq, row.progress) for row in rows
    }


def events_since(session: Session, job_id: str, seq: int, limit: int) -> list[EventRead]:
    """The first `limit` events behind number `seq`, oldest first; the caller has asked whose job it is."""
    return [EventRead.model_validate(row) for row in queries.events_after(session, job_id, seq, limit)]
