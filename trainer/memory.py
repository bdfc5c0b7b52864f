"""A ceiling on what this process allocates, so that it hears "no" before the kernel kills it. Torch-free."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import resource
from pathlib import Path

from trainer.errors import OutOfMemory

_STATUS = Path("/proc/self/status")
_MEMORY = Path("/proc/meminfo")
_limit_bytes: int | None = None


def limit_memory(limit_bytes: int) -> None:
    """From now on an allocation that takes this process beyond `limit_bytes` of memory of its own fails.

    RLIMIT_DATA counts private writable memory, touched or not; RLIMIT_AS would count the address ranges that
    CUDA reserves and the files that are mapped. Call it once the libraries are loaded: what they have
    reserved and never touched, about a gigabyte with torch, is granted on top.
    Raises OutOfMemory if they alone need more.
    """
    global _limit_bytes  # noqa: PLW0603 - as the limit itself, it is the process's
    _, touched = _data_bytes()
    if touched > limit_bytes:
        raise OutOfMemory(
            f"the memory limit of {limit_bytes >> 20} MiB does not even hold the libraries, which need "
            f"{touched >> 20} MiB; give the trainer more memory"
        )
    _limit_bytes = limit_bytes
    _set_limit(limit_bytes)


def memory_limit() -> int | None:
    """What `limit_memory` was given, in bytes."""
    return _limit_bytes


def _set_limit(limit_bytes: int) -> None:
    reserved, touched = _data_bytes()
    soft = limit_bytes + reserved - touched
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        soft = min(soft, hard)
    with contextlib.suppress(OSError, ValueError):  # a system that knows no such limit
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def available_bytes() -> int | None:
    """What this process may still allocate before the machine or its limit says no; None if nobody knows."""
    try:
        free = int(_fields(_MEMORY)["MemAvailable"].split()[0]) << 10
    except (OSError, KeyError, ValueError):
        return None
    return free if _limit_bytes is None else max(min(free, _limit_bytes - _data_bytes()[1]), 0)


def resident_bytes() -> int | None:
    """What this process holds of the machine's memory, libraries and mapped files too; None without /proc."""
    try:
        return int(_fields(_STATUS)["VmRSS"].split()[0]) << 10
    except (OSError, KeyError, ValueError):
        return None


def release_memory() -> None:
    """Give back what is not in use any more, after an allocation has failed.

    The C library keeps the address ranges of what was freed, which the limit goes on counting: they are
    granted anew.
    """
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # a C library that cannot
        ctypes.CDLL(None).malloc_trim(0)
    if _limit_bytes is not None:
        _set_limit(_limit_bytes)


def _data_bytes() -> tuple[int, int]:
    """Private writable memory, and how much of it has a page behind it; zeros where there is no /proc."""
    try:
        fields = _fields(_STATUS)
        reserved, touched = (int(fields[name].split()[0]) << 10 for name in ("VmData", "RssAnon"))
    except (OSError, KeyError, ValueError):
        return 0, 0
    return max(reserved, touched), touched


def _fields(file: Path) -> dict[str, str]:
    return dict(line.split(":", 1) for line in file.read_text().splitlines())
