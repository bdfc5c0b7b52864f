"""A bound on how many transfers run at once, so that they cannot starve everything else."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import anyio

from api.problems import HttpProblem

# While others are turned away, a transfer that moves less than this in that time gives its place up.
PACE_BYTES = 32 * 1024
PACE_SECONDS = 1.0


class Slot:
    """One transfer's place; `wait` for the client through it, and tell it what has `moved`."""

    def __init__(self) -> None:
        self._wait: anyio.CancelScope | None = None
        self._moved_bytes = 0
        self._paced_at = time.monotonic()

    @contextmanager
    def wait(self, seconds: float) -> Iterator[None]:
        """A wait for the client. Raises TimeoutError after `seconds`, or once the place is given away."""
        with anyio.fail_after(seconds) as wait:
            self._wait = wait
            try:
                yield
            finally:
                self._wait = None

    def moved(self, size_bytes: int) -> None:
        self._moved_bytes += size_bytes
        if self._moved_bytes >= PACE_BYTES:
            self._moved_bytes = 0
            self._paced_at = time.monotonic()

    @property
    def dawdled_seconds(self) -> float:
        """Since it last kept the pace; 0 while it is we who keep the client waiting."""
        return 0.0 if self._wait is None else time.monotonic() - self._paced_at

    def give_way(self) -> None:
        """Ends the wait as if its time had come."""
        if self._wait is not None:
            self._wait.deadline = anyio.current_time()


class Slots:
    """Counts on the event loop's thread alone, hence without a lock."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._held: set[Slot] = set()

    @contextmanager
    def taken(self) -> Iterator[Slot]:
        """Holds one slot for the block, if need be that of the client that dawdles most.

        Raises HttpProblem `overloaded` (503) when none is free and none dawdles.
        """
        if len(self._held) >= self._count:
            self._take_from_a_dawdler()
        slot = Slot()
        self._held.add(slot)
        try:
            yield slot
        finally:
            self._held.discard(slot)

    def _take_from_a_dawdler(self) -> None:
        slowest = max(self._held, key=lambda slot: slot.dawdled_seconds)
        if slowest.dawdled_seconds < PACE_SECONDS:
            raise HttpProblem("overloaded", "Too many uploads and downloads are under way; try again.")
        # Not counted from now on, though it takes a moment until it has cleared away what it left.
        self._held.discard(slowest)
        slowest.give_way()
