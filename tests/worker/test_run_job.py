from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from core.jobs.lifecycle import JobStatus
from core.monitoring import tallies
from core.monitoring.tallies import Key, Total
from tests.worker.conftest import WriteTrainer
from tests.worker.stations import DATA, SOON, Running, Station, bench, station
from worker.run_job import run_waiting_jobs

GOOD_RUN = """
    out = Path(sys.argv[1]) / "out"
    out.mkdir()
    def save(name, content):
        (out / "tmp").write_text(content)
        (out / "tmp").replace(out / name)
    tell("phase", phase="preparing")
    fallback = {"field": "precision", "requested": "bf16-mixed", "effective": "32-true", "reason": "no bf16"}
    tell("resolved", resolved_spec={"epochs": 1}, adjustments=[fallback], windows={"train": 8}, total_steps=2,
         parameters=10)
    tell("phase", phase="training")
    tell("metrics", step=1, epoch=0, values={"train_loss": 2.0, "grad_norm": None})
    tell("metrics", step=2, epoch=0, values={"train_loss": 1.0})
    tell("progress", fraction=0.5, epoch=0, epochs=1, step=1, total_steps=2, windows_per_second=9.0,
         eta_seconds=1.0)
    save("model.ckpt", "weights")
    tell("checkpoint", name="model.ckpt", step=2, epoch=0, val_loss=0.5)
    print("epoch 1 of 1", file=sys.stderr)
    save("result.json", "{}")
    tell("artifact", name="result.json", media_type="application/json")
    tell("finished", stop_reason="completed", summary={"val_loss": 0.5})
"""
CHECKPOINT_THEN_WAIT = """
    out = Path(sys.argv[1]) / "out"
    out.mkdir()
    (out / "last.ckpt").write_text("weights")
    tell("phase", phase="training")
    tell("checkpoint", name="last.ckpt", step=1, epoch=0, val_loss=None)
    (Path(sys.argv[0]).parent / "pid").write_text(str(os.getpid()))
    tell("stopped", wish=next_wish(), step=1)
"""
DEAF = """
    leave_when_stdin_ends()
    (Path(sys.argv[0]).parent / "pid").write_text(str(os.getpid()))
    tell("phase", phase="training")
    signal.pause()
"""


@pytest.fixture
def here(tmp_path: Path, database_url: str) -> Iterator[Station]:
    with station(tmp_path / "data", database_url=database_url) as made:
        yield made


def run(here: Station, trainer: list[str]) -> int:
    with bench(here, trainer) as one:
        return run_waiting_jobs(one)


def test_a_good_run_leaves_all_it_reported(here: Station, write_trainer: WriteTrainer) -> None:
    job_id = here.submit()

    assert run(here, write_trainer(GOOD_RUN)) == 1

    job = here.job(job_id)
    assert (job.status, job.stop_reason, job.summary) == ("succeeded", "completed", {"val_loss": 0.5})
    assert job.resolved_spec == {"epochs": 1}
    assert [adjustment.field for adjustment in job.adjustments][-1] == "precision"
    assert here.metrics(job_id) == {"train_loss": [(1, 2.0), (2, 1.0)], "grad_norm": [(1, None)]}
    assert here.log(job_id) == "epoch 1 of 1\n"
    assert job.best_checkpoint is not None
    assert job.best_checkpoint.val_loss == 0.5
    artifacts = here.artifacts(job_id)
    assert {name: artifact.complete for name, artifact in artifacts.items()} == {
        "model.ckpt": True,
        "result.json": True,
    }
    assert here.artifact_text(job_id, "model.ckpt") == "weights"


def test_the_trainer_finds_the_dataset_and_how_to_read_it(here: Station, write_trainer: WriteTrainer) -> None:
    body = """
        folder = Path(sys.argv[1])
        files = {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}
        assert sys.argv[2:] == ["--threads", "1"]
        tell("finished", stop_reason="completed", summary=files)
    """
    job_id = here.submit()

    run(here, write_trainer(body))

    files = here.job(job_id).summary
    assert files is not None
    assert set(files) == {"dataset.csv", "spec.json", "schema.json", "mapping.json"}
    assert files["dataset.csv"] == DATA.decode()
    assert '"epochs":1' in files["spec.json"]


def test_a_run_leaves_no_file_on_the_worker(here: Station, write_trainer: WriteTrainer) -> None:
    here.submit()

    run(here, write_trainer(GOOD_RUN))

    assert [path.name for path in (here.settings.data_dir / "runs").iterdir()] == ["lock"]


def test_all_waiting_jobs_are_run_one_after_the_other(here: Station, write_trainer: WriteTrainer) -> None:
    ids = [here.submit() for _ in range(3)]

    assert run(here, write_trainer(GOOD_RUN)) == 3

    assert {here.job(job_id).status for job_id in ids} == {JobStatus.SUCCEEDED}


