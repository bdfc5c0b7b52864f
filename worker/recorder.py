"""Metrics, phases, adjustments and log of an attempt, written in batches by a thread of its own."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Self

import structlog

from core.errors import LeaseLost
from worker.outage import DATABASE_OUTAGE
from worker.threads import attempt_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from trainer.events import TrainerEvent

logger = structlog.get_logger(__name__)

_LOG_CHUNK_CHARACTERS = 32_768


class Recorder:
    """Takes in without waiting for the database; what cannot be written now is kept and tried again.

    `write` gets the events since its last success, in order, and a piece of log ("" for none); it is one
    transaction. At most `log_limit` characters of log wait at a time.
    """

    def __init__(
        self,
        write: Callable[[list[TrainerEvent], str], None],
        *,
        on_lost: Callable[[], None],
        flush_seconds: float = 1.0,
        log_seconds: float = 3.0,
        log_limit: int = 1 << 20,
    ) -> None:
        self._write = write
        self._on_lost = on_lost
        self._flush_seconds = flush_seconds
        self._log_seconds = log_seconds
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._closing = threading.Event()
        self._events: list[TrainerEvent] = []
        self._log = _LogBuffer(log_limit)
        self._log_written_at = time.monotonic()
        self._error: BaseException | None = None
        self._thread = attempt_thread("recorder", self._flush_regularly)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join()

    def record(self, event: TrainerEvent) -> None:
        with self._lock:
            self._events.append(event)

    def log(self, text: str) -> None:
        with self._lock:
            self._log.append(text)

    def write_through(self) -> None:
        """Returns once all events so far are written. Raises what the write failed with, and keeps them."""
        with self._writing:
            with self._lock:
                events, self._events = self._events, []
            if not events:
                return
            try:
                self._write(events, "")
            except BaseException:
                self._put_back(events, "")
                raise

    def finish(self, seconds_left: Callable[[], float]) -> None:
        """Writes what is left, and tries again through an outage while `seconds_left()` is above zero.

        Raises LeaseLost when the claim is gone or the time is up, and whatever else a write failed with.
        """
        self._closing.set()
        self._thread.join()
        while self._error is None and not self._flush(whole_log=True):
            if seconds_left() <= 0:
                raise LeaseLost("the database stayed away until the lease had run out")
            threading.Event().wait(min(self._flush_seconds, seconds_left()))
        if self._error is not None:
            raise self._error

    def _flush_regularly(self) -> None:
        while not self._closing.wait(self._flush_seconds) and self._error is None:
            self._flush()

    def _flush(self, *, whole_log: bool = False) -> bool:
        """True when nothing is left to write. Never raises: the thread's error is kept for `finish`."""
        with self._writing:
            events, log = self._take(whole_log=whole_log)
            if not events and not log:
                return True
            try:
                self._write(events, log)
            except DATABASE_OUTAGE:
                logger.warning("recording_delayed", events=len(events), exc_info=True)
                self._put_back(events, log)
                return False
            except LeaseLost as error:
                self._error = error
                self._on_lost()
            except Exception as error:  # noqa: BLE001  # raised again by finish(), in the thread that runs the job
                self._error = error
            return True

    def _take(self, *, whole_log: bool) -> tuple[list[TrainerEvent], str]:
        with self._lock:
            events, self._events = self._events, []
            due = time.monotonic() - self._log_written_at >= self._log_seconds
            if whole_log or due or self._log.is_worth_a_chunk:
                self._log_written_at = time.monotonic()
                return events, self._log.take()
            return events, ""

    def _put_back(self, events: list[TrainerEvent], log: str) -> None:
        with self._lock:
            self._events = events + self._events
            self._log.put_back(log)


class _LogBuffer:
    """Log that waits to be written, its oldest part dropped when it comes faster than that."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting = ""
        self._dropped = 0

    @property
    def is_worth_a_chunk(self) -> bool:
        return len(self._waiting) >= _LOG_CHUNK_CHARACTERS

    def append(self, text: str) -> None:
        self._keep_end(self._waiting + text)

    def take(self) -> str:
        note = f"[… {self._dropped} characters dropped …]\n" if self._dropped else ""
        taken, self._waiting, self._dropped = note + self._waiting, "", 0
        return taken

    def put_back(self, text: str) -> None:
        self._keep_end(text + self._waiting)

    def _keep_end(self, text: str) -> None:
        surplus = max(0, len(text) - self._limit)
        self._waiting = text[surplus:]
        self._dropped += surplus
