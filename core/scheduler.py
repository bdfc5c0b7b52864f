"""Keeps the promises nobody else is awake for: lost workers, overdue jobs, dead inspections, webhooks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog
from pydantic import ValidationError

from core import idempotency
from core.datasets import repository as dataset_rows
from core.datasets import service as datasets
from core.datasets.inspection import inspect_dataset
from core.jobs import service as jobs
from core.monitoring import tallies
from core.monitoring.counters import sweep_failures
from core.monitoring.tallies import Tallied
from core.queue import nudge
from core.upkeep import retention
from core.upkeep.garbage import collect_garbage
from core.webhooks import repository as webhook_rows
from core.webhooks.couriers import Couriers
from core.workers import service as workers

if TYPE_CHECKING:
    from celery import Celery

    from core.database import Database
    from core.settings import Settings
    from core.storage import ObjectStorage

AT_ONCE = 100
TIDY_SECONDS = 60.0
GARBAGE_SECONDS = 3600.0
DAY_SECONDS = 86_400.0
_log = structlog.get_logger(__name__)


class Scheduler:
    """Several at once do no harm: every change is a guarded UPDATE."""

    def __init__(self, db: Database, celery: Celery, storage: ObjectStorage, settings: Settings) -> None:
        self._db = db
        self._celery = celery
        self._storage = storage
        self._settings = settings
        self._inspector = _Errand()
        self._collector = _Errand()
        self._stopping = threading.Event()
        self._couriers = Couriers(db, settings, self._stopping.is_set, self._attempt)
        self._left_for_newer: set[str] = set()
        self._tidy_at = 0.0
        self._collect_at = 0.0

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
        self._attempt(self._couriers.dispatch)
        if time.monotonic() >= self._tidy_at:
            self._tidy_at = time.monotonic() + TIDY_SECONDS
            self._attempt(self._remove_unfinished_uploads)
            self._attempt(self._delete_old_jobs)
            self._attempt(self._delete_old_datasets)
            self._attempt(self._purge_useless_datasets)
            self._attempt(self._forget_idempotency_keys)
            self._attempt(self._forget_deliveries)
            self._attempt(self._forget_old_audit_events)
            self._attempt(self._forget_gone_workers)
            self._attempt(self._fold_tallies)
        if time.monotonic() >= self._collect_at:
            self._collect_at = time.monotonic() + GARBAGE_SECONDS
            self._collector.start(self._attempt, self._collect_garbage)

    def join(self) -> None:
        """Waits for what is under way in other threads."""
        self._inspector.join()
        self._collector.join()
        self._couriers.join()

    def _attempt(self, part: Callable[..., None], *what: str) -> None:
        try:
            part(*what)
        except Exception:  # noqa: BLE001  # whatever it was, the next sweep must come
            name = part.__name__.lstrip("_")
            sweep_failures.labels(name).inc()
            _log.exception("sweep_failed", part=name)

    def _requeue_lost(self) -> None:
        with self._db.sessions.begin() as session:
            lost = jobs.requeue_lost(session)
            tallies.note(session, Tallied.LEASE_EXPIRED, times=len(lost))
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
        if self._inspector.is_under_way:
            return
        with self._db.readers.begin() as session:
            lost = datasets.lost_inspections(session, self._left_for_newer)
        if lost:
            self._inspector.start(self._attempt, self._inspect, lost[0])

    def _inspect(self, dataset_id: str) -> None:
        try:
            inspect_dataset(self._db, self._storage, self._settings, dataset_id, self._stopping)
        except ValidationError:
            # Not looked at again, or it would for ever keep the others behind it from their turn.
            self._left_for_newer.add(dataset_id)
            _log.warning("inspection_left_for_newer_processes", dataset_id=dataset_id)

    def _collect_garbage(self) -> None:
        count = collect_garbage(self._db, self._storage, is_stopping=self._stopping.is_set)
        _log.info("garbage_collected", objects=count)

    def _delete_old_jobs(self) -> None:
        if self._settings.job_retention_days is None:
            return
        with self._db.sessions.begin() as session:
            keys = retention.delete_old_jobs(session, self._settings.job_retention_days, AT_ONCE)
        for key in keys:
            self._storage.delete(key)

    def _delete_old_datasets(self) -> None:
        if self._settings.dataset_retention_days is None:
            return
        with self._db.sessions.begin() as session:
            hidden = retention.delete_old_datasets(session, self._settings.dataset_retention_days, AT_ONCE)
        for dataset_id in hidden:
            _log.info("dataset_kept_long_enough", dataset_id=dataset_id)

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

    def _forget_deliveries(self) -> None:
        is_full = True
        while is_full and not self._stopping.is_set():
            with self._db.sessions.begin() as session:
                kept_for = self._settings.webhook_delivery_days * DAY_SECONDS
                is_full = webhook_rows.forget_deliveries(session, kept_for, AT_ONCE) == AT_ONCE

    def _forget_old_audit_events(self) -> None:
        is_done = False
        while not is_done and not self._stopping.is_set():
            with self._db.sessions.begin() as session:
                keep_days = self._settings.audit_retention_days
                is_done = retention.forget_old_audit_events(session, keep_days, AT_ONCE) == 0

    def _forget_gone_workers(self) -> None:
        with self._db.sessions.begin() as session:
            gone = workers.forget_gone(session)
        for name in gone:
            _log.info("worker_forgotten", worker=name)

    def _fold_tallies(self) -> None:
        with self._db.sessions.begin() as session:
            tallies.note(session, Tallied.SCHEDULER_ROUND)
        is_full = True
        while is_full and not self._stopping.is_set():
            with self._db.sessions.begin() as session:
                is_full = tallies.fold(session) == tallies.FOLDED_AT_ONCE


class _Errand:
    """What takes long has a thread of its own, so as not to keep lost jobs waiting; one run at a time."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None

    @property
    def is_under_way(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def start(self, act: Callable[..., None], *arguments: object) -> None:
        """Nothing, while the last run is under way."""
        if not self.is_under_way:
            self._thread = threading.Thread(target=act, args=arguments, daemon=True)
            self._thread.start()

    def join(self) -> None:
        if self._thread is not None:
            self._thread.join()
