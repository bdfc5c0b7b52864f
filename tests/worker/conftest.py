"""Fakes at the trainer's pipe: ten-line scripts that speak its language."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

PRELUDE = """
import json, os, signal, subprocess, sys, threading, time
from pathlib import Path

def tell(type, **fields):
    print(json.dumps({"type": type, **fields}), flush=True)

def next_wish():
    return json.loads(sys.stdin.readline())["stop"]

def leave_when_stdin_ends():
    def read():
        while os.read(0, 4096):
            pass
        os._exit(3)
    threading.Thread(target=read, daemon=True).start()

def obey():
    def read():
        wish = os.read(0, 4096)
        if wish:
            tell("stopped", wish=json.loads(wish)["stop"], step=1)
        os._exit(0 if wish else 3)
    threading.Thread(target=read, daemon=True).start()

"""

WriteTrainer = Callable[[str], list[str]]


@pytest.fixture
def write_trainer(tmp_path: Path) -> WriteTrainer:
    """Writes a script that stands for the trainer and returns the command that runs it."""

    def write(body: str) -> list[str]:
        script = tmp_path / "fake_trainer.py"
        script.write_text(PRELUDE + dedent(body))
        return [sys.executable, "-I", str(script)]

    return write
