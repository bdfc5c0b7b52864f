from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from core.jobs.lifecycle import JobStatus
from foretrain.client import Client, NotEndedInTime, ServiceProblem, exchange
from tests.foretrain.client.scripted_service import Says, problem, scripted
from tests.foretrain.serving import Running

STREAM = {"Content-Type": "text/event-stream"}


@pytest.fixture(autouse=True)
def no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "FIRST_PAUSE_SECONDS", 0.001)


def an_event(seq: int) -> bytes:
    event = {
        "id": f"evt_{seq}",
        "seq": seq,
        "type": "job.phase",
        "created_at": "2026-01-01T00:00:00Z",
        "job_id": "job_1",
        "data": {},
    }
    return f"id: {seq}\nevent: job.phase\ndata: {json.dumps(event)}\n\n".encode()


PROGRESS = b'event: progress\ndata: {"fraction": 0.5}\n\n'
COMMENT = b": still here\n\n"
END = b"event: end\ndata: {}\n\n"


def a_job(running: Running, **changes: Any) -> Says:
    with Client(running.url, running.key) as client:
        job = client.get_job(running.add_job())
    body = json.dumps(json.loads(job.model_dump_json()) | changes).encode()
    return Says(body=body, headers={"ETag": 'W/"1"', "Retry-After": "0"})


def test_a_stream_that_breaks_is_resumed_after_the_last_event(running: Running) -> None:
    ended = a_job(running, status="succeeded", is_terminal=True)
    script = [
        Says(
            body=COMMENT + an_event(1) + PROGRESS + an_event(2) + an_event(3)[:20], headers=STREAM, cut=True
        ),
        problem(503, "too_many_waiting"),
        Says(body=an_event(3).replace(b"\n", b"\r\n") + END, headers=STREAM),
        ended,
    ]
    with scripted(*script) as service, Client(service.url, "key") as client:
        seen = [event.seq for event in client.follow_events("job_1")]

    assert seen == [1, 2, 3]
    assert service.headers("Last-Event-ID") == [None, "2", "2", None]


def test_a_stream_that_ends_before_the_job_does_is_opened_again(running: Running) -> None:
    script = [
        Says(body=an_event(1) + END, headers=STREAM),
        a_job(running),
        Says(body=an_event(2) + END, headers=STREAM),
        a_job(running, status="succeeded", is_terminal=True),
    ]
    with scripted(*script) as service, Client(service.url, "key") as client:
        assert [event.seq for event in client.follow_events("job_1")] == [1, 2]


def test_a_service_without_streams_is_polled_with_its_tag(running: Running) -> None:
    events = {"items": [json.loads(an_event(seq).split(b"data: ")[1]) for seq in (1, 2)], "next_cursor": None}
    script = [
        problem(404, "unknown_path"),
        a_job(running),
        Says(body=json.dumps(events).encode()),
        Says(304, b"", {"ETag": 'W/"1"', "Preference-Applied": "wait=20"}),
        a_job(running, status="failed", is_terminal=True),
        Says(body=json.dumps(events).encode()),
    ]
    with scripted(*script) as service, Client(service.url, "key") as client:
        assert [event.seq for event in client.follow_events("job_1")] == [1, 2]

    assert service.headers("If-None-Match") == [None, None, None, 'W/"1"', 'W/"1"', None]
    assert service.headers("Prefer") == [None, None, None, "wait=20", "wait=20", None]


def test_waiting_ends_when_the_job_does(running: Running, client: Client) -> None:
    job = running.start_job()
    timer = threading.Timer(0.3, running.end_job, [job])
    timer.start()

    ended = client.wait(job.id, timeout_seconds=30)

    timer.join()
    assert (ended.status, ended.stop_reason) == ("succeeded", "completed")


def test_waiting_for_a_job_that_has_ended_returns_it_at_once(client: Client, finished_job: str) -> None:
    assert client.wait(finished_job, timeout_seconds=0).status == "succeeded"
    assert [job.status for job in client.watch(finished_job)] == ["succeeded"]


def test_a_wait_that_takes_too_long_leaves_the_job_alone(running: Running, client: Client) -> None:
    job_id = running.add_job()

    with pytest.raises(NotEndedInTime):
        client.wait(job_id, timeout_seconds=0.2)

    assert client.get_job(job_id).status == JobStatus.QUEUED


def test_watching_shows_each_change_once(running: Running, client: Client) -> None:
    job_id = running.add_job()
    statuses = []
    for job in client.watch(job_id, poll_seconds=0.01):
        statuses.append(job.status)
        {"queued": client.pause, "paused": client.cancel}.get(job.status, lambda _: None)(job_id)

    assert statuses == ["queued", "paused", "cancelled"]


def test_an_unknown_job_is_refused_and_not_polled(client: Client) -> None:
    with pytest.raises(ServiceProblem, match="not_found"):
        list(client.follow_events("job_" + "0" * 32))
