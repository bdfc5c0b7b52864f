"""One attempt of a job, from its claim to its end."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import structlog

from core.errors import LeaseLost, StorageUnavailable
from core.jobs import service as jobs
from core.jobs.lifecycle import WEIGHTS, FailureReason, RequeueReason
from core.monitoring import tallies
from core.monitoring.tallies import Tallied
from trainer.events import (
    ArtifactSaved,
    CheckpointSaved,
    Failed,
    Finished,
    PhaseStarted,
    ProgressReported,
    Stopped,
)
from worker.inputs import lay_out_inputs
from worker.lease import Lease
from worker.ledger import Ledger
from worker.memory import count_oom_kills
from worker.outage import DATABASE_OUTAGE
from worker.outcome import AttemptLost, JobFailed, JobRequeued, JobSucceeded, judge, judge_unstarted
from worker.recorder import Recorder
from worker.reins import Drain, Reins
from worker.standby import Standby
from worker.traces import PhaseSpans, attempt_span
from worker.trainer_process import Order, TrainerProcess
from worker.uploader import Uploader
from worker.watchdog import Watchdog
from worker.workspace import has_room, run_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from core.database import Database
    from core.jobs.claim import ClaimedJob
    from core.settings import Settings
    from core.storage import ObjectStorage, StoredObject
    from worker.outcome import Outcome
    from worker.uploader import Upload

logger = structlog.get_logger(__name__)

TRAINER = (sys.executable, "-P", "-m", "trainer")
WARM_TRAINER = (sys.executable, "-P", "-m", "trainer.warm")
TIME_LIMIT_GRACE_SECONDS = 300.0
_RETRY_SECONDS = 0.5


@dataclass(frozen=True)
class Bench:
    """What a worker brings to every job.

    `queues`: those it serves, the first one first. `standby`: a trainer started ahead; without one, `trainer`
    is started for the job. `memory_limit`: bytes a trainer may allocate. `passed_over`: jobs that only newer
    workers can read.
    """

    name: str
    settings: Settings
    db: Database
    storage: ObjectStorage
    folder: Path
    queues: tuple[str, ...]
    devices: int
    threads: int
    environment: Mapping[str, str]
    drain: Drain
    trainer: tuple[str, ...] = TRAINER
    standby: Standby | None = None
    memory_limit: int | None = None
    count_oom_kills: Callable[[], int] = count_oom_kills
    passed_over: set[str] = field(default_factory=set)

    @property
    def devices_to_give(self) -> int:
        """None while the disk is full: one job after the other would come here to fail."""
        return self.devices if has_room(self.folder, self.settings.least_free_bytes) else 0


def run_waiting_jobs(bench: Bench) -> int:
    """Claims and runs jobs until none waits or the worker is asked to end. How many it were."""
    count = 0
    while not bench.drain.is_asked and run_next_job(bench) is not None:
        count += 1
    return count


def run_next_job(bench: Bench) -> Outcome | AttemptLost | None:
    """Claims and runs the job whose turn it is; how the attempt ended.

    None if no job waits, or if there is no room for one.
    """
    if not bench.devices_to_give:
        logger.warning("disk_full", needed_bytes=bench.settings.least_free_bytes)
        return None
    if bench.standby is not None:
        bench.standby.prepare()
    held_since = time.monotonic()
    job = _claim(bench)
    if job is None:
        return None
    names = {**job.origin.log_fields(), "job_id": job.job_id, "attempt": job.attempt}
    with structlog.contextvars.bound_contextvars(**names), attempt_span(job):
        return run_job(bench, job, held_since)


def _claim(bench: Bench) -> ClaimedJob | None:
    for queue in bench.queues:
        with bench.db.sessions.begin() as session:
            job = jobs.claim(
                session,
                queue,
                bench.name,
                bench.settings.lease_seconds,
                bench.devices,
                bench.settings.max_running_jobs,
                bench.passed_over,
            )
        if job is not None:
            return job
    return None


def run_job(bench: Bench, job: ClaimedJob, held_since: float) -> Outcome | AttemptLost:
    """Runs one attempt. The job's row learns how it ended, unless the job is somebody else's by then.

    `held_since` is the monotonic time just before the claim.
    """
    logger.info("job_started", dataset_id=job.dataset.dataset_id, token=job.token)
    ledger = Ledger(bench.db, bench.storage, job, bench.settings.lease_seconds)
    reins = Reins(
        grace_seconds=bench.settings.stop_grace_seconds, time_limit_grace_seconds=TIME_LIMIT_GRACE_SECONDS
    )
    with (
        _hold_lease(bench, ledger, reins, held_since) as lease,
        bench.drain.calls(partial(reins.ask, "drain")),
        _time_limit(job.remaining_runtime_seconds, reins),
        run_directory(bench.folder, f"{job.job_id}-t{job.token}") as directory,
    ):
        try:
            outcome = _attempt(bench, ledger, lease, reins, directory)
        except LeaseLost:
            return _throw_away(bench.db)
        except Exception:
            logger.exception("attempt_broken")
            outcome = JobFailed(
                FailureReason.INTERNAL, "The worker met an error of its own; its log has the details."
            )
        lease.stop_renewing()
        return _settle(ledger, outcome, lease)


def _throw_away(db: Database) -> AttemptLost:
    """Nothing of the attempt is kept but that there was one to throw away."""
    logger.warning("attempt_thrown_away")
    try:
        with db.sessions.begin() as session:
            tallies.note(session, Tallied.FENCED)
    except DATABASE_OUTAGE:
        logger.warning("fenced_attempt_not_counted", exc_info=True)
    return AttemptLost()


def _attempt(bench: Bench, ledger: Ledger, lease: Lease, reins: Reins, directory: Path) -> Outcome:
    job = ledger.job
    laid_out = lay_out_inputs(bench.storage, job, directory)
    if isinstance(laid_out, JobFailed | JobRequeued):
        return judge_unstarted(reins.wish) if reins.wish == "cancel" else laid_out
    lease.check()
    if reins.wish is not None:
        return judge_unstarted(reins.wish, has_checkpoint=job.has_weights)

    with (
        Recorder(ledger.record, on_lost=lease.give_up) as recorder,
        Uploader(
            ledger.store,
            partial(_publish, ledger, recorder),
            staging=directory / "staging",
            on_lost=lease.give_up,
        ) as uploader,
    ):
        recorder.log(_heading(job, bench.name))
        for warning in laid_out:
            recorder.record(warning)
        oom_kills = bench.count_oom_kills()
        order = Order(directory, bench.threads, bench.memory_limit, job.memory_kills)
        with _start_trainer(bench, order, recorder) as process:
            reins.attach(process)
            with Watchdog(bench.settings.progress_timeout_seconds, process.kill) as watchdog:
                last_word = _follow(process, watchdog, lease, recorder, uploader, directory / "out")
            ending = process.wait()
        lease.check()
        all_published = _finish_uploads(uploader, bench.settings.lease_seconds)
        recorder.finish(lambda: lease.seconds_left)

    logger.info("trainer_ended", ending=ending.describe(), killed=ending.killed, wish=reins.wish)
    # An earlier attempt's counts: the job is not without a result because this one came to none.
    has_weights = job.has_weights or not uploader.published.isdisjoint(WEIGHTS)
    outcome = judge(
        last_word,
        ending,
        reins.wish,
        has_checkpoint=has_weights,
        out_of_memory=bench.count_oom_kills() > oom_kills,
        adapts=job.spec.on_out_of_memory == "adapt",
        has_stalled=watchdog.has_barked,
    )
    if isinstance(outcome, JobSucceeded) and not all_published:
        return JobRequeued(
            RequeueReason.STORAGE_UNAVAILABLE, "The object storage did not take the trained files."
        )
    return outcome


def _heading(job: ClaimedJob, worker: str) -> str:
    """First line of an attempt's log: what the service's own log calls it."""
    asked = f", asked for by {job.origin.request_id}" if job.origin.request_id else ""
    return f"[{job.job_id}, attempt {job.attempt} on {worker}{asked}]\n"


def _publish(ledger: Ledger, recorder: Recorder, upload: Upload, stored: StoredObject) -> None:
    # First the metrics that led to it: an attempt that goes on from this state does not report them again.
    recorder.write_through()
    ledger.publish(upload, stored)


def _start_trainer(bench: Bench, order: Order, recorder: Recorder) -> TrainerProcess:
    if bench.standby is not None:
        process = bench.standby.take(order, recorder.log)
        if process is not None:
            return process
    return TrainerProcess(
        [*bench.trainer, *order.arguments()],
        directory=bench.folder,
        environment=bench.environment,
        log=recorder.log,
    )


def _follow(
    process: TrainerProcess,
    watchdog: Watchdog,
    lease: Lease,
    recorder: Recorder,
    uploader: Uploader,
    out_dir: Path,
) -> Finished | Stopped | Failed | None:
    """Passes each event on to whom it concerns; the child's last word, if it had one."""
    last_word: Finished | Stopped | Failed | None = None
    phases = PhaseSpans()
    for event in process.events():
        watchdog.feed()
        if isinstance(event, PhaseStarted):
            phases.begin(event.phase)
        match event:
            case ProgressReported():
                lease.carry(event)
            case CheckpointSaved() | ArtifactSaved():
                uploader.add(event, out_dir / event.name)
            case Finished() | Stopped() | Failed():
                last_word = event
            case _:
                recorder.record(event)
    phases.end()
    return last_word


