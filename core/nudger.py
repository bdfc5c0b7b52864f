"""Nudges on the side: whoever has queued a job goes on at once, whatever the broker does."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue


class Nudger:
    """A thread that nudges the queues it is told of; what it has not begun with yet is asked for once.

    `nudge` takes the queue's name, and never raises. The thread starts with the first call.
    """

    def __init__(self, nudge: Callable[[str], object]) -> None:
        self._nudge = nudge
        self._asked: SimpleQueue[str | None] = SimpleQueue()
        self._not_begun: set[str] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def ask(self, queue: str) -> None:
        """Returns at once. Call it after the commit: a worker that comes at once must find the row."""
        with self._lock:
            if queue in self._not_begun:
                return
            self._not_begun.add(queue)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="nudger", daemon=True)
                self._thread.start()
        self._asked.put(queue)

    def close(self, timeout_seconds: float = 5.0) -> None:
        """Waits for what was asked for, but no longer than that: the scheduler nudges again."""
        self._asked.put(None)
        if self._thread is not None:
            self._thread.join(timeout_seconds)

    def _work(self) -> None:
        while (queue := self._asked.get()) is not None:
            with self._lock:
                self._not_begun.discard(queue)
            self._nudge(queue)
