"""How much memory this process takes, and the most it has taken since it was last asked. Linux; else None."""

from __future__ import annotations

from pathlib import Path

_PROCESS = Path("/proc/self")
_RESET_PEAK = "5"  # proc(5), clear_refs: VmHWM starts anew from what is resident now


def forget_peak() -> bool:
    """Start a new peak from here. False where the kernel does not let us."""
    try:
        (_PROCESS / "clear_refs").write_text(_RESET_PEAK, encoding="ascii")
    except OSError:
        return False
    return True


def peak_bytes(process: Path = _PROCESS) -> int | None:
    """The most that has been resident since `forget_peak`, or else since the process began."""
    return _status_bytes(process, "VmHWM")


def resident_bytes(process: Path = _PROCESS) -> int | None:
    """What is resident now, files that are mapped included."""
    return _status_bytes(process, "VmRSS")


def own_bytes(process: Path = _PROCESS) -> int | None:
    """What is resident and belongs to this process alone: what RLIMIT_DATA is about."""
    return _status_bytes(process, "RssAnon")


def _status_bytes(process: Path, name: str) -> int | None:
    try:
        lines = (process / "status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return int(found[0]) << 10 if found else None
