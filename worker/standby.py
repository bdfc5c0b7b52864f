"""One trainer kept ready, its libraries loaded, so that the next job need not wait for them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import structlog

from worker.trainer_process import TrainerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from worker.trainer_process import Order

logger = structlog.get_logger(__name__)

_HELD_CHARACTERS = 65_536


class Standby:
    """Starts a process ahead of its job; each serves one job, so every job still has a fresh one."""

    def __init__(self, command: Sequence[str], *, folder: Path, environment: Mapping[str, str]) -> None:
        self._command = command
        self._folder = folder
        self._environment = environment
        self._ready: TrainerProcess | None = None
        self._log = _HeldLog()

    def prepare(self) -> None:
        """Starts one unless one is there; returns at once, long before its libraries are loaded."""
        if self._ready is not None and self._ready.is_alive():
            return
        self.close()
        self._log = _HeldLog()
        self._ready = TrainerProcess(
            self._command, directory=self._folder, environment=self._environment, log=self._log
        )

    def take(self, order: Order, log: Callable[[str], None]) -> TrainerProcess | None:
        """Hands the run over to the one that is there, which is then the caller's; None if it has died."""
        process, self._ready = self._ready, None
        if process is None:
            return None
        self._log.pass_to(log)
        if process.is_alive():
            process.begin(order)
            return process
        logger.warning("standby_died")
        process.close()
        return None

    def close(self) -> None:
        """Ends the one that is there."""
        if self._ready is not None:
            self._ready.close()
            self._ready = None


class _HeldLog:
    """What a process says before it has a job belongs into that job's log."""

    def __init__(self) -> None:
        self._held = ""
        self._target: Callable[[str], None] | None = None
        self._lock = threading.Lock()

    def __call__(self, text: str) -> None:
        with self._lock:
            if self._target is None:
                self._held = (self._held + text)[-_HELD_CHARACTERS:]
                return
        self._target(text)

    def pass_to(self, target: Callable[[str], None]) -> None:
        with self._lock:
            if self._held:
                target(self._held)
            self._target = target
