from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from foretrain.children import Child
from tests.processes import Watch, eventually

SOON = 15.0


def python(script: str) -> Child:
    return Child("test", [sys.executable, "-I", "-c", script], os.environ)


def pid_of(child: Child) -> int:
    assert child.pid is not None
    return child.pid


def test_a_program_that_ends_is_started_again() -> None:
    child = python("import signal; signal.pause()")
    child.start()
    first = pid_of(child)
    os.kill(first, signal.SIGKILL)

    def started_again() -> bool:
        child.tend()
        return child.is_running() and child.pid != first

    eventually(started_again, SOON)
    child.kill()


def test_a_program_that_keeps_ending_is_started_ever_more_rarely(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    child = python(f"import time; open({str(marks)!r}, 'a').write(f'{{time.monotonic()}} ')")
    child.start()

    def started_thrice() -> bool:
        child.tend()
        return marks.exists() and len(marks.read_text().split()) >= 3

    eventually(started_thrice, SOON)
    child.kill()
    first, second, third = (float(mark) for mark in marks.read_text().split())
    assert second - first >= 0.5
    assert third - second >= 1.0


def test_killing_takes_what_it_started_along(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    child = python(
        "import subprocess, sys, signal, pathlib\n"
        "keeper = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'])\n"
        f"pathlib.Path({str(file)!r}).write_text(str(keeper.pid))\n"
        "signal.pause()"
    )
    child.start()
    keeper = Watch(int(eventually(lambda: file.read_text() if file.exists() else None, SOON)))

    child.kill()

    assert keeper.ends_within(SOON)


def test_a_program_deaf_to_sigterm_is_reported_as_such(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    child = python(
        "import pathlib, signal\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"pathlib.Path({str(ready)!r}).touch()\n"
        "while True: signal.pause()"
    )
    child.start()
    eventually(ready.exists, SOON)

    child.ask_to_end()

    assert not child.wait(0.2)
    child.kill()
    assert not child.is_running()
