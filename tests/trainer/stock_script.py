"""The customer's script, run where nothing of this project can be imported, nor what stock does not bring."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# For each folder named on stdin a child that has loaded the libraries, which take longer than the script, and
# nothing else: it runs the script as `python stock_example.py` does.
FORKED = """
import json, os, runpy, sys, tempfile
sys.modules["trainer"] = sys.modules["pyarrow"] = None
import pandas, pytorch_forecasting

def run(folder):
    os.chdir(folder)
    sys.argv = [os.path.join(folder, "stock_example.py")]
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    finally:
        sys.stdout.flush()

for line in sys.stdin:
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = os.fork()
        if child == 0:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            run(line.strip())
            sys.exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        out.seek(0)
        err.seek(0)
        print(json.dumps({"returncode": code, "stdout": out.read(), "stderr": err.read()}), flush=True)
"""


@dataclass(frozen=True)
class Ran:
    """How the script ended and what it said."""

    returncode: int
    stdout: str
    stderr: str


class StockLibraries:
    """A process that has loaded the stock libraries alone."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run_example(self, folder: Path) -> Ran:
        """Run the folder's stock_example.py."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{folder}\n")
        self._process.stdin.flush()
        return Ran(**json.loads(self._process.stdout.readline()))


@contextmanager
def loaded_stock_libraries() -> Iterator[StockLibraries]:
    """Started once for many scripts."""
    with subprocess.Popen(
        [sys.executable, "-I", "-c", FORKED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield StockLibraries(process)
