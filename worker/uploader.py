"""Checkpoints and artifacts on their way to the object storage, in a thread that nothing else waits for."""

from __future__ import annotations

import os
import shutil
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

import structlog

from core.errors import LeaseLost, StorageUnavailable
from worker.outage import DATABASE_OUTAGE
from worker.threads import attempt_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from core.storage import StoredObject
    from trainer.events import ArtifactSaved, CheckpointSaved

logger = structlog.get_logger(__name__)

_TRY_AGAIN = (StorageUnavailable, *DATABASE_OUTAGE)


@dataclass
class Upload:
    """One file to publish. `path` is ours alone, whatever the trainer writes under its name later."""

    serial: int
    event: CheckpointSaved | ArtifactSaved
    path: Path
    stored: StoredObject | None = field(default=None, init=False)


class Uploader:
    """First `store` puts the bytes, then `publish` writes the row that points to them.

    Either is tried again when the storage or the database is away, until `finish` runs out of patience. A
    file that still waits when a later one of its name comes is dropped for that one.
    """

    def __init__(
        self,
        store: Callable[[Upload], StoredObject],
        publish: Callable[[Upload, StoredObject], None],
        *,
        staging: Path,
        on_lost: Callable[[], None],
        retry_seconds: float = 2.0,
    ) -> None:
        self._store = store
        self._publish = publish
        self._staging = staging
        self._on_lost = on_lost
        self._retry_seconds = retry_seconds
        self._waiting: dict[str, Upload] = {}
        self._changed = threading.Condition()
        self._busy = False
        self._closing = False
        self._error: BaseException | None = None
        self._failing_since: float | None = None
        self._serial = 0
        self.published: set[str] = set()
        self._thread = attempt_thread("uploader", self._store_waiting)

    def __enter__(self) -> Self:
        self._staging.mkdir(parents=True, exist_ok=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        # A transfer that hangs is left to its own end: it can publish nothing that the token does not allow.
        self._thread.join(timeout=self._retry_seconds)

    def add(self, event: CheckpointSaved | ArtifactSaved, path: Path) -> None:
        """Takes the file at `path` as it is now."""
        self._serial += 1
        staged = self._staging / f"{self._serial:06d}-{path.name}"
        _link_or_copy(path, staged)
        with self._changed:
            superseded = self._waiting.get(event.name)
            # It keeps its place: at the end it would never come first while checkpoints outpace the storage.
            self._waiting[event.name] = Upload(self._serial, event, staged)
            self._changed.notify_all()
        if superseded is not None:
            superseded.path.unlink()

    def finish(self, patience_seconds: float) -> None:
        """Waits until all is published, however slow that is; raises what went wrong.

        LeaseLost; StorageUnavailable when nothing has worked for `patience_seconds` from now; any other.
        """
        with self._changed:
            if self._failing_since is not None:
                self._failing_since = time.monotonic()
            while self._error is None and (self._busy or self._waiting):
                if self._has_failed_for(patience_seconds):
                    raise StorageUnavailable("The object storage does not take the trained files.")
                self._changed.wait(timeout=self._retry_seconds)
            if self._error is not None:
                raise self._error

    def _has_failed_for(self, seconds: float) -> bool:
        return self._failing_since is not None and time.monotonic() - self._failing_since > seconds

    def _store_waiting(self) -> None:
        while (upload := self._next()) is not None:
            try:
                if upload.stored is None:
                    upload.stored = self._store(upload)
                self._publish(upload, upload.stored)
            except _TRY_AGAIN:
                logger.warning("upload_delayed", name=upload.event.name, exc_info=True)
                self._put_back(upload)
                continue
            except LeaseLost as error:
                self._stop_with(error)
                self._on_lost()
                return
            except Exception as error:  # noqa: BLE001  # raised again by finish(), in the thread that runs the job
                self._stop_with(error)
                return
            self._note_published(upload)

    def _next(self) -> Upload | None:
        with self._changed:
            self._changed.wait_for(lambda: self._closing or self._waiting)
            if self._closing:
                return None
            self._busy = True
            return self._waiting.pop(next(iter(self._waiting)))

    def _put_back(self, upload: Upload) -> None:
        with self._changed:
            if self._waiting.setdefault(upload.event.name, upload) is not upload:
                upload.path.unlink()
            self._busy = False
            self._failing_since = self._failing_since or time.monotonic()
            self._changed.wait_for(lambda: self._closing, timeout=self._retry_seconds)

    def _note_published(self, upload: Upload) -> None:
        upload.path.unlink()
        with self._changed:
            self.published.add(upload.event.name)
            self._busy = False
            self._failing_since = None
            self._changed.notify_all()

    def _stop_with(self, error: BaseException) -> None:
        with self._changed:
            self._error = error
            self._changed.notify_all()


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)
