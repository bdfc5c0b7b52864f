"""The memory of this process, as Linux counts it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

STATUS = Path("/proc/self/status")


def resident_bytes(field: Literal["VmRSS", "VmHWM"] = "VmRSS") -> int:
    """VmRSS is what it holds now, VmHWM the most it ever held. Raises OSError elsewhere than on Linux."""
    for line in STATUS.read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    raise OSError(f"{STATUS} has no {field}")