def test_the_users_mistake_fails_the_job_with_its_reason(here: Station, write_trainer: WriteTrainer) -> None:
    body = """
        tell("failed", code="invalid_dataset", message="The column cpu_percent is constant.")
        sys.exit(2)
    """
    job_id = here.submit()

    run(here, write_trainer(body))

    job = here.job(job_id)
    assert job.status == "failed"
    assert job.status_reason is not None
    assert job.status_reason.code == "invalid_dataset"
    assert job.status_reason.message == "The column cpu_percent is constant."
    assert job.fault == "user"


def test_a_killed_trainer_is_tried_again_until_the_attempts_are_used_up(
    here: Station, write_trainer: WriteTrainer
) -> None:
    trainer = write_trainer("os.kill(os.getpid(), signal.SIGKILL)")
    job_id = here.submit(max_attempts=2)

    run(here, trainer)
    first = here.job(job_id)
    here.let_queued_jobs_start()
    run(here, trainer)
    second = here.job(job_id)

    assert (first.status, first.failures) == ("queued", 1)
    assert (second.status, second.failures, second.attempt) == ("failed", 2, 2)
    assert second.status_reason is not None
    assert second.status_reason.code == "crash_loop"
    assert "SIGKILL" in second.status_reason.message


def test_a_trainer_that_hangs_is_ended_and_tried_again_until_the_attempts_are_used_up(
    tmp_path: Path, database_url: str, write_trainer: WriteTrainer
) -> None:
    chosen = {"database_url": database_url, "progress_timeout_seconds": 0.3}
    with station(tmp_path / "data", **chosen) as here:
        trainer = write_trainer(DEAF)
        job_id = here.submit(max_attempts=2)

        run(here, trainer)
        first = here.job(job_id)
        here.let_queued_jobs_start()
        run(here, trainer)
        second = here.job(job_id)

    assert first.status_reason is not None
    assert (first.status, first.failures, first.status_reason.code) == ("queued", 1, "stalled")
    assert second.status_reason is not None
    assert (second.status, second.status_reason.code, second.fault) == ("failed", "stalled", "platform")


def test_cancel_lets_the_trainer_save_and_keeps_its_checkpoint(
    here: Station, write_trainer: WriteTrainer
) -> None:
    job_id = here.submit()

    with Running(here, write_trainer(CHECKPOINT_THEN_WAIT)) as running:
        child = running.child()
        here.cancel(job_id)
        assert child.ends_within(SOON)

    assert here.job(job_id).status == "cancelled"
    artifact = here.artifacts(job_id)["last.ckpt"]
    assert not artifact.complete
    assert here.artifact_text(job_id, "last.ckpt") == "weights"


def test_cancel_kills_a_deaf_trainer_after_the_grace(tmp_path: Path, write_trainer: WriteTrainer) -> None:
    with station(tmp_path / "data", stop_grace_seconds=0.05) as here:
        job_id = here.submit()

        with Running(here, write_trainer(DEAF)) as running:
            child = running.child()
            here.cancel(job_id)
            assert child.ends_within(SOON)

        assert here.job(job_id).status == "cancelled"


def test_a_paused_job_frees_its_worker_and_goes_on_later(here: Station, write_trainer: WriteTrainer) -> None:
    body = """
        folder = Path(sys.argv[1])
        if (folder / "resume.safetensors").exists():
            tell("finished", stop_reason="completed", summary={})
            sys.exit()
        out = folder / "out"
        out.mkdir()
        (Path(sys.argv[0]).parent / "pid").write_text(str(os.getpid()))
        wish = next_wish()
        (out / "resume.safetensors").write_text("state")
        tell("checkpoint", name="resume.safetensors", step=5, epoch=0, val_loss=None)
        tell("stopped", wish=wish, step=5)
    """
    job_id, other_id = here.submit(), here.submit()
    trainer = write_trainer(body)

    with Running(here, trainer) as running:
        child = running.child()
        here.pause(job_id)
        here.pause(other_id)
        assert child.ends_within(SOON)
    paused = here.job(job_id)
    here.resume(job_id)
    assert run(here, trainer) == 1

    assert (paused.status, paused.failures, paused.preemptions) == ("paused", 0, 0)
    assert (here.job(job_id).status, here.job(job_id).attempt) == ("succeeded", 2)
    assert (here.job(other_id).status, here.job(other_id).attempt) == ("paused", 0)


