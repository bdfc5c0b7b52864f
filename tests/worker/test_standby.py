from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from tests.processes import Watch
from tests.worker.conftest import WriteTrainer
from trainer.events import Finished
from worker.standby import Standby
from worker.trainer_process import Order, child_environment

SOON = 20.0
WARM = """
    print("libraries loaded", file=sys.stderr, flush=True)
    order = json.loads(sys.stdin.readline())
    tell("finished", stop_reason="completed", summary=order | {"pid": os.getpid()})
"""


@pytest.fixture
def standby(write_trainer: WriteTrainer, tmp_path: Path) -> Iterator[Standby]:
    made = Standby(write_trainer(WARM), folder=tmp_path, environment=child_environment(os.environ))
    yield made
    made.close()


def test_a_run_is_handed_to_the_process_that_was_there_before_it(standby: Standby, tmp_path: Path) -> None:
    log: list[str] = []
    standby.prepare()

    process = standby.take(Order(tmp_path / "run", 2, memory_limit=1 << 30, memory_kills=1), log.append)

    assert process is not None
    with process:
        [event] = process.events()
        process.wait()
    assert isinstance(event, Finished)
    assert event.summary == {
        "run_dir": str(tmp_path / "run"),
        "threads": 2,
        "memory_limit": 1 << 30,
        "memory_kills": 1,
        "pid": process.pid,
    }
    assert "".join(log) == "libraries loaded\n"


def test_each_process_serves_one_run(standby: Standby, tmp_path: Path) -> None:
    standby.prepare()
    first = standby.take(Order(tmp_path, 1), lambda _: None)
    assert first is not None
    assert standby.take(Order(tmp_path, 1), lambda _: None) is None

    standby.prepare()
    second = standby.take(Order(tmp_path, 1), lambda _: None)

    assert second is not None
    assert first.pid != second.pid
    first.close()
    second.close()


def test_preparing_twice_starts_one_process(standby: Standby, tmp_path: Path) -> None:
    standby.prepare()
    standby.prepare()
    process = standby.take(Order(tmp_path, 1), lambda _: None)
    assert process is not None
    process.close()

    assert standby.take(Order(tmp_path, 1), lambda _: None) is None


def test_one_that_died_waiting_is_not_handed_a_run(write_trainer: WriteTrainer, tmp_path: Path) -> None:
    standby = Standby(write_trainer("sys.exit(1)"), folder=tmp_path, environment={})
    standby.prepare()
    ready = standby._ready
    assert ready is not None
    ready.wait()

    assert standby.take(Order(tmp_path, 1), lambda _: None) is None


def test_closing_ends_the_one_that_waits(standby: Standby) -> None:
    standby.prepare()
    ready = standby._ready
    assert ready is not None
    watch = Watch(ready.pid)

    standby.close()

    assert watch.ends_within(SOON)


@pytest.mark.slow
def test_the_real_one_ends_with_its_supervisor_even_while_it_loads(tmp_path: Path) -> None:
    supervisor = dedent(f"""
        import os
        from pathlib import Path
        from worker.run_job import WARM_TRAINER
        from worker.standby import Standby
        standby = Standby(WARM_TRAINER, folder=Path({str(tmp_path)!r}), environment=dict(os.environ))
        standby.prepare()
        print(standby._ready.pid, flush=True)
        standby._ready.wait()
    """)
    with subprocess.Popen([sys.executable, "-c", supervisor], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        watch = Watch(int(process.stdout.readline()))
        process.kill()

    assert watch.ends_within(2.0)
