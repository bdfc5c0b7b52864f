"""A job of two devices through the whole service: trained by two processes, each of which may be killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.test_resume import QUICK, TRAINING, Place
from tests.launching import Launcher
from tests.processes import command_of, descendants, eventually

pytestmark = pytest.mark.slow

BY_TWO = TRAINING.model_copy(update={"devices": 2, "accelerator": "cpu", "epochs": 8})
FOLLOWER, LEADER = "trainer.parallel.follower", "trainer.warm"


@pytest.fixture(scope="module")
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the service's processes put what has no other place."""
    return tmp_path_factory.mktemp("temporary")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, tiny_csv: Path, temporary: Path) -> Iterator[Place]:
    assert len(os.sched_getaffinity(0)) > 1, "two processes that train want a core each"
    own = {"FORETRAIN_CPU_DEVICES": "2", "TMPDIR": str(temporary)}
    with ExitStack() as stack:
        yield Place(Launcher(stack, QUICK | own), tmp_path_factory.mktemp("service") / "data", tiny_csv)


def kill(place: Place, program: str) -> None:
    os.kill(place.service.pid_of(program), signal.SIGKILL)


def followers(place: Place) -> list[int]:
    return [pid for pid in descendants(place.service.process.pid) if FOLLOWER in command_of(pid)]


def test_a_job_of_two_processes_ends_with_the_same_weights_whichever_of_them_is_killed(
    place: Place, temporary: Path
) -> None:
    undisturbed = place.submit(BY_TWO)
    job = place.end(undisturbed)
    assert (job.status, job.attempt) == ("succeeded", 1), job.status_reason
    assert job.resolved_spec is not None
    assert job.resolved_spec["devices"] == 2

    disturbed = place.submit(BY_TWO)
    for attempt, victim in enumerate((FOLLOWER, LEADER), start=1):
        place.state(disturbed, attempt)
        kill(place, victim)
    job = place.end(disturbed)

    assert (job.status, job.attempt, job.failures) == ("succeeded", 3, 2), job.status_reason
    assert place.trace(disturbed) == place.trace(undisturbed)
    assert eventually(lambda: not followers(place), 10)
    assert [path.name for path in temporary.iterdir() if "rank" in path.name] == []


def test_a_job_of_two_processes_is_cancelled_with_all_of_them(place: Place) -> None:
    job_id = place.submit(BY_TWO.model_copy(update={"epochs": 1000}))
    place.state(job_id, 1)
    assert followers(place)
    with place.client() as client:
        client.cancel(job_id)
        *_, ended = client.watch(job_id, poll_seconds=0.2)

    assert (ended.status, ended.stop_reason) == ("cancelled", "cancelled")
    assert eventually(lambda: not followers(place), 10)
