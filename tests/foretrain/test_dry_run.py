"""`foretrain train --dry-run`: the plan, quickly, and no trace of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

STEPS = 120
# As the command line runs it, and then a look at what was imported.
SCRIPT = """
import sys
from foretrain.train import build_command
code = build_command()(sys.argv[1:], standalone_mode=False)
print("heavy:", sorted({"torch", "lightning", "pytorch_forecasting"} & set(sys.modules)))
sys.exit(code)
"""


@pytest.fixture
def metrics_file(tmp_path: Path) -> Path:
    lines = ["timestamp,server,cpu_percent"]
    for server in range(2):
        lines += [
            f"2026-01-01T{step // 12:02}:{step % 12 * 5:02}:00Z,web-{server},{(step * 7 + server) % 50}"
            for step in range(STEPS)
        ]
    path = tmp_path / "metrics.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def dry_run(file: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-c", SCRIPT, str(file), "--dry-run", *options],
        cwd=file.parent,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_the_plan_is_told_without_torch_and_nothing_is_written(metrics_file: Path) -> None:
    shown = dry_run(
        metrics_file, "--encoder-length", "24", "--horizon", "6", "--epochs", "3", "--preset", "production"
    )

    assert shown.returncode == 0, shown.stderr
    # 120 steps, 18 of them to validate and 12 to test.
    windows = STEPS - 18 - 12 - 24 - 6 + 1
    assert f"{2 * windows} to train on, {2 * 13} to validate, {2 * 7} to test" in shown.stdout
    assert f"{3 * 2} of the optimizer" in shown.stdout
    assert "3 epochs, effective batch 64, learning rate searched first, onecycle" in shown.stdout
    assert "target_metrics: cpu_percent (" in shown.stdout
    assert "parameters" in shown.stdout
    assert "MiB" in shown.stdout
    assert "heavy: []" in shown.stdout
    assert [path.name for path in metrics_file.parent.iterdir()] == ["metrics.csv"]


@pytest.mark.slow
def test_a_full_output_folder_does_not_stand_in_the_way_of_a_dry_run(metrics_file: Path) -> None:
    shown = dry_run(metrics_file, "--encoder-length", "24", "--horizon", "6", "--out", ".")

    assert shown.returncode == 0, shown.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--encoder-length", "200"], "every series is too short: encoder_length 200"),
        (["--target", "memory_percent"], "the dataset has no column 'memory_percent'"),
    ],
)
def test_what_training_would_refuse_is_refused(options: list[str], sentence: str, metrics_file: Path) -> None:
    shown = dry_run(metrics_file, *options)

    assert shown.returncode != 0
    assert sentence in shown.stdout + shown.stderr
    assert "Traceback" not in shown.stderr
