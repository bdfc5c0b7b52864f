"""Polling: the caller's key and the job it asks for in one statement, and the tag of a job's state."""

from __future__ import annotations

from dataclasses import dataclass
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
from core.jobs.schemas import JobRead, QueuePlace
from core.jobs.watching import change_mark
from core.tables import ApiKey, Job

# Another release may show the same state otherwise.
_RELEASE = version("foretrain")
_KEY = (ApiKey.id.label("key_id"), ApiKey.tenant_id.label("key_tenant"), ApiKey.secret_sha256, ApiKey.scopes)
_STATE = (
    *(Job.id, Job.status, Job.phase, Job.revision, Job.last_seq, Job.heartbeat_at),
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
    """How a job stands, and a tag that changes whenever what is shown of it does.

    Time alone, the heartbeat and the running seconds change no tag; that the job has stalled does. `mark`
    changes with revision and phase alone; `position` is that of a queued job.
    """

    status: JobStatus
    phase: str | None
    position: int | None
    last_seq: int
    mark: str
    tag: str


@dataclass(frozen=True)
class Polled:
    """Who asked, and what there is for them: both None where there is no such job, `job` unless asked for."""

    caller: Principal
    state: PolledState | None = None
    job: JobRead | None = None


def poll_state(db: Database, board: Board, presented: str | SignedIn, job_id: str) -> Polled:
    """One statement. Call it outside of a session. Raises Unauthenticated."""
    caller, row = _look_up(db, _SELECT_STATE, presented, job_id)
    if row is None:
        return Polled(caller)
    return Polled(caller, _state(row, row.progress_at, _place(row, board)))


def poll_job(db: Database, board: Board, presented: str | SignedIn, job_id: str) -> Polled:
    """The same with the whole job."""
    caller, row = _look_up(db, _SELECT_JOB, presented, job_id)
    if row is None:
        return Polled(caller)
    progress_at = None if row.progress is None else row.progress["updated_at"]
    line = board.line() if row.status is JobStatus.QUEUED else None
    return Polled(caller, _state(row, progress_at, _place(row, board)), show(row, line, row.now))


def _look_up(
    db: Database, statement: Any, presented: str | SignedIn, job_id: str
) -> tuple[Principal, Row[Any] | None]:
    claim = read_claim(presented)
    with db.lookups.connect() as connection:
        row = connection.execute(statement, _names(claim, job_id)).one_or_none()
    return _admit(claim, row), None if row is None or row.id is None else row


def _names(claim: KeyText | SignedIn, job_id: str) -> dict[str, str]:
    return {"public_id": claim.public_id, "job_id": job_id}


def _admit(claim: KeyText | SignedIn, row: Row[Any] | None) -> Principal:
    if row is None:
        return admit(claim, None)
    return admit(claim, StoredKey(row.key_id, row.key_tenant, row.secret_sha256, row.scopes))


def _place(row: Row[Any], board: Board) -> QueuePlace | None:
    return queue_place(row, board.line(), row.now) if row.status is JobStatus.QUEUED else None


def _state(row: Row[Any], progress_at: str | None, place: QueuePlace | None) -> PolledState:
    """`row` has the columns of _STATE, whatever else."""
    parts: list[object] = [
        _RELEASE,
        row.id,
        row.revision,
        row.last_seq,
        progress_at,
        is_stalled(row, row.now),
    ]
    if place is not None:
        parts += [place.position, place.reason]
    return PolledState(
        status=row.status,
        phase=row.phase,
        position=None if place is None else place.position,
        last_seq=row.last_seq,
        mark=change_mark(row.revision, row.phase),
        tag=repr(parts),
    )
