"""A bound on how many transfers run at once, so that they cannot starve everything else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from api.problems import HttpProblem


class Slots:
    """Counts on the event loop's thread alone, hence without a lock."""

    def __init__(self, count: int) -> None:
        self._free = count

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Holds one slot for the block. Raises HttpProblem `overloaded` (503) when none is free."""
        if self._free == 0:
            raise HttpProblem("overloaded", "Too many uploads and downloads are under way; try again.")
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1
