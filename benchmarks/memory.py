"""The memory of a process, as Linux counts it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

PROCESSES = Path("/proc")


def resident_bytes(
    field: Literal["VmRSS", "VmHWM"] = "VmRSS", process: int | Literal["self"] = "self"
) -> int:
    """VmRSS is what it holds now, VmHWM the most it ever held. Raises OSError elsewhere than on Linux."""
    return _field(PROCESSES / str(process) / "status", field)


def proportional_bytes(process: int | Literal["self"] = "self") -> int:
    """PSS: a page that n processes share counts a n-th. Raises OSError elsewhere than on Linux."""
    return _field(PROCESSES / str(process) / "smaps_rollup", "Pss")


def family_bytes(process: int) -> int:
    """PSS of a process and all below it, as they are now; those that end meanwhile count as nothing."""
    total, waiting = 0, [process]
    while waiting:
        one = waiting.pop()
        try:
            total += proportional_bytes(one)
            for thread in (PROCESSES / str(one) / "task").iterdir():
                waiting += map(int, (thread / "children").read_text(encoding="ascii").split())
        except OSError:
            continue
    return total


def _field(file: Path, field: str) -> int:
    for line in file.read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    raise OSError(f"{file} has no {field}")
