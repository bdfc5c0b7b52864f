"""The worker as a process: a Celery worker with one task, and a row that says it lives."""

from __future__ import annotations

import os
import signal
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog
from celery import signals

from core.database import connect
from core.queue import TASK_NAME, celery_queue, make_celery
from core.workers import service as workers
from worker.gpu_readings import GpuReadings
from worker.hardware import Hardware, detect
from worker.memory import memory_total, trainer_memory_limit
from worker.once import run_one
from worker.outage import DATABASE_OUTAGE
from worker.reins import Drain
from worker.run_job import TRAINER, WARM_TRAINER, Bench, run_waiting_jobs
from worker.standby import Standby
from worker.trainer_process import child_environment
from worker.workspace import workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from types import FrameType

    from celery import Celery

    from core.database import Database
    from core.settings import Settings
    from core.storage import ObjectStorage

logger = structlog.get_logger(__name__)


def serve(
    settings: Settings,
    storage: ObjectStorage,
    *,
    devices: list[int] | None = None,
    name: str | None = None,
    once_within: float | None = None,
    on_beat: Callable[[], None] = lambda: None,
    trainer: Sequence[str] = TRAINER,
    warm_trainer: Sequence[str] | None = WARM_TRAINER,
) -> int:
    """Works until SIGTERM, then lets the running job save and go back into the queue; the exit code.

    With `once_within` it asks no broker: it runs the first job there is within so many seconds and ends, and
    the exit code is an `OnceExit`. `devices` are the GPUs this worker owns; by default the first one there
    is. `on_beat` is called every few seconds. `warm_trainer` is kept ready for the next job; None starts each
    one only when it is needed.
    Must run in the main thread. Raises ValueError for a GPU that is not there.
    """
    # Until Celery's own handler takes over: who is asked to end while it starts has nothing to give back.
    signal.signal(signal.SIGTERM, _leave)
    hardware = detect(devices)
    db = connect(settings.database_url, lock_seconds=settings.lease_seconds)
    drain = Drain()
    with workspace(settings.data_dir / "runs") as folder:
        environment = _trainer_environment(hardware, folder)
        with _standing_by(warm_trainer, folder, environment) as standby:
            bench = Bench(
                name=name or f"{socket.gethostname()}-{os.getpid()}",
                settings=settings,
                db=db,
                storage=storage,
                folder=folder,
                # A machine with a GPU trains on its CPU too, but only while nothing waits for the GPU.
                queues=("gpu", "cpu") if hardware.gpus else ("cpu",),
                devices=len(hardware.gpus) or settings.cpu_devices,
                threads=settings.trainer_threads or hardware.cores,
                environment=environment,
                drain=drain,
                trainer=tuple(trainer),
                standby=standby,
                memory_limit=settings.trainer_memory_limit_bytes or trainer_memory_limit(memory_total()),
            )
            with _announced(bench, hardware, on_beat):
                if once_within is None:
                    exit_code = _consume(make_celery(settings), bench)
                else:
                    exit_code = run_one(bench, once_within)
    db.dispose()
    return exit_code


def _leave(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise SystemExit(0)


@contextmanager
def _standing_by(
    command: Sequence[str] | None, folder: Path, environment: dict[str, str]
) -> Iterator[Standby | None]:
    if command is None:
        yield None
        return
    standby = Standby(command, folder=folder, environment=environment)
    standby.prepare()
    try:
        yield standby
    finally:
        standby.close()


def add_task(celery: Celery, bench: Bench) -> None:
    """The one task: a message says that work may be waiting, the database says what it is."""

    @celery.task(name=TASK_NAME)  # type: ignore[untyped-decorator]  # Celery ships no types
    def work(queue: str) -> None:
        logger.debug("nudged", queue=queue)
        try:
            run_waiting_jobs(bench)
        except DATABASE_OUTAGE:
            logger.warning("claim_failed", exc_info=True)


def _consume(celery: Celery, bench: Bench) -> int:
    add_task(celery, bench)
    worker = celery.Worker(
        hostname=f"foretrain@{bench.name}",
        pool_cls="threads",
        concurrency=1,
        queues=[celery_queue(queue) for queue in bench.queues],
        loglevel="WARNING",
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
    )
    asked: Callable[..., None] = lambda **_: bench.drain.ask()  # noqa: E731  # kept: Celery holds it weakly
    signals.worker_shutting_down.connect(asked)
    logger.info(
        "worker_ready",
        name=bench.name,
        queues=bench.queues,
        threads=bench.threads,
        trainer_memory_limit_bytes=bench.memory_limit,
    )
    worker.start()
    return int(worker.exitcode or 0)


@contextmanager
def _announced(bench: Bench, hardware: Hardware, on_beat: Callable[[], None]) -> Iterator[None]:
    over = threading.Event()
    thread = threading.Thread(
        target=_announce_regularly, args=(bench, hardware, on_beat, over), name="announcer", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        _retire(bench.db, bench.name)


def _announce_regularly(
    bench: Bench, hardware: Hardware, on_beat: Callable[[], None], over: threading.Event
) -> None:
    readings = GpuReadings(hardware.gpus)
    while True:
        on_beat()
        latest = readings.latest()
        try:
            with bench.db.sessions.begin() as session:
                workers.announce(
                    session,
                    name=bench.name,
                    queue=bench.queues[0],
                    devices=bench.devices_to_give,
                    threads=bench.threads,
                    hardware=hardware.describe(),
                    readings=latest,
                )
        except DATABASE_OUTAGE:
            logger.warning("heartbeat_failed", exc_info=True)
        if over.wait(bench.settings.heartbeat_seconds):
            return


def _retire(db: Database, name: str) -> None:
    try:
        with db.sessions.begin() as session:
            workers.retire(session, name)
    except DATABASE_OUTAGE:
        logger.warning("retirement_failed", exc_info=True)


def _trainer_environment(hardware: Hardware, folder: Path) -> dict[str, str]:
    scratch = folder / "tmp"
    scratch.mkdir()
    devices = ",".join(str(gpu.index) for gpu in hardware.gpus)
    return {
        **child_environment(os.environ),
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # the order in which nvidia-smi numbers them, which we asked
        "CUDA_VISIBLE_DEVICES": devices,
        "TMPDIR": str(scratch),
    }
