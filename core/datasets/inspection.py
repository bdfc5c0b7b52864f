"""Runs the inspection of one dataset in a child process with a limit on memory and time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import structlog
from pydantic import ValidationError

from core.datasets import service
from core.errors import InspectionLost, StorageKeyMissing, StorageUnavailable
from trainer.dataset.schema import DatasetFormat, DatasetMapping, DatasetProblem, DatasetSchema

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core.database import Database
    from core.settings import Settings
    from core.storage import ObjectStorage

MAX_ANSWER_BYTES = 16 * 1024**2
LOG_TAIL_BYTES = 4096
POLL_SECONDS = 0.2
EXIT_ANSWERED = {0, 2}
# The limit is set by a shell in the child: a preexec_fn is not safe in a program with threads.
LIMITED = 'ulimit -v "$1" && shift && exec "$@"'
# What an interpreter and Arrow print when the address space is used up, before they exit in some way.
OUT_OF_MEMORY_SIGNS = (
    "memoryerror",
    "bad_alloc",
    "malloc",
    "mmap failed",
    "out of memory",
    "memory allocation",
)
PASSED_ON = ("PATH", "LANG", "LC_ALL", "PYTHONPATH", "TZ", "TMPDIR")
_log = structlog.get_logger(__name__)


class InspectionCrashed(Exception):
    """The child ended without an answer; its lease runs out and the scheduler tries once more."""


def inspect_in_child(
    path: Path,
    data_format: DatasetFormat,
    mapping: DatasetMapping,
    settings: Settings,
    while_waiting: Callable[[], None] = lambda: None,
) -> DatasetSchema | DatasetProblem:
    """What `python -P -m trainer.dataset inspect` says of the file.

    Out of memory and out of time are problems too. `while_waiting` is called several times a second; when it
    raises, the child is killed. Raises InspectionCrashed.
    """
    arguments = ["inspect", str(path), "--format", data_format, "--mapping", mapping.model_dump_json()]
    answer = ask_child(arguments, settings, while_waiting)
    if isinstance(answer, DatasetProblem):
        return answer
    try:
        return DatasetSchema.model_validate(answer["schema"])
    except (ValidationError, KeyError) as error:
        raise InspectionCrashed("the inspection's answer cannot be read") from error


def ask_child(
    arguments: Sequence[str], settings: Settings, while_waiting: Callable[[], None] = lambda: None
) -> dict[str, Any] | DatasetProblem:
    """What `python -P -m trainer.dataset` prints, within limits on memory and time; otherwise as above."""
    command = [sys.executable, "-P", "-m", "trainer.dataset", *arguments]
    limit_kib = settings.inspection_memory_bytes // 1024
    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    with tempfile.TemporaryFile() as answer, tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            ["/bin/sh", "-c", LIMITED, "sh", str(limit_kib), *command],
            stdin=subprocess.DEVNULL,
            stdout=answer,
            stderr=log,
            env=environment,
            start_new_session=True,
        )
        in_time = _wait(process, settings, while_waiting)
        if not in_time:
            return _took_too_long(settings)
        return _read_answer(process.returncode, answer, log)


def _wait(process: subprocess.Popen[bytes], settings: Settings, while_waiting: Callable[[], None]) -> bool:
    """False when the child was killed because its time was up."""
    deadline = time.monotonic() + settings.inspection_timeout_seconds
    try:
        while (left := deadline - time.monotonic()) > 0:
            try:
                process.wait(timeout=min(POLL_SECONDS, left))
            except subprocess.TimeoutExpired:
                while_waiting()
            else:
                return True
        return False
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _took_too_long(settings: Settings) -> DatasetProblem:
    detail = (
        f"Reading the file took longer than {settings.inspection_timeout_seconds:g} s; "
        "upload it in parts, or as Parquet."
    )
    return DatasetProblem(code="timed_out", detail=detail)


def _read_answer(exit_status: int, answer: IO[bytes], log: IO[bytes]) -> dict[str, Any] | DatasetProblem:
    if exit_status in EXIT_ANSWERED:
        answer.seek(0)
        try:
            told: dict[str, Any] = json.loads(answer.read(MAX_ANSWER_BYTES))
            return told if exit_status == 0 else DatasetProblem.model_validate(told["problem"])
        except (ValueError, ValidationError, KeyError, TypeError) as error:
            raise InspectionCrashed("the inspection's answer cannot be read") from error
    last_words = _tail(log)
    if any(sign in last_words.lower() for sign in OUT_OF_MEMORY_SIGNS):
        detail = "Reading the file takes more memory than an inspection may use; upload it in parts."
        return DatasetProblem(code="out_of_memory", detail=detail)
    raise InspectionCrashed(f"exit status {exit_status}: {last_words}")


def _tail(log: IO[bytes]) -> str:
    log.seek(0, os.SEEK_END)
    log.seek(max(0, log.tell() - LOG_TAIL_BYTES))
    return log.read().decode(errors="replace")


def inspect_dataset(
    db: Database,
    storage: ObjectStorage,
    settings: Settings,
    dataset_id: str,
    stop: threading.Event | None = None,
) -> bool:
    """Takes up, runs and finishes the inspection of one dataset, renewing its lease meanwhile.

    False when there was nothing to do, or it broke off and is left to the scheduler: the child crashed, or
    `stop` was set and the child killed. Raises StorageUnavailable, likewise left to the scheduler, and
    ValidationError for a mapping of a later release, left to a process of that one.
    """
    with db.sessions.begin() as session:
        inspection = service.begin_inspection(session, dataset_id, settings.lease_seconds)
    if inspection is None:
        return False
    keeper = _Keeper(db, inspection, settings, stop or threading.Event())
    try:
        with at_hand(storage, inspection.storage_key, settings.data_dir, keeper.check) as path:
            outcome = inspect_in_child(path, inspection.format, inspection.mapping, settings, keeper.check)
        with db.sessions.begin() as session:
            service.finish_inspection(session, inspection, outcome)
    except _Stopped:
        with db.sessions.begin() as session:
            service.release_inspection(session, inspection)
        return False
    except StorageUnavailable:
        # Not the file's fault: an outage must not use up the attempts it has.
        with db.sessions.begin() as session:
            service.release_inspection(session, inspection)
        raise
    except (InspectionCrashed, InspectionLost, StorageKeyMissing) as problem:
        _log.warning("inspection_broke_off", dataset_id=dataset_id, problem=str(problem))
        return False
    return True


class _Stopped(Exception):
    """This process is about to end."""


class _Keeper:
    """Renews an inspection's lease when it is time to."""

    def __init__(
        self, db: Database, inspection: service.Inspection, settings: Settings, stop: threading.Event
    ) -> None:
        self._db = db
        self._inspection = inspection
        self._settings = settings
        self._stop = stop
        self._renew_at = 0.0

    def check(self) -> None:
        """Raises _Stopped, and InspectionLost."""
        if self._stop.is_set():
            raise _Stopped
        if time.monotonic() < self._renew_at:
            return
        with self._db.sessions.begin() as session:
            service.renew_inspection(session, self._inspection, self._settings.lease_seconds)
        self._renew_at = time.monotonic() + self._settings.heartbeat_seconds


@contextmanager
def at_hand(
    storage: ObjectStorage, key: str, data_dir: Path, keep: Callable[[], None] = lambda: None
) -> Iterator[Path]:
    """The object as a local file; fetched into a temporary one where the storage is no folder.

    Under `data_dir`: a container's /tmp is often a small piece of memory, and a dataset may be 2 GiB.
    """
    path = storage.local_path(key)
    if path is not None:
        yield path
        return
    data_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="inspection-", dir=data_dir) as folder:
        path = Path(folder) / "dataset"
        with path.open("wb") as file:
            for chunk in storage.read_range(key, 0, storage.size(key)):
                file.write(chunk)
                keep()
        yield path
