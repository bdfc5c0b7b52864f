"""The nudge after a submission: it arrives, and nobody waits for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import valkey
from starlette.testclient import TestClient

from api.main import create_app
from api.resources import Queue
from core.settings import Settings
from tests.api.conftest import RunningApi, running
from tests.api.test_jobs import ready_dataset
from tests.api.test_over_the_wire import served
from tests.conftest import make_settings
from tests.processes import eventually


@contextmanager
def with_its_own_broker(api: RunningApi, settings: Settings) -> Iterator[TestClient]:
    """The same database behind an application that has `settings`' broker."""
    headers = {"Authorization": api.client.headers["Authorization"]}
    with TestClient(create_app(settings), headers=headers) as client:
        yield client


def test_a_submission_leaves_one_message_that_says_only_where_work_waits(
    api: RunningApi, broker_url: str
) -> None:
    settings = api.settings.model_copy(update={"broker_url": broker_url})
    with with_its_own_broker(api, settings) as client:
        # The first connection may take longer than the second a nudge or a ping is given.
        assert eventually(lambda: client.get("/readyz").json()["status"] == "ready")
        for _ in range(3):
            assert client.post("/v1/jobs", json={"dataset_id": ready_dataset(api)}).status_code == 201
    broker: Any = valkey.Valkey(unix_socket_path=broker_url.removeprefix("redis+socket://"))
    messages = broker.lrange("foretrain.cpu", 0, -1)
    broker.close()
    assert len(messages) == 1
    assert b"job_" not in messages[0]


def test_without_a_broker_jobs_are_taken_all_the_same(api: RunningApi, tmp_path: Path) -> None:
    nowhere = f"redis+socket://{tmp_path}/nobody.sock"
    settings = api.settings.model_copy(update={"broker_url": nowhere})
    with with_its_own_broker(api, settings) as client:
        assert client.post("/v1/jobs", json={"dataset_id": ready_dataset(api)}).status_code == 201
        answer = client.get("/readyz")
        assert (answer.status_code, answer.json()["broker"]) == (200, "unavailable")


def test_the_answer_does_not_wait_for_the_nudge(sqlite_url: str, tmp_path: Path) -> None:
    answered, nudged = threading.Event(), threading.Event()

    def wait_for_the_answer(_queue: str) -> None:
        answered.wait(10)
        nudged.set()

    queue = Queue(nudge=wait_for_the_answer, ping=lambda: True)
    with running(make_settings(tmp_path, database_url=sqlite_url)) as api:
        with served(api.signed_in(), queue) as wire:
            answer = wire.http.post("/v1/jobs", json={"dataset_id": ready_dataset(api)})
            assert answer.status_code == 201
            assert not nudged.is_set()
            answered.set()
        assert nudged.is_set()
