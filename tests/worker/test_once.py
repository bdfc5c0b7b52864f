"""A worker for one job, as batch schedulers start it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from tests.worker.conftest import WriteTrainer
from tests.worker.stations import Station, bench, station
from trainer.spec import TrainingSpec
from worker.app import serve
from worker.once import OnceExit, run_one
from worker.standby import Standby

FINISHED = """
    tell("finished", stop_reason="completed", summary={})
"""
ENDS = {
    FINISHED: (OnceExit.DONE, "succeeded"),
    'tell("failed", code="invalid_dataset", message="no data")': (OnceExit.JOB_FAILED, "failed"),
    "os._exit(1)": (OnceExit.GIVEN_BACK, "queued"),
}
ASKS_ITS_WORKER_TO_END = """
    os.kill(os.getppid(), signal.SIGTERM)
    tell("stopped", wish=next_wish(), step=1)
"""
TELLS_ITS_GPUS = """
    Path(sys.argv[0]).with_name("gpus").write_text(os.environ["CUDA_VISIBLE_DEVICES"])
    tell("finished", stop_reason="completed", summary={})
"""


@pytest.fixture
def here(tmp_path: Path, sqlite_url: str) -> Iterator[Station]:
    with station(tmp_path / "data", database_url=sqlite_url) as made:
        yield made


@pytest.fixture(autouse=True)
def _signals_as_before() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def run(here: Station, trainer: list[str], wait_seconds: float = 0.0, **changes: Any) -> OnceExit:
    with bench(here, trainer, **changes) as one:
        return run_one(one, wait_seconds)


@pytest.mark.parametrize("end", ENDS, ids=["finished", "failed", "crashed"])
def test_the_exit_code_says_how_the_one_job_ended(
    here: Station, write_trainer: WriteTrainer, end: str
) -> None:
    first, second = here.submit(), here.submit()
    exit_code, status = ENDS[end]

    assert run(here, write_trainer(end)) is exit_code
    assert (here.job(first).status, here.job(second).status) == (status, "queued")


def test_no_job_is_told_at_once_where_no_wait_was_asked_for(
    here: Station, write_trainer: WriteTrainer
) -> None:
    assert run(here, write_trainer(FINISHED)) is OnceExit.NO_JOB


def test_a_job_that_comes_while_it_waits_is_run(
    here: Station, write_trainer: WriteTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.once._LOOK_SECONDS", 0.01)
    submitted: list[str] = []

    @dataclass
    class SecondLook:
        """Stands where a trainer is made ready before each look; the job comes before the second."""

        looks: int = 0

        def prepare(self) -> None:
            self.looks += 1
            if self.looks == 2:
                submitted.append(here.submit())

        def take(self, *_: object) -> None:
            return None

    exit_code = run(here, write_trainer(FINISHED), 60.0, standby=cast("Standby", SecondLook()))

    assert exit_code is OnceExit.DONE
    assert [here.job(job_id).status for job_id in submitted] == ["succeeded"]


def test_sigterm_gives_the_job_back(here: Station, write_trainer: WriteTrainer) -> None:
    job_id = here.submit()

    assert run(here, write_trainer(ASKS_ITS_WORKER_TO_END)) is OnceExit.GIVEN_BACK
    assert (here.job(job_id).status, here.job(job_id).preemptions) == ("queued", 1)


def test_a_job_waits_for_a_worker_with_as_many_devices_and_its_trainer_sees_these_alone(
    here: Station, write_trainer: WriteTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = tmp_path / "nvidia-smi"
    driver.write_text('#!/bin/sh\nfor i in 0 1 2; do echo "$i, NVIDIA H100, 81559, 9.0"; done\n')
    driver.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    trainer = write_trainer(TELLS_ITS_GPUS)
    job_id = here.submit(training=TrainingSpec(accelerator="cuda", devices=2))

    def work(devices: list[int]) -> int:
        return serve(
            here.settings,
            here.storage,
            devices=devices,
            once_within=0.0,
            trainer=trainer,
            warm_trainer=None,
        )

    assert work([0]) == OnceExit.NO_JOB
    assert here.job(job_id).status == "queued"
    assert work([2, 1]) == OnceExit.DONE
    assert here.job(job_id).status == "succeeded"
    assert (tmp_path / "gpus").read_text() == "2,1"


def test_a_worker_without_a_gpu_holds_as_many_processes_as_it_is_told(
    tmp_path: Path, sqlite_url: str, write_trainer: WriteTrainer
) -> None:
    trainer = write_trainer(FINISHED)
    with station(tmp_path / "data", database_url=sqlite_url, cpu_devices=2) as here:
        job_id = here.submit(training=TrainingSpec(accelerator="cpu", devices=2))

        exit_code = serve(
            here.settings, here.storage, devices=[], once_within=0.0, trainer=trainer, warm_trainer=None
        )

        assert exit_code == OnceExit.DONE
        assert here.job(job_id).status == "succeeded"


@pytest.mark.slow
def test_the_command_waits_for_no_job_and_says_that_there_was_none(here: Station) -> None:
    settings = {
        "FORETRAIN_DATA_DIR": here.settings.data_dir,
        "FORETRAIN_DATABASE_URL": here.settings.database_url,
        "FORETRAIN_STORAGE_URL": here.settings.storage_url,
    }
    command = [sys.executable, "-m", "foretrain", "worker", "--once"]

    ended = subprocess.run(
        command, env=os.environ | {name: str(value) for name, value in settings.items()}, check=False
    )

    assert ended.returncode == OnceExit.NO_JOB
