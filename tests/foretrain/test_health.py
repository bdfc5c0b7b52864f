from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from core import migrations
from core.settings import Settings
from foretrain.health import check_health
from foretrain.http_server import HttpServer, listen
from foretrain.pulse import MAX_AGE_SECONDS, Pulse


def test_the_api_lives_as_long_as_it_answers(settings: Settings) -> None:
    migrations.upgrade(settings.database_url)
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with HttpServer(settings, listener) as server:
            assert server.await_start()
            assert check_health("api", port) == 0

    assert check_health("api", port) == 1


def test_a_process_without_a_port_lives_as_long_as_its_pulse_beats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORETRAIN_DATA_DIR", str(tmp_path))
    assert check_health("worker", 0) == 1

    Pulse(tmp_path, "worker").beat()

    assert check_health("worker", 0) == 0
    assert check_health("scheduler", 0) == 1


def test_a_pulse_that_stopped_is_noticed(tmp_path: Path) -> None:
    pulse = Pulse(tmp_path, "scheduler")
    pulse.beat()
    long_ago = time.time() - MAX_AGE_SECONDS - 1
    os.utime(tmp_path / "scheduler.pulse", (long_ago, long_ago))

    assert not pulse.is_fresh()
