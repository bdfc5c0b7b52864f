"""A process that may allocate so much and no more; each test is one of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

REPOSITORY = Path(__file__).parents[2]
PRELUDE = """
import mmap
from trainer.memory import limit_memory

MEBIBYTE = 1 << 20

def allocate(mebibytes):
    return bytearray(mebibytes * MEBIBYTE)

def is_refused(mebibytes):
    try:
        allocate(mebibytes)
    except MemoryError:
        return True
    return False
"""

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux holds mapped memory to RLIMIT_DATA; elsewhere it is no limit"
)


def run(body: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PRELUDE + dedent(body)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_allocation_beyond_the_limit_fails_and_the_process_lives_on() -> None:
    done = run("""
        limit_memory(200 * MEBIBYTE)
        assert is_refused(300)
        assert not is_refused(100)
    """)

    assert done.returncode == 0, done.stderr


def test_what_is_in_use_before_counts_against_the_limit() -> None:
    done = run("""
        held = allocate(150)
        limit_memory(200 * MEBIBYTE)
        assert is_refused(100)
    """)

    assert done.returncode == 0, done.stderr


def test_what_was_reserved_before_and_never_touched_does_not_count() -> None:
    done = run("""
        reserved = mmap.mmap(-1, 500 * MEBIBYTE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        limit_memory(200 * MEBIBYTE)
        assert not is_refused(100)
        assert is_refused(300)
    """)

    assert done.returncode == 0, done.stderr


def test_a_limit_that_somebody_else_has_set_is_not_raised() -> None:
    done = run("""
        import resource
        resource.setrlimit(resource.RLIMIT_DATA, (100 * MEBIBYTE, 100 * MEBIBYTE))
        limit_memory(400 * MEBIBYTE)
        assert is_refused(200)
    """)

    assert done.returncode == 0, done.stderr


def test_a_limit_below_what_is_in_use_is_told_at_once() -> None:
    done = run("""
        from trainer.errors import OutOfMemory
        held = allocate(150)
        try:
            limit_memory(100 * MEBIBYTE)
        except OutOfMemory as error:
            print(error)
    """)

    assert "memory limit of 100 MiB" in done.stdout
