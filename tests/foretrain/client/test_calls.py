from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest

from core.jobs.lifecycle import JobStatus
from core.jobs.schemas import JobCreate
from foretrain.client import Client, ServiceProblem
from tests.foretrain.serving import CHECKPOINT, Running
from trainer.dataset.schema import DatasetMapping
from trainer.spec import TrainingSpec

CSV = "timestamp,server,cpu_percent\n" + "".join(
    f"2026-01-{day:02}T{hour:02}:00:00Z,web-1,{hour}.5\n" for day in range(1, 15) for hour in range(24)
)
MAPPING = DatasetMapping(time_column="timestamp", group_columns=["server"])
TRAINING = TrainingSpec(epochs=1, encoder_length=24, horizon=6)


def test_a_job_is_paused_resumed_cancelled_and_retried(running: Running, client: Client) -> None:
    job_id = running.add_job()

    statuses = [act(job_id).status for act in (client.pause, client.resume, client.cancel)]
    statuses.append(client.retry(job_id, "checkpoint").status)

    assert statuses == ["paused", "queued", "cancelled", "queued"]


def test_metrics_log_and_artifacts_come_back_typed(client: Client, finished_job: str) -> None:
    [series] = client.read_metrics(finished_job, ["train_loss"])
    [artifact] = client.list_artifacts(finished_job)
    [chunk] = client.read_log(finished_job)
    [attempt] = client.list_attempts(finished_job)

    assert [point.value for point in series.points] == [1.0, 0.5, pytest.approx(1 / 3), 0.25]
    assert (artifact.name, artifact.size_bytes, artifact.complete) == ("model.ckpt", len(CHECKPOINT), True)
    assert chunk.text == "reading the dataset\n"
    assert attempt.outcome == "succeeded"


def test_from_a_file_to_a_queued_and_cancelled_job(client: Client, tmp_path: Path) -> None:
    file = tmp_path / "metrics.csv"
    file.write_text(CSV)

    uploaded = client.upload_dataset(file, "csv", name="two weeks", mapping=MAPPING)
    dataset = client.await_dataset(uploaded.id)
    body = JobCreate(dataset_id=dataset.id, training=TRAINING)
    resolved = client.validate(body)
    estimated = client.estimate(body)
    job = client.submit(body, idempotency_key="nightly-1")
    again = client.submit(body, idempotency_key="nightly-1")

    assert dataset.status == "ready"
    assert dataset.table is not None
    assert dataset.table.group_columns == ["server"]
    assert resolved.resolved_spec.horizon == 6
    assert estimated.resolved_spec == resolved.resolved_spec
    assert again.id == job.id
    assert client.cancel(job.id).status == "cancelled"


def test_what_is_read_from_memory_is_the_same_dataset_as_the_file(client: Client, tmp_path: Path) -> None:
    file = tmp_path / "metrics.csv"
    file.write_text(CSV)
    sent: list[int] = []

    from_file = client.upload_dataset(file, "csv", mapping=MAPPING)
    from_memory = client.upload_dataset(BytesIO(CSV.encode()), "csv", mapping=MAPPING, on_bytes=sent.append)

    assert from_memory.id == from_file.id
    assert sent == [len(CSV)]
    assert client.get_dataset_report(from_file.id).row_count == 14 * 24


def test_a_dataset_is_deleted_unless_a_job_needs_it(running: Running, client: Client) -> None:
    job = client.get_job(running.add_job())

    with pytest.raises(ServiceProblem) as refused:
        client.delete_dataset(job.dataset_id)
    client.cancel(job.id)
    client.delete_job(job.id)
    client.delete_dataset(job.dataset_id)

    assert refused.value.code == "in_use"
    assert job.dataset_id not in {dataset.id for dataset in client.list_datasets(page_size=5)}


def test_a_list_goes_on_over_all_pages_and_filters_before_they_are_cut(
    running: Running, client: Client
) -> None:
    added = [running.add_job() for _ in range(5)]
    paused = running.add_job(JobStatus.PAUSED)
    for job_id in added:
        job = client.get_job(job_id)
        client.change_job(job_id, revision=job.revision, labels={"sweep": "one"})

    assert [job.id for job in client.list_jobs(labels={"sweep": "one"}, page_size=2)] == added[::-1]
    listed = list(client.list_jobs(status=["paused", "failed"], page_size=2))
    assert paused in {job.id for job in listed}
    assert {job.status for job in listed} <= {"paused", "failed"}


def test_a_change_on_an_old_revision_is_refused(running: Running, client: Client) -> None:
    job = client.get_job(running.add_job())
    changed = client.change_job(job.id, revision=job.revision, priority=5)

    with pytest.raises(ServiceProblem) as refused:
        client.change_job(job.id, revision=job.revision, priority=6)

    assert (changed.priority, refused.value.code) == (5, "stale_revision")


def test_the_fleet_says_what_it_can_do(client: Client) -> None:
    assert client.get_capabilities().max_devices == 0
    assert {queue.workers for queue in client.get_queues().queues} <= {0}
    assert "target_metrics" in str(client.get_spec_schema())


def test_a_refusal_carries_its_code_and_what_to_do(client: Client) -> None:
    with pytest.raises(ServiceProblem) as caught:
        client.get_job("job_unknown")

    assert (caught.value.status, caught.value.code, caught.value.retryable) == (404, "not_found", False)
    assert caught.value.request_id
