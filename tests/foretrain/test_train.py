"""`foretrain train` for real: a tiny network, on a file."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

DEADLINE = 180.0
TINY = [
    *("--target", "cpu_percent", "--target", "memory_percent", "--hidden-size", "8"),
    *(
        "--hidden-continuous-size",
        "4",
        "--attention-head-size",
        "2",
        "--encoder-length",
        "12",
        "--horizon",
        "4",
    ),
    *("--batch-size", "16", "--max-train-windows", "64", "--log-every-n-steps", "1", "--threads", "1"),
]


@pytest.fixture
def metrics_file(tmp_path: Path) -> Path:
    path = tmp_path / "metrics.csv"
    lines = ["timestamp,server,cpu_percent,memory_percent"]
    for server in range(2):
        for step in range(240):
            cpu = 40 + 20 * math.sin(step / 12) + (step * 7 + server) % 5
            stamp = f"2026-01-{1 + step // 144:02}T{step % 144 // 6:02}:{step % 6}0:00Z"
            lines.append(f"{stamp},web-{server},{cpu},{60 - cpu / 3}")
    path.write_text("\n".join(lines) + "\n")
    return path


def start(metrics_file: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "foretrain", "train", str(metrics_file), *TINY, *options],
        cwd=metrics_file.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_file_becomes_a_checkpoint_with_scores_and_a_report(metrics_file: Path) -> None:
    with start(metrics_file, "--epochs", "2", "--precision", "bf16-mixed", "--out", "trained") as process:
        shown, errors = process.communicate(timeout=DEADLINE)

    assert process.returncode == 0, errors
    out = metrics_file.parent / "trained"
    assert {"model.ckpt", "last.ckpt", "result.json", "report.html"} <= {path.name for path in out.iterdir()}
    result = json.loads((out / "result.json").read_text())
    assert set(result["scores"]["targets"]) == {"cpu_percent", "memory_percent"}
    assert "epoch 2: train_loss" in shown
    assert "seasonal" in shown
    assert "report.html" in shown
    for adjustment in result["adjustments"]:
        assert f"{adjustment['field']}: " in shown


def stop_after_first_epoch(metrics_file: Path, *options: str) -> str:
    """What the screen said after the Ctrl-C."""
    with start(metrics_file, *options) as process:
        assert process.stdout is not None
        while not process.stdout.readline().startswith("epoch 1"):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        shown, errors = process.communicate(timeout=DEADLINE)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    return shown


def refusal_of(metrics_file: Path, *options: str) -> str:
    with start(metrics_file, *options) as process:
        _, errors = process.communicate(timeout=DEADLINE)
    assert process.returncode not in {0, 130}
    assert "Traceback" not in errors
    return " ".join(errors.split())


def test_ctrl_c_stops_after_the_step_and_the_training_goes_on_where_it_was(metrics_file: Path) -> None:
    training = ["--epochs", "30", "--early-stopping-patience", "0", "--out", "run"]
    stopped = stop_after_first_epoch(metrics_file, *training)

    assert "Stopped at step" in stopped
    assert "--resume" in stopped
    assert (metrics_file.parent / "run" / "last.ckpt").stat().st_size > 0
    assert "--resume" in refusal_of(metrics_file, *training)
    assert "another spec" in refusal_of(metrics_file, *training, "--resume", "--dropout", "0.2")
    with start(metrics_file, *training, "--resume") as process:
        shown, errors = process.communicate(timeout=DEADLINE)

    assert process.returncode == 0, errors
    assert "epoch 1:" not in shown
    assert "epoch 30:" in shown
    result = json.loads((metrics_file.parent / "run" / "result.json").read_text())
    steps = [step for step, _ in result["loss_history"]["train_loss"]]
    assert steps == list(range(1, len(steps) + 1))


def test_without_a_training_to_go_on_with_nothing_starts(metrics_file: Path) -> None:
    assert "no training to go on with" in refusal_of(metrics_file, "--out", "nowhere", "--resume")
