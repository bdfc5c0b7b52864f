"""A worker for one job, as batch schedulers start it: Slurm, Kubernetes."""

from __future__ import annotations

import signal
import time
from enum import IntEnum
from typing import TYPE_CHECKING

import structlog

from worker.outage import DATABASE_OUTAGE
from worker.outcome import AttemptLost, JobFailed, JobRequeued
from worker.run_job import run_next_job

if TYPE_CHECKING:
    from worker.outcome import Outcome
    from worker.run_job import Bench

logger = structlog.get_logger(__name__)

_LOOK_SECONDS = 1.0


class OnceExit(IntEnum):
    """What became of it; 1 and 2 are left to what any program may meet."""

    DONE = 0  # succeeded, or ended by its owner
    NO_JOB = 4
    JOB_FAILED = 5
    GIVEN_BACK = 6  # to the queue, or lost to another worker


def run_one(bench: Bench, wait_seconds: float) -> OnceExit:
    """Runs the first job there is within `wait_seconds`; SIGTERM and SIGINT have it saved and given back.

    No message is needed: the database is asked every second. Must run in the main thread. Raises what a
    database raises that is not there when the wait is over.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: bench.drain.ask())
    ended = _first_job(bench, time.monotonic() + wait_seconds)
    code = _exit_code(ended)
    logger.info("worker_done", exit=code.name.lower())
    return code


def _first_job(bench: Bench, deadline: float) -> Outcome | AttemptLost | None:
    while not bench.drain.is_asked:
        try:
            ended = run_next_job(bench)
        except DATABASE_OUTAGE:
            if time.monotonic() >= deadline:
                raise
            logger.warning("claim_failed", exc_info=True)
        else:
            if ended is not None or time.monotonic() >= deadline:
                return ended
        bench.drain.wait(min(_LOOK_SECONDS, max(deadline - time.monotonic(), 0.0)))
    return None


def _exit_code(ended: Outcome | AttemptLost | None) -> OnceExit:
    match ended:
        case None:
            return OnceExit.NO_JOB
        case JobFailed():
            return OnceExit.JOB_FAILED
        case JobRequeued() | AttemptLost():
            return OnceExit.GIVEN_BACK
        case _:
            return OnceExit.DONE
