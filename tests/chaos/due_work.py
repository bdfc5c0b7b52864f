"""`python -m tests.chaos.due_work`: due-work-harness judges a worker that dies at each of its steps.

A child process runs one job with the worker's own code on SQLite and dies at a point that the harness names:
right after one of its first commits, or between an object and the row that names it. What the production code
then makes of it must be what a run without a death comes to.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any

from due_work_harness.host import Host, configure
from due_work_harness.process_histories import (
    ProcessHistory,
    assert_process_deaths_converge,
    die_here,
    fault_environment,
)
from sqlalchemy import event, func, select

from core.database import connect
from core.queue import make_celery
from core.scheduler import Scheduler
from core.settings import Settings
from core.storage import ObjectStorage, StoredObject, open_storage
from core.tables import Artifact, Job, JobAttempt, JobEvent
from tests.chaos.plans import Plan
from tests.chaos.scripted_worker import TRAINER
from tests.worker.stations import Station, bench, station
from worker.run_job import run_waiting_jobs

COMMITS = tuple(f"commit {number}" for number in range(1, 9))
UPLOADS = tuple(f"upload {number}" for number in range(1, 5))
QUICK: dict[str, Any] = {"heartbeat_seconds": 0.1, "lease_seconds": 2.0, "sweep_seconds": 0.1}
SETTLED_SECONDS = 60.0
Seen = tuple[str, int, int, int]


class _DyingStorage(ObjectStorage):
    """Dies between an object and its row."""

    numbers = count(1)

    def put_file(self, key: str, path: Path) -> StoredObject:
        stored = super().put_file(key, path)
        die_here(f"upload {next(self.numbers)}")
        return stored


def open_station(folder: Path) -> Station:
    """What `station` has made there."""
    settings = Settings(data_dir=folder, **QUICK)
    return Station(settings, connect(settings.database_url), open_storage(settings.storage_url), "", "")


def work(folder: Path) -> None:
    """The child: a worker with one job to do."""
    here = open_station(folder)
    numbers = count(1)
    event.listen(here.db.sessions, "after_commit", lambda _: die_here(f"commit {next(numbers)}"))
    storage = _DyingStorage(here.storage._store, folder=here.storage._folder)
    with bench(here, [*TRAINER, str(folder)], storage=storage) as one:
        run_waiting_jobs(one)


def run(point: str | None) -> tuple[Path, int]:
    """A new place with one job, and a child that works there until it dies or is done."""
    folder = Path(tempfile.mkdtemp(prefix="ft-due-"))
    with station(folder, **QUICK) as here:
        (folder / "42.json").write_text(json.dumps(asdict(Plan(steps=8, save_every=4, step_seconds=0.02))))
        here.submit(max_attempts=5)
    child = subprocess.run(
        [sys.executable, "-m", "tests.chaos.due_work", str(folder)],
        env=os.environ | fault_environment(point),
        check=False,
    )
    return folder, child.returncode


def observe(folder: Path) -> Seen:
    """The job's status, its successes by event and by attempt, and its complete results."""
    here = open_station(folder)
    with here.db.readers.begin() as session:
        seen = (
            str(session.scalars(select(Job.status)).one()),
            session.scalar(select(func.count()).where(JobEvent.type == "job.succeeded")) or 0,
            session.scalar(select(func.count()).where(JobAttempt.outcome == "succeeded")) or 0,
            session.scalar(
                select(func.count()).where(Artifact.name == "result.json", Artifact.complete.is_(True))
            )
            or 0,
        )
    here.db.dispose()
    return seen


def recover(folder: Path) -> None:
    """A scheduler and a worker, as they are started again."""
    here = open_station(folder)
    scheduler = Scheduler(here.db, make_celery(here.settings), here.storage, here.settings)
    until = time.monotonic() + SETTLED_SECONDS
    while observe(folder)[0] in {"queued", "running"} and time.monotonic() < until:
        scheduler.run_once()
        with bench(here, [*TRAINER, str(folder)]) as one:
            run_waiting_jobs(one)
    scheduler.join()
    here.db.dispose()


def main() -> int:
    if len(sys.argv) > 1:
        work(Path(sys.argv[1]))
        return 0
    configure(Host(production_packages=frozenset({"core", "worker"})))
    with tempfile.TemporaryDirectory(prefix="ft-due-") as place:
        tempfile.tempdir = place  # each of the many places that `run` makes is gone in the end
        _assert_deaths_converge()
    return 0


def _assert_deaths_converge() -> None:
    history = ProcessHistory[Path, Seen](
        name="run a job",
        initial=("queued", 0, 0, 0),
        run=run,
        observe=observe,
        recover=recover,
        death_points=(*COMMITS, *UPLOADS),
    )
    assert_process_deaths_converge(history)
    sys.stdout.write(
        f"due-work-harness: {len(history.death_points)} deaths, each came to what none comes to\n"
    )


if __name__ == "__main__":
    sys.exit(main())
