"""How much memory we may use, and whether the kernel has killed for want of it: Linux control groups."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_MEMBERSHIP = Path("/proc/self/cgroup")
_HIERARCHY = Path("/sys/fs/cgroup")
_MEBIBYTE = 1 << 20
_LEAST_MARGIN_BYTES = 256 * _MEBIBYTE
_LARGEST_MARGIN_BYTES = 1024 * _MEBIBYTE


def trainer_memory_limit(total_bytes: int | None) -> int | None:
    """What one trainer may allocate: the total less a tenth, which is for this process and the page cache.

    That tenth is at least 256 MiB and at most 1 GiB. None where the total is unknown or all too small.
    """
    if total_bytes is None:
        return None
    margin = min(max(total_bytes // 10, _LEAST_MARGIN_BYTES), _LARGEST_MARGIN_BYTES)
    return total_bytes - margin if total_bytes > 2 * margin else None


def memory_total(membership: Path = _MEMBERSHIP, hierarchy: Path = _HIERARCHY) -> int | None:
    """The least of the machine's memory and the limits of our control group and those around it, in bytes."""
    limits = [
        *_numbers(_of_groups(membership, hierarchy, "", "memory.max")),
        *_numbers(_of_groups(membership, hierarchy, "memory", "memory.limit_in_bytes")),
    ]
    if (machine := _machine_memory()) is not None:
        limits.append(machine)
    return min(limits, default=None)


def count_oom_kills(membership: Path = _MEMBERSHIP, hierarchy: Path = _HIERARCHY) -> int:
    """Kills so far, of any process in our group; 0 where the kernel does not say."""
    for controller, name in (("", "memory.events"), ("memory", "memory.oom_control")):
        for text in _of_groups(membership, hierarchy, controller, name):
            for line in text.splitlines():
                key, _, count = line.partition(" ")
                if key == "oom_kill" and count.isdigit():
                    return int(count)
    return 0


def _of_groups(membership: Path, hierarchy: Path, controller: str, name: str) -> Iterator[str]:
    """What the file of this name says in our group and in each around it, innermost first.

    `controller` is "memory" for cgroup v1 and empty for v2. In a container the outer ones may be out of
    sight; then the top of what is mounted is our own.
    """
    path = _path_of_group(membership, controller)
    if path is None:
        return
    top = hierarchy / controller
    group = top / path.strip("/")
    for folder in (group, *group.parents):
        text = _text_of(folder / name)
        if text is not None:
            yield text
        if folder == top:
            return


def _path_of_group(membership: Path, controller: str) -> str | None:
    for line in (_text_of(membership) or "").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controller in controllers.split(","):
            return path
    return None


def _text_of(path: Path) -> str | None:
    try:
        return path.read_text()
    except OSError:
        return None


def _numbers(texts: Iterator[str]) -> Iterator[int]:
    # v2 says "max" where there is no limit; v1 a number larger than any machine.
    return (int(text) for text in texts if text.strip().isdigit())


def _machine_memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return None
