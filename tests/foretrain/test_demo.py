from __future__ import annotations

from pathlib import Path

import pytest

from foretrain.demo import TRAINING, run_demo
from foretrain.refusals import Refusal


def test_a_folder_with_somebody_elses_files_is_left_alone(tmp_path: Path) -> None:
    precious = tmp_path / "thesis.txt"
    precious.write_text("years of work")

    with pytest.raises(Refusal, match="not a folder of an earlier demo"):
        run_demo(tmp_path)

    assert precious.exists()


def test_the_demo_trains_several_targets_with_accumulation() -> None:
    assert TRAINING.target_metrics is not None
    assert len(TRAINING.target_metrics) > 1
    assert TRAINING.accumulate_grad_batches > 1
