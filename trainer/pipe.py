"""The trainer's end of the pipe: events go out as JSON lines, wishes come in. Torch-free."""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
import threading
from typing import TYPE_CHECKING, NoReturn, get_args

from trainer.events import Wish

if TYPE_CHECKING:
    from trainer.events import TrainerEvent

STDIN, STDOUT, STDERR = 0, 1, 2
SUPERVISOR_IS_GONE = 3


def take_stdout() -> int:
    """Keep stdout for events alone: from now on what anyone prints goes to stderr. Returns the events' fd."""
    sys.stdout.flush()
    events_fd = os.dup(STDOUT)
    os.dup2(STDERR, STDOUT)
    return events_fd


class SupervisorPipe:
    """An observer at the other end of a pipe. When that end closes, the process ends at once."""

    def __init__(self, events_fd: int, wishes_fd: int) -> None:
        self._events_fd = events_fd
        self._wish: Wish | None = None
        self._lock = threading.Lock()
        # In a thread with os.read: sys.stdin would hang where somebody forks while it waits.
        threading.Thread(target=self._listen, args=(wishes_fd,), name="wishes", daemon=True).start()

    def report(self, event: TrainerEvent) -> None:
        line = event.model_dump_json().encode() + b"\n"
        with self._lock:
            try:
                _write_all(self._events_fd, line)
            except BrokenPipeError:
                os._exit(SUPERVISOR_IS_GONE)

    def stop_wish(self) -> Wish | None:
        return self._wish

    def _listen(self, fd: int) -> None:
        rest = b""
        with contextlib.suppress(OSError):
            while chunk := os.read(fd, 4096):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self._hear(line)
        os._exit(SUPERVISOR_IS_GONE)

    def _hear(self, line: bytes) -> None:
        try:
            wish = json.loads(line)["stop"]
        except (ValueError, TypeError, KeyError):
            wish = None
        if wish not in get_args(Wish):
            print(f"not a wish, ignored: {line[:200]!r}", file=sys.stderr)  # noqa: T201 - the log
        elif self._wish != "cancel":  # nothing beats it
            self._wish = wish


def end_with_supervisor() -> None:
    """From now on the end of stdin ends this process; what comes over it is for others to read."""
    threading.Thread(target=_await_hang_up, name="supervisor", daemon=True).start()


def _await_hang_up() -> None:
    watch = select.poll()
    watch.register(STDIN, 0)
    while not any(events & (select.POLLHUP | select.POLLERR | select.POLLNVAL) for _, events in watch.poll()):
        pass
    os._exit(SUPERVISOR_IS_GONE)


def read_line(fd: int) -> bytes:
    """To the end of the line and no further: what lies behind it is for others."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(fd, 1)
        if not byte:
            os._exit(SUPERVISOR_IS_GONE)
        line += byte
    return line


def end_likewise(return_code: int) -> NoReturn:
    """End this process at once as that one ended, so that a supervisor sees what became of it."""
    if return_code < 0:
        os.kill(os.getpid(), -return_code)
    os._exit(return_code or 1)


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