def _finish_uploads(uploader: Uploader, patience_seconds: float) -> bool:
    try:
        uploader.finish(patience_seconds)
    except StorageUnavailable:
        logger.warning("uploads_given_up", exc_info=True)
        return False
    return True


def _settle(ledger: Ledger, outcome: Outcome, lease: Lease) -> Outcome | AttemptLost:
    """Writes the end; through an outage as long as the lease holds, after that the scheduler has its turn."""
    while True:
        try:
            ledger.close(outcome)
        except LeaseLost:
            return _throw_away(ledger.db)
        except DATABASE_OUTAGE:
            logger.warning("end_delayed", exc_info=True)
            if lease.seconds_left > 0:
                threading.Event().wait(_RETRY_SECONDS)
                continue
            return AttemptLost()
        logger.info("job_ended", outcome=repr(outcome))
        return outcome


def _hold_lease(bench: Bench, ledger: Ledger, reins: Reins, held_since: float) -> Lease:
    return Lease(
        ledger.renew,
        held_since=held_since,
        heartbeat_seconds=bench.settings.heartbeat_seconds,
        lease_seconds=bench.settings.lease_seconds,
        on_wish=reins.ask,
        on_lost=reins.cut,
    )


@contextmanager
def _time_limit(seconds: float | None, reins: Reins) -> Iterator[None]:
    if seconds is None:
        yield
        return
    timer = threading.Timer(max(0.0, seconds), reins.ask, ["time_limit"])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
