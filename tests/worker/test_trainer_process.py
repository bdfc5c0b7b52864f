from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent

import pytest

from tests.processes import Watch, is_alive
from tests.worker.conftest import WriteTrainer
from trainer.events import CheckpointSaved, PhaseStarted, Stopped, Wish
from worker.trainer_process import Order, TrainerProcess, child_environment

LONG_SECONDS = 60.0


class Starter:
    """Starts a fake trainer and gathers its log."""

    def __init__(self, write_trainer: WriteTrainer, directory: Path) -> None:
        self._write = write_trainer
        self._directory = directory
        self.log: list[str] = []

    @contextmanager
    def __call__(self, body: str) -> Iterator[TrainerProcess]:
        command = self._write(body)
        environment = child_environment(os.environ)
        with TrainerProcess(
            command, directory=self._directory, environment=environment, log=self.log.append
        ) as process:
            yield process


@pytest.fixture
def start(write_trainer: WriteTrainer, tmp_path: Path) -> Starter:
    return Starter(write_trainer, tmp_path)


def test_events_arrive_in_order_and_the_child_ends_with_zero(start: Starter) -> None:
    body = """
        tell("phase", phase="preparing")
        tell("checkpoint", name="last.ckpt", step=3, epoch=0, val_loss=None)
    """
    with start(body) as process:
        events = list(process.events())
        ending = process.wait()

    assert [type(event) for event in events] == [PhaseStarted, CheckpointSaved]
    assert ending.return_code == 0
    assert not ending.killed


def test_a_line_that_is_no_event_is_dropped_and_the_next_one_still_arrives(start: Starter) -> None:
    body = """
        print("Epoch 1: 100%")
        print("x" * 3_000_000)
        tell("phase", phase="training")
    """
    with start(body) as process:
        events = list(process.events())

    assert events == [PhaseStarted(phase="training")]


def test_stderr_is_the_log_and_broken_utf8_does_not_stop_it(start: Starter) -> None:
    body = r"""
        sys.stderr.buffer.write(b"loading \xff data \xe2\x82")
        sys.stderr.buffer.flush()
        sys.stderr.buffer.write(b"\xac\n")
    """
    with start(body) as process:
        list(process.events())
        process.wait()

    assert "".join(start.log) == "loading � data €\n"


@pytest.mark.parametrize("wish", ["cancel", "drain", "time_limit"])
def test_a_wish_reaches_the_child_which_saves_and_ends_by_itself(start: Starter, wish: Wish) -> None:
    body = """
        tell("phase", phase="training")
        tell("stopped", wish=next_wish(), step=7)
    """
    with start(body) as process:
        events = process.events()
        next(events)
        process.stop(wish, LONG_SECONDS)
        rest = list(events)
        ending = process.wait()

    assert rest == [Stopped(wish=wish, step=7)]
    assert not ending.killed


def test_a_child_deaf_to_its_wish_is_killed_after_the_grace(start: Starter) -> None:
    body = """
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        tell("phase", phase="training")
        while True:
            signal.pause()
    """
    with start(body) as process:
        events = process.events()
        next(events)
        process.stop("cancel", 0.05)
        list(events)
        ending = process.wait()

    assert ending.killed
    assert ending.describe() == "SIGKILL"


def test_a_second_wish_can_only_shorten_the_grace(start: Starter) -> None:
    with start('tell("phase", phase="training"); signal.pause()') as process:
        events = process.events()
        next(events)
        process.stop("time_limit", LONG_SECONDS)
        process.stop("cancel", 0.05)
        process.stop("drain", LONG_SECONDS)
        list(events)

        assert process.wait().killed


def test_a_crash_by_signal_is_told_apart_from_our_own_kill(start: Starter) -> None:
    with start("os.kill(os.getpid(), signal.SIGSEGV)") as process:
        list(process.events())
        ending = process.wait()

    assert not ending.killed
    assert ending.describe() == "SIGSEGV"


def test_a_grandchild_that_holds_the_pipes_dies_with_the_trainer(start: Starter) -> None:
    body = """
        keeper = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
        print(keeper.pid, file=sys.stderr, flush=True)
    """
    with start(body) as process:
        list(process.events())
        process.wait()

    assert Watch(int("".join(start.log))).ends_within(2.0)


def test_leaving_the_context_ends_a_child_that_would_run_on(start: Starter) -> None:
    with start('tell("phase", phase="training"); signal.pause()') as process:
        next(process.events())

    assert not is_alive(process.pid)


def test_the_child_learns_no_secret_of_the_service() -> None:
    environ = {
        "PATH": "/bin",
        "CUDA_VISIBLE_DEVICES": "0",
        "LC_ALL": "C.UTF-8",
        "FORETRAIN_DATABASE_URL": "postgresql://u:p@db/x",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "PGPASSWORD": "secret",
        "FORETRAIN_CHECKPOINT_SECONDS": "5",
        "FORETRAIN_KERNELS": "off",
    }

    assert set(child_environment(environ)) == {
        "PATH",
        "CUDA_VISIBLE_DEVICES",
        "LC_ALL",
        "FORETRAIN_CHECKPOINT_SECONDS",
        "FORETRAIN_KERNELS",
    }


def test_an_order_names_only_what_there_is_to_say() -> None:
    plain, full = Order(Path("/run"), 2), Order(Path("/run"), 2, memory_limit=1000, memory_kills=1)

    assert plain.arguments() == ["/run", "--threads", "2"]
    assert full.arguments() == ["/run", "--threads", "2", "--memory-limit", "1000", "--memory-kills", "1"]
    assert plain.message() == {"run_dir": "/run", "threads": 2, "memory_limit": None, "memory_kills": 0}


def test_the_child_ends_when_its_supervisor_is_killed(write_trainer: WriteTrainer, tmp_path: Path) -> None:
    body = """
        leave_when_stdin_ends()
        tell("phase", phase="training")
        signal.pause()
    """
    command = write_trainer(body)
    supervisor = dedent(f"""
        from pathlib import Path
        from worker.trainer_process import TrainerProcess
        here = Path({str(tmp_path)!r})
        with TrainerProcess({command!r}, directory=here, environment={{}}, log=print) as process:
            next(process.events())
            print(process.pid, flush=True)
            next(process.events())
    """)
    with subprocess.Popen([sys.executable, "-c", supervisor], stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        child = int(started.stdout.readline())
        watch = Watch(child)
        started.send_signal(signal.SIGKILL)

    assert watch.ends_within(2.0)
