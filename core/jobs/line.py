"""The line of queued jobs as it stood a moment ago: read as a whole, asked for one job's place at a time."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from core.database import Database
from core.jobs import queries
from core.jobs.queries import Waiting
from core.jobs.schemas import QueuePlace
from core.tables import Worker
from core.workers import service as workers
from core.workers.capacity import why_none_can_hold

# Answers may show a place that is up to 15 s old; the rest is for the answer's own way.
FRESH_SECONDS = 10.0

# Higher priority first, then the older one, then the smaller id.
Turn = tuple[int, datetime, str]


@dataclass(frozen=True)
class _Share:
    """A tenant's waiting jobs in a queue, in the order in which it is served, and what weighs on its turn."""

    turns: Sequence[Turn]
    running_devices: int
    last_served: int

    def ahead_of(self, load: int, last_served: int, job_id: str) -> int:
        """How many of them fair share serves before another tenant's job with this load."""
        place = load - self.running_devices
        if place < 1:
            return 0
        if place > len(self.turns):
            return len(self.turns)
        is_earlier = (self.last_served, self.turns[place - 1][2]) < (last_served, job_id)
        return place - 1 + is_earlier


@dataclass(frozen=True)
class Line:
    """Who waited where when it was read, which workers were alive, and which tenants ran all they may.

    `max_running`: jobs of one tenant at the same time; None is no such limit.
    """

    shares: Mapping[str, Mapping[str, _Share]]
    living: Sequence[Worker]
    full_tenants: frozenset[str]
    max_running: int | None

    def position(self, job: Waiting) -> int:
        """Where the job stands in its queue, 1 first, as fair share would serve if nothing ended or came.

        A job that came since the line was read stands where it would have stood then.
        """
        tenants = self.shares.get(job.queue, {})
        own = tenants.get(job.tenant_id, _Share((), 0, 0))
        turns_before = bisect_left(own.turns, _turn(job))
        load = own.running_devices + turns_before + 1
        others = (share for tenant_id, share in tenants.items() if tenant_id != job.tenant_id)
        ahead = sum(share.ahead_of(load, own.last_served, job.id) for share in others)
        return 1 + turns_before + ahead


def queue_place(job: Waiting, line: Line, now: datetime) -> QueuePlace:
    """Where a queued job stands, and why it waits."""
    position = line.position(job)
    return QueuePlace(position=position, reason=_waits_for(job, position, line, now))


def _waits_for(job: Waiting, position: int, line: Line, now: datetime) -> str:
    if (lack := why_none_can_hold(line.living, job.queue, job.devices)) is not None:
        return lack
    if job.not_before is not None and job.not_before > now:
        return "Waits a moment before the next try."
    if job.tenant_id in line.full_tenants:
        return f"Waits for the end of a job of yours: no more than {line.max_running} may run at once."
    if position == 1:
        return "Next in line for a worker."
    return f"Waits for {position - 1} job{'s' if position > 2 else ''} ahead."  # two is the plural


def read_line(session: Session, max_running: int | None) -> Line:
    """Three statements, however long the line is; a fourth where there is a quota of running jobs."""
    turns: defaultdict[str, defaultdict[str, list[Turn]]] = defaultdict(lambda: defaultdict(list))
    for waiting in queries.waiting_jobs(session):
        turns[waiting.queue][waiting.tenant_id].append(_turn(waiting))
    weights = queries.tenant_weights(session) if turns else {}
    return Line(
        shares={
            queue: {tenant_id: _Share(sorted(own), *weights[tenant_id]) for tenant_id, own in tenants.items()}
            for queue, tenants in turns.items()
        },
        living=workers.live(session),
        full_tenants=queries.tenants_running(session, max_running),
        max_running=max_running,
    )


def _turn(job: Waiting) -> Turn:
    return -job.priority, job.queued_at, job.id


class Board:
    """The line, read anew when it is older than FRESH_SECONDS; one for each process, for all its threads.

    Takes a connection of its own: ask it before a session is opened, not inside.
    """

    def __init__(self, db: Database, max_running: int | None) -> None:
        self._db = db
        self._max_running = max_running
        self._lock = threading.Lock()
        self._line: Line | None = None
        self._read_at = 0.0

    def line(self) -> Line:
        with self._lock:
            if self._line is None or time.monotonic() - self._read_at > FRESH_SECONDS:
                with self._db.readers.begin() as session:
                    self._line = read_line(session, self._max_running)
                self._read_at = time.monotonic()
            return self._line
