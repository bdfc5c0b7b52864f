from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from benchmarks.fleet import QUANTILES, Fleet
from benchmarks.scoring import score_forecasts
from tests.benchmarks.fleets import small_fleet

if TYPE_CHECKING:
    from benchmarks.contestant import Forecasts

PARTS = (("seen", "validation"), ("seen", "test"), ("new", "test"))


def _forecasts(fleet: Fleet, spread: float) -> Forecasts:
    """What happened, with quantiles spread evenly around it."""
    around = spread * (np.array(QUANTILES) - 0.5)
    return {
        ("best", group, part): (fleet.actual(group, part)[..., None] + around).astype(np.float32)  # type: ignore[arg-type]
        for group, part in PARTS
    }


def test_a_perfect_forecast_has_no_q_risk_and_no_error() -> None:
    scores = score_forecasts(small_fleet(), _forecasts(small_fleet(), spread=0.0))

    for group in ("seen", "new"):
        for target in ("cpu_percent", "memory_percent"):
            assert scores["best"][group][target]["q_risk"] == pytest.approx(0.0, abs=1e-6)
            assert scores["best"][group][target]["mae"] == pytest.approx(0.0, abs=1e-5)
    assert scores["best"]["val_loss"] == pytest.approx(0.0, abs=1e-5)


def test_q_risk_is_the_papers_over_all_windows_of_the_group() -> None:
    fleet = small_fleet()
    forecasts = _forecasts(fleet, spread=4.0)

    scores = score_forecasts(fleet, forecasts)

    actual = fleet.actual("new", "test")[..., 0]
    parts = []
    for quantile in (0.1, 0.5, 0.9):
        error = actual - forecasts["best", "new", "test"][..., 0, QUANTILES.index(quantile)]
        loss = np.where(error > 0, quantile * error, (quantile - 1) * error)
        parts.append(2 * loss.sum() / np.abs(actual).sum())
    assert scores["best"]["new"]["cpu_percent"]["q_risk"] == pytest.approx(np.mean(parts), rel=1e-6)
    assert scores["best"]["new"]["cpu_percent"]["coverage_80"] == 1.0


def test_crossed_quantiles_are_sorted_before_they_are_scored() -> None:
    fleet = small_fleet()
    straight = _forecasts(fleet, spread=4.0)
    crossed = {key: array[..., ::-1] for key, array in straight.items()}

    found, expected = score_forecasts(fleet, crossed)["best"], score_forecasts(fleet, straight)["best"]
    assert found["seen"] == expected["seen"]
    assert found["new"] == expected["new"]
    assert found["val_loss"] > expected["val_loss"]  # pytorch-forecasting's: as the network gave them


def test_calibration_widens_intervals_that_were_too_narrow_on_the_validation_tail() -> None:
    fleet = small_fleet(servers=20, seen=10, noise=3.0)
    random = np.random.default_rng(1)
    forecasts = {
        key: (array + random.normal(0, 3.0, array.shape[:-1])[..., None]).astype(np.float32)
        for key, array in _forecasts(fleet, spread=1.0).items()
    }

    scores = score_forecasts(fleet, forecasts)["best"]["seen"]["cpu_percent"]

    assert scores["coverage_80"] < 0.3
    assert 0.7 < scores["coverage_calibrated_80"] < 0.95
    assert scores["q_risk_calibrated"] < scores["q_risk"]


def test_a_contestant_that_cannot_forecast_new_servers_has_no_score_there() -> None:
    forecasts = {key: array for key, array in _forecasts(small_fleet(), 1.0).items() if key[1] == "seen"}

    assert "new" not in score_forecasts(small_fleet(), forecasts)["best"]
