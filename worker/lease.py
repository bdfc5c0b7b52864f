"""The claim on a job, kept alive by a thread that does nothing else, and given up the moment it cannot be."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Self

import structlog

from core.errors import LeaseLost
from core.monitoring.counters import lease_renewals
from worker.threads import attempt_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from core.jobs.claim import Wishes
    from trainer.events import ProgressReported, Wish

logger = structlog.get_logger(__name__)


class Lease:
    """Renews every `heartbeat_seconds`; the answers carry the wishes of the job's owner.

    A second thread watches the clock: renewals may hang as well as fail, and a worker whose last good
    renewal is a whole lease ago must stop, for another one may have its job by now. `on_wish` is called once
    for each wish that comes, `on_lost` at most once, from these threads.
    """

    def __init__(
        self,
        renew: Callable[[ProgressReported | None], Wishes],
        *,
        held_since: float,
        heartbeat_seconds: float,
        lease_seconds: float,
        on_wish: Callable[[Wish], None],
        on_lost: Callable[[], None],
    ) -> None:
        """`held_since` is the monotonic time just before the claim."""
        self._renew = renew
        self._heartbeat_seconds = heartbeat_seconds
        self._lease_seconds = lease_seconds
        self._on_wish = on_wish
        self._on_lost = on_lost
        self._good_until = held_since + lease_seconds
        self._progress: ProgressReported | None = None
        self._has_carried = False
        self._due = threading.Event()
        self._told: set[Wish] = set()
        self._lost = threading.Event()
        self._over = threading.Event()
        self._threads = [
            attempt_thread("lease-renewal", self._keep),
            attempt_thread("lease-watch", self._watch),
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_renewing()

    @property
    def is_lost(self) -> bool:
        return self._lost.is_set()

    @property
    def seconds_left(self) -> float:
        """How long the last good renewal still holds; never more than is true."""
        return 0.0 if self.is_lost else max(0.0, self._good_until - time.monotonic())

    def carry(self, progress: ProgressReported) -> None:
        """The next renewal takes this along, once; only the latest matters. The first one waits for none."""
        self._progress = progress
        if not self._has_carried:
            self._has_carried = True
            self._due.set()

    def check(self) -> None:
        """Raises LeaseLost once the lease is gone."""
        if self.is_lost:
            raise LeaseLost("the job belongs to somebody else by now")

    def give_up(self) -> None:
        """Somebody else saw that the lease is gone."""
        self._lose("fenced")

    def stop_renewing(self) -> None:
        """Ends both threads; a renewal under way is waited for, but not longer than the lease holds."""
        self._end()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(timeout=self.seconds_left)

    def _keep(self) -> None:
        while not self._over.is_set():
            self._due.wait(self._heartbeat_seconds)
            self._due.clear()
            if not self._over.is_set():
                self._renew_once()
        if self._progress is not None and not self.is_lost:
            self._renew_once()  # an ended job shows how far it came

    def _renew_once(self) -> None:
        asked_at, progress = time.monotonic(), self._progress
        try:
            wishes = self._renew(progress)
        except LeaseLost:
            lease_renewals.labels("fenced").inc()
            self._lose("fenced")
        except Exception:  # whatever it was, the watch decides how long we may go on without
            lease_renewals.labels("failed").inc()
            logger.warning("lease_renewal_failed", seconds_left=round(self.seconds_left, 1), exc_info=True)
        else:
            lease_renewals.labels("ok").inc()
            self._good_until = asked_at + self._lease_seconds
            if self._progress is progress:
                self._progress = None
            self._pass_on(wishes)

    def _pass_on(self, wishes: Wishes) -> None:
        wished: dict[Wish, bool] = {"cancel": wishes.cancel, "pause": wishes.pause}
        for wish, is_wished in wished.items():
            if is_wished and wish not in self._told:
                self._told.add(wish)
                self._on_wish(wish)

    def _watch(self) -> None:
        while not self._over.wait(max(0.0, self._good_until - time.monotonic())):
            if time.monotonic() >= self._good_until:
                self._lose("not renewed for a whole lease")
                return

    def _end(self) -> None:
        self._over.set()
        self._due.set()

    def _lose(self, reason: str) -> None:
        if self._over.is_set() or self._lost.is_set():
            return
        self._lost.set()
        self._end()
        logger.warning("lease_lost", reason=reason)
        self._on_lost()
