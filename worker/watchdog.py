"""Notices a child that hangs: its supervisor renews the lease all the while, so nobody else would."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Self

import structlog

from worker.threads import attempt_thread

if TYPE_CHECKING:
    from collections.abc import Callable

logger = structlog.get_logger(__name__)


class Watchdog:
    """Calls `on_silence` once, from a thread of its own, when `feed` was not called for so many seconds."""

    def __init__(self, seconds: float, on_silence: Callable[[], None]) -> None:
        self._seconds = seconds
        self._on_silence = on_silence
        self._fed_at = time.monotonic()
        self._over = threading.Event()
        self._has_barked = False
        self._thread = attempt_thread("watchdog", self._watch)

    @property
    def has_barked(self) -> bool:
        return self._has_barked

    def __enter__(self) -> Self:
        self._fed_at = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def feed(self) -> None:
        """The child has said something."""
        self._fed_at = time.monotonic()

    def _watch(self) -> None:
        while not self._over.wait(max(0.0, self._seconds_left())):
            if self._seconds_left() <= 0:
                self._has_barked = True
                logger.warning("trainer_stalled", silent_seconds=self._seconds)
                self._on_silence()
                return

    def _seconds_left(self) -> float:
        return self._fed_at + self._seconds - time.monotonic()
