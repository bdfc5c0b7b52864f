"""`Prefer: wait=N`: an answer that comes when there is news."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx2
import pytest

from api.resources import Resources
from core.jobs import service, verbs
from core.jobs.lifecycle import JobStatus
from tests.api.conftest import RunningApi, running
from tests.api.test_artifacts import a_run
from tests.api.test_over_the_wire import served, until
from tests.api.test_polling import held, job_in, sent_by
from tests.api.test_problems import is_problem
from tests.conftest import make_settings
from trainer.events import ProgressReported

WAIT = {"Prefer": "respond-async, wait=30"}


@pytest.fixture
def quick_api(database_url: str, tmp_path: Path) -> Iterator[RunningApi]:
    """Looks often at what is waited for; on SQLite and Postgres."""
    with running(make_settings(tmp_path, database_url=database_url, watch_seconds=0.02)) as api:
        yield api.signed_in()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(10) as threads:
        yield threads


def resources_of(api: RunningApi) -> Resources:
    resources: Resources = api.app.state.resources
    return resources


def asked(
    pool: ThreadPoolExecutor, api: RunningApi, job_id: str, headers: dict[str, str]
) -> Future[httpx2.Response]:
    """A request that waits by now."""
    watcher = resources_of(api).watcher
    before = watcher.count
    future: Future[httpx2.Response] = pool.submit(api.client.get, f"/v1/jobs/{job_id}", headers=headers)
    until(lambda: watcher.count > before or future.done())
    assert not future.done(), future.result().text
    return future


def test_the_answer_comes_with_a_new_phase_and_with_a_new_status(
    quick_api: RunningApi, pool: ThreadPoolExecutor
) -> None:
    run = a_run(quick_api)
    future = asked(pool, quick_api, run.job_id, WAIT)
    with quick_api.db.sessions.begin() as session:
        service.record_phase(session, run.job_id, run.token, "training")
    first = future.result(10)
    assert (first.status_code, first.json()["phase"]) == (200, "training")
    assert first.headers["preference-applied"] == "wait=30"

    future = asked(pool, quick_api, run.job_id, WAIT | {"If-None-Match": first.headers["etag"]})
    with quick_api.db.sessions.begin() as session:
        service.finish(session, run.job_id, run.token, "completed", {})
    assert future.result(10).json()["status"] == "succeeded"
    until(lambda: resources_of(quick_api).watcher.count == 0)


def test_a_change_between_two_requests_is_not_waited_for(quick_api: RunningApi) -> None:
    run = a_run(quick_api)
    tag = held(quick_api, run.job_id)
    with quick_api.db.sessions.begin() as session:
        verbs.pause(session, run.tenant_id, run.job_id)

    answer = quick_api.client.get(f"/v1/jobs/{run.job_id}", headers=WAIT | tag)

    assert answer.json()["pause_requested_at"] is not None


def test_progress_alone_is_no_news_and_the_wait_is_capped(sqlite_url: str, tmp_path: Path) -> None:
    settings = make_settings(tmp_path, database_url=sqlite_url, watch_seconds=0.02, max_wait_seconds=1)
    with running(settings) as api, ThreadPoolExecutor(1) as pool:
        run = a_run(api.signed_in())
        future = asked(pool, api, run.job_id, WAIT | held(api, run.job_id))
        progress = ProgressReported(
            fraction=0.5, epoch=1, epochs=2, step=5, total_steps=10, windows_per_second=9.0, eta_seconds=1.0
        )
        with api.db.sessions.begin() as session:
            service.renew_lease(session, run.job_id, run.token, 30, progress)
        answer = future.result(10)

    assert answer.elapsed.total_seconds() >= 1
    assert (answer.status_code, answer.json()["progress"]["step"]) == (200, 5)
    assert answer.headers["preference-applied"] == "wait=1"


@pytest.mark.parametrize("status", [JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED])
def test_a_job_that_has_ended_is_answered_at_once(api: RunningApi, status: JobStatus) -> None:
    job_id = job_in(api, status)

    answer = api.client.get(f"/v1/jobs/{job_id}", headers=WAIT | held(api, job_id))

    assert answer.status_code == 304
    assert answer.headers["preference-applied"] == "wait=30"


def test_what_is_not_there_and_what_is_no_preference_wait_for_nothing(api: RunningApi) -> None:
    job_id = job_in(api, JobStatus.RUNNING)
    is_problem(api.client.get("/v1/jobs/job_" + "0" * 32, headers=WAIT), 404, "not_found")
    is_problem(api.client_of("stranger").get(f"/v1/jobs/{job_id}", headers=WAIT), 404, "not_found")
    for preference in ("wait", "wait=-1", "wait=x", "return=minimal", ""):
        answer = api.client.get(f"/v1/jobs/{job_id}", headers={"Prefer": preference})
        assert (answer.status_code, "preference-applied" in answer.headers) == (200, False)


def test_all_who_wait_cost_one_statement_a_look(quick_api: RunningApi, pool: ThreadPoolExecutor) -> None:
    runs = [a_run(quick_api), a_run(quick_api)]
    futures = [asked(pool, quick_api, run.job_id, WAIT) for run in runs * 4]

    with sent_by(quick_api) as sent:
        until(lambda: len(sent) >= 3)

    assert len({statement for statement, _ in sent}) == 1, sent
    assert all(run.job_id in str(parameters) for run in runs for _, parameters in sent), sent
    for run in runs:
        with quick_api.db.sessions.begin() as session:
            service.record_phase(session, run.job_id, run.token, "training")
    assert {future.result(10).json()["phase"] for future in futures} == {"training"}


def test_one_too_many_is_refused_and_told_when_to_come_back(sqlite_url: str, tmp_path: Path) -> None:
    with running(make_settings(tmp_path, database_url=sqlite_url, max_waiting=0)) as api:
        answer = api.signed_in().client.get(f"/v1/jobs/{a_run(api).job_id}", headers=WAIT)

    is_problem(answer, 503, "too_many_waiting")
    assert int(answer.headers["retry-after"]) > 0


def test_a_client_that_leaves_frees_its_place(api: RunningApi) -> None:
    job_id = job_in(api, JobStatus.RUNNING)
    with served(api) as wire:
        watcher = wire.app.state.resources.watcher
        head = f"GET /v1/jobs/{job_id} HTTP/1.1\r\nHost: x\r\nAuthorization: {wire.authorization}\r\n"
        with closing(wire.connect()) as connection:
            connection.sendall(f"{head}Prefer: wait=30\r\n\r\n".encode())
            until(lambda: watcher.count == 1)
        until(lambda: watcher.count == 0)


def test_how_soon_to_ask_again_depends_on_what_the_job_does(api: RunningApi) -> None:
    run = a_run(api)
    seconds = []
    for phase in ("preparing", "training", "saving"):
        with api.db.sessions.begin() as session:
            service.record_phase(session, run.job_id, run.token, phase)
        seconds.append(int(api.client.get(f"/v1/jobs/{run.job_id}").headers["retry-after"]))
    paused = int(api.client.get(f"/v1/jobs/{job_in(api, JobStatus.PAUSED)}").headers["retry-after"])

    assert seconds[0] < seconds[1] > seconds[2]
    assert paused > max(seconds)
