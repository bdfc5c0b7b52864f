"""Keeps the promises nobody else is awake for: lost workers, overdue jobs, dead inspections, full queues."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

from core import idempotency
from core.datasets import repository as dataset_rows
from core.datasets import service as datasets
from core.datasets.inspection import inspect_dataset
from core.jobs import service as jobs
from core.queue import nudge

if TYPE_CHECKING:
    from celery import Celery

    from core.database import Database
    from core.settings import Settings
    from core.storage import ObjectStorage

AT_ONCE = 100
TIDY_SECONDS = 60.0
_log = structlog.get_logger(__name__)


class Scheduler:
    """Several at once do no harm: every change is a guarded UPDATE."""

    def __init__(self, db: Database, celery: Celery, storage: ObjectStorage, settings: Settings) -> None:
        self._db = db
        self._celery = celery
        self._storage = storage
        self._settings = settings
        self._inspector: threading.Thread | None = None
        self._stopping = threading.Event()
        self._tidy_at = 0.0

    def run(self, stop: threading.Event) -> None:
        """Sweeps every `sweep_seconds` until `stop` is set."""
        _log.info("scheduler_started", sweep_seconds=self._settings.sweep_seconds)
        while not stop.is_set():
            self.run_once()
            stop.wait(self._settings.sweep_seconds)
        self._stopping.set()
        self.join()
        _log.info("scheduler_stopped")

    def run_once(self) -> None:
        """One sweep. A part that fails is logged and does not keep the others from their turn."""
        self._attempt(self._requeue_lost)
        self._attempt(self._fail_overdue)
        self._attempt(self._nudge_workers)
        self._attempt(self._start_inspector)
        if time.monotonic() >= self._tidy_at:
            self._tidy_at = time.monotonic() + TIDY_SECONDS
            self._attempt(self._remove_unfinished_uploads)
            self._attempt(self._purge_useless_datasets)
            self._attempt(self._forget_idempotency_keys)

    def join(self) -> None:
        """Waits for an inspection under way."""
        if self._inspector is not None:
            self._inspector.join()

    def _attempt(self, part: Callable[[], None]) -> None:
        try:
            part()
        except Exception:  # noqa: BLE001  # whatever it was, the next sweep must come
            _log.exception("sweep_failed", part=part.__name__.lstrip("_"))

    def _requeue_lost(self) -> None:
        with self._db.sessions.begin() as session:
            lost = jobs.requeue_lost(session)
        for job_id, status in lost:
            _log.warning("lease_ran_out", job_id=job_id, status=status.value)

    def _fail_overdue(self) -> None:
        with self._db.sessions.begin() as session:
            failed = jobs.fail_overdue(session)
        for job_id in failed:
            _log.info("pending_timeout", job_id=job_id)

    def _nudge_workers(self) -> None:
        with self._db.readers.begin() as session:
            needed = jobs.nudges_needed(session)
        for queue, messages in needed.items():
            nudge(self._celery, queue, messages)

    def _start_inspector(self) -> None:
        if self._inspector is not None and self._inspector.is_alive():
            return
        with self._db.readers.begin() as session:
            lost = datasets.lost_inspections(session)
        if lost:
            # A thread of its own: reading a large file must not keep lost jobs waiting.
            self._inspector = threading.Thread(target=self._inspect, args=(lost[0],), daemon=True)
            self._inspector.start()

    def _inspect(self, dataset_id: str) -> None:
        try:
            inspect_dataset(self._db, self._storage, self._settings, dataset_id, self._stopping)
        except Exception:  # noqa: BLE001  # whatever it was, the next sweep must come
            _log.exception("inspection_failed", dataset_id=dataset_id)

    def _remove_unfinished_uploads(self) -> None:
        with self._db.readers.begin() as session:
            uploads = dataset_rows.expired_uploads(session, AT_ONCE)
        for upload in uploads:
            self._storage.delete(upload.storage_key)
            with self._db.sessions.begin() as session:
                dataset_rows.remove_upload(session, upload.dataset_id)
            _log.info("unfinished_upload_removed", dataset_id=upload.dataset_id)

    def _purge_useless_datasets(self) -> None:
        with self._db.readers.begin() as session:
            useless = dataset_rows.unpurged(session, AT_ONCE)
        for dataset in useless:
            self._storage.delete(dataset.storage_key)
            with self._db.sessions.begin() as session:
                dataset_rows.note_purged(session, dataset.id)

    def _forget_idempotency_keys(self) -> None:
        with self._db.sessions.begin() as session:
            idempotency.forget_expired(session)
