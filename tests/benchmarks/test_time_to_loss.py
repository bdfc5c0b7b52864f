"""The time-to-loss benchmark: what counts as reached, and a whole run on a tiny fleet."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.time_to_loss import seconds_to_best, seconds_to_stay_below, threshold_of
from tests.benchmarks.fleets import write_short_day

if TYPE_CHECKING:
    from pathlib import Path


def run_of(*losses: float) -> dict[str, Any]:
    """One validation every ten seconds."""
    return {"val_losses": list(losses), "validation_ends": [10.0 * (i + 1) for i in range(len(losses))]}


def test_the_threshold_is_the_median_of_the_best_losses() -> None:
    assert threshold_of([run_of(3, 1.5, 2), run_of(1.2, 1.9), run_of(1.3, 1.4)]) == 1.3


def test_the_baseline_is_timed_to_its_best_validation() -> None:
    assert seconds_to_best(run_of(3, 1, 2)) == 20


def test_ours_must_stay_below_for_two_validations_in_a_row() -> None:
    assert seconds_to_stay_below(run_of(0.9, 1.1, 0.9, 0.8, 2), 1.0) == 40
    assert seconds_to_stay_below(run_of(0.9, 0.9), 1.0) == 20
    assert math.isinf(seconds_to_stay_below(run_of(0.9, 1.0, 0.9), 1.0))


@pytest.mark.slow
def test_both_train_for_real_and_their_clock_counts_the_imports(tmp_path: Path) -> None:
    data = write_short_day(tmp_path / "day.parquet")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.time_to_loss", "--data", str(data), "--servers", "3"),
            *("--seeds", "1", "--threads", "1", "--baseline-epochs", "1", "--epochs", "2"),
            *(
                "--options",
                '{"hidden_size": 8, "hidden_continuous_size": 4}',
                "--store",
                str(tmp_path / "runs"),
            ),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )

    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["threshold"] > 0
    assert figures["baseline_s"] > 1.0, "the imports alone take longer"
    stored = [json.loads(path.read_text()) for path in (tmp_path / "runs").glob("*.json")]
    assert sorted(len(run["facts"]["val_losses"]) for run in stored) == [1, 2]
    for run in stored:
        ends = run["facts"]["validation_ends"]
        assert ends == sorted(ends)
        assert ends[0] > 1.0
