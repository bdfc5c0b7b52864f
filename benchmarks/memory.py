"""The memory of a process, as Linux counts it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

PROCESSES = Path("/proc")


def resident_bytes(
    field: Literal["VmRSS", "VmHWM"] = "VmRSS", process: int | Literal["self"] = "self"
) -> int:
    """VmRSS is what it holds now, VmHWM the most it ever held. Raises OSError elsewhere than on Linux."""
    status = PROCESSES / str(process) / "status"
    for line in status.read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    raise OSError(f"{status} has no {field}")
