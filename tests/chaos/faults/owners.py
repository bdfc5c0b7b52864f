"""Around the owner's requests: an API that dies under them, repeats, wishes that cross the end of a job."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import httpx2

from tests.chaos.diary import Fault
from tests.chaos.stage import Stage
from tests.processes import eventually

AT_ONCE = 12
PAUSED_WITHIN_SECONDS = 60.0


def kill_api_after_answer(stage: Stage) -> None:
    stage.submit()
    stage.api.kill()


def kill_api_during_post(stage: Stage) -> None:
    """The answer may be lost; the same request with the same key makes one job in the end."""
    plan = stage.draw_plan()
    body, headers = stage.job_body(plan), {"Idempotency-Key": _draw_key(stage)}
    post = threading.Thread(target=_post_and_never_mind, args=(stage, body, headers))
    post.start()
    stage.let_last(0.0, 0.06)
    stage.api.kill()
    post.join()
    stage.heal()
    answers = [stage.http.post("/v1/jobs", json=body, headers=headers) for _ in range(2)]
    ids = {answer.json()["id"] for answer in answers}
    stage.diary.expect(len(ids) == 1, f"one key made {len(ids)} jobs")
    stage.promise(ids.pop(), body, plan)
    _expect_one_job(stage, body)


def _post_and_never_mind(stage: Stage, body: dict[str, Any], headers: dict[str, str]) -> None:
    own = {"Authorization": f"Bearer {stage.key}", **headers}
    try:
        httpx2.post(f"{stage.api_url}/v1/jobs", json=body, headers=own, timeout=5.0)
    except httpx2.TransportError:
        return


def repeat_post(stage: Stage) -> None:
    """The same request with the same key, many times at once."""
    plan = stage.draw_plan()
    body, headers = stage.job_body(plan), {"Idempotency-Key": _draw_key(stage)}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        posts = [pool.submit(stage.http.post, "/v1/jobs", json=body, headers=headers) for _ in range(AT_ONCE)]
    answers = [post.result() for post in posts]
    ids = {answer.json()["id"] for answer in answers if answer.status_code == 201}
    others = {answer.status_code for answer in answers} - {201}
    stage.diary.expect(others <= {409}, f"a repeated request was answered {sorted(others)}")
    stage.diary.expect(len(ids) == 1, f"one key made {len(ids)} jobs")
    stage.promise(ids.pop(), body, plan)
    _expect_one_job(stage, body)


def _draw_key(stage: Stage) -> str:
    return str(UUID(int=stage.rng.getrandbits(128)))


def _expect_one_job(stage: Stage, body: dict[str, Any]) -> None:
    [(count,)] = stage.sql("SELECT count(*) FROM jobs WHERE seed = %s", body["training"]["random_seed"])
    stage.diary.expect(count == 1, f"{count} jobs of one request")


def cancel_at_any_time(stage: Stage) -> None:
    """Queued, running, or in its last moments; what was over stays over."""
    accepted = stage.submit(stage.draw_plan(steps=8, saving_seconds=0.5), ends={"cancelled", "succeeded"})
    stage.let_last(0.0, 3.0)
    _cancel(stage, accepted.job_id)


def cancel_and_kill_workers(stage: Stage) -> None:
    """The wish outlives every process that has heard of it."""
    victim = stage.pick()
    accepted = stage.accepted[victim.job_id]
    accepted.ends.add("cancelled")
    _cancel(stage, victim.job_id)
    for other in stage.running():
        stage.diary.note_hit("cancelled, workers killed", other)
    for worker in stage.workers:
        worker.kill()


def pause_and_resume(stage: Stage) -> None:
    """The wish outlives its worker, if that is killed over it; what is resumed goes on."""
    victim = stage.pick()
    paused = stage.http.post(f"/v1/jobs/{victim.job_id}/pause")
    stage.diary.expect(paused.status_code in {200, 202, 409}, f"a pause was answered {paused.status_code}")
    if stage.rng.random() < 0.5:
        stage.diary.note_hit("paused and resumed", victim)
        victim.worker.kill()
    if paused.status_code == 409:
        return  # it was over before
    eventually(lambda: stage.status(victim.job_id) not in {"running", "queued"}, PAUSED_WITHIN_SECONDS)
    resumed = stage.http.post(f"/v1/jobs/{victim.job_id}/resume")
    # It may have ended before it saw the wish.
    stage.diary.expect(resumed.status_code in {200, 202, 409}, f"a resume was answered {resumed.status_code}")


def _cancel(stage: Stage, job_id: str) -> None:
    answer = stage.http.post(f"/v1/jobs/{job_id}/cancel")
    stage.diary.expect(answer.status_code in {200, 202, 409}, f"a cancel was answered {answer.status_code}")
    if answer.status_code == 200:
        stage.accepted[job_id].ends = {"cancelled"}


def exhaust_running_time(stage: Stage) -> None:
    """It is used up in the middle of training, possibly over several runs."""
    # A run that was lost before its first weights were stored leaves nothing to succeed with.
    ends = {"succeeded", "failed timed_out"}
    stage.submit(stage.draw_plan(steps=100), ends=ends, max_runtime_seconds=1).steps = 0


FAULTS = (
    Fault("API killed after its answer", kill_api_after_answer, 6, "F1"),
    Fault("API killed during a POST", kill_api_during_post, 6, "F2"),
    Fault("POST repeated at once", repeat_post, 6, "F3"),
    Fault("cancelled at any time", cancel_at_any_time, 8, "F24"),
    Fault("cancelled, workers killed", cancel_and_kill_workers, 5, "F25"),
    Fault("paused and resumed", pause_and_resume, 6, ""),
    Fault("running time used up", exhaust_running_time, 5, "F21"),
)
