"""Workers as they are deployed: processes on a real queue."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from textwrap import dedent

import pytest
import redis
from sqlalchemy import text

from core.queue import make_celery, nudge
from core.scheduler import Scheduler
from foretrain.embedded_broker import make_queues
from tests.processes import Watch, eventually
from tests.worker.conftest import WriteTrainer
from tests.worker.stations import Station, station

pytestmark = pytest.mark.slow

DEADLINE = 30.0
QUICK = """
    obey()
    tell("finished", stop_reason="completed", summary={})
"""
UNTIL_TOLD = """
    obey()
    here = Path(sys.argv[0]).parent
    (here / "pid.tmp").write_text(str(os.getpid()))
    (here / "pid.tmp").replace(here / "pid")
    tell("phase", phase="training")
    while not (here / "go").exists():
        time.sleep(0.01)
    tell("finished", stop_reason="completed", summary={})
"""


class Fleet:
    """Worker processes on one database and one broker."""

    def __init__(self, here: Station, trainer: list[str], stack: ExitStack) -> None:
        self.here = here
        self.celery = make_celery(here.settings)
        self._trainer = trainer
        self._stack = stack
        self._folder = Path(trainer[-1]).parent

    def start(self, name: str) -> subprocess.Popen[bytes]:
        """A worker that has announced itself."""
        script = dedent(f"""
            import sys
            from core.settings import load_settings
            from core.storage import open_storage
            from worker.app import serve
            settings = load_settings()
            storage = open_storage(settings.storage_url)
            sys.exit(serve(settings, storage, name={name!r}, trainer={self._trainer!r}, warm_trainer=None))
        """)
        settings = self.here.settings
        chosen = {
            "FORETRAIN_DATA_DIR": settings.data_dir,
            "FORETRAIN_DATABASE_URL": settings.database_url,
            "FORETRAIN_BROKER_URL": settings.broker_url,
            "FORETRAIN_HEARTBEAT_SECONDS": settings.heartbeat_seconds,
            "FORETRAIN_LEASE_SECONDS": settings.lease_seconds,
        }
        environment = os.environ | {variable: str(value) for variable, value in chosen.items()}
        process = subprocess.Popen([sys.executable, "-c", script], env=environment)
        self._stack.callback(_end, process)
        eventually(lambda: name in self.announced(), DEADLINE)
        return process

    def announced(self) -> set[str]:
        with self.here.db.readers.begin() as session:
            return set(session.scalars(text("SELECT name FROM workers")))

    def submit(self) -> str:
        job_id = self.here.submit()
        nudge(self.celery, "cpu")
        return job_id

    def child(self) -> Watch:
        """The trainer that runs now."""
        file = self._folder / "pid"
        return Watch(int(eventually(lambda: file.read_text() if file.exists() else None, DEADLINE)))

    def freeze(self, process: subprocess.Popen[bytes]) -> None:
        """Between two of its writes: SQLite's only writer blocks all others for as long as it is frozen."""
        with self.here.db.sessions.begin() as session:
            session.connection()
            process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)

    def let_trainers_finish(self) -> None:
        (self._folder / "go").touch()

    def await_end(self, job_id: str) -> None:
        eventually(lambda: self.here.job(job_id).is_terminal, DEADLINE)

    @contextmanager
    def scheduled(self) -> Iterator[None]:
        stop = threading.Event()
        scheduler = Scheduler(self.here.db, self.celery, self.here.storage, self.here.settings)
        thread = threading.Thread(target=scheduler.run, args=(stop,))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


MakeFleet = Callable[[list[str]], Fleet]


@pytest.fixture
def make_fleet(tmp_path: Path, database_url: str, broker_url: str) -> Iterator[MakeFleet]:
    with ExitStack() as stack:

        def make(trainer: list[str]) -> Fleet:
            here = stack.enter_context(
                station(
                    tmp_path / "data",
                    database_url=database_url,
                    broker_url=broker_url,
                    heartbeat_seconds=0.2,
                    lease_seconds=1.0,
                )
            )
            return Fleet(here, trainer, stack)

        yield make


def test_two_workers_on_one_queue_run_each_job_once(
    make_fleet: MakeFleet, write_trainer: WriteTrainer
) -> None:
    fleet = make_fleet(write_trainer(QUICK))
    fleet.start("one")
    fleet.start("two")

    ids = [fleet.submit() for _ in range(6)]
    for job_id in ids:
        fleet.await_end(job_id)

    for job_id in ids:
        assert fleet.here.job(job_id).status == "succeeded"
        assert fleet.here.event_types(job_id).count("job.running") == 1


