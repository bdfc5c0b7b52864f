"""Which workers are alive, and what they have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from sqlalchemy import bindparam, delete, exists, select
from sqlalchemy.orm import Session

from core.database import db_now, insert_or, later
from core.jobs.lifecycle import JobStatus
from core.tables import Job, Worker
from core.workers.capacity import queues_served
from core.workers.schemas import Capabilities, GpuKind, WorkerKind

LIVE_SECONDS = 60.0
SILENT_SECONDS = 20.0
GONE_SECONDS = 24 * 3600.0
ACCELERATORS = {"cpu": "cpu", "gpu": "cuda"}


def announce(
    session: Session,
    *,
    name: str,
    queue: str,
    devices: int,
    threads: int,
    hardware: dict[str, Any],
    readings: dict[str, Any] | None = None,
) -> None:
    """Notes a worker, or that it still lives; call it at start and every few seconds, busy or not."""
    facts = {
        "queue": queue,
        "devices": devices,
        "threads": threads,
        "hardware": hardware,
        "readings": readings,
    }
    session.execute(
        insert_or(session, Worker)
        .values(name=name, **facts)
        .on_conflict_do_update(index_elements=[Worker.name], set_={**facts, "heartbeat_at": db_now()})
    )


def retire(session: Session, name: str) -> None:
    """Forgets a worker that stops in good order."""
    session.execute(delete(Worker).where(Worker.name == name))


def forget_gone(session: Session) -> list[str]:
    """Removes workers that were not heard of for a day; their names. Never one that still holds a job."""
    silent = later(Worker.heartbeat_at, GONE_SECONDS) < db_now()
    holds_job = exists().where(Job.status == JobStatus.RUNNING, Job.worker_name == Worker.name)
    return list(session.scalars(delete(Worker).where(silent, ~holds_job).returning(Worker.name)))


def _any_live() -> Any:
    heard_of = later(Worker.heartbeat_at, LIVE_SECONDS) > db_now()
    return select(exists().where(Worker.queue == bindparam("queue"), heard_of))


# Built once: each submission asks.
_ANY_LIVE = _any_live()


def any_live(session: Session, queue: str) -> bool:
    """Whether a worker of this queue was heard of within the last minute."""
    return bool(session.connection().execute(_ANY_LIVE, {"queue": queue}).scalar())


def live(session: Session) -> Sequence[Worker]:
    """Those heard of within the last minute, by name."""
    heard_of = later(Worker.heartbeat_at, LIVE_SECONDS) > db_now()
    return session.scalars(select(Worker).where(heard_of).order_by(Worker.name)).all()


def idle(session: Session) -> Sequence[Worker]:
    """Live ones without a running job, by name.

    A job that nobody renews says nothing: its worker may have died and be back under the same name.
    """
    renewed = later(Job.heartbeat_at, SILENT_SECONDS) > db_now()
    busy = exists().where(Job.status == JobStatus.RUNNING, Job.worker_name == Worker.name, renewed)
    heard_of = later(Worker.heartbeat_at, LIVE_SECONDS) > db_now()
    return session.scalars(select(Worker).where(heard_of, ~busy).order_by(Worker.name)).all()


def capabilities(session: Session, max_upload_bytes: int) -> Capabilities:
    """What the live workers have, taken together and by kind."""
    workers = live(session)
    kinds = [_kind(worker) for worker in workers]
    alike = {kind.model_dump_json(): kind for kind in kinds}
    counts = Counter(kind.model_dump_json() for kind in kinds)
    queues = {queue for worker in workers for queue in queues_served(worker.queue)}
    return Capabilities(
        precisions=sorted({precision for kind in kinds for precision in kind.precisions}),
        accelerators=sorted(ACCELERATORS[queue] for queue in queues & ACCELERATORS.keys()),
        max_devices=max((worker.devices for worker in workers), default=0),
        max_upload_bytes=max_upload_bytes,
        workers=[kind.model_copy(update={"worker_count": counts[key]}) for key, kind in alike.items()],
    )


def _kind(worker: Worker) -> WorkerKind:
    hardware = worker.hardware
    return WorkerKind(
        worker_count=1,
        queue=worker.queue,
        devices=worker.devices,
        threads=worker.threads,
        cpu=hardware.get("cpu", ""),
        gpus=[_gpu(gpu) for gpu in hardware.get("gpus", [])],
        precisions=hardware.get("precisions", []),
    )


def _gpu(gpu: dict[str, Any]) -> GpuKind:
    capability = ".".join(str(part) for part in gpu["compute_capability"])
    return GpuKind(name=gpu["name"], memory_bytes=gpu["memory_bytes"], compute_capability=capability)
