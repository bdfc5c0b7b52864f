"""A wall clock that goes wrong for one process and its children: a library that is loaded before libc."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

# Only the time of day: what counts seconds (CLOCK_MONOTONIC) is right on a machine whose date is wrong.
SOURCE = """
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long shift(void) {
    const char *text = getenv("CUDA_CHAOS_CLOCK_SHIFT_SECONDS");
    return text ? atol(text) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    long failed = syscall(SYS_clock_gettime, clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += shift();
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    long failed = syscall(SYS_gettimeofday, now, zone);
    if (!failed) now->tv_sec += shift();
    return failed;
}

time_t time(time_t *kept) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (kept) *kept = now.tv_sec;
    return now.tv_sec;
}
"""


def build_shifted_clock(folder: Path) -> Path:
    """Compiles it with the system's C compiler or the one that comes as a package."""
    source, library = folder / "clock.c", folder / "clock.so"
    source.write_text(SOURCE)
    compiler = [cc] if (cc := shutil.which("cc")) else [sys.executable, "-m", "ziglang", "cc"]
    subprocess.run(
        [*compiler, "-shared", "-fPIC", "-O1", "-w", "-o", str(library), str(source)],
        check=True,
        capture_output=True,
        timeout=300,
    )
    return library


def shifted(library: Path, seconds: int) -> dict[str, str]:
    """The environment that makes a process live so many seconds in the future or, below zero, in the past."""
    # The prefix is one that a worker hands on to its trainer.
    return {"LD_PRELOAD": str(library), "CUDA_CHAOS_CLOCK_SHIFT_SECONDS": str(seconds)}