def test_a_killed_worker_takes_its_trainer_along_and_another_one_runs_the_job_again(
    make_fleet: MakeFleet, write_trainer: WriteTrainer
) -> None:
    fleet = make_fleet(write_trainer(UNTIL_TOLD))
    first = fleet.start("first")
    job_id = fleet.submit()
    child = fleet.child()

    first.kill()
    assert child.ends_within(2.0)
    fleet.let_trainers_finish()
    fleet.start("second")
    with fleet.scheduled():
        fleet.await_end(job_id)

    job = fleet.here.job(job_id)
    assert (job.status, job.attempt, job.failures) == ("succeeded", 2, 1)


def test_a_worker_that_was_frozen_past_its_lease_changes_nothing_when_it_wakes(
    make_fleet: MakeFleet, write_trainer: WriteTrainer
) -> None:
    fleet = make_fleet(write_trainer(UNTIL_TOLD))
    frozen = fleet.start("frozen")
    job_id = fleet.submit()
    child = fleet.child()

    fleet.freeze(frozen)
    fleet.start("second")
    with fleet.scheduled():
        eventually(lambda: fleet.here.job(job_id).attempt == 2, DEADLINE)
        frozen.send_signal(signal.SIGCONT)
        assert child.ends_within(DEADLINE)
        fleet.let_trainers_finish()
        fleet.await_end(job_id)

    job = fleet.here.job(job_id)
    assert (job.status, job.attempt, job.failures) == ("succeeded", 2, 1)


def test_a_broker_that_forgets_everything_loses_no_job(
    make_fleet: MakeFleet, write_trainer: WriteTrainer
) -> None:
    fleet = make_fleet(write_trainer(UNTIL_TOLD))
    fleet.start("one")
    running = fleet.submit()
    fleet.child()
    waiting = [fleet.submit() for _ in range(3)]

    socket_path = fleet.here.settings.broker_url.removeprefix("redis+socket://")
    with redis.Redis(unix_socket_path=socket_path) as broker:
        broker.flushall()
    fleet.let_trainers_finish()
    with fleet.scheduled():
        for job_id in (running, *waiting):
            fleet.await_end(job_id)

    assert {fleet.here.job(job_id).status for job_id in (running, *waiting)} == {"succeeded"}
    assert all(fleet.here.job(job_id).attempt == 1 for job_id in (running, *waiting))


def test_sigterm_gives_the_job_back_and_ends_with_zero(
    make_fleet: MakeFleet, write_trainer: WriteTrainer
) -> None:
    fleet = make_fleet(write_trainer(UNTIL_TOLD))
    worker = fleet.start("one")
    job_id = fleet.submit()
    fleet.child()

    worker.terminate()

    assert worker.wait(DEADLINE) == 0
    job = fleet.here.job(job_id)
    assert (job.status, job.preemptions, job.failures) == ("queued", 1, 0)
    assert fleet.announced() == set()
    assert [path.name for path in (fleet.here.settings.data_dir / "runs").iterdir()] == ["lock"]


def test_a_worker_that_only_just_starts_ends_with_zero_too(
    make_fleet: MakeFleet, write_trainer: WriteTrainer
) -> None:
    fleet = make_fleet(write_trainer(QUICK))
    worker = fleet.start("one")  # announced, but not yet consuming

    worker.terminate()

    assert worker.wait(DEADLINE) == 0
    assert fleet.announced() == set()


def test_a_broker_in_a_file_serves_where_there_is_no_valkey(
    tmp_path: Path, sqlite_url: str, write_trainer: WriteTrainer
) -> None:
    with ExitStack() as stack:
        broker_url = f"sqla+sqlite:///{tmp_path / 'broker.db'}"
        here = stack.enter_context(
            station(tmp_path / "data", database_url=sqlite_url, broker_url=broker_url, heartbeat_seconds=0.2)
        )
        fleet = Fleet(here, write_trainer(QUICK), stack)
        make_queues(fleet.celery)
        fleet.start("one")

        ids = [fleet.submit() for _ in range(2)]
        for job_id in ids:
            fleet.await_end(job_id)

        assert {here.job(job_id).status for job_id in ids} == {"succeeded"}
