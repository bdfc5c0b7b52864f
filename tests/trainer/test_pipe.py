from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from trainer.events import PhaseStarted, parse_event
from trainer.pipe import SupervisorPipe

NOISY = """
import os, sys, threading
from trainer.events import PhaseStarted
from trainer.pipe import STDIN, SupervisorPipe, take_stdout
pipe = SupervisorPipe(take_stdout(), STDIN)
print("a stray print")
os.write(1, b"a stray write\\n")
pipe.report(PhaseStarted(phase="training"))
threading.Event().wait()
"""


@pytest.fixture
def ends() -> tuple[SupervisorPipe, int, int]:
    """A pipe in this process: itself, where its events arrive, where wishes go in."""
    events_in, events_out = os.pipe()
    wishes_in, wishes_out = os.pipe()
    # The wishes' end stays open: its closing would end this process.
    return SupervisorPipe(events_out, wishes_in), events_in, wishes_out


def heard(pipe: SupervisorPipe, wish: str | None) -> bool:
    deadline = time.monotonic() + 5
    while pipe.stop_wish() != wish and time.monotonic() < deadline:
        time.sleep(0.001)
    return pipe.stop_wish() == wish


def test_an_event_is_one_line(ends: tuple[SupervisorPipe, int, int]) -> None:
    pipe, events, _ = ends
    pipe.report(PhaseStarted(phase="saving"))

    assert parse_event(os.read(events, 4096)) == PhaseStarted(phase="saving")


def test_a_wish_is_heard_even_when_its_line_comes_in_pieces(ends: tuple[SupervisorPipe, int, int]) -> None:
    pipe, _, wishes = ends
    os.write(wishes, b'{"stop": "pa')
    os.write(wishes, b'use"}\n')

    assert heard(pipe, "pause")


def test_cancel_beats_every_other_wish(ends: tuple[SupervisorPipe, int, int]) -> None:
    pipe, _, wishes = ends
    os.write(wishes, b'{"stop": "cancel"}\n{"stop": "pause"}\nnonsense\n')
    os.write(wishes, b'{"stop": "later"}\n[]\n{"stop": "drain"}\n')

    assert heard(pipe, "cancel")


def test_nothing_but_events_reaches_stdout_and_the_end_of_stdin_ends_the_process() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", NOISY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is not None
    line = child.stdout.readline()
    closed_at = time.monotonic()
    child.stdin.close()
    code = child.wait(timeout=10)

    assert parse_event(line) == PhaseStarted(phase="training")
    assert child.stdout.read() == b""
    assert child.stderr.read() == b"a stray print\na stray write\n"
    assert code == 3
    assert time.monotonic() - closed_at < 2
    child.stdout.close()
    child.stderr.close()
