"""A job whose trainer, worker or service ends in the middle of training comes out as if nothing had."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from core.jobs.schemas import ArtifactRead, JobCreate, JobRead, MetricPoint
from foretrain.client import Client
from tests.launching import DEADLINE, Launcher, Service
from tests.processes import eventually
from trainer.spec import TrainingSpec

pytestmark = pytest.mark.slow

STATE = "resume.safetensors"
TRAINING = TrainingSpec(
    target_metrics=["cpu_percent", "memory_percent"],
    encoder_length=12,
    horizon=4,
    hidden_size=8,
    hidden_continuous_size=4,
    attention_head_size=2,
    epochs=16,
    early_stopping_patience=0,
    batch_size=8,
    max_train_windows=128,
    log_every_n_steps=1,
)
# States are stored several times an epoch; a lost worker is noticed soon.
QUICK = {"FORETRAIN_CHECKPOINT_SECONDS": "0.2", "FORETRAIN_LEASE_SECONDS": "3"}


@dataclass(frozen=True)
class Trace:
    """What must not depend on where a job was interrupted."""

    losses: list[tuple[int, float | None]]
    weights_sha256: str
    scores: dict[str, Any]


class Place:
    """A running service with a dataset, that can be stopped and started again."""

    def __init__(self, launcher: Launcher, data_dir: Path, table: Path) -> None:
        self._launcher = launcher
        self._data_dir = data_dir
        self.service: Service = launcher.start(data_dir)
        with self.client() as client:
            self.dataset_id = client.await_dataset(client.upload_dataset(table, "csv").id).id

    def client(self) -> Client:
        return Client(self.service.url, self.service.key)

    def submit(self) -> str:
        with self.client() as client:
            return client.submit(JobCreate(dataset_id=self.dataset_id, training=TRAINING)).id

    def state(self, job_id: str) -> ArtifactRead:
        """What the job would go on from, as soon as it is stored."""
        with self.client() as client:
            return eventually(
                lambda: next((one for one in client.list_artifacts(job_id) if one.name == STATE), None),
                2 * DEADLINE,
            )

    def end(self, job_id: str) -> JobRead:
        with self.client() as client:
            return client.await_job(job_id, poll_seconds=0.2)

    def losses(self, job_id: str) -> list[MetricPoint]:
        with self.client() as client:
            [series] = client.read_metrics(job_id, ["train_loss"])
        return series.points

    def trace(self, job_id: str) -> Trace:
        with self.client() as client:
            digests = {one.name: one.sha256 for one in client.list_artifacts(job_id)}
            scores = client.get_result(job_id)["scores"]
        losses = [(point.step, point.value) for point in self.losses(job_id)]
        return Trace(losses, digests["model.safetensors"], scores)

    def interrupt(self, victim: str) -> None:
        if victim == "service":
            assert self.service.stop(signal.SIGTERM) == 0
            self.service = self._launcher.start(self._data_dir)
        else:
            program = {"trainer": "trainer.warm", "worker": "foretrain worker"}[victim]
            os.kill(self.service.pid_of(program), signal.SIGKILL)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, tiny_csv: Path) -> Iterator[Place]:
    with ExitStack() as stack:
        yield Place(Launcher(stack, QUICK), tmp_path_factory.mktemp("service") / "data", tiny_csv)


@pytest.fixture(scope="module")
def undisturbed(place: Place) -> Trace:
    job_id = place.submit()
    assert place.end(job_id).status == "succeeded"
    return place.trace(job_id)


@pytest.mark.parametrize(
    ("victim", "counted"), [("trainer", (1, 0)), ("worker", (1, 0)), ("service", (0, 1))]
)
def test_an_interrupted_job_ends_with_the_very_weights_of_an_undisturbed_one(
    place: Place, undisturbed: Trace, victim: str, counted: tuple[int, int]
) -> None:
    job_id = place.submit()
    state = place.state(job_id)
    place.interrupt(victim)

    job = place.end(job_id)

    assert job.status == "succeeded", job.status_reason
    assert (job.attempt, (job.failures, job.preemptions)) == (2, counted)
    assert job.warnings == []
    gone_on_with = min(point.step for point in place.losses(job_id) if point.attempt == 2)
    assert state.step is not None
    assert gone_on_with > state.step
    assert place.trace(job_id) == undisturbed
