"""The main path with nothing replaced: real HTTP, real queue, real training, on Postgres and S3.

On SQLite and a folder it is that of test_resume.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from core.jobs.schemas import JobCreate, JobRead
from foretrain.client import Client
from tests.conftest import S3_KEY_ID, S3_SECRET, new_bucket, new_database
from tests.launching import Launcher
from trainer.estimate import estimate
from trainer.resolution import resolve_columns
from trainer.spec import TrainingSpec

pytestmark = pytest.mark.slow

TRAINING = TrainingSpec(
    target_metrics=["cpu_percent", "memory_percent"],
    encoder_length=12,
    horizon=4,
    hidden_size=8,
    hidden_continuous_size=4,
    attention_head_size=2,
    epochs=2,
    batch_size=8,
    accumulate_grad_batches=4,
    max_train_windows=64,
    log_every_n_steps=1,
)
ARTIFACTS = {
    *("model.ckpt", "last.ckpt", "model.safetensors", "model.json"),
    *("example.parquet", "example.json", "stock_example.py"),
    *("result.json", "forecasts.json", "metrics.csv", "report.html", "tensorboard.zip", "resume.safetensors"),
}


@pytest.fixture(scope="module")
def client(
    postgres_server: str, s3_server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Client]:
    """A client of a whole running service."""
    with ExitStack() as stack:
        environment = {
            "FORETRAIN_DATABASE_URL": stack.enter_context(new_database(postgres_server)),
            "FORETRAIN_STORAGE_URL": new_bucket(s3_server),
            "FORETRAIN_STORAGE_ACCESS_KEY_ID": S3_KEY_ID,
            "FORETRAIN_STORAGE_SECRET_ACCESS_KEY": S3_SECRET,
        }
        service = Launcher(stack, environment).start(tmp_path_factory.mktemp("service") / "data")
        yield stack.enter_context(Client(service.url, service.key))


def test_a_posted_job_becomes_a_checkpoint_that_the_stock_library_forecasts_the_same_with(
    client: Client, tiny_csv: Path, tmp_path: Path
) -> None:
    dataset = client.await_dataset(client.upload_dataset(tiny_csv, "csv", name="tiny").id)
    job = client.submit(JobCreate(dataset_id=dataset.id, training=TRAINING))
    seen: list[JobRead] = []
    job = client.await_job(job.id, on_poll=seen.append, poll_seconds=0.2)

    assert job.status == "succeeded", job.status_reason
    assert [polled.progress.fraction for polled in seen if polled.progress] == sorted(
        polled.progress.fraction for polled in seen if polled.progress
    )
    losses = {series.name: series.points for series in client.read_metrics(job.id)}
    assert job.plan is not None
    assert dataset.table is not None
    guess = estimate(resolve_columns(TRAINING, dataset.table)[0], dataset.table)
    for part, span in (("train", guess.train_windows), ("test", guess.test_windows)):
        assert span.low <= job.plan.windows[part] <= span.high
    assert guess.steps.low <= job.plan.total_steps <= guess.steps.high
    assert guess.parameters.low <= job.plan.parameters <= guess.parameters.high
    assert [point.step for point in losses["train_loss"]] == list(range(1, job.plan.total_steps + 1))
    assert losses["val_loss"]

    assert {artifact.name for artifact in client.list_artifacts(job.id) if artifact.complete} == ARTIFACTS
    for name in ARTIFACTS:
        client.download(job.id, name, tmp_path / name)
    result = client.get_result(job.id)
    assert set(result["scores"]["targets"]) == {"cpu_percent", "memory_percent"}

    stock = subprocess.run(
        [sys.executable, "-P", "stock_example.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert stock.returncode == 0, stock.stdout + stock.stderr
    assert "equal within the tolerance" in stock.stdout


def test_a_job_whose_data_turn_out_unusable_fails_with_the_reason(client: Client, tmp_path: Path) -> None:
    """Nothing in the schema shows it: each series is long enough, but the observed values are not."""
    file = tmp_path / "gaps.csv"
    rows = [
        f"2026-01-01T{step // 12:02}:{step % 12 * 5:02}:00Z,{step if step < 5 else ''}" for step in range(120)
    ]
    file.write_text("\n".join(["timestamp,cpu_percent", *rows]) + "\n")
    dataset = client.await_dataset(client.upload_dataset(file, "csv").id)
    training = TRAINING.model_copy(update={"target_metrics": ["cpu_percent"]})

    job = client.submit(JobCreate(dataset_id=dataset.id, training=training))
    job = client.await_job(job.id, poll_seconds=0.2)

    assert job.status == "failed"
    assert job.status_reason is not None
    assert job.status_reason.code == "invalid_dataset"
    assert job.fault == "user"
    assert "Traceback" not in job.status_reason.message
