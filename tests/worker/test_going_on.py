"""How a job goes on after an attempt that did not end it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from core.errors import StorageUnavailable
from core.storage import ObjectStorage
from tests.processes import eventually
from tests.worker.conftest import WriteTrainer
from tests.worker.stations import SOON, Running, Station, bench, station
from worker.run_job import run_waiting_jobs

# Goes on from what it finds, saves its number one higher, and crashes; the third time it finishes.
COUNTING = """
    folder = Path(sys.argv[1])
    found = folder / "resume.safetensors"
    step = 1 + (int(found.read_text()) if found.exists() else 0)
    out = folder / "out"
    out.mkdir()
    def save(name, text):
        (out / "tmp").write_text(text)
        (out / "tmp").replace(out / name)
        tell("checkpoint", name=name, step=step, epoch=0, val_loss=None)
    save("last.ckpt", f"weights {step}")
    save("resume.safetensors", "an older version")
    save("resume.safetensors", str(step))
    if step < 3:
        sys.exit(1)
    tell("finished", stop_reason="completed", summary={"step": step})
"""
KILLED = """
    print(*sys.argv[2:], file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def here(tmp_path: Path, database_url: str) -> Iterator[Station]:
    with station(tmp_path / "data", database_url=database_url) as made:
        yield made


def run(here: Station, trainer: list[str], times: int = 1, **changes: Any) -> None:
    """So many attempts, with no pause between them."""
    for _ in range(times):
        here.let_queued_jobs_start()
        with bench(here, trainer, **changes) as one:
            assert run_waiting_jobs(one) == 1


def stored_states(here: Station, attempt: int) -> list[Path]:
    """The last and the last but one, as `COUNTING` stores them."""
    paths = (here.settings.data_dir / "objects").rglob(f"a{attempt}-t*/*resume*.safetensors")
    return sorted(paths, reverse=True)


def test_each_attempt_goes_on_from_the_state_of_the_one_before(
    here: Station, write_trainer: WriteTrainer
) -> None:
    job_id = here.submit()

    run(here, write_trainer(COUNTING), times=3)

    job = here.job(job_id)
    assert (job.status, job.attempt, job.summary) == ("succeeded", 3, {"step": 3})
    state = here.artifacts(job_id)["resume.safetensors"]
    assert (state.media_type, state.attempt, state.step) == ("application/octet-stream", 3, 3)
    assert here.artifact_text(job_id, "last.ckpt") == "weights 3"
    assert job.warnings == []


def test_of_each_attempt_no_more_than_two_states_stay(here: Station, write_trainer: WriteTrainer) -> None:
    here.submit()

    run(here, write_trainer(COUNTING), times=2)

    stored = list(here.storage.list(f"tenants/{here.tenant_id}/jobs"))
    # One, where the last came before the last but one was on its way.
    assert 2 <= sum(key.endswith(".safetensors") for key in stored) <= 4
    assert sum(key.endswith(".ckpt") for key in stored) == 2


@pytest.mark.parametrize("is_lost", [True, False])
def test_a_state_that_is_lost_or_damaged_gives_way_to_the_one_before(
    here: Station, write_trainer: WriteTrainer, is_lost: bool
) -> None:
    job_id = here.submit()
    trainer = write_trainer(COUNTING)
    run(here, trainer, times=2)
    for state in stored_states(here, attempt=2):
        state.unlink() if is_lost else state.write_text("7")

    run(here, trainer)

    warnings = here.job(job_id).warnings
    assert {warning.code for warning in warnings} == {"resume_failed"}
    assert f"attempt 2 at step 2 is {'missing' if is_lost else 'damaged'}" in warnings[0].message
    assert here.artifacts(job_id)["resume.safetensors"].step == 2


def test_a_damaged_state_gives_way_to_the_one_before_it_in_the_same_attempt(
    here: Station, write_trainer: WriteTrainer
) -> None:
    body = """
        folder = Path(sys.argv[1])
        found = folder / "resume.safetensors"
        if found.exists():
            tell("finished", stop_reason="completed", summary={"went_on_from": found.read_text()})
            sys.exit()
        out = folder / "out"
        out.mkdir()
        (Path(sys.argv[0]).parent / "pid").write_text(str(os.getpid()))
        for step in (1, 2):
            (out / "tmp").write_text(f"step {step}")
            (out / "tmp").replace(out / "resume.safetensors")
            tell("checkpoint", name="resume.safetensors", step=step, epoch=0, val_loss=None)
            wish = next_wish() if step == 2 else None
            while not (Path(sys.argv[0]).parent / "first-is-stored").exists():
                time.sleep(0.01)
        tell("stopped", wish=wish, step=2)
    """
    job_id = here.submit()
    trainer = write_trainer(body)
    with Running(here, trainer) as running:
        eventually(lambda: here.artifacts(job_id).get("resume.safetensors"))
        Path(trainer[-1]).with_name("first-is-stored").touch()
        eventually(lambda: here.artifacts(job_id).get("resume-older.safetensors"))
        running.drain.ask()
    newest, before = stored_states(here, attempt=1)
    newest.write_text("step 9")

    run(here, trainer)

    job = here.job(job_id)
    assert (job.summary, before.read_text()) == ({"went_on_from": "step 1"}, "step 1")
    assert "an older one is tried" in job.warnings[0].message


def test_without_any_usable_state_the_job_starts_afresh_and_says_so(
    here: Station, write_trainer: WriteTrainer
) -> None:
    job_id = here.submit()
    trainer = write_trainer(COUNTING)
    run(here, trainer)
    for state in stored_states(here, attempt=1):
        state.write_bytes(b"")

    run(here, trainer)

    assert "starts from the beginning" in here.job(job_id).warnings[-1].message
    assert here.artifacts(job_id)["resume.safetensors"].step == 1


class StatesAway(ObjectStorage):
    """A storage that does not answer when it is asked for a state."""

    def get_to_file(self, key: str, path: Path) -> None:
        if key.endswith(".safetensors"):
            raise StorageUnavailable("away")
        super().get_to_file(key, path)


def test_a_storage_that_is_away_does_not_cost_the_state(here: Station, write_trainer: WriteTrainer) -> None:
    job_id = here.submit()
    trainer = write_trainer(COUNTING)
    run(here, trainer)
    away = StatesAway(here.storage._store, folder=here.storage._folder)

    run(here, trainer, storage=away)

    job = here.job(job_id)
    assert (job.status, job.failures) == ("queued", 2)
    assert job.status_reason is not None
    assert job.status_reason.code == "storage_unavailable"
    assert here.artifacts(job_id)["resume.safetensors"].attempt == 1


def test_a_drained_job_is_queued_only_when_its_state_is_stored(
    here: Station, write_trainer: WriteTrainer
) -> None:
    body = """
        out = Path(sys.argv[1]) / "out"
        out.mkdir()
        (Path(sys.argv[0]).parent / "pid").write_text(str(os.getpid()))
        wish = next_wish()
        (out / "resume.safetensors").write_text("all there is")
        tell("checkpoint", name="resume.safetensors", step=5, epoch=0, val_loss=None)
        tell("stopped", wish=wish, step=5)
    """
    job_id = here.submit()

    with Running(here, write_trainer(body)) as running:
        child = running.child()
        running.drain.ask()
        assert child.ends_within(SOON)

    assert here.job(job_id).status == "queued"
    assert here.artifact_text(job_id, "resume.safetensors") == "all there is"
    assert here.event_types(job_id)[-2:] == ["job.checkpoint", "job.queued"]


def test_whoever_sees_a_state_finds_the_metrics_that_led_to_it(
    here: Station, write_trainer: WriteTrainer
) -> None:
    body = """
        obey()
        out = Path(sys.argv[1]) / "out"
        out.mkdir()
        for step in (1, 2):
            tell("metrics", step=step, epoch=1, values={"train_loss": 2.0})
        (out / "resume.safetensors").write_text("2")
        tell("checkpoint", name="resume.safetensors", step=2, epoch=1, val_loss=None)
        signal.pause()
    """
    job_id = here.submit()

    with Running(here, write_trainer(body)) as running:
        eventually(lambda: here.artifacts(job_id).get("resume.safetensors"))
        steps = [step for step, _ in here.metrics(job_id)["train_loss"]]
        running.drain.ask()

    assert steps == [1, 2]


def test_a_trainer_is_told_how_much_memory_there_is(here: Station, write_trainer: WriteTrainer) -> None:
    job_id = here.submit()

    run(here, write_trainer(KILLED), memory_limit=1_000_000)

    assert here.log(job_id) == "--threads 1 --memory-limit 1000000\n"


def test_a_job_killed_for_memory_is_tried_again_at_once_and_its_trainer_knows_of_it(
    here: Station, write_trainer: WriteTrainer
) -> None:
    job_id = here.submit(on_out_of_memory="adapt", max_attempts=2)
    kills = count()  # each look finds one more

    with bench(here, write_trainer(KILLED), count_oom_kills=lambda: next(kills)) as one:
        assert run_waiting_jobs(one) == 2

    assert here.log(job_id) == "--threads 1\n--threads 1 --memory-kills 1\n"
    job = here.job(job_id)
    assert (job.status, job.failures) == ("failed", 2)
    assert job.status_reason is not None
    assert job.status_reason.code == "out_of_memory"
    assert "Halve batch_size" in job.status_reason.message


def test_a_job_that_shall_not_adapt_fails_at_the_first_kill_for_memory(
    here: Station, write_trainer: WriteTrainer
) -> None:
    job_id = here.submit(on_out_of_memory="fail")
    kills = count()

    run(here, write_trainer(KILLED), count_oom_kills=lambda: next(kills))

    job = here.job(job_id)
    assert (job.status, job.attempt, job.fault) == ("failed", 1, "capacity")
