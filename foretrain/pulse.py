"""How a process without a port shows that it lives: a file it touches, and a check of the file's age."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

MAX_AGE_SECONDS = 60.0


class Pulse:
    """`beat` from the loop that must not stop; no outage of another service may keep it from that."""

    def __init__(self, data_dir: Path, name: str) -> None:
        self._file = data_dir / f"{name}.pulse"

    def beat(self) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file.touch()

    def is_fresh(self) -> bool:
        """Whether the last beat is at most a minute ago."""
        try:
            return time.time() - self._file.stat().st_mtime <= MAX_AGE_SECONDS
        except FileNotFoundError:
            return False