def test_a_draining_worker_gives_its_job_back_and_takes_no_other(
    here: Station, write_trainer: WriteTrainer
) -> None:
    job_id, other_id = here.submit(), here.submit()

    with Running(here, write_trainer(CHECKPOINT_THEN_WAIT)) as running:
        child = running.child()
        running.drain.ask()
        assert child.ends_within(SOON)

    job, other = here.job(job_id), here.job(other_id)
    assert (job.status, job.preemptions, job.failures) == ("queued", 1, 0)
    assert (other.status, other.attempt) == ("queued", 0)


def test_the_time_limit_is_success_with_a_checkpoint(here: Station, write_trainer: WriteTrainer) -> None:
    job_id = here.submit(max_runtime_seconds=1)

    run(here, write_trainer(CHECKPOINT_THEN_WAIT))

    job = here.job(job_id)
    assert (job.status, job.stop_reason) == ("succeeded", "time_limit")


def test_the_time_limit_is_failure_without_a_checkpoint(here: Station, write_trainer: WriteTrainer) -> None:
    job_id = here.submit(max_runtime_seconds=1)

    run(here, write_trainer('tell("phase", phase="training"); tell("stopped", wish=next_wish(), step=0)'))

    job = here.job(job_id)
    assert job.status == "failed"
    assert job.status_reason is not None
    assert job.status_reason.code == "timed_out"


def test_a_worker_whose_job_was_taken_over_kills_its_child_and_writes_nothing_more(
    here: Station, write_trainer: WriteTrainer
) -> None:
    job_id = here.submit()

    with Running(here, write_trainer(CHECKPOINT_THEN_WAIT)) as running:
        child = running.child()
        with here.db.sessions.begin() as session:
            session.execute(text("UPDATE jobs SET token = token + 1, worker_name = 'another'"))
        assert child.ends_within(SOON)

    job = here.job(job_id)
    assert (job.status, job.attempt, job.failures) == ("running", 1, 0)
    with here.db.readers.begin() as session:
        assert session.scalar(text("SELECT worker_name FROM jobs")) == "another"
        assert tallies.read(session) == {Key("fenced"): Total(1, 0.0)}


def test_a_worker_that_cannot_reach_the_database_for_a_whole_lease_kills_its_child(
    tmp_path: Path, database_url: str, write_trainer: WriteTrainer
) -> None:
    with station(tmp_path / "data", database_url=database_url, lease_seconds=0.5) as here:
        here.submit()
        with Running(here, write_trainer(DEAF)) as running:
            child = running.child()
            with here.db.sessions.begin() as session:
                session.execute(
                    text("UPDATE jobs SET priority = 1")
                )  # nobody else writes it while this lasts
                assert child.ends_within(SOON)


def test_a_dataset_that_was_damaged_in_the_storage_is_not_trained_on(
    here: Station, write_trainer: WriteTrainer
) -> None:
    job_id = here.submit()
    [stored] = (here.settings.data_dir / "objects").rglob("data.csv")
    stored.write_bytes(DATA.replace(b"1.0", b"9.0"))

    run(here, write_trainer(GOOD_RUN))

    job = here.job(job_id)
    assert job.status == "failed"
    assert job.status_reason is not None
    assert "upload it again" in job.status_reason.message


def test_a_dataset_that_vanished_fails_the_job(here: Station, write_trainer: WriteTrainer) -> None:
    job_id = here.submit()
    [stored] = (here.settings.data_dir / "objects").rglob("data.csv")
    stored.unlink()

    run(here, write_trainer(GOOD_RUN))

    assert here.job(job_id).status == "failed"


def test_a_replaced_checkpoint_leaves_no_object_behind(here: Station, write_trainer: WriteTrainer) -> None:
    body = """
        out = Path(sys.argv[1]) / "out"
        out.mkdir()
        for step in range(5):
            (out / "tmp").write_text(f"step {step}")
            (out / "tmp").replace(out / "last.ckpt")
            tell("checkpoint", name="last.ckpt", step=step, epoch=0, val_loss=None)
        tell("finished", stop_reason="completed", summary={})
    """
    job_id = here.submit()

    run(here, write_trainer(body))

    assert here.artifact_text(job_id, "last.ckpt") == "step 4"
    assert len(list(here.storage.list(f"tenants/{here.tenant_id}/jobs"))) == 1


def test_a_worker_whose_disk_is_full_leaves_the_job_to_others(
    here: Station, write_trainer: WriteTrainer
) -> None:
    job_id = here.submit()
    more_than_any = here.settings.model_copy(update={"least_free_bytes": 1 << 60})

    with bench(here, write_trainer(GOOD_RUN), settings=more_than_any) as one:
        assert run_waiting_jobs(one) == 0
        assert one.devices_to_give == 0

    assert (here.job(job_id).status, here.job(job_id).attempt) == ("queued", 0)
    assert run(here, write_trainer(GOOD_RUN)) == 1
