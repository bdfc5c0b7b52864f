"""The nudge after a submission: it arrives, and nobody waits for it."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import valkey
from starlette.testclient import TestClient

from api.main import create_app
from core.queue import BROKER_SECONDS
from core.settings import Settings
from tests.api.conftest import RunningApi
from tests.api.test_jobs import ready_dataset
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


def test_a_broker_that_says_nothing_delays_no_answer(api: RunningApi) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"redis://127.0.0.1:{deaf.getsockname()[1]}/0"
        settings = api.settings.model_copy(update={"broker_url": url})
        body = {"dataset_id": ready_dataset(api)}
        with with_its_own_broker(api, settings) as client:
            started_at = time.monotonic()
            statuses = [client.post("/v1/jobs", json=body).status_code for _ in range(10)]
            seconds = time.monotonic() - started_at
    assert statuses == [201] * 10
    # One nudge alone waits for a second.
    assert seconds < 10 * BROKER_SECONDS
