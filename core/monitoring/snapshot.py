"""What the database says of the service at one moment. Work in hand bounds every query, not history."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, func, literal, select
from sqlalchemy.orm import Session

from core.database import db_now, later, seconds_between, see_one_moment
from core.datasets.lifecycle import DatasetStatus
from core.jobs.lifecycle import JobStatus
from core.monitoring import tallies
from core.monitoring.tallies import Key, Total
from core.queue import QUEUES
from core.tables import Dataset, Job, WebhookDelivery, Worker
from core.workers.service import LIVE_SECONDS

# A worker that was lost stays in sight for an hour, so that an alert on its silence can be read up.
SHOWN_SECONDS = 3_600.0
MOST_WORKERS = 1_000


@dataclass(frozen=True)
class Waiting:
    """Queued jobs of one queue."""

    count: int
    oldest_seconds: float


@dataclass(frozen=True)
class GpuReading:
    """Of one GPU; `utilization` from 0 to 1."""

    index: str
    utilization: float
    memory_used_bytes: int
    memory_bytes: int


@dataclass(frozen=True)
class WorkerState:
    name: str
    queue: str
    devices: int
    heartbeat_age_seconds: float
    windows_per_second: float
    gpus: tuple[GpuReading, ...]

    @property
    def is_live(self) -> bool:
        return self.heartbeat_age_seconds < LIVE_SECONDS


@dataclass(frozen=True)
class Snapshot:
    """Queues without a job are there with zeros."""

    waiting: Mapping[str, Waiting]
    running: Mapping[str, int]
    paused: Mapping[str, int]
    inspecting: int
    undelivered: int
    workers: tuple[WorkerState, ...]
    totals: Mapping[Key, Total]


def take(session: Session) -> Snapshot:
    """All of it, in seven indexed statements that see one moment: a job that moves on is counted once.

    Must be the first read of the session's transaction.
    """
    see_one_moment(session)
    running, speeds = _running(session)
    return Snapshot(
        waiting=_waiting(session),
        running=running,
        paused=_paused(session),
        inspecting=_inspecting(session),
        undelivered=_undelivered(session),
        workers=_workers(session, speeds),
        totals=tallies.read(session),
    )


def _is(status: JobStatus) -> ColumnElement[bool]:
    # Spelled out in the statement: a partial index serves only a condition that is known when it is planned.
    return Job.status == literal(status, Job.status.type, literal_execute=True)


def _waiting(session: Session) -> dict[str, Waiting]:
    rows = session.execute(
        select(Job.queue, func.count(), seconds_between(func.min(Job.queued_at), db_now()))
        .where(_is(JobStatus.QUEUED))
        .group_by(Job.queue)
    )
    found = {queue: Waiting(count, max(0.0, seconds)) for queue, count, seconds in rows}
    return {queue: Waiting(0, 0.0) for queue in QUEUES} | found


def _running(session: Session) -> tuple[dict[str, int], dict[str, float]]:
    """How many run by queue, and the windows per second of each worker's."""
    counts: dict[str, int] = dict.fromkeys(QUEUES, 0)
    speeds: dict[str, float] = {}
    for queue, worker, progress in session.execute(
        select(Job.queue, Job.worker_name, Job.progress).where(_is(JobStatus.RUNNING))
    ):
        counts[queue] = counts.get(queue, 0) + 1
        speeds[worker or ""] = _number((progress or {}).get("windows_per_second"))
    return counts, speeds


def _paused(session: Session) -> dict[str, int]:
    rows = session.execute(
        select(Job.queue, func.count()).where(_is(JobStatus.PAUSED)).group_by(Job.queue)
    ).all()
    return dict.fromkeys(QUEUES, 0) | dict(rows)


def _inspecting(session: Session) -> int:
    inspecting = literal(DatasetStatus.INSPECTING, Dataset.status.type, literal_execute=True)
    return session.scalar(select(func.count()).where(Dataset.status == inspecting)) or 0


def _undelivered(session: Session) -> int:
    pending = WebhookDelivery.next_attempt_at.is_not(None)
    return session.scalar(select(func.count()).select_from(WebhookDelivery).where(pending)) or 0


def _workers(session: Session, speeds: Mapping[str, float]) -> tuple[WorkerState, ...]:
    rows = session.execute(
        select(Worker, seconds_between(Worker.heartbeat_at, db_now()))
        .where(later(Worker.heartbeat_at, SHOWN_SECONDS) > db_now())
        .order_by(Worker.heartbeat_at.desc(), Worker.name)
        .limit(MOST_WORKERS)
    )
    return tuple(
        WorkerState(
            name=worker.name,
            queue=worker.queue,
            devices=worker.devices,
            heartbeat_age_seconds=max(0.0, age),
            windows_per_second=speeds.get(worker.name, 0.0),
            gpus=_gpus(worker.readings),
        )
        for worker, age in rows
    )


def _gpus(readings: Mapping[str, Any] | None) -> tuple[GpuReading, ...]:
    return tuple(
        GpuReading(
            index=str(gpu["index"]),
            utilization=gpu["utilization"],
            memory_used_bytes=gpu["memory_used_bytes"],
            memory_bytes=gpu["memory_bytes"],
        )
        for gpu in (readings or {}).get("gpus", [])
    )


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
