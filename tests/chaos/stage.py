"""A deployment on one machine: API, schedulers, workers, and the servers behind lines that can be broken."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from signal import SIGINT
from typing import Any

import httpx2
import psycopg
from sqlalchemy import make_url
from valkey import Valkey

from core import migrations
from core.access import service as access
from core.access.scopes import Scope
from core.database import connect
from core.storage import create_bucket
from tests.chaos.diary import Diary
from tests.chaos.judge import Place, Promise
from tests.chaos.members import Member
from tests.chaos.paces import Pace
from tests.chaos.plans import Plan
from tests.chaos.wire import Exchange, Wire
from tests.processes import command_of, descendants, eventually, is_alive
from tests.servers import (
    connects,
    free_port,
    postgres_answers,
    postgres_url,
    prepare_postgres,
    s3_command,
    short_folder,
    valkey_command,
)

S3_KEY_ID, S3_SECRET = "test", "testing"  # moto takes any
BUCKET, PREFIX = "chaos", "some/prefix"
QUEUE = "foretrain.cpu"
REAL_TRAINER = "trainer.warm"
SMALL_SPEC = {"target_metrics": ["cpu_percent"], "encoder_length": 12, "horizon": 4}
UNFINISHED = "('queued', 'running', 'paused')"


@dataclass(frozen=True)
class Lines:
    """A process's connections to the outside."""

    database: Wire
    broker: Wire
    storage: Wire

    def all(self) -> tuple[Wire, ...]:
        return self.database, self.broker, self.storage


@dataclass(frozen=True)
class Victim:
    """A job that runs, on a worker, in a trainer."""

    job_id: str
    token: int
    attempt: int
    worker: Member
    trainer_pid: int


