"""SIGINT and SIGTERM as the supervisor hears them."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType


class Signals:
    """The first asks for an orderly end, any further one for an end at once."""

    def __init__(self) -> None:
        """Takes both signals over; call it in the main thread."""
        self._count = 0
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)

    @property
    def end_wanted(self) -> bool:
        return self._count > 0

    @property
    def end_at_once(self) -> bool:
        return self._count > 1

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self._count += 1
