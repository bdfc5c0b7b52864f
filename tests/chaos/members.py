"""Programs that are started, killed, frozen and started again: servers and processes of the service alike."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from tests.processes import Watch, descendants, eventually
from tests.servers import guarded

START_SECONDS = 60.0
END_SECONDS = 30.0


class Member:
    """One program of the deployment. It ends with this process, however that ends."""

    def __init__(
        self,
        name: str,
        command: list[str],
        folder: Path,
        *,
        who: int | None = None,
        environment: Mapping[str, str] | None = None,
        is_ready: Callable[[], bool] = lambda: True,
        pulse: Path | None = None,
        stop: signal.Signals = signal.SIGTERM,
    ) -> None:
        """It runs in `folder`, where its log is kept, as user `who`; `stop` is the signal that ends it.

        It is ready once `is_ready` says so and the file `pulse`, if it has one, is there.
        """
        self.name = name
        self.command = command
        self.folder = folder
        self.environment = dict(environment or {})
        self.log = folder / f"{name}.log"
        self._who = who
        self._is_ready = is_ready
        self._pulse = pulse
        self._stop = stop
        self._stack = ExitStack()
        self._guard: subprocess.Popen[bytes] | None = None
        self.pid = 0

    def start(self, *, awaits: bool = True) -> None:
        """Starts it; returns once it is ready, or at once."""
        if self._pulse is not None:
            self._pulse.unlink(missing_ok=True)
        log = self._stack.enter_context(self.log.open("ab"))
        guard = self._stack.enter_context(
            guarded(
                self.command,
                self.folder,
                self._who,
                self._stop,
                keeps_folder=True,
                environment=os.environ | self.environment,
                log=log,
            )
        )
        self._guard = guard
        self.pid = eventually(lambda: self._child_of(guard), START_SECONDS)
        if awaits:
            self.await_ready()

    def await_ready(self) -> None:
        eventually(lambda: self._shows_life() or not self.is_running(), START_SECONDS)
        assert self.is_running(), f"{self.name} ended at its start:\n{self.log.read_text()[-4000:]}"

    def _shows_life(self) -> bool:
        return self._is_ready() and (self._pulse is None or self._pulse.exists())

    def _child_of(self, guard: subprocess.Popen[bytes]) -> int | None:
        assert guard.poll() is None, f"{self.name} does not start:\n{self.log.read_text()[-4000:]}"
        return next(iter(descendants(guard.pid)), None)

    def is_running(self) -> bool:
        return self._guard is not None and self._guard.poll() is None

    def send(self, number: signal.Signals) -> None:
        """A signal to it, and to nobody else who may have its number by now."""
        if self.is_running():
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        self.await_end()

    def stop(self) -> None:
        """The end it is made for."""
        self.send(self._stop)
        self.await_end()

    def await_end(self, seconds: float = END_SECONDS) -> bool:
        """Whether it ended in time, and with exit code 0."""
        if self._guard is None:
            return True
        try:
            code = self._guard.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        self._stack.close()
        self._guard = None
        return code == 0

    def freeze(self) -> list[int]:
        """Stops it and all it has started; what to thaw."""
        frozen = [self.pid, *descendants(self.pid)]
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        return frozen

    def children(self) -> list[Watch]:
        """To see whether they outlive it."""
        return [Watch(pid) for pid in descendants(self.pid)] if self.is_running() else []

    def close(self) -> None:
        """Whatever state it is in, it is over."""
        if self.is_running():
            self.send(signal.SIGKILL)
            self.await_end()


def thaw(pids: list[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            continue
