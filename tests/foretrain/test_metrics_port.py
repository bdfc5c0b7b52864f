from __future__ import annotations

import socket
from pathlib import Path

import httpx2
import pytest

from core.database import Database
from foretrain.metrics_port import metrics_port
from foretrain.refusals import Refusal
from tests.conftest import make_settings


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def test_a_process_serves_its_own_counts_while_it_lives(tmp_path: Path, free_port: int) -> None:
    address = f"http://127.0.0.1:{free_port}/metrics"
    with metrics_port(make_settings(tmp_path, metrics_port=free_port)):
        answer = httpx2.get(address)

    assert "# TYPE foretrain_lease_renewals_total counter" in answer.text
    assert "foretrain_database_up" not in answer.text
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(address)


def test_with_a_database_it_serves_what_that_knows_too(
    tmp_path: Path, free_port: int, sqlite: Database
) -> None:
    with metrics_port(make_settings(tmp_path, metrics_port=free_port), sqlite):
        answer = httpx2.get(f"http://127.0.0.1:{free_port}/metrics")

    assert "foretrain_database_up 1.0" in answer.text


def test_a_port_that_is_taken_is_refused_with_a_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with (
            pytest.raises(Refusal, match=f"port {port}: "),
            metrics_port(make_settings(tmp_path, metrics_port=port)),
        ):
            pass


def test_no_port_is_opened_unless_one_is_set(tmp_path: Path) -> None:
    with metrics_port(make_settings(tmp_path)):
        pass
