from __future__ import annotations

import math
import sys
from dataclasses import replace

import pytest
import torch

from benchmarks import gpu_check
from benchmarks.gpu_check import PARITY, Row, check, made_fleet, table

SOUND = Row("32-true", "32-true", "", [2.0, 1.0], 500.0, 3 * 2**20, 0, 1e-6)


def test_without_a_gpu_it_says_so_and_exits_with_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu_check"])

    assert gpu_check.main() == 2
    assert "no CUDA GPU" in capsys.readouterr().err


@pytest.mark.parametrize(
    "broken",
    [
        replace(SOUND, val_losses=[2.0, math.nan]),
        replace(SOUND, val_losses=[]),
        replace(SOUND, difference=2 * PARITY),
        replace(SOUND, difference=math.nan),
    ],
)
def test_a_loss_that_is_no_number_or_devices_that_differ_are_not_sound(broken: Row) -> None:
    assert SOUND.sound
    assert not broken.sound
    assert "NOT SOUND" in table([broken])


def test_the_table_says_why_another_precision_ran() -> None:
    row = replace(SOUND, asked="16-mixed", reason="this GPU has 6.1")

    assert "| 16-mixed | 32-true (this GPU has 6.1) | 2.0000 | 1.0000 | 500 | 3 MiB | 0 |" in table([row])


@pytest.mark.slow
def test_the_check_trains_for_real_and_both_forwards_agree() -> None:
    row = check(made_fleet(2), "16-mixed", "cpu", epochs=2, hidden_size=8, attention_head_size=2)

    assert row.effective == "32-true"
    assert "CUDA" in row.reason
    assert len(row.val_losses) == 2
    assert row.sound
    assert row.windows_per_second > 0
