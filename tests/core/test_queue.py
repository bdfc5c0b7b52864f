from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import valkey

from core.queue import (
    BROKER_SECONDS,
    TASK_NAME,
    _kept,
    _on_a_connection,
    celery_queue,
    make_celery,
    nudge,
    ping,
)
from core.settings import Settings
from tests.chaos.wire import Exchange
from tests.conftest import make_settings
from tests.processes import eventually


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
    kept = connections(with_broker)
    assert kept > 0

    for _ in range(3):
        nudge(celery, "cpu", messages=9)
        ping(celery)
    assert connections(with_broker) == kept
    connections(with_broker, kill=True)
    assert nudge(celery, "gpu")
    assert waiting(with_broker, "gpu") == 1
    connections(with_broker, kill=True)
    assert ping(celery)


def test_a_broker_that_falls_silent_is_given_up_on_in_time_and_nudged_again_when_it_speaks(
    with_broker: Settings,
) -> None:
    behind = Path(with_broker.broker_url.removeprefix("redis+socket://"))
    with Exchange() as exchange:
        wire = exchange.wire(behind)
        celery = make_celery(
            with_broker.model_copy(update={"broker_url": f"redis://127.0.0.1:{wire.port}/0"})
        )
        assert nudge(celery, "cpu")
        wire.hold()
        start = time.monotonic()

        assert not nudge(celery, "gpu")

        assert time.monotonic() - start < 1.5
        wire.mend()
        assert eventually(lambda: nudge(celery, "gpu"))
    assert waiting(with_broker, "gpu") == 1


@dataclass
class KeptConnection:
    """One that fails when it is used, `seconds` later by its `clock`, and once more when it is given back."""

    seconds: float = 0.0
    releases: int = 0
    clock: float = 0.0

    def monotonic(self) -> float:
        return self.clock

    def use(self, connection: object) -> None:
        if connection is self:
            self.clock += self.seconds
            raise ConnectionResetError

    def release(self) -> None:
        self.releases += 1
        raise OSError("has no other end any more")


def test_a_lost_connection_is_replaced_by_one_that_works(with_broker: Settings) -> None:
    celery, lost = make_celery(with_broker), KeptConnection()
    _kept[celery] = lost

    _on_a_connection(celery, lost.use)

    assert lost.releases == 1
    assert _kept[celery] is not lost


def test_after_a_long_silence_no_other_connection_is_tried(
    with_broker: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    celery, silent = make_celery(with_broker), KeptConnection(seconds=BROKER_SECONDS / 3)
    monkeypatch.setattr("core.queue.time", silent)
    _kept[celery] = silent

    with pytest.raises(ConnectionResetError):
        _on_a_connection(celery, silent.use)

    assert (silent.releases, celery in _kept) == (1, False)


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
