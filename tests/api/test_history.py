"""Attempts, events, logs and metrics of a job."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from core.jobs import service
from core.jobs.claim import ClaimedJob
from core.jobs.lifecycle import RequeueReason
from core.jobs.schemas import MetricReport
from tests.api.conftest import RunningApi
from tests.api.test_problems import is_problem
from tests.factories import claim_job, make_job, make_tenant
from tests.statements import statements
from trainer.thinning import keep_extremes


@pytest.fixture
def run(any_api: RunningApi) -> ClaimedJob:
    """A job that a worker has just claimed."""
    with any_api.db.sessions.begin() as session:
        return claim_job(session, make_job(session, tenant=make_tenant(session)))


def report(api: RunningApi, run: ClaimedJob, name: str, values: Mapping[int, float | None]) -> None:
    reports = [MetricReport(step=step, epoch=0, values={name: value}) for step, value in values.items()]
    with api.db.sessions.begin() as session:
        service.record_metrics(session, run.job_id, run.token, reports)


def get(api: RunningApi, run: ClaimedJob, what: str, **params: Any) -> dict[str, Any]:
    answer = api.client.get(f"/v1/jobs/{run.job_id}/{what}", params=params)
    assert answer.status_code == 200, answer.text
    page: dict[str, Any] = answer.json()
    return page


def test_attempts_are_told_oldest_first(any_api: RunningApi, run: ClaimedJob) -> None:
    with any_api.db.sessions.begin() as session:
        service.requeue(session, run.job_id, run.token, RequeueReason.DRAINED)
    attempts = get(any_api, run, "attempts")
    assert [attempt["attempt"] for attempt in attempts["items"]] == [1]
    assert attempts["items"][0]["outcome"] == "drained"
    assert attempts["next_cursor"] is None


def test_events_are_numbered_without_gaps_and_paged(any_api: RunningApi, run: ClaimedJob) -> None:
    with any_api.db.sessions.begin() as session:
        service.record_phase(session, run.job_id, run.token, "training")
    first = get(any_api, run, "events", limit=2)
    rest = get(any_api, run, "events", limit=2, cursor=first["next_cursor"])
    events = first["items"] + rest["items"]
    assert rest["next_cursor"] is None
    assert [event["seq"] for event in events] == [1, 2, 3]
    assert [event["type"] for event in events] == ["job.queued", "job.running", "job.phase"]
    assert all(event["job_id"] == run.job_id for event in events)


def test_the_log_comes_chunk_by_chunk(any_api: RunningApi, run: ClaimedJob) -> None:
    with any_api.db.sessions.begin() as session:
        for line in ("reading\n", "training\n"):
            service.record_log_chunk(session, run.job_id, run.token, line)
    assert "".join(chunk["text"] for chunk in get(any_api, run, "logs")["items"]) == "reading\ntraining\n"
    assert get(any_api, run, "logs", attempt=2)["items"] == []


def test_metrics_come_by_name_and_step(any_api: RunningApi, run: ClaimedJob) -> None:
    report(any_api, run, "train_loss", {1: 3.0, 2: None, 3: 1.0})
    report(any_api, run, "val_loss/cpu_percent", {3: 2.0})
    everything = get(any_api, run, "metrics")
    assert [series["name"] for series in everything["items"]] == ["train_loss", "val_loss/cpu_percent"]
    points = everything["items"][0]["points"]
    assert [(point["step"], point["value"], point["attempt"]) for point in points] == [
        (1, 3.0, 1),
        (2, None, 1),
        (3, 1.0, 1),
    ]
    some = get(any_api, run, "metrics", names="train_loss,nothing", from_step=2)
    assert [[point["step"] for point in series["points"]] for series in some["items"]] == [[2, 3]]


def test_each_step_shows_the_latest_attempt_that_reached_it(any_api: RunningApi, run: ClaimedJob) -> None:
    report(any_api, run, "train_loss", {1: 3.0, 2: 2.0})
    with any_api.db.sessions.begin() as session:
        service.requeue(session, run.job_id, run.token, RequeueReason.DRAINED)
        again = service.claim(session, "cpu", "worker-2", 30)
    assert again is not None
    report(any_api, again, "train_loss", {1: 9.0})
    latest = get(any_api, run, "metrics")["items"][0]["points"]
    assert [(point["step"], point["value"]) for point in latest] == [(1, 9.0), (2, 2.0)]
    first = get(any_api, run, "metrics", attempt=1)["items"][0]["points"]
    assert [(point["step"], point["value"]) for point in first] == [(1, 3.0), (2, 2.0)]


def test_a_long_series_is_thinned_and_keeps_its_spike(any_api: RunningApi, run: ClaimedJob) -> None:
    report(any_api, run, "train_loss", dict.fromkeys(range(1, 3001), 1.0) | {1234: 50.0})
    points = get(any_api, run, "metrics", max_points=100)["items"][0]["points"]
    assert len(points) <= 100
    assert (points[0]["step"], points[-1]["step"]) == (1, 3000)
    assert 50.0 in {point["value"] for point in points}
    assert len(get(any_api, run, "metrics", max_points=5000)["items"][0]["points"]) == 3000


def test_both_databases_thin_to_the_same_points(any_api: RunningApi, run: ClaimedJob) -> None:
    noise = {step: None if step % 401 == 7 else step * 7919 % 1009 / 7 for step in range(1, 2001)}
    later = {step: step * 104_729 % 499 / 3 for step in range(900, 1300)}
    report(any_api, run, "train_loss", noise)
    with any_api.db.sessions.begin() as session:
        service.requeue(session, run.job_id, run.token, RequeueReason.DRAINED)
        again = service.claim(session, "cpu", "worker-2", 30)
    assert again is not None
    report(any_api, again, "train_loss", later)
    (series,) = get(any_api, run, "metrics", max_points=100)["items"]
    values = list((noise | later).values())
    assert [(point["step"], point["value"], point["attempt"]) for point in series["points"]] == [
        (place + 1, values[place], 2 if place + 1 in later else 1) for place in keep_extremes(values, 100)
    ]
    times = [datetime.fromisoformat(point["created_at"]) for point in series["points"]]
    assert max(times) - min(times) < timedelta(minutes=5)
    assert abs(datetime.now(UTC) - times[0]) < timedelta(minutes=5)


def test_metrics_that_have_not_changed_are_a_304(any_api: RunningApi, run: ClaimedJob) -> None:
    report(any_api, run, "train_loss", {1: 3.0})
    url = f"/v1/jobs/{run.job_id}/metrics"
    held = {"If-None-Match": any_api.client.get(url).headers["etag"]}
    assert any_api.client.get(url, headers=held).status_code == 304
    # A number that is written again counts too, and so does what is asked for.
    report(any_api, run, "train_loss", {1: 2.5})
    assert any_api.client.get(url, headers=held).status_code == 200
    held = {"If-None-Match": any_api.client.get(url).headers["etag"]}
    assert any_api.client.get(url, headers=held, params={"from_step": 2}).status_code == 200


def test_a_304_of_metrics_reads_none_of_them(any_api: RunningApi, run: ClaimedJob) -> None:
    report(any_api, run, "train_loss", {1: 3.0})
    url = f"/v1/jobs/{run.job_id}/metrics"
    held = {"If-None-Match": any_api.client.get(url).headers["etag"]}
    with statements(any_api.app.state.resources.db.engine) as sent:
        assert any_api.client.get(url, headers=held).status_code == 304
    assert [text for text, _ in sent if "FROM jobs" in text]
    assert [text for text, _ in sent if "job_metrics" in text] == []


@pytest.mark.parametrize(
    ("what", "params"),
    [
        ("metrics", {"max_points": 1}),
        ("metrics", {"max_points": 10**9}),
        ("metrics", {"from_step": -1}),
        ("metrics", {"from_step": 2**70}),
        ("metrics", {"attempt": 0}),
        ("metrics", {"step": 1}),
        ("logs", {"attempt": "last"}),
        ("events", {"after_seq": 3}),
        ("attempts", {"limit": 3}),
    ],
)
def test_a_bad_query_is_refused(api: RunningApi, what: str, params: dict[str, Any]) -> None:
    with api.db.sessions.begin() as session:
        job_id = make_job(session, tenant=make_tenant(session)).id
    answer = api.client.get(f"/v1/jobs/{job_id}/{what}", params=params)
    (name,) = params
    assert is_problem(answer, 422, "invalid_request")["errors"][0]["pointer"] == f"/query/{name}"
