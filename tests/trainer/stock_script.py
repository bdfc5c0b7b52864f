"""The customer's script, run where nothing of this project can be imported, nor what stock does not bring."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

WITHOUT_US = (
    "import runpy, sys; sys.modules['trainer'] = sys.modules['pyarrow'] = None; sys.argv = sys.argv[1:]; "
    "runpy.run_path(sys.argv[0], run_name='__main__')"
)


def run_stock_example(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the folder's stock_example.py with stock libraries alone."""
    return subprocess.run(
        [sys.executable, "-I", "-c", WITHOUT_US, str(folder / "stock_example.py")],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
