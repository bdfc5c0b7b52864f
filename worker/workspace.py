"""Where attempts run: a folder per worker process, removed at its end or, if it was killed, by the next."""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import structlog

logger = structlog.get_logger(__name__)

_LOCK = "lock"


@contextmanager
def workspace(parent: Path) -> Iterator[Path]:
    """A fresh private folder under `parent`; what killed workers left there is removed first."""
    parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (parent / _LOCK).open("w") as door:
        fcntl.flock(door, fcntl.LOCK_EX)
        _remove_abandoned(parent)
        folder = Path(tempfile.mkdtemp(prefix="worker-", dir=parent))
        lock = (folder / _LOCK).open("w")
        fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.close()


@contextmanager
def run_directory(folder: Path, name: str) -> Iterator[Path]:
    """A fresh directory for one attempt, removed with all that is in it."""
    directory = folder / name
    directory.mkdir(mode=0o700)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def has_room(folder: Path, least_free_bytes: int) -> bool:
    """Whether the disk it lies on has that much to give."""
    return shutil.disk_usage(folder).free >= least_free_bytes


def _remove_abandoned(parent: Path) -> None:
    for folder in parent.glob("worker-*"):
        with (folder / _LOCK).open("w") as lock:
            if _take_lock(lock):
                logger.info("leftover_run_removed", folder=folder.name)
                shutil.rmtree(folder, ignore_errors=True)


def _take_lock(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
