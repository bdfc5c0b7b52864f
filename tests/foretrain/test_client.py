from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from core import migrations
from core.access import service as access
from core.access.scopes import Scope
from core.database import Database, connect
from core.jobs import service as jobs
from core.jobs.schemas import JobCreate, MetricReport
from core.settings import Settings
from core.storage import ObjectStorage, open_storage
from foretrain.client import ChecksumMismatch, Client, ServiceProblem
from foretrain.http_server import HttpServer, listen
from tests.factories import claim_job, make_job, make_tenant
from trainer.dataset.schema import DatasetMapping
from trainer.spec import TrainingSpec

CHECKPOINT = b"".join(number.to_bytes(4) for number in range(1_250_000))
CSV = "timestamp,server,cpu_percent\n" + "".join(
    f"2026-01-{day:02}T{hour:02}:00:00Z,web-1,{hour}.5\n" for day in range(1, 15) for hour in range(24)
)


@dataclass(frozen=True)
class Running:
    """The real API on a port of its own, and a finished job with a checkpoint."""

    client: Client
    db: Database
    storage: ObjectStorage
    job_id: str


@pytest.fixture
def running(settings: Settings) -> Iterator[Running]:
    migrations.upgrade(settings.database_url)
    db, storage = connect(settings.database_url), open_storage(settings.storage_url)
    with db.sessions.begin() as session:
        tenant = make_tenant(session)
        _, key = access.create_key(session, tenant.name, list(Scope))
        job = make_job(session, tenant=tenant)
        token = claim_job(session, job).token
    stored = storage.put_bytes("model.ckpt", CHECKPOINT)
    with db.sessions.begin() as session:
        jobs.register_checkpoint(
            session,
            job.id,
            token,
            name="model.ckpt",
            key="model.ckpt",
            size_bytes=stored.size_bytes,
            sha256=stored.sha256,
            step=4,
            epoch=0,
            val_loss=0.5,
        )
        reports = [MetricReport(step=step, epoch=0, values={"train_loss": 1 / step}) for step in (1, 2, 3, 4)]
        jobs.record_metrics(session, job.id, token, reports)
        jobs.finish(session, job.id, token, "completed", {"val_loss": 0.5})
    with listen("127.0.0.1", 0) as listener, HttpServer(settings, listener) as server:
        assert server.await_start()
        with Client(server.url, key) as client:
            yield Running(client, db, storage, job.id)
    db.dispose()


class Breaking:
    """A connection that breaks once so many bytes have come."""

    def __init__(self, at: int) -> None:
        self._at = at

    def __call__(self, received: int) -> None:
        if received >= self._at:
            raise ConnectionResetError


def test_a_job_is_paused_resumed_cancelled_and_retried(running: Running) -> None:
    with running.db.sessions.begin() as session:
        job_id = make_job(session).id

    client = running.client
    statuses = [act(job_id).status for act in (client.pause, client.resume, client.cancel)]
    statuses.append(client.retry(job_id, "checkpoint").status)

    assert statuses == ["paused", "queued", "cancelled", "queued"]


def test_a_download_that_broke_off_goes_on_where_it_stopped(running: Running, tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    with pytest.raises(ConnectionResetError):
        running.client.download(running.job_id, "model.ckpt", path, on_bytes=Breaking(2_000_000))
    assert not path.exists()

    download = running.client.download(running.job_id, "model.ckpt", path)

    assert 2_000_000 <= download.resumed_at < len(CHECKPOINT)
    assert path.read_bytes() == CHECKPOINT
    assert [file.name for file in tmp_path.iterdir() if file.is_file() and "ckpt" in file.name] == [
        "model.ckpt"
    ]


def test_a_part_that_was_damaged_here_is_thrown_away(running: Running, tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    with pytest.raises(ConnectionResetError):
        running.client.download(running.job_id, "model.ckpt", path, on_bytes=Breaking(2_000_000))
    [partial] = tmp_path.glob("model.ckpt.*.part")
    partial.write_bytes(bytes(partial.stat().st_size))

    with pytest.raises(ChecksumMismatch):
        running.client.download(running.job_id, "model.ckpt", path)

    assert not path.exists()
    running.client.download(running.job_id, "model.ckpt", path)
    assert path.read_bytes() == CHECKPOINT


def test_metrics_and_artifacts_come_back_typed(running: Running) -> None:
    [series] = running.client.read_metrics(running.job_id, ["train_loss"])
    [artifact] = running.client.list_artifacts(running.job_id)

    assert [point.value for point in series.points] == [1.0, 0.5, pytest.approx(1 / 3), 0.25]
    assert (artifact.name, artifact.size_bytes, artifact.complete) == ("model.ckpt", len(CHECKPOINT), True)


def test_awaiting_a_job_that_has_ended_returns_it(running: Running) -> None:
    seen: list[str] = []

    job = running.client.await_job(running.job_id, on_poll=lambda polled: seen.append(polled.status))

    assert job.stop_reason == "completed"
    assert seen == ["succeeded"]


def test_from_a_file_to_a_queued_and_cancelled_job(running: Running, tmp_path: Path) -> None:
    file = tmp_path / "metrics.csv"
    file.write_text(CSV)
    mapping = DatasetMapping(time_column="timestamp", group_columns=["server"])

    uploaded = running.client.upload_dataset(file, "csv", name="two weeks", mapping=mapping)
    dataset = running.client.await_dataset(uploaded.id)
    body = JobCreate(dataset_id=dataset.id, training=TrainingSpec(epochs=1, encoder_length=24, horizon=6))
    job = running.client.submit(body, idempotency_key="nightly-1")
    again = running.client.submit(body, idempotency_key="nightly-1")

    assert dataset.status == "ready"
    assert dataset.table is not None
    assert dataset.table.group_columns == ["server"]
    assert again.id == job.id
    assert running.client.cancel(job.id).status == "cancelled"


def test_a_refusal_carries_its_code_and_what_to_do(running: Running) -> None:
    with pytest.raises(ServiceProblem) as caught:
        running.client.get_job("job_unknown")

    assert (caught.value.status, caught.value.code, caught.value.retryable) == (404, "not_found", False)
