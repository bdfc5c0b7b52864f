"""What only a real server and real sockets show: clients that leave, dawdle or lie."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx2
import pytest
import uvicorn

from api.main import create_app
from api.resources import Queue
from tests.api.conftest import NOTHING, RunningApi, fleet_csv, running
from tests.api.test_artifacts import CONTENT, a_run, store
from tests.conftest import make_settings


class Wire:
    """A served application and a raw connection to it."""

    def __init__(self, api: RunningApi, port: int) -> None:
        self.api = api
        self.port = port
        self.authorization = api.client.headers["Authorization"]
        self.http = httpx2.Client(
            base_url=f"http://127.0.0.1:{port}", headers={"Authorization": self.authorization}
        )

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def upload_head(self, *headers: str) -> bytes:
        lines = ["POST /v1/datasets HTTP/1.1", "Host: x", f"Authorization: {self.authorization}"]
        return "\r\n".join([*lines, "Content-Type: text/csv", *headers, "", ""]).encode()


@contextmanager
def served(api: RunningApi, queue: Queue | None = None) -> Iterator[Wire]:
    """A server over the same settings; `queue` stands in for the broker."""
    # Its own application over the same database and storage: each event loop has one.
    with running_server(api, queue or api.broker.queue()) as port:
        wire = Wire(api, port)
        with wire.http:
            yield wire


@contextmanager
def running_server(api: RunningApi, queue: Queue) -> Iterator[int]:
    app = create_app(api.settings, queue)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="on"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        until(lambda: server.started)
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join()


def until(condition: Callable[[], bool]) -> None:
    """Looks again and again, for at most ten seconds."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.01)


def read_all(connection: socket.socket) -> bytes:
    answer = b""
    while piece := connection.recv(65536):
        answer += piece
    return answer


@pytest.fixture
def wire(sqlite_url: str, tmp_path: Path) -> Iterator[Wire]:
    settings = make_settings(
        tmp_path, database_url=sqlite_url, body_idle_seconds=0.3, max_upload_bytes=1_000_000
    )
    with running(settings) as api, served(api.signed_in()) as started:
        yield started


def test_an_upload_over_a_real_connection(wire: Wire) -> None:
    answer = wire.http.post("/v1/datasets", content=fleet_csv(), headers={"Content-Type": "text/csv"})
    assert answer.status_code == 201
    assert answer.json()["status"] == "ready"


def test_a_client_that_leaves_in_mid_upload_leaves_nothing_behind(wire: Wire) -> None:
    with closing(wire.connect()) as connection:
        connection.sendall(wire.upload_head("Content-Length: 500000") + fleet_csv(servers=20))
        until(lambda: wire.api.leftovers()["uploads"] == 1)
    until(lambda: wire.api.leftovers() == NOTHING)
    assert wire.http.get("/livez").status_code == 200


def test_an_upload_that_stops_coming_is_a_408_and_leaves_nothing_behind(wire: Wire) -> None:
    with closing(wire.connect()) as connection:
        connection.sendall(wire.upload_head("Content-Length: 500000") + fleet_csv())
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"application/problem+json" in answer
    assert b'"code":"body_timeout"' in answer
    assert wire.api.leftovers() == NOTHING


def test_a_length_over_the_limit_is_refused_without_waiting_for_the_body(wire: Wire) -> None:
    with closing(wire.connect()) as connection:
        connection.sendall(wire.upload_head("Content-Length: 1000001", "Expect: 100-continue"))
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"100 Continue" not in answer


def test_chunks_over_the_limit_are_refused_when_they_are(wire: Wire) -> None:
    with closing(wire.connect()) as connection:
        connection.sendall(wire.upload_head("Transfer-Encoding: chunked"))
        chunk = b"40000\r\n" + b"x" * 0x40000 + b"\r\n"
        connection.sendall(chunk * 4)
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 413")
    until(lambda: wire.api.leftovers() == NOTHING)


def test_a_client_that_sends_before_it_listens_still_hears_of_the_limit(wire: Wire) -> None:
    answer = wire.http.post("/v1/datasets", content=b"x" * 8_000_000, headers={"Content-Type": "text/csv"})
    assert answer.status_code == 413
    assert answer.json()["code"] == "too_large"


def test_a_job_whose_body_dawdles_is_a_408(wire: Wire) -> None:
    head = f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: {wire.authorization}\r\n"
    with closing(wire.connect()) as connection:
        connection.sendall(f"{head}Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{".encode())
        assert read_all(connection).startswith(b"HTTP/1.1 408")


def test_head_leaves_the_connection_usable(wire: Wire) -> None:
    run = a_run(wire.api)
    store(wire.api, run, "model.ckpt", CONTENT)
    url = f"/v1/jobs/{run.job_id}/artifacts/model.ckpt"
    for _ in range(2):
        head = wire.http.head(url)
        assert (head.status_code, head.headers["content-length"]) == (200, str(len(CONTENT)))
        assert wire.http.head("/v1/jobs").status_code == 200
    assert wire.http.get(url).content == CONTENT


def test_a_damaged_file_breaks_the_connection_off(wire: Wire) -> None:
    run = a_run(wire.api)
    path = wire.api.storage.local_path(store(wire.api, run, "model.ckpt", CONTENT))
    assert path is not None
    path.write_bytes(CONTENT[:-1] + b"!")
    with pytest.raises(httpx2.RemoteProtocolError):
        wire.http.get(f"/v1/jobs/{run.job_id}/artifacts/model.ckpt")


def test_a_download_that_broke_off_is_finished_with_a_range(wire: Wire) -> None:
    run = a_run(wire.api)
    store(wire.api, run, "model.ckpt", CONTENT)
    url = f"/v1/jobs/{run.job_id}/artifacts/model.ckpt"
    with wire.http.stream("GET", url) as broken:
        etag = broken.headers["etag"]
        held = next(broken.iter_bytes(100_000))
    rest = wire.http.get(url, headers={"Range": f"bytes={len(held)}-", "If-Range": etag})
    assert rest.status_code == 206
    assert held + rest.content == CONTENT


def test_stopping_the_server_ends_an_inspection_and_leaves_it_to_the_scheduler(
    sqlite_url: str, tmp_path: Path
) -> None:
    settings = make_settings(tmp_path, database_url=sqlite_url, inspection_wait_seconds=0.01)
    with running(settings) as api:
        with served(api.signed_in()) as wire:
            answer = wire.http.post("/v1/datasets", content=fleet_csv(), headers={"Content-Type": "text/csv"})
            assert answer.json()["status"] == "inspecting"
            stopped_at = time.monotonic()
        assert time.monotonic() - stopped_at < 5
        status = api.client.get(answer.headers["location"]).json()["status"]
        assert status in {"inspecting", "ready"}
