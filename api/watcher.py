"""One pair of eyes for all who wait: looks at the jobs that are waited for, wakes whom a change concerns."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from api.problems import HttpProblem
from core.database import Database
from core.jobs.watching import WatchedState, watched_states

log = structlog.get_logger(__name__)


class Watch:
    """One client's view of one job. `state` is None until it was looked at, and once the job `is_gone`."""

    def __init__(self) -> None:
        self.state: WatchedState | None = None
        self.is_gone = False
        self._news = asyncio.Event()

    def tell(self, state: WatchedState | None) -> None:
        """Notes how the job stands, and wakes whoever waits if that is new."""
        if state != self.state or (state is None) != self.is_gone:
            self.state, self.is_gone = state, state is None
            self._news.set()

    async def news(self, timeout_seconds: float) -> bool:
        """Waits until the job stands otherwise than at the last call; False when that takes too long."""
        try:
            await asyncio.wait_for(self._news.wait(), timeout_seconds)
        except TimeoutError:
            return False
        self._news.clear()
        return True


class Watcher:
    """Asks the database once an interval for all watched jobs together, and only while there are any.

    Everything runs on the event loop's thread, hence without a lock; the statement in the thread pool.
    """

    def __init__(self, db: Database, *, interval_seconds: float, most: int) -> None:
        self._db = db
        self._interval_seconds = interval_seconds
        self._most = most
        self._watches: defaultdict[str, set[Watch]] = defaultdict(set)
        self._count = 0
        self._looking: asyncio.Task[None] | None = None

    @property
    def count(self) -> int:
        """Clients that wait now."""
        return self._count

    def require_room(self) -> None:
        """Raises HttpProblem `too_many_waiting` (503) where as many wait as may."""
        if self._count >= self._most:
            raise HttpProblem(
                "too_many_waiting", "Too many clients wait for news already; poll, or try again later."
            )

    @contextmanager
    def watching(self, job_id: str) -> Iterator[Watch]:
        """A watch for the block; ask `require_room` before."""
        watch = Watch()
        self._watches[job_id].add(watch)
        self._count += 1
        if self._looking is None:
            self._looking = asyncio.create_task(self._look_again_and_again(), name="job-watcher")
        try:
            yield watch
        finally:
            self._count -= 1
            self._watches[job_id].discard(watch)
            if not self._watches[job_id]:
                del self._watches[job_id]

    async def close(self) -> None:
        """Stops looking."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    async def _look_again_and_again(self) -> None:
        try:
            while self._watches:
                await self._look()
                await asyncio.sleep(self._interval_seconds)
        finally:
            self._looking = None

    async def _look(self) -> None:
        job_ids = list(self._watches)
        try:
            states = await run_in_threadpool(watched_states, self._db, job_ids)
        except SQLAlchemyError as error:
            # As if nothing had happened: what is wrong is said by the answers of those who wait.
            log.warning("watched jobs not read", reason=str(getattr(error, "orig", error)))
            return
        for job_id in job_ids:
            for watch in self._watches.get(job_id, ()):
                watch.tell(states.get(job_id))
