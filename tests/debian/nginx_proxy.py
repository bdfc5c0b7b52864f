"""The compose file's proxy in front of real API processes: `make test-proxy`, for it needs Debian's nginx.

Its configuration is used as it stands; only names, addresses and folders are those of this machine.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from core import migrations
from core.access.scopes import Scope
from core.access.service import create_key
from core.database import connect
from tests.api.conftest import fleet_csv
from tests.debian.names import Names
from tests.processes import descendants, eventually
from tests.servers import await_start, connects, free_port, guarded

PROXY = Path(__file__).parents[2] / "deploy" / "proxy"
MIB = 1024**2
FIRST, SECOND, STAND_IN, NOBODY = "127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"
START_SECONDS = 20.0
HALF_A_HEAD = b"GET /v1/jobs HTTP/1.1\r\nHost: x\r\nX-Slow: "
WITHIN_SECONDS = 1.0


@dataclass(frozen=True)
class Stage:
    """A database with a key, a name server, and the proxy; API processes come and go."""

    folder: Path
    key: str
    names: Names
    api_port: int
    proxy_port: int

    @property
    def log(self) -> str:
        return (self.folder / "access.log").read_text()

    @contextmanager
    def replica(self, address: str) -> Iterator[int]:
        """`foretrain api` at that address, and under the name; its process id."""
        command = [sys.executable, "-m", "foretrain", "api", "--host", address, "--port", str(self.api_port)]
        with (
            (self.folder / f"api-{address}.log").open("wb") as log,
            guarded(
                command, self.folder, keeps_folder=True, environment=_environment(self.folder), log=log
            ) as guard,
        ):
            await_start(guard, lambda: connects(socket.AF_INET, (address, self.api_port)))
            self.names.addresses.append(address)
            yield descendants(guard.pid)[0]
        self.names.addresses.remove(address)

    def client(self, base_url: str) -> httpx2.Client:
        return httpx2.Client(
            base_url=base_url, headers={"Authorization": f"Bearer {self.key}"}, timeout=WITHIN_SECONDS
        )

    @property
    def through_the_proxy(self) -> str:
        return f"http://127.0.0.1:{self.proxy_port}"

    def upload_head(self, size_bytes: int) -> bytes:
        lines = [
            "POST /v1/datasets HTTP/1.1",
            "Host: x",
            f"Authorization: Bearer {self.key}",
            "Content-Type: text/csv",
            f"Content-Length: {size_bytes}",
        ]
        return "\r\n".join([*lines, "", ""]).encode()


def _environment(folder: Path) -> dict[str, str]:
    chosen = {
        "DATA_DIR": str(folder / "data"),
        "DATABASE_URL": f"sqlite:///{folder / 'foretrain.db'}",
        # An upload is answered once it is stored; how fast it is inspected is not the question here.
        "INSPECTION_WAIT_SECONDS": "0.01",
    }
    return os.environ | {f"FORETRAIN_{name}": value for name, value in chosen.items()}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("proxy")
    url = f"sqlite:///{folder / 'foretrain.db'}"
    migrations.upgrade(url)
    db = connect(url)
    with db.sessions.begin() as session:
        key = create_key(session, "acme", tuple(Scope))[1]
    db.dispose()
    with Names("api").served() as names:
        stage = Stage(folder, key, names, free_port(), free_port())
        _write_configuration(stage)
        program = shutil.which("nginx")
        assert program, "nginx is not installed: apt-get install nginx-light"
        # Who is root keeps that: the folders of the tests are closed to others.
        directives = "daemon off;" + (" user root;" if os.geteuid() == 0 else "")
        command = [
            program,
            "-e",
            "stderr",
            "-p",
            str(folder),
            "-c",
            str(folder / "nginx.conf"),
            "-g",
            directives,
        ]
        with (
            (folder / "nginx.log").open("wb") as log,
            guarded(command, folder, stop=signal.SIGQUIT, keeps_folder=True, log=log) as guard,
        ):
            await_start(guard, lambda: connects(socket.AF_INET, ("127.0.0.1", stage.proxy_port)))
            yield stage


def _write_configuration(stage: Stage) -> None:
    here = {
        " /tmp/": f" {stage.folder / 'tmp'}/",
        "/etc/nginx/": f"{stage.folder}/",
        "/dev/stdout": f"{stage.folder}/access.log",
        "127.0.0.11": f"127.0.0.1:{stage.names.port}",
        "api:8000": f"api:{stage.api_port}",
        "listen 8080": f"listen 127.0.0.1:{stage.proxy_port}",
    }
    places = {
        "nginx.conf": "nginx.conf",
        "http.conf": "conf.d/default.conf",
        "locations.inc": "foretrain/locations.inc",
    }
    for name, place in places.items():
        text = (PROXY / name).read_text()
        for theirs, ours in here.items():
            text = text.replace(theirs, ours)
        target = stage.folder / place
        target.parent.mkdir(exist_ok=True)
        target.write_text(text)
    (stage.folder / "tmp").mkdir()


@pytest.fixture(scope="module")
def api(stage: Stage) -> Iterator[int]:
    """The process id of the one API process there is."""
    with stage.replica(FIRST) as pid:
        yield pid


@contextmanager
def slow_clients(address: tuple[str, int], pieces: list[bytes], count: int) -> Iterator[None]:
    """So many connections from fifty addresses, each with one of `pieces` sent and never going on."""
    with ExitStack() as stack:
        for number in range(count):
            connection = socket.create_connection(address, 10, (f"127.1.0.{1 + number % 50}", 0))
            stack.enter_context(closing(connection)).sendall(pieces[number % len(pieces)])
        yield


@pytest.mark.usefixtures("api")
@pytest.mark.parametrize("through_proxy", [True, False], ids=["proxy", "application"])
def test_500_half_open_connections_keep_nobody_waiting(stage: Stage, *, through_proxy: bool) -> None:
    address = ("127.0.0.1", stage.proxy_port) if through_proxy else (FIRST, stage.api_port)
    half_a_line = stage.upload_head(1_000_000) + b"timestamp,ser"
    # These are taken for uploads, and there are more of them than may run at once.
    half_a_body = stage.upload_head(1_000_000) + fleet_csv(servers=20)
    seconds: list[float] = []
    with (
        slow_clients(address, [HALF_A_HEAD, half_a_line, half_a_body], 500),
        stage.client(f"http://{address[0]}:{address[1]}") as client,
    ):
        # All of them are accepted, and what they did send is read, before the clock starts.
        assert client.get("/v1/jobs", timeout=10).status_code == 200
        # Who has only just begun to send dawdles after a second; until then all places are rightly taken.
        first, kind = fleet_csv(servers=12), {"Content-Type": "text/csv"}
        assert eventually(lambda: client.post("/v1/datasets", content=first, headers=kind).is_success)
        for number in range(5):
            csv = fleet_csv(servers=2 * number + 1 + through_proxy)
            for method, path, body in (("POST", "/v1/datasets", csv), ("GET", "/v1/jobs", None)):
                started_at = time.monotonic()
                answer = client.request(method, path, content=body, headers={"Content-Type": "text/csv"})
                seconds.append(time.monotonic() - started_at)
                assert answer.is_success, answer.text
    assert max(seconds) < WITHIN_SECONDS, seconds


@pytest.mark.usefixtures("api")
def test_one_address_cannot_hold_all_uploads(stage: Stage) -> None:
    source = "127.1.1.1"
    with ExitStack() as stack:

        def refused_beside_one_more() -> bytes:
            slow = socket.create_connection(("127.0.0.1", stage.proxy_port), 10, (source, 0))
            stack.enter_context(closing(slow)).sendall(stage.upload_head(1_000_000) + b"timestamp,ser")
            return ask_from(source, stage)

        refused = eventually(refused_beside_one_more)
        assert ask_from("127.1.1.2", stage) == b""
    assert refused.startswith(b"HTTP/1.1 503")
    assert b"application/problem+json" in refused
    assert b'"code":"overloaded"' in refused


def ask_from(source: str, stage: Stage) -> bytes:
    """A refusal of /livez to that address; empty while it is answered."""
    with socket.create_connection(("127.0.0.1", stage.proxy_port), 10, (source, 0)) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = read_all(connection)
    return b"" if answer.startswith(b"HTTP/1.1 200") else answer


def read_all(connection: socket.socket) -> bytes:
    answer = b""
    while piece := connection.recv(65536):
        answer += piece
    return answer


@pytest.mark.usefixtures("api")
@pytest.mark.parametrize(
    "headers",
    [
        ["Content-Length: 2", "Content-Length: 3"],
        ["Content-Length: 2", "Transfer-Encoding: chunked"],
        ["Content-Length: 2", "X-Folded: a", " b"],
        ["Content-Length: 2", "X-Null: a\0b"],
        ["Content-Length: +2"],
        ["Content-Length : 2"],
    ],
)
def test_requests_that_two_servers_could_read_differently_are_refused(
    stage: Stage, headers: list[str]
) -> None:
    with closing(socket.create_connection(("127.0.0.1", stage.proxy_port), 10)) as connection:
        lines = ["POST /v1/jobs HTTP/1.1", "Host: x", *headers, "Connection: close", "", "{}"]
        connection.sendall("\r\n".join(lines).encode())
        assert read_all(connection).startswith(b"HTTP/1.1 400")


@pytest.mark.usefixtures("api")
def test_the_answer_s_request_id_is_in_the_proxy_s_log_and_the_key_is_not(stage: Stage) -> None:
    with stage.client(stage.through_the_proxy) as client:
        answer = client.get("/v1/jobs?status=queued")
    line = eventually(
        lambda: next((row for row in stage.log.splitlines() if answer.headers["x-request-id"] in row), "")
    )
    assert '"path":"/v1/jobs"' in line
    assert stage.key not in stage.log


def test_an_upload_streams_through_and_is_held_nowhere(stage: Stage, api: int) -> None:
    size_bytes = 300 * MIB
    before = resident_bytes(api)
    stored = stage.folder / "data" / "objects"
    with closing(socket.create_connection(("127.0.0.1", stage.proxy_port), 30)) as connection:
        connection.sendall(stage.upload_head(size_bytes + 1))
        for _ in range(size_bytes // MIB):
            connection.sendall(b"x" * MIB)
        # All but the last byte is sent: what the API has stored by now, nobody has held back.
        eventually(lambda: bytes_below(stored) > size_bytes - 64 * MIB)
        assert bytes_below(stage.folder / "tmp") == 0
    assert resident_bytes(api) - before < 100 * MIB
    assert all(resident_bytes(pid) < 64 * MIB for pid in nginx_workers(stage))
    eventually(lambda: bytes_below(stored) < MIB)


def nginx_workers(stage: Stage) -> list[int]:
    master = int((stage.folder / "tmp" / "nginx.pid").read_text())
    workers = descendants(master)
    assert workers
    return workers


def resident_bytes(pid: int) -> int:
    """The most that was resident so far."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def bytes_below(folder: Path) -> int:
    sizes: list[int] = []
    for path in folder.rglob("*"):
        try:
            sizes.append(path.stat().st_size if path.is_file() and path.name != "nginx.pid" else 0)
        except FileNotFoundError:
            continue
    return sum(sizes)


