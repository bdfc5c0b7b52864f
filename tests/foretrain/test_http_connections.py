"""Clients that open connections and say nothing, or never come to an end, on the server as it is shipped."""

from __future__ import annotations

import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import httpx2
import pytest

from foretrain.http_connections import HEAD_BYTES, BoundedConnection
from foretrain.http_server import HttpServer, listen
from tests.conftest import make_settings

HALF_A_HEAD = b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: "
WHOLE = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def server(
    sqlite_url: str, broker_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[HttpServer]:
    """Its patience shortened."""
    monkeypatch.setattr(BoundedConnection, "head_seconds", 0.2)
    settings = make_settings(tmp_path, database_url=sqlite_url, broker_url=broker_url)
    with listen("127.0.0.1", 0) as listener, HttpServer(settings, listener) as started:
        assert started.await_start()
        yield started


def connect(server: HttpServer) -> socket.socket:
    host, _, port = server.url.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=10)


def read_all(connection: socket.socket) -> bytes:
    answer = b""
    while piece := connection.recv(65536):
        answer += piece
    return answer


def test_a_body_does_not_wait_for_the_acknowledgement_of_its_head() -> None:
    with listen("127.0.0.1", 0) as listener, closing(socket.create_connection(listener.getsockname())):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize("sent", [b"", HALF_A_HEAD])
def test_a_head_that_does_not_come_is_given_up(server: HttpServer, sent: bytes) -> None:
    with closing(connect(server)) as connection:
        connection.sendall(sent)
        assert read_all(connection).startswith(b"HTTP/1.1 408")


def test_so_is_that_of_a_later_request_on_the_same_connection(server: HttpServer) -> None:
    with closing(connect(server)) as connection:
        connection.sendall(WHOLE)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        connection.sendall(HALF_A_HEAD)
        assert b"HTTP/1.1 408" in read_all(connection)


def test_a_head_without_end_is_refused_before_it_fills_the_memory(server: HttpServer) -> None:
    with closing(connect(server)) as connection:
        connection.sendall(HALF_A_HEAD + b"x" * (2 * HEAD_BYTES))
        assert connection.recv(65536).startswith(b"HTTP/1.1 431")


def test_a_connection_with_patient_requests_is_left_alone(server: HttpServer) -> None:
    with httpx2.Client(base_url=server.url) as client:
        assert [client.get("/livez").status_code for _ in range(3)] == [200, 200, 200]


def test_five_hundred_silent_connections_keep_nobody_waiting(server: HttpServer) -> None:
    with ExitStack() as stack:
        for _ in range(500):
            stack.enter_context(closing(connect(server))).sendall(HALF_A_HEAD)
        assert httpx2.get(f"{server.url}/livez", timeout=1).status_code == 200


def test_a_server_takes_more_connections_than_the_usual_soft_limit() -> None:
    program = (
        "import resource as r; r.setrlimit(r.RLIMIT_NOFILE, (1024, r.getrlimit(r.RLIMIT_NOFILE)[1])); "
        "from foretrain.http_connections import allow_many_connections as a; a(); "
        "print(r.getrlimit(r.RLIMIT_NOFILE)[0])"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert int(printed.stdout) == min(hard, 65_536)
