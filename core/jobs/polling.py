"""Polling: the caller's key and the job it asks for in one statement, and the tag of a job's state."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, bindparam, select

from core.access.repository import is_usable
from core.access.schemas import Principal, StoredKey
from core.access.secrets import KeyText
from core.access.service import admit, read_claim
from core.access.sessions import SignedIn
from core.database import Database, db_now
from core.jobs.lifecycle import JobStatus
from core.jobs.line import Board, queue_place
from core.jobs.reading import is_stalled, show
from core.jobs.schemas import JobRead
from core.tables import ApiKey, Job

# Another release may show the same state otherwise.
_RELEASE = version("foretrain")
_KEY = (ApiKey.id.label("key_id"), ApiKey.tenant_id.label("key_tenant"), ApiKey.secret_sha256, ApiKey.scopes)
_STATE = (
    *(Job.id, Job.status, Job.revision, Job.last_seq, Job.heartbeat_at),
    Job.progress["updated_at"].as_string().label("progress_at"),
    *(Job.queue, Job.devices, Job.tenant_id, Job.priority, Job.queued_at, Job.not_before),
)


def _of_key_and_job(*columns: Any) -> Any:
    """Two look-ups by unique index, whatever the tables hold; no row without a usable key."""
    own: ColumnElement[bool] = and_(Job.id == bindparam("job_id"), Job.tenant_id == ApiKey.tenant_id)
    keyed = select(*_KEY, *columns, db_now().label("now")).select_from(ApiKey).outerjoin(Job, own)
    return keyed.where(ApiKey.public_id == bindparam("public_id"), *is_usable())


# Plain columns: a row of the ORM takes longer. Built once: compiling a statement, or only finding it in the
# cache anew, costs more than running it.
_SELECT_STATE = _of_key_and_job(*_STATE)
_SELECT_JOB = _of_key_and_job(*Job.__table__.columns)


@dataclass(frozen=True)
class PolledState:
    """A job's status, and a tag that changes whenever what is shown of it does; None where there is no job.

    Time alone, the heartbeat and the running seconds change no tag; that the job has stalled does.
    """

    caller: Principal
    status: JobStatus | None
    tag: str | None


@dataclass(frozen=True)
class PolledJob:
    """A job with its tag; None where there is none."""

    caller: Principal
    job: JobRead | None
    tag: str | None


def poll_state(db: Database, board: Board, presented: str | SignedIn, job_id: str) -> PolledState:
    """One statement. Call it outside of a session. Raises Unauthenticated."""
    claim = read_claim(presented)
    with db.lookups.connect() as connection:
        row = connection.execute(_SELECT_STATE, _names(claim, job_id)).one_or_none()
    caller = _admit(claim, row)
    if row is None or row.id is None:
        return PolledState(caller, None, None)
    return PolledState(caller, row.status, _tag(row, row.progress_at, row.now, board))


def poll_job(db: Database, board: Board, presented: str | SignedIn, job_id: str) -> PolledJob:
    """One statement. Call it outside of a session. Raises Unauthenticated."""
    claim = read_claim(presented)
    with db.lookups.connect() as connection:
        row = connection.execute(_SELECT_JOB, _names(claim, job_id)).one_or_none()
    caller = _admit(claim, row)
    if row is None or row.id is None:
        return PolledJob(caller, None, None)
    progress_at = None if row.progress is None else row.progress["updated_at"]
    tag = _tag(row, progress_at, row.now, board)
    line = board.line() if row.status is JobStatus.QUEUED else None
    return PolledJob(caller, show(row, line, row.now), tag)


def _names(claim: KeyText | SignedIn, job_id: str) -> dict[str, str]:
    return {"public_id": claim.public_id, "job_id": job_id}


def _admit(claim: KeyText | SignedIn, row: Row[Any] | None) -> Principal:
    if row is None:
        return admit(claim, None)
    return admit(claim, StoredKey(row.key_id, row.key_tenant, row.secret_sha256, row.scopes))


def _tag(state: Any, progress_at: str | None, now: datetime, board: Board) -> str:
    """`state`: a job, or a row with the columns of _STATE."""
    parts: list[object] = [
        _RELEASE,
        state.id,
        state.revision,
        state.last_seq,
        progress_at,
        is_stalled(state, now),
    ]
    if state.status is JobStatus.QUEUED:
        place = queue_place(state, board.line(), now)
        parts += [place.position, place.reason]
    return repr(parts)
