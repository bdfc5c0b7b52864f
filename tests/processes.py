"""Looking at processes that are not our children."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Answer = TypeVar("Answer")


def is_alive(pid: int) -> bool:
    """False for a zombie too: it computes and holds nothing any more."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


class Watch:
    """Opened while the process lives, so that a later process with its number is not mistaken for it."""

    def __init__(self, pid: int) -> None:
        try:
            self._pidfd: int | None = os.pidfd_open(pid)
        except ProcessLookupError:
            self._pidfd = None

    def ends_within(self, seconds: float) -> bool:
        """Waits for the end of the process, and at most so long; call it once."""
        if self._pidfd is None:
            return True
        try:
            readable, _, _ = select.select([self._pidfd], [], [], seconds)
            return bool(readable)
        finally:
            os.close(self._pidfd)


def eventually(ask: Callable[[], Answer | None], seconds: float = 15.0) -> Answer:
    """Asks until the answer is true: for what another process does, which sends us no sign of its own."""
    pause, until = threading.Event(), time.monotonic() + seconds
    while not (answer := ask()):
        assert time.monotonic() < until, "it did not happen in time"
        pause.wait(0.01)
    return answer


def descendants(pid: int) -> list[int]:
    """Children, their children and so on, as they are now; none of a process that is gone."""
    found = []
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return []
    for thread in threads:
        try:
            children = [int(child) for child in (thread / "children").read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
        for child in children:
            found += [child, *descendants(child)]
    return found


def command_of(pid: int) -> str:
    """Its arguments, with spaces between; empty once it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""
