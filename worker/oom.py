"""Whether the kernel has killed for want of memory in our control group: Linux, cgroup v2; else unknown."""

from __future__ import annotations

from pathlib import Path

_MEMBERSHIP = Path("/proc/self/cgroup")
_HIERARCHY = Path("/sys/fs/cgroup")


def count_oom_kills(membership: Path = _MEMBERSHIP, hierarchy: Path = _HIERARCHY) -> int:
    """Kills so far, of any process in the group; 0 where the kernel does not say."""
    try:
        path = next(line[3:] for line in membership.read_text().splitlines() if line.startswith("0::"))
        events = (hierarchy / path.strip().lstrip("/") / "memory.events").read_text()
        return next(int(line.split()[1]) for line in events.splitlines() if line.startswith("oom_kill "))
    except (OSError, StopIteration, ValueError):
        return 0
