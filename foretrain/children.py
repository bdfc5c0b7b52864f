"""Child processes that are kept running, and that never outlive this one."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

logger = structlog.get_logger(__name__)

_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0
_STABLE_AFTER_SECONDS = 60.0


class Child:
    """One program: started again, after a growing pause, whenever it ends by itself.

    It lives in a session of its own, so that Ctrl-C in the terminal reaches the supervisor alone. Its stdin
    is a pipe that only we hold; the program must end when that does, which is how it learns that we are dead.
    """

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.name = name
        self._command = list(command)
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._pause_seconds = _FIRST_PAUSE_SECONDS
        self._start_again_at: float | None = None

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._command, env=self._environment, stdin=subprocess.PIPE, start_new_session=True
        )
        self._started_at = time.monotonic()
        self._start_again_at = None

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def tend(self) -> None:
        """Starts the program again if it has ended and its pause is over; call it often."""
        if self.is_running():
            return
        now = time.monotonic()
        if self._start_again_at is None:
            self._note_end(now)
        elif now >= self._start_again_at:
            self.start()

    def ask_to_end(self) -> None:
        if self._process is not None and self.is_running():
            self._process.terminate()

    def wait(self, seconds: float) -> bool:
        """Whether it has ended, within that time."""
        if self._process is None:
            return True
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        self._sweep()
        return True

    def kill(self) -> None:
        """Ends it and all that it started in its session, at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._sweep()

    def _note_end(self, now: float) -> None:
        self._sweep()
        if now - self._started_at > _STABLE_AFTER_SECONDS:
            self._pause_seconds = _FIRST_PAUSE_SECONDS
        self._start_again_at = now + self._pause_seconds
        code = None if self._process is None else self._process.returncode
        logger.warning("child_ended", child=self.name, exit_code=code, again_in_seconds=self._pause_seconds)
        self._pause_seconds = min(_LONGEST_PAUSE_SECONDS, 2 * self._pause_seconds)

    def _sweep(self) -> None:
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        if self._process.stdin is not None:
            self._process.stdin.close()
