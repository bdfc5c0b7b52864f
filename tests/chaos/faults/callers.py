"""Around callers: keys that stand for something else, other tenants, streams that are dropped."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any
from uuid import UUID

import httpx2

from tests.chaos.diary import Fault
from tests.chaos.stage import Stage
from tests.processes import eventually

FOLLOWERS = 8
DROPS_EACH = 25  # 200 in all, 1,000 in five times
LONGEST_LISTENING_SECONDS = 0.1
END_SECONDS = 60.0


def reuse_key_for_another_body(stage: Stage) -> None:
    """One after the other, or both at once: one job, and a problem for the other request."""
    bodies = [stage.job_body(plan := stage.draw_plan(steps=8)) for _ in range(2)]
    headers = {"Idempotency-Key": _draw_key(stage)}
    if stage.rng.random() < 0.5:
        answers = [stage.http.post("/v1/jobs", json=body, headers=headers) for body in bodies]
    else:
        with ThreadPoolExecutor(2) as pool:
            posts = [pool.submit(stage.http.post, "/v1/jobs", json=body, headers=headers) for body in bodies]
        answers = [post.result() for post in posts]
    said = sorted(answer.status_code for answer in answers)
    stage.diary.expect(said == [201, 422], f"one key for two bodies was answered {said}")
    for body, answer in zip(bodies, answers, strict=True):
        if answer.status_code == 201:
            stage.promise(answer.json()["id"], body, plan)
            _expect_jobs(stage, body, 1)
        else:
            kind, code = answer.headers["content-type"], answer.json().get("code")
            is_problem = (kind, code) == ("application/problem+json", "idempotency_mismatch")
            stage.diary.expect(is_problem, f"another body was answered {kind}, {code}")
            _expect_jobs(stage, body, 0)


def share_key_with_another_tenant(stage: Stage) -> None:
    """The same key and nearly the same body: two jobs that know nothing of each other."""
    plan, key = stage.draw_plan(steps=8), _draw_key(stage)
    tenants = [(stage.key, stage.dataset_id), (stage.other_key, stage.other_dataset_id)]
    stage.rng.shuffle(tenants)
    made = []
    for owner, dataset_id in tenants:
        body = stage.job_body(plan) | {"dataset_id": dataset_id}
        headers = {"Authorization": f"Bearer {owner}", "Idempotency-Key": key}
        answer = stage.http.post("/v1/jobs", json=body, headers=headers)
        assert answer.status_code == 201, answer.text
        stage.diary.expect("Idempotency-Replayed" not in answer.headers, "another tenant's key was replayed")
        made.append(stage.promise(answer.json()["id"], body, plan, key=owner).job_id)
        _expect_jobs(stage, body, 1)
    for owner, _ in tenants:
        headers = {"Authorization": f"Bearer {owner}"}
        seen = [stage.http.get(f"/v1/jobs/{job_id}", headers=headers).status_code for job_id in made]
        stage.diary.expect(sorted(seen) == [200, 404], f"of two tenants' jobs one of them sees {seen}")


def _draw_key(stage: Stage) -> str:
    return str(UUID(int=stage.rng.getrandbits(128)))


def _expect_jobs(stage: Stage, body: dict[str, Any], expected: int) -> None:
    [(count,)] = stage.sql("SELECT count(*) FROM jobs WHERE seed = %s", body["training"]["random_seed"])
    stage.diary.expect(count == expected, f"{count} jobs of a request that should have made {expected}")


def drop_streams(stage: Stage) -> None:
    """Many follow a job's events, each over connections that it drops; one more connects and never reads."""
    job_id = stage.submit(stage.draw_plan(steps=24)).job_id
    seeds = [stage.rng.random() for _ in range(FOLLOWERS)]
    with stage.http.stream("GET", f"/v1/jobs/{job_id}/events/stream") as unread:
        stage.diary.expect(unread.status_code == 200, f"a stream was answered {unread.status_code}")
        with ThreadPoolExecutor(FOLLOWERS) as pool:
            told = list(pool.map(lambda seed: _follow(stage, job_id, random.Random(seed)), seeds))  # noqa: S311
        ready = stage.http.get("/readyz").status_code
        stage.diary.expect(
            ready == 200, f"/readyz says {ready} after {FOLLOWERS * DROPS_EACH} dropped streams"
        )
        unread_told = list(_events(unread))
    rows = [seq for (seq,) in stage.sql("SELECT seq FROM job_events WHERE job_id = %s ORDER BY seq", job_id)]
    for numbers in (*told, unread_told):
        stage.diary.expect(numbers == rows, f"a follower was told of events {numbers}, there are {rows}")


def _follow(stage: Stage, job_id: str, rng: random.Random) -> list[int]:
    """Numbers of the events that came, over all connections."""
    numbers: list[int] = []
    for _ in range(DROPS_EACH):
        until = time.monotonic() + rng.uniform(0.0, LONGEST_LISTENING_SECONDS)
        numbers += _listen(stage, job_id, numbers[-1:], until)
    # By then something may have happened to its worker: a stream that has lasted its time is taken up anew.
    give_up_at = time.monotonic() + END_SECONDS

    def has_ended() -> bool:
        numbers.extend(_listen(stage, job_id, numbers[-1:], give_up_at))
        return stage.status(job_id) == "succeeded"

    eventually(has_ended, END_SECONDS)
    return numbers + _listen(stage, job_id, numbers[-1:], give_up_at)


def _listen(stage: Stage, job_id: str, last: list[int], until: float) -> list[int]:
    """What comes until then; the connection is dropped, wherever the stream stands."""
    headers = {"Last-Event-ID": str(last[0])} if last else {}
    timeout = httpx2.Timeout(30.0, read=max(until - time.monotonic(), 0.01))
    numbers = []
    with suppress(httpx2.ReadTimeout):
        path = f"/v1/jobs/{job_id}/events/stream"
        with stage.http.stream("GET", path, headers=headers, timeout=timeout) as answer:
            assert answer.status_code in {200, 204}, answer.status_code
            for number in _events(answer):
                numbers.append(number)
                if time.monotonic() > until:
                    break
    return numbers


def _events(answer: httpx2.Response) -> Iterator[int]:
    """The number of each that came whole: an empty line ends it."""
    number = None
    for line in answer.iter_lines():
        if line.startswith("id:"):
            number = int(line.removeprefix("id:"))
        elif not line and number is not None:
            yield number
            number = None


FAULTS = (
    Fault("key for another body", reuse_key_for_another_body, 6, "F4"),
    Fault("key of another tenant", share_key_with_another_tenant, 6, "F5"),
    Fault("event streams dropped", drop_streams, 5, "F32"),
)
