"""A service that is stopped in the middle of a real training, and the next one that finds the job."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from core.jobs.schemas import JobCreate, JobRead
from foretrain.client import Client
from tests.launching import DEADLINE, Launcher
from tests.processes import eventually
from trainer.spec import TrainingSpec

pytestmark = pytest.mark.slow

ENDLESS = TrainingSpec(
    target_metrics=["cpu_percent"],
    encoder_length=12,
    horizon=4,
    hidden_size=8,
    hidden_continuous_size=4,
    attention_head_size=2,
    epochs=1000,
    early_stopping_patience=0,
    batch_size=16,
    max_train_windows=32,
    log_every_n_steps=1,
)


def await_steps(client: Client, job_id: str, attempt: int) -> JobRead:
    """The job, once this attempt has made a step."""

    def look() -> JobRead | None:
        job = client.get_job(job_id)
        trains = job.attempt == attempt and job.progress is not None and job.progress.step > 0
        return job if trains else None

    return eventually(look, 2 * DEADLINE)


def test_a_stopped_service_puts_its_job_back_and_the_next_one_runs_it_until_it_is_cancelled(
    tiny_csv: Path, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        launcher = Launcher(stack)
        first = launcher.start(tmp_path / "data")
        with Client(first.url, first.key) as client:
            dataset = client.await_dataset(client.upload_dataset(tiny_csv, "csv").id)
            job_id = client.submit(JobCreate(dataset_id=dataset.id, training=ENDLESS)).id
            await_steps(client, job_id, attempt=1)
        assert first.stop(signal.SIGTERM) == 0

        second = launcher.start(tmp_path / "data")
        with Client(second.url, second.key) as client:
            again = await_steps(client, job_id, attempt=2)
            client.cancel(job_id)
            ended = client.await_job(job_id, poll_seconds=0.2)
            kept = {artifact.name: artifact.complete for artifact in client.list_artifacts(job_id)}

    assert (again.status, again.preemptions, again.failures) == ("running", 1, 0)
    assert (ended.status, ended.stop_reason) == ("cancelled", "cancelled")
    assert kept["last.ckpt"] is False
