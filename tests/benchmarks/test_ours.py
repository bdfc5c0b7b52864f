from __future__ import annotations

from argparse import Namespace

import pytest

from benchmarks import ours
from benchmarks.scoring import score_forecasts
from tests.benchmarks.fleets import small_fleet

SMALL = {"hidden_size": 8, "hidden_continuous_size": 4, "attention_head_size": 2, "batch_size": 16}


@pytest.mark.slow
def test_the_best_weights_forecasts_give_the_val_loss_that_training_reported() -> None:
    fleet = small_fleet(servers=5, seen=3)

    forecasts, facts = ours.run(fleet, Namespace(seed=3, epochs=3, threads=1, options=SMALL))

    scores = score_forecasts(fleet, forecasts)
    assert len(facts["val_losses"]) == 3
    assert scores["best"]["val_loss"] == pytest.approx(min(facts["val_losses"]), rel=1e-3)
    assert scores["last"]["val_loss"] == pytest.approx(facts["val_losses"][-1], rel=1e-3)
    assert forecasts["best", "new", "test"].shape == (2, len(fleet.origins("test")), 3, 2, 7)
    assert facts["windows_seen"] >= 3 * fleet.train_windows
