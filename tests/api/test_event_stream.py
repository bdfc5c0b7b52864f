"""Server-Sent Events: what comes, in which order, and what is left when a client goes."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from api.event_stream import EventStream
from api.resources import Resources
from api.watcher import Watch
from core.database import db_now
from core.errors import Unauthenticated
from core.jobs import service, verbs
from core.jobs.claim import ClaimedJob
from core.tables import ApiKey
from tests.api.conftest import RunningApi, running
from tests.api.test_artifacts import a_run
from tests.api.test_over_the_wire import Wire, served, until
from tests.api.test_problems import is_problem
from tests.conftest import make_settings
from tests.factories import claim_job, make_job
from trainer.events import ProgressReported

DROPPED = 1000


@dataclass(frozen=True)
class Frame:
    event: str | None
    id: str | None
    data: Any


def frames(text: str) -> list[Frame]:
    """The frames with data."""
    read = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "data" in fields:
            read.append(Frame(fields.get("event"), fields.get("id"), json.loads(fields["data"])))
    return read


def url(job_id: str) -> str:
    return f"/v1/jobs/{job_id}/events/stream"


def note_phases(api: RunningApi, run: ClaimedJob, *phases: str) -> None:
    for phase in phases:
        with api.db.sessions.begin() as session:
            service.record_phase(session, run.job_id, run.token, phase)


def finish(api: RunningApi, run: ClaimedJob) -> None:
    with api.db.sessions.begin() as session:
        service.finish(session, run.job_id, run.token, "completed", {})


@pytest.fixture
def brief_api(database_url: str, tmp_path: Path) -> Iterator[RunningApi]:
    """Streams of a job that goes on end at once; on SQLite and Postgres."""
    settings = make_settings(
        tmp_path, database_url=database_url, event_stream_seconds=0.1, watch_seconds=0.02
    )
    with running(settings) as api:
        yield api.signed_in()


def test_a_job_that_has_ended_is_told_whole_and_closed(brief_api: RunningApi) -> None:
    run = a_run(brief_api)
    note_phases(brief_api, run, "training")
    finish(brief_api, run)

    answer = brief_api.client.get(url(run.job_id))

    listed = brief_api.client.get(f"/v1/jobs/{run.job_id}/events").json()["items"]
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text.startswith("retry: ")
    told = frames(answer.text)
    assert [frame.data for frame in told[:-1]] == listed
    assert [frame.id for frame in told[:-1]] == [str(event["seq"]) for event in listed]
    assert told[-1] == Frame("end", None, {"status": "succeeded"})


def test_a_stream_that_is_resumed_has_no_gap_and_no_repeat(brief_api: RunningApi) -> None:
    run = a_run(brief_api)
    told: list[Frame] = []
    for phases in (["preparing"], [], ["training", "validating", "training"]):
        note_phases(brief_api, run, *phases)
        last = {"Last-Event-ID": told[-1].id or ""} if told else {}
        told += frames(brief_api.client.get(url(run.job_id), headers=last).text)
    finish(brief_api, run)
    told += frames(brief_api.client.get(url(run.job_id), headers={"Last-Event-ID": told[-1].id or ""}).text)

    ended = told.pop()
    assert ended.event == "end"
    assert [frame.data["seq"] for frame in told] == list(range(1, len(told) + 1))
    assert len(told) == len(brief_api.client.get(f"/v1/jobs/{run.job_id}/events").json()["items"])


def test_more_events_than_are_read_at_once_come_all(api: RunningApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.event_stream.EVENTS_AT_ONCE", 2)
    run = a_run(api)
    note_phases(api, run, *["training", "validating"] * 3)
    finish(api, run)

    told = frames(api.client.get(url(run.job_id)).text)

    assert [frame.id for frame in told[:-1]] == [str(seq) for seq in range(1, len(told))]


def test_who_has_everything_of_an_ended_job_is_told_not_to_come_back(brief_api: RunningApi) -> None:
    run = a_run(brief_api)
    finish(brief_api, run)
    last = frames(brief_api.client.get(url(run.job_id)).text)[-2].id or ""

    answer = brief_api.client.get(url(run.job_id), headers={"Last-Event-ID": last})

    assert (answer.status_code, answer.content) == (204, b"")


@pytest.mark.parametrize("forged", ["99", "-1", "x", "²", "9" * 20])
def test_an_id_that_no_event_has_is_refused(api: RunningApi, forged: str) -> None:
    answer = api.client.get(url(a_run(api).job_id), headers={b"Last-Event-ID": forged.encode()})

    assert is_problem(answer, 422, "invalid_request")["errors"][0]["pointer"] == "/header/Last-Event-ID"


def test_progress_comes_beside_the_events_and_has_no_id(brief_api: RunningApi) -> None:
    run = a_run(brief_api)
    progress = ProgressReported(
        fraction=0.5, epoch=1, epochs=2, step=5, total_steps=10, windows_per_second=10.0, eta_seconds=1.0
    )
    with brief_api.db.sessions.begin() as session:
        service.renew_lease(session, run.job_id, run.token, 30, progress)

    told = frames(brief_api.client.get(url(run.job_id)).text)

    shown = [frame for frame in told if frame.event == "progress"]
    assert [frame.id for frame in shown] == [None]
    assert shown[0].data == brief_api.client.get(f"/v1/jobs/{run.job_id}").json()["progress"]


def test_a_head_is_answered_at_once(api: RunningApi) -> None:
    answer = api.client.head(url(a_run(api).job_id))

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")


def test_anothers_job_is_not_there(api: RunningApi) -> None:
    is_problem(api.client_of("stranger").get(url(a_run(api).job_id)), 404, "not_found")


def test_one_too_many_is_refused_and_told_when_to_come_back(sqlite_url: str, tmp_path: Path) -> None:
    with running(make_settings(tmp_path, database_url=sqlite_url, max_waiting=0)) as api:
        answer = api.signed_in().client.get(url(a_run(api).job_id))

    is_problem(answer, 503, "too_many_waiting")
    assert int(answer.headers["retry-after"]) > 0


@pytest.fixture
def wire(sqlite_url: str, tmp_path: Path) -> Iterator[Wire]:
    settings = make_settings(tmp_path, database_url=sqlite_url, watch_seconds=0.05, event_stream_seconds=60)
    with running(settings) as api, served(api.signed_in()) as started:
        yield started


def resources_of(wire: Wire) -> Resources:
    resources: Resources = wire.app.state.resources
    return resources


def checked_out(wire: Wire) -> int:
    """Connections of the pool that are in use."""
    count: int = resources_of(wire).db.engine.pool.checkedout()  # type: ignore[attr-defined]  # QueuePool's
    return count


@contextmanager
def streaming(wire: Wire, job_id: str) -> Iterator[socket.socket]:
    """A connection that has got the first frame of the stream."""
    request = f"GET {url(job_id)} HTTP/1.1\r\nHost: x\r\nAuthorization: {wire.authorization}\r\n\r\n"
    with closing(wire.connect()) as connection:
        connection.sendall(request.encode())
        answer = b""
        while b"retry: " not in answer:
            piece = connection.recv(65536)
            assert piece, answer
            answer += piece
        yield connection


def test_events_come_as_they_happen_and_the_end_closes(wire: Wire) -> None:
    run = a_run(wire.api)
    with wire.http.stream("GET", url(run.job_id)) as answer:
        lines = answer.iter_lines()
        assert next(line for line in lines if line.startswith("id: ")) == "id: 1"
        note_phases(wire.api, run, "training")
        assert next(line for line in lines if '"phase":"training"' in line)
        with wire.api.db.sessions.begin() as session:
            verbs.cancel(session, run.tenant_id, run.job_id)
            service.cancelled(session, run.job_id, run.token)
        rest = list(lines)

    assert rest[-3:-1] == ["event: end", 'data: {"status": "cancelled"}'], rest


@pytest.mark.slow
def test_a_thousand_dropped_streams_leave_the_pool_whole(wire: Wire) -> None:
    with wire.api.db.sessions.begin() as session:
        jobs = [claim_job(session, make_job(session)).job_id for _ in range(5)]
    watcher = resources_of(wire).watcher
    for number in range(DROPPED):
        with streaming(wire, jobs[number % len(jobs)]):
            pass

    until(lambda: watcher.count == 0)
    until(lambda: checked_out(wire) == 0)
    assert wire.http.get(f"/v1/jobs/{jobs[0]}").status_code == 200


def test_streams_that_wait_hold_no_connection_of_the_pool(wire: Wire) -> None:
    job_id = a_run(wire.api).job_id
    with streaming(wire, job_id), streaming(wire, job_id):
        until(lambda: resources_of(wire).watcher.count == 2)
        until(lambda: checked_out(wire) == 0)


def test_a_revoked_key_ends_the_stream(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.event_stream.KEEP_ALIVE_SECONDS", 0.05)
    with wire.http.stream("GET", url(a_run(wire.api).job_id)) as answer:
        lines = answer.iter_lines()
        assert next(line for line in lines if line.startswith(": "))
        with wire.api.db.sessions.begin() as session:
            session.execute(update(ApiKey).values(revoked_at=db_now()))

        assert "event: end" not in list(lines)


class BusyWatch(Watch):
    """Of a job that has news at every look."""

    async def news(self, timeout_seconds: float) -> bool:
        del timeout_seconds
        await asyncio.sleep(0)
        return True


def test_a_revoked_key_ends_a_busy_jobs_stream_too(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.event_stream.KEEP_ALIVE_SECONDS", 0.05)
    job_id = a_run(wire.api).job_id

    def refuse() -> None:
        raise Unauthenticated("the key was revoked")

    async def listen() -> list[bytes]:
        stream = EventStream(resources_of(wire), job_id, 0, refuse)
        async with asyncio.timeout(30):
            return [frame async for frame in stream._frames(BusyWatch())]

    assert not any(b"event: end" in frame for frame in asyncio.run(listen()))
