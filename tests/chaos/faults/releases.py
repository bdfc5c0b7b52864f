"""Around an upgrade: processes of two releases over one database, and a way back."""

from __future__ import annotations

from pathlib import Path

from tests.chaos.diary import Fault
from tests.chaos.judge import Promise
from tests.chaos.later_release import NEW_FIELD, ROOT, make_later_release, migrate
from tests.chaos.members import Member
from tests.chaos.plans import Plan
from tests.chaos.stage import Stage
from tests.processes import eventually

LEFT = "job_left_for_newer_workers"
SHORT = Plan(steps=6, save_every=3)
END_SECONDS = 60.0


def upgrade_in_part(stage: Stage) -> None:
    """A later release's API takes jobs before there is a worker of it, and goes again; then comes a worker.

    The worker of this release leaves those jobs and goes on with its own, this release's API shows them.
    """
    [old] = stage.workers
    later = _later_release(stage)
    _roll(stage, stage.api, later)
    news = [_submit_to_later(stage, {NEW_FIELD: 3}), _submit_to_later(stage, {})]
    eventually(lambda: all(_is_left(old, promise) for promise in news), END_SECONDS)
    _roll(stage, stage.api, ROOT)
    ours = stage.submit(SHORT)
    _await_success(stage, ours)
    for promise in news:
        shown = stage.http.get(f"/v1/jobs/{promise.job_id}")
        stage.diary.expect(shown.status_code == 200, f"an older API answers {shown.status_code}")
        is_queued = stage.status(promise.job_id) == "queued"
        stage.diary.expect(is_queued, "an older worker took what it cannot read")
    worker = stage.add_worker()
    stage.is_of(worker, later)
    worker.start()
    for promise in news:
        _await_success(stage, promise)
        runs = stage.sql("SELECT worker_name FROM job_attempts WHERE job_id = %s", promise.job_id)
        stage.diary.expect(runs == [(worker.name,)], f"{promise.job_id} was run by {runs}")
    stage.dismiss_workers(keep=1)


def _await_success(stage: Stage, promise: Promise) -> None:
    eventually(lambda: stage.status(promise.job_id) == "succeeded", END_SECONDS)


def _later_release(stage: Stage) -> Path:
    folder = stage.folder / "later-release"
    if not folder.exists():
        make_later_release(folder)
        migrate(folder, stage.database_url)
    return folder


def _roll(stage: Stage, member: Member, release: Path) -> None:
    member.stop()
    stage.is_of(member, release)
    member.start()


def _submit_to_later(stage: Stage, training: dict[str, int]) -> Promise:
    body = stage.job_body(SHORT)
    body["training"] = body["training"] | training
    answer = stage.http.post("/v1/jobs", json=body)
    assert answer.status_code == 201, answer.text
    return stage.promise(answer.json()["id"], body, SHORT)


def _is_left(worker: Member, promise: Promise) -> bool:
    lines = worker.log.read_text(errors="replace").splitlines()
    return any(LEFT in line and promise.job_id in line for line in lines)


FAULTS = (Fault("upgraded in part and back", upgrade_in_part, 5, "F31"),)
