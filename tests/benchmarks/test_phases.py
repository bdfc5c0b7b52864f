from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from benchmarks import phases
from benchmarks.phase_table import phase_table
from benchmarks.phases import STAGES
from tests.benchmarks.fleets import write_short_day
from trainer.spec import TrainingSpec

if TYPE_CHECKING:
    from pathlib import Path


def test_ratios_are_to_the_first_stage() -> None:
    slow = {"seconds": 100.0, "peak_bytes": 200 * 2**20, "val_losses": [2.0, 1.0, 1.6]}
    quick = {"seconds": 25.0, "peak_bytes": 50 * 2**20, "val_losses": [0.9, 0.8]}

    table = phase_table({"baseline": [slow], "+ phase 1": [quick]})

    assert "| baseline | 3 | 100.0 | 1.00 x | 200 MiB | 100 % | 1.0000 | 100 % | 1.6000 | 100 % |" in table
    assert "| + phase 1 | 2 | 25.0 | 4.00 x | 50 MiB | 25 % | 0.8000 | 80 % | 0.8000 | 50 % |" in table


def test_a_stage_over_several_seeds_shows_the_mean() -> None:
    runs = [{"seconds": seconds, "peak_bytes": 2**20, "val_losses": [1.0]} for seconds in (10.0, 20.0)]

    assert "| baseline | 1 | 15.0 |" in phase_table({"baseline": runs})


def test_every_stage_is_a_spec_that_the_trainer_accepts() -> None:
    for stage in STAGES.values():
        TrainingSpec(target_metrics=["cpu_percent", "memory_percent"], **stage.options)


def test_phase_1_trains_as_the_baseline_does() -> None:
    options = STAGES["phase-1"].options

    assert (options["batch_size"], options["learning_rate"], options["gradient_clip_val"]) == (32, 0.01, 0.1)
    assert options["early_stopping_patience"] == 0


@pytest.mark.slow
def test_a_small_run_prints_the_table_and_is_not_run_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_short_day(tmp_path / "day.parquet")
    arguments = ["--data", str(data), "--servers", "3", "--epochs", "1", "--threads", "1"]
    arguments += ["--store", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["phases", *arguments, "--stages", "baseline", "phase-1"])

    phases.main()
    first, kept = capsys.readouterr().out, sorted(tmp_path.glob("*.json"))
    phases.main()

    assert capsys.readouterr().out == first
    assert sorted(tmp_path.glob("*.json")) == kept
    assert len(kept) == 3  # the trial of loader workers is one of them
    assert first.count("|\n") == 4
