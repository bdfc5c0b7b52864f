from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.events import Failed, parse_event
from trainer.warm import _arguments

REPOSITORY = Path(__file__).parents[2]


def test_an_order_becomes_the_arguments_of_the_program() -> None:
    order = {"run_dir": "/runs/1", "threads": 2, "memory_limit": 1000, "memory_kills": 1}

    given = ["/runs/1", "--threads", "2", "--memory-limit", "1000", "--memory-kills", "1"]
    assert _arguments(order) == given


def test_what_is_null_is_not_given() -> None:
    order = {"run_dir": "/runs/1", "threads": 2, "memory_limit": None, "memory_kills": 0}

    assert _arguments(order) == ["/runs/1", "--threads", "2", "--memory-kills", "0"]


@pytest.mark.slow
def test_the_program_takes_all_that_an_order_can_hold(tmp_path: Path) -> None:
    """There is no run in the directory, so that the program says at once that it read so far."""
    order = f'{{"run_dir": "{tmp_path}", "threads": 1, "memory_limit": 4000000000, "memory_kills": 2}}\n'
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "trainer.warm"],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdin.write(order.encode())
        child.stdin.flush()  # and it stays open: its end would mean that the supervisor is gone
        event, log = parse_event(child.stdout.readline()), child.stderr.read()

    assert isinstance(event, Failed)
    assert b"spec.json" in log
