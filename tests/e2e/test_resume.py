"""A service at work: a job comes out as if nothing had happened to it, whatever did; another is cancelled."""

from __future__ import annotations

import hashlib
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
ENDLESS = TRAINING.model_copy(update={"epochs": 1000})
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

    def submit(self, training: TrainingSpec = TRAINING) -> str:
        with self.client() as client:
            return client.submit(JobCreate(dataset_id=self.dataset_id, training=training)).id

    def state(self, job_id: str, attempt: int) -> ArtifactRead:
        """What the job would go on from, as soon as this attempt has stored it."""

        def look() -> ArtifactRead | None:
            listed = client.list_artifacts(job_id)
            return next((one for one in listed if (one.name, one.attempt) == (STATE, attempt)), None)

        with self.client() as client:
            return eventually(look, 2 * DEADLINE)

    def end(self, job_id: str) -> JobRead:
        with self.client() as client:
            *_, job = client.watch(job_id, poll_seconds=0.2)
        return job

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
def undisturbed(place: Place) -> str:
    """The id of a job that nothing happened to."""
    job_id = place.submit()
    assert place.end(job_id).status == "succeeded"
    return job_id


def test_an_interrupted_job_ends_with_the_very_weights_of_an_undisturbed_one(
    place: Place, undisturbed: str
) -> None:
    job_id = place.submit()
    states = []
    for attempt, victim in enumerate(("trainer", "worker", "service"), start=1):
        states.append(place.state(job_id, attempt))
        place.interrupt(victim)

    job = place.end(job_id)

    assert job.status == "succeeded", job.status_reason
    assert (job.attempt, job.failures, job.preemptions) == (4, 2, 1)
    assert job.warnings == []
    losses = place.losses(job_id)
    for attempt, state in enumerate(states, start=2):
        steps = [point.step for point in losses if point.attempt == attempt]
        assert state.step is not None
        assert all(step > state.step for step in steps), (attempt, state.step)
    assert losses[-1].attempt == job.attempt
    assert place.trace(job_id) == place.trace(undisturbed)


def test_what_is_downloaded_is_what_was_listed(place: Place, undisturbed: str, tmp_path: Path) -> None:
    with place.client() as client:
        listed = {one.name: one.sha256 for one in client.list_artifacts(undisturbed)}
        for name in listed:
            client.download(undisturbed, name, tmp_path / name)

    assert "model.ckpt" in listed
    assert {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in tmp_path.iterdir()} == listed


def test_a_job_that_is_cancelled_while_it_trains_leaves_its_last_weights(place: Place) -> None:
    job_id = place.submit(ENDLESS)
    with place.client() as client:

        def trains() -> bool:
            progress = client.get_job(job_id).progress
            return progress is not None and progress.step > 0

        eventually(trains, 2 * DEADLINE)
        client.cancel(job_id)
        *_, ended = client.watch(job_id, poll_seconds=0.2)
        kept = {artifact.name: artifact.complete for artifact in client.list_artifacts(job_id)}

    assert (ended.status, ended.stop_reason) == ("cancelled", "cancelled")
    assert kept["last.ckpt"] is False