class Stage:
    """Made by `raised`. `accepted` are the promises that the judge holds the service to."""

    def __init__(self, folder: Path, pace: Pace, seed: int, stack: ExitStack) -> None:
        self.folder = folder
        self.pace = pace
        self.rng = random.Random(seed)  # noqa: S311  # for repeating a run, not for secrets
        self.plans = folder / "plans"
        self.plans.mkdir()
        self.diary = Diary()
        self.accepted: dict[str, Promise] = {}
        self.damaged: set[str] = set()
        self.lines: dict[str, Lines] = {}
        self.key = self.other_key = ""
        self._seeds = count(1)
        self._worker_numbers = count(1)
        self._stack = stack
        self._exchange = stack.enter_context(Exchange())
        self._port = free_port()
        self._s3_port = free_port()
        self.postgres = self._postgres()
        self.broker = self._broker()
        self.s3 = self._s3()
        self.servers = (self.postgres, self.broker, self.s3)
        for server in self.servers:
            stack.callback(server.close)
            server.start(awaits=False)
        for server in self.servers:
            server.await_ready()
        self._prepare()
        self.api = self._member("api", [sys.executable, "-m", "foretrain", "api", "--port", str(self._port)])
        self.schedulers = [self._scheduler(f"scheduler-{number}") for number in (1, 2)]
        self.workers: list[Member] = []
        self.http = stack.enter_context(self._client())

    def _postgres(self) -> Member:
        folder = self.folder / "postgres"
        folder.mkdir()
        self.folder.chmod(0o755)
        command, who = prepare_postgres(folder)
        # Other tests' servers need not keep what was committed when they crash; this one does.
        command += ["-c", "synchronous_commit=on"]
        self._postgres_folder = folder
        ready = lambda: postgres_answers(folder)  # noqa: E731
        return Member("postgres", command, folder, who=who, is_ready=ready, stop=SIGINT)

    def _broker(self) -> Member:
        path = self.folder / "broker.sock"
        ready = lambda: connects(socket.AF_UNIX, str(path))  # noqa: E731
        return Member("broker", valkey_command(path), self.folder, is_ready=ready)

    def _s3(self) -> Member:
        ready = lambda: connects(socket.AF_INET, ("127.0.0.1", self._s3_port))  # noqa: E731
        return Member("s3", s3_command(self._s3_port), self.folder, is_ready=ready)

    def _prepare(self) -> None:
        migrations.upgrade(self.database_url)
        db = connect(self.database_url)
        with db.sessions.begin() as session:
            _, self.key = access.create_key(session, "chaos", list(Scope))
            _, self.other_key = access.create_key(session, "another tenant", list(Scope))
        db.dispose()
        url = f"s3://{BUCKET}/{PREFIX}?endpoint={self.s3_endpoint}&region=us-east-1&allow_http=true"
        create_bucket(url, access_key_id=S3_KEY_ID, secret_access_key=S3_SECRET)

    @property
    def database_url(self) -> str:
        """Past all lines, as for an operator on the machine itself."""
        return postgres_url(self._postgres_folder)

    @property
    def s3_endpoint(self) -> str:
        return f"http://127.0.0.1:{self._s3_port}"

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def _client(self) -> httpx2.Client:
        headers = {"Authorization": f"Bearer {self.key}"}
        return httpx2.Client(base_url=self.api_url, headers=headers, timeout=30.0)

    def _member(self, name: str, command: list[str], **environment: str) -> Member:
        lines = Lines(
            database=self._exchange.wire(self._postgres_folder / ".s.PGSQL.5432"),
            broker=self._exchange.wire(self.folder / "broker.sock"),
            storage=self._exchange.wire(("127.0.0.1", self._s3_port)),
        )
        self.lines[name] = lines
        settings = {
            "FORETRAIN_DATA_DIR": str(self.folder / name),
            "FORETRAIN_DATABASE_URL": f"postgresql://postgres@127.0.0.1:{lines.database.port}/postgres",
            "FORETRAIN_BROKER_URL": f"redis://127.0.0.1:{lines.broker.port}/0",
            "FORETRAIN_STORAGE_URL": f"s3://{BUCKET}/{PREFIX}?endpoint=http://127.0.0.1:{lines.storage.port}"
            "&region=us-east-1&allow_http=true",
            "FORETRAIN_STORAGE_ACCESS_KEY_ID": S3_KEY_ID,
            "FORETRAIN_STORAGE_SECRET_ACCESS_KEY": S3_SECRET,
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        environment = settings | self.pace.settings() | environment
        member = Member(
            name,
            command,
            self.folder,
            environment=environment,
            is_ready=self._answers if name == "api" else lambda: True,
            # Without a scheduler no promise about time is kept. Workers may be killed while they start.
            pulse=self.folder / name / "scheduler.pulse" if "scheduler" in name else None,
        )
        self._stack.callback(member.close)
        return member

    def _scheduler(self, name: str) -> Member:
        return self._member(name, [sys.executable, "-m", "foretrain", "scheduler"])

    def is_of(self, member: Member, release: Path) -> None:
        """Once it starts again, it runs the source tree in `release`."""
        member.environment["PYTHONPATH"] = os.pathsep.join([str(release), *sys.path])

    def add_worker(self, *, is_real: bool = False, **environment: str) -> Member:
        """Another worker, not started: with the scripted trainer, or the real one."""
        name = f"worker-{next(self._worker_numbers)}"
        scripted = [sys.executable, "-m", "tests.chaos.scripted_worker", name, str(self.plans)]
        real = [sys.executable, "-m", "foretrain", "worker", "--name", name]
        member = self._member(name, real if is_real else scripted, **environment)
        self.workers.append(member)
        return member

    @property
    def members(self) -> list[Member]:
        return [self.api, *self.schedulers, *self.workers]

    def start(self, workers: int) -> None:
        """The whole deployment, ready."""
        for _ in range(workers):
            self.add_worker()
        for member in self.members:
            member.start(awaits=False)
        for member in self.members:
            member.await_ready()
        self.dataset_id = self._upload_dataset(self.key)
        self.other_dataset_id = self._upload_dataset(self.other_key)

    def dismiss_workers(self, *, keep: int) -> None:
        """The others end, after the job they have."""
        self.workers, dismissed = self.workers[:keep], self.workers[keep:]
        for worker in dismissed:
            worker.stop()
            worker.close()

    def let_last(self, low: float, high: float, *, of: float = 1.0) -> None:
        """How long a fault lasts or when it strikes: part of the fault, from the seed. Nothing is awaited."""
        time.sleep(self.rng.uniform(low, high) * of)

    def heal(self) -> None:
        """Whatever a fault has ended runs again, with all connections whole."""
        for lines in self.lines.values():
            for wire in lines.all():
                wire.mend()
        down = [one for one in (*self.servers, *self.members) if not one.is_running()]
        for member in down:
            member.start(awaits=False)
        for member in down:
            member.await_ready()

    def _answers(self) -> bool:
        return connects(socket.AF_INET, ("127.0.0.1", self._port))

    def _upload_dataset(self, key: str) -> str:
        own = {"Authorization": f"Bearer {key}"}
        rows = [f"2026-01-{1 + hour // 24:02}T{hour % 24:02}:00:00Z,{40 + hour % 24}" for hour in range(240)]
        body = "\n".join(["timestamp,cpu_percent", *rows]).encode()
        answer = self.http.post("/v1/datasets?format=csv", content=body, headers=own)
        assert answer.status_code in {200, 201}, answer.text
        dataset_id = str(answer.json()["id"])
        ready = lambda: self._dataset_status(dataset_id, own) == "ready"  # noqa: E731
        eventually(ready, 30.0)
        return dataset_id

    def _dataset_status(self, dataset_id: str, headers: dict[str, str]) -> str:
        return str(self.http.get(f"/v1/datasets/{dataset_id}", headers=headers).json()["status"])

    def draw_plan(self, **changes: Any) -> Plan:
        """A training like others, of one to four seconds."""
        drawn = {
            "steps": self.rng.randint(10, 24),
            "size_bytes": self.rng.choice([1_000, 30_000, 200_000]),
            "stop_seconds": self.rng.choice([0.0, 0.0, 1.0]),
            "saving_seconds": self.rng.choice([0.0, 0.3]),
        }
        return Plan(**(drawn | changes))

    def job_body(self, plan: Plan, **limits: int) -> dict[str, Any]:
        """A request for a job, its plan laid down where the scripted trainer finds it."""
        seed = next(self._seeds)
        (self.plans / f"{seed}.json").write_text(json.dumps(asdict(plan)))
        training = SMALL_SPEC | {"random_seed": seed}
        return {
            "dataset_id": self.dataset_id,
            "training": training,
            # A storm hits one job more often than its owner would put up with.
            "limits": {"max_attempts": 20} | limits,
        }

    def submit(self, plan: Plan | None = None, *, ends: set[str] | None = None, **limits: int) -> Promise:
        """A job the service has accepted."""
        chosen = plan or self.draw_plan()
        body = self.job_body(chosen, **limits)
        answer = self.http.post("/v1/jobs", json=body)
        assert answer.status_code == 201, answer.text
        return self.promise(answer.json()["id"], body, chosen, ends)

    def promise(
        self,
        job_id: str,
        body: dict[str, Any],
        plan: Plan,
        ends: set[str] | None = None,
        key: str | None = None,
    ) -> Promise:
        """Notes what was answered with 201; `key` is its owner's, where that is the other tenant."""
        made = Promise(job_id, body["training"]["random_seed"], plan.steps, ends or {"succeeded"}, key)
        self.accepted[job_id] = made
        return made

    def populate(self, waiting: int) -> None:
        """Sees to it that so many jobs wait or run."""
        [(unfinished,)] = self.sql(f"SELECT count(*) FROM jobs WHERE status IN {UNFINISHED}")  # noqa: S608
        for _ in range(waiting - unfinished):
            self.submit()

    def sql(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows, past all lines."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), values)
            return cursor.fetchall() if cursor.description else []

    @property
    def dsn(self) -> str:
        url = make_url(self.database_url)
        return f"host={url.query['host']} user={url.username} dbname={url.database}"

    @property
    def place(self) -> Place:
        """For the judge."""
        return Place(
            dsn=self.dsn,
            api_url=self.api_url,
            key=self.key,
            s3_endpoint=self.s3_endpoint,
            s3_key_id=S3_KEY_ID,
            s3_secret=S3_SECRET,
            bucket=BUCKET,
            prefix=PREFIX,
        )

    @contextmanager
    def valkey(self) -> Iterator[Any]:
        with Valkey(unix_socket_path=str(self.folder / "broker.sock")) as client:
            yield client

    def status(self, job_id: str) -> str:
        [(status,)] = self.sql("SELECT status FROM jobs WHERE id = %s", job_id)
        return str(status)

    def running(self) -> list[Victim]:
        """Jobs whose trainers are at work, in an order that does not depend on chance."""
        rows = self.sql(
            "SELECT id, token, attempt, worker_name FROM jobs WHERE status = 'running' ORDER BY worker_name"
        )
        workers = {worker.name: worker for worker in self.workers if worker.is_running()}
        found = []
        for job_id, token, attempt, name in rows:
            pid = name in workers and self._trainer_pid(job_id, token, workers[name])
            if pid and is_alive(pid):
                found.append(Victim(job_id, token, attempt, workers[name], pid))
        return found

    def _trainer_pid(self, job_id: str, token: int, worker: Member) -> int | None:
        try:
            return int((self.plans / f"{job_id}-t{token}.pid").read_text())
        except (FileNotFoundError, ValueError):
            # A worker at work has one child alone: the real trainer, which tells nobody its number.
            return next((pid for pid in descendants(worker.pid) if REAL_TRAINER in command_of(pid)), None)

    def pick(self) -> Victim:
        """One of those that run."""

        def look() -> Victim | None:
            running = self.running()
            # Blows spread over many jobs: one that is hit again and again waits out its back-off.
            unhurt = [victim for victim in running if victim.attempt == 1]
            return self.rng.choice(unhurt or running) if running else None

        return eventually(look, 60.0)

    def await_all(self, seconds: float) -> bool:
        """Whether every job has ended by then."""
        until = time.monotonic() + seconds
        query = f"SELECT count(*) FROM jobs WHERE status IN {UNFINISHED}"  # noqa: S608
        while self.sql(query) != [(0,)]:
            if time.monotonic() > until:
                return False
            time.sleep(0.2)
        return True


@contextmanager
def raised(pace: Pace, seed: int, logs: Path | None = None) -> Iterator[Stage]:
    """The servers run, the service is not started yet; everything ends with the block, but for the logs."""
    with short_folder("ft-chaos-") as folder:
        try:
            with ExitStack() as stack:
                yield Stage(folder, pace, seed, stack)
        finally:
            if logs is not None:
                logs.mkdir(parents=True, exist_ok=True)
                for log in folder.glob("*.log"):
                    shutil.copy(log, logs)
