"""Runs the inspections of fresh uploads beside the requests that wait for them."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import structlog
from starlette.concurrency import run_in_threadpool

from core.database import Database
from core.datasets import service
from core.datasets.inspection import inspect_dataset
from core.datasets.lifecycle import DatasetStatus
from core.settings import Settings
from core.storage import ObjectStorage
from core.tables import Dataset

log = structlog.get_logger(__name__)
P = ParamSpec("P")
T = TypeVar("T")


class Inspections:
    """One inspection per dataset, however many uploads of the same bytes wait for it.

    Used from the event loop's thread alone. An inspection that outlasts its waiters goes on by itself;
    one that dies with this process is taken up by the scheduler.
    """

    def __init__(self, db: Database, storage: ObjectStorage, settings: Settings) -> None:
        self._db = db
        self._storage = storage
        self._settings = settings
        self._stop = threading.Event()
        self._places = asyncio.Semaphore(settings.inspections_at_once)
        self._running: dict[str, asyncio.Task[Dataset]] = {}
        self._waiting: Counter[str] = Counter()

    async def wait_for(self, tenant_id: str, dataset_id: str) -> Dataset | None:
        """The dataset once it is inspected; None when that outlasts `inspection_wait_seconds`.

        A rejected dataset is returned with its problem, and is already gone from database and storage:
        its uploader hears of it at once and has no use for the row.
        """
        task = self._running.get(dataset_id) or self._start(tenant_id, dataset_id)
        self._waiting[dataset_id] += 1
        try:
            done, _ = await asyncio.wait({task}, timeout=self._settings.inspection_wait_seconds)
        finally:
            self._waiting[dataset_id] -= 1
        return task.result() if done else None

    async def in_turn(self, read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Another reading of a dataset, one that counts among the inspections at once."""
        async with self._places:
            return await run_in_threadpool(read, *args, **kwargs)

    async def close(self) -> None:
        """Ends the inspections under way; the scheduler takes them up."""
        self._stop.set()
        if self._running:
            await asyncio.wait(self._running.values())

    def _start(self, tenant_id: str, dataset_id: str) -> asyncio.Task[Dataset]:
        def forget(task: asyncio.Task[Dataset]) -> None:
            self._running.pop(dataset_id)
            self._waiting += Counter()  # drops the zeros
            if not task.cancelled() and task.exception() is not None:
                log.error("inspection broke off", dataset_id=dataset_id, exc_info=task.exception())

        task = asyncio.create_task(self._inspect(tenant_id, dataset_id))
        task.add_done_callback(forget)
        self._running[dataset_id] = task
        return task

    async def _inspect(self, tenant_id: str, dataset_id: str) -> Dataset:
        async with self._places:
            await run_in_threadpool(
                inspect_dataset, self._db, self._storage, self._settings, dataset_id, stop=self._stop
            )
        dataset = await run_in_threadpool(self._read, tenant_id, dataset_id)
        if dataset.status == DatasetStatus.REJECTED and self._waiting[dataset_id]:
            await run_in_threadpool(self._discard, tenant_id, dataset_id)
        return dataset

    def _read(self, tenant_id: str, dataset_id: str) -> Dataset:
        with self._db.readers.begin() as session:
            return service.get(session, tenant_id, dataset_id)

    def _discard(self, tenant_id: str, dataset_id: str) -> None:
        with self._db.sessions.begin() as session:
            key = service.discard_rejected(session, tenant_id, dataset_id)
        if key is not None:
            self._storage.delete(key)
