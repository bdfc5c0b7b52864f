"""What each thread of this process has computed so far. Linux; elsewhere nothing is known."""

from __future__ import annotations

import os
from pathlib import Path

_TASKS = Path("/proc/self/task")
_USER_TIME, _SYSTEM_TIME = 11, 12  # places behind the name in proc(5)'s stat, in clock ticks


def seconds_by_thread() -> dict[int, float]:
    """Thread id -> seconds of CPU; empty where there is no /proc."""
    if not _TASKS.is_dir():
        return {}
    ticks = os.sysconf("SC_CLK_TCK")
    times = {}
    for task in _TASKS.iterdir():
        try:
            fields = (task / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue  # it has ended meanwhile
        times[int(task.name)] = (int(fields[_USER_TIME]) + int(fields[_SYSTEM_TIME])) / ticks
    return times