@pytest.mark.usefixtures("api")
def test_a_new_replica_is_found_and_nobody_notices_when_it_goes(stage: Stage) -> None:
    statuses: list[int] = []
    with stage.client(stage.through_the_proxy) as client:

        def poll() -> int:
            statuses.append(client.get("/v1/jobs").status_code)
            return statuses[-1]

        with stage.replica(SECOND):
            eventually(lambda: poll() and f'"{SECOND}:{stage.api_port}"' in stage.log)
        # It has ended, and for some seconds more the proxy believes that it lives.
        for _ in range(100):
            poll()
    assert set(statuses) == {200}
    assert f'"{SECOND}:{stage.api_port}, {FIRST}:{stage.api_port}"' in stage.log


def one_event_at_a_time(listener: socket.socket, go_on: threading.Event) -> None:
    """Answers a request with an event, and with another when it may go on."""
    connection, _ = listener.accept()
    with connection:
        connection.recv(65536)
        head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(head.encode() + b"d\r\ndata: first\n\n\r\n")
        go_on.wait(START_SECONDS)
        connection.sendall(b"c\r\ndata: last\n\n\r\n0\r\n\r\n")


@pytest.mark.usefixtures("api")
def test_an_event_arrives_while_the_next_is_still_to_come(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, until = threading.Event(), time.monotonic() + START_SECONDS
    with (
        socket.create_server((STAND_IN, stage.api_port)) as listener,
        stage.client(stage.through_the_proxy) as client,
    ):
        thread = threading.Thread(target=one_event_at_a_time, args=(listener, go_on), daemon=True)
        thread.start()
        monkeypatch.setattr(stage.names, "addresses", [STAND_IN])
        while True:
            with client.stream("GET", "/v1/jobs") as answer:
                # Until the name is asked for again, the API answers.
                if answer.headers["content-type"] != "text/event-stream":
                    assert time.monotonic() < until
                    continue
                events = answer.iter_raw()
                assert next(events) == b"data: first\n\n"
                go_on.set()
                assert b"".join(events) == b"data: last\n\n"
                break
        thread.join()


@pytest.mark.usefixtures("api")
def test_where_no_replica_answers_the_proxy_says_so_as_the_api_would(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage.names, "addresses", [NOBODY])
    with stage.client(stage.through_the_proxy) as client:

        def refused() -> httpx2.Response | None:
            answer = client.get("/livez")
            return answer if answer.is_error else None

        answer = eventually(refused)
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "not_ready"
    assert answer.headers["retry-after"]
