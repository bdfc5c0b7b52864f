"""What docs/cookbook.md shows is run against a real service."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.foretrain.client.test_calls import CSV
from tests.foretrain.serving import Running

ROOT = Path(__file__).parents[2]
COOKBOOK = (ROOT / "docs" / "cookbook.md").read_text(encoding="utf-8")


def snippet(section: str, language: str) -> str:
    """The first code block of a section."""
    found = re.search(rf"^## {section}\n.*?```{language}\n(.*?)```", COOKBOOK, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


def run(command: list[str], running: Running, folder: Path) -> str:
    (folder / "metrics.csv").write_text(CSV)
    given = {"FORETRAIN_URL": running.url, "FORETRAIN_API_KEY": running.key, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=folder, env=os.environ | given, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_python_snippet_runs(running: Running, tmp_path: Path) -> None:
    assert run([sys.executable, "-c", snippet("Python", "python")], running, tmp_path) == "cancelled\n"


def test_the_shell_snippet_runs(running: Running, tmp_path: Path) -> None:
    program = f'foretrain() {{ "{sys.executable}" -P -m foretrain "$@"; }}\n{snippet("Shell", "sh")}'

    shown = run(["sh", "-ec", program], running, tmp_path)

    assert shown.endswith(" cancelled\n")
