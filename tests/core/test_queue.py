from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import valkey

from core.queue import TASK_NAME, celery_queue, make_celery, nudge, ping
from core.settings import Settings
from tests.conftest import make_settings


@pytest.fixture
def with_broker(tmp_path: Path, broker_url: str) -> Settings:
    return make_settings(tmp_path, broker_url=broker_url)


@pytest.fixture
def deaf_broker(tmp_path: Path) -> Iterator[Settings]:
    """Takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield make_settings(tmp_path, broker_url=f"redis://127.0.0.1:{server.getsockname()[1]}/0")


def waiting(settings: Settings, queue: str) -> int:
    client: Any = valkey.Valkey(unix_socket_path=settings.broker_url.removeprefix("redis+socket://"))
    count = client.llen(celery_queue(queue))
    client.close()
    assert isinstance(count, int)
    return count


def test_a_nudge_lies_in_its_queue(with_broker: Settings) -> None:
    celery = make_celery(with_broker)

    assert nudge(celery, "gpu")

    assert (waiting(with_broker, "gpu"), waiting(with_broker, "cpu")) == (1, 0)


def connections(settings: Settings, *, kill: bool = False) -> int:
    """How many the broker has beside this one; `kill` ends them."""
    client: Any = valkey.Valkey(unix_socket_path=settings.broker_url.removeprefix("redis+socket://"))
    count = len(client.client_list()) - 1
    if kill:
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    client.close()
    return count


def test_nudges_share_a_connection_and_make_a_new_one_when_the_broker_has_dropped_it(
    with_broker: Settings,
) -> None:
    celery = make_celery(with_broker)
    connections(with_broker, kill=True)
    nudge(celery, "cpu")
    first = connections(with_broker)

    for _ in range(3):
        nudge(celery, "cpu", messages=9)
        ping(celery)
    assert connections(with_broker) == first
    connections(with_broker, kill=True)
    assert nudge(celery, "gpu")
    assert waiting(with_broker, "gpu") == 1
    connections(with_broker, kill=True)
    assert ping(celery)


def test_nudges_that_nobody_takes_do_not_pile_up(with_broker: Settings) -> None:
    celery = make_celery(with_broker)

    for _ in range(5):
        nudge(celery, "cpu", messages=3)
        nudge(celery, "cpu")

    assert waiting(with_broker, "cpu") == 3


def test_a_nudge_is_a_message_for_the_workers_task(with_broker: Settings) -> None:
    celery = make_celery(with_broker)
    nudge(celery, "cpu")

    with celery.connection_for_read() as connection:
        message = connection.SimpleQueue(celery_queue("cpu")).get(timeout=5)

    assert message.headers["task"] == TASK_NAME
    assert message.payload[0] == ["cpu"]


def test_a_nudge_gives_up_at_once_where_no_broker_is(tmp_path: Path) -> None:
    celery = make_celery(make_settings(tmp_path, broker_url=f"redis+socket://{tmp_path}/none.sock"))
    start = time.monotonic()

    assert not nudge(celery, "cpu")
    assert not ping(celery)

    assert time.monotonic() - start < 1.5


def test_a_nudge_waits_a_second_at_most_for_a_broker_that_is_deaf(deaf_broker: Settings) -> None:
    start = time.monotonic()

    assert not nudge(make_celery(deaf_broker), "cpu")

    assert time.monotonic() - start < 1.5


def test_a_broker_that_answers_is_noticed(with_broker: Settings) -> None:
    assert ping(make_celery(with_broker))


def test_celery_is_not_trusted_with_the_jobs(settings: Settings) -> None:
    conf = make_celery(settings).conf

    assert not conf.task_acks_late
    assert conf.task_ignore_result
    assert conf.result_backend is None
    assert conf.accept_content == ["json"]
    assert (conf.worker_prefetch_multiplier, conf.worker_disable_prefetch) == (1, True)
    assert not conf.worker_enable_remote_control
    assert (conf.worker_pool, conf.worker_concurrency) == ("threads", 1)


def test_a_broker_in_sqlite_works_where_no_valkey_is(tmp_path: Path) -> None:
    celery = make_celery(make_settings(tmp_path, broker_url=f"sqla+sqlite:///{tmp_path / 'broker.db'}"))

    assert nudge(celery, "cpu")
    assert ping(celery)
