"""One scoring for every contestant: q-risk, MAE and coverage on the test tail, raw and after calibration.

The formulas are the trainer's own (`trainer/evaluation`), the same for all. Calibration is fitted on the
validation tail of the servers trained on, for the new servers too.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from benchmarks.fleet import QUANTILES
from benchmarks.store import ROOT, code_sha256
from trainer.evaluation.calibration import Calibration, fit_calibration, trust_by_age
from trainer.evaluation.intervals import intervals, scored_quantiles
from trainer.evaluation.scores import coverage, mae, pinball, q_risk

if TYPE_CHECKING:
    from benchmarks.contestant import Forecasts
    from benchmarks.fleet import Fleet

Floats = npt.NDArray[np.float64]
GROUPS = ("seen", "new")
_MEDIAN = QUANTILES.index(0.5)

# {weights: {"val_loss": number | None, group: {target: {"q_risk": number, ...}}}}
Scores = dict[str, Any]


def scoring_sha256() -> str:
    """Of the code that scores, so that stored scores are known to be up to date."""
    return code_sha256(Path(__file__), ROOT / "trainer" / "evaluation")


def score_forecasts(fleet: Fleet, forecasts: Forecasts) -> Scores:
    """Scores of every set of weights for every group that was forecast."""
    scores: Scores = {}
    for weights in dict.fromkeys(key[0] for key in forecasts):
        held_out = forecasts[weights, "seen", "validation"]
        calibration = _calibrate(fleet, _sorted(held_out))
        scores[weights] = {"val_loss": _val_loss(fleet, held_out)}
        for group in GROUPS:
            if (weights, group, "test") in forecasts:
                raw = _sorted(forecasts[weights, group, "test"])
                scores[weights][group] = _score_group(fleet, group, raw, calibration)
    return scores


def _score_group(fleet: Fleet, group: Any, raw: Floats, calibration: Calibration) -> dict[str, Any]:
    flat = raw.reshape(-1, *raw.shape[2:])
    moved = calibration.apply(flat)
    actual = fleet.actual(group, "test").reshape(flat.shape[:-1])
    return {
        target: _score_target(actual[:, :, place], flat[:, :, place], moved[:, :, place])
        for place, target in enumerate(fleet.targets)
    }


def _score_target(actual: Floats, raw: Floats, calibrated: Floats) -> dict[str, float]:
    """`actual` (windows, horizon), forecasts (windows, horizon, quantiles)."""
    weight = np.ones(actual.shape)
    scores = {
        "q_risk": _mean_q_risk(actual, raw, weight),
        "q_risk_calibrated": _mean_q_risk(actual, calibrated, weight),
        "mae": float(mae(actual, raw[..., _MEDIAN], weight)),
    }
    for interval in intervals(QUANTILES):
        for name, forecast in (("coverage", raw), ("coverage_calibrated", calibrated)):
            share = coverage(actual, forecast[..., interval.low], forecast[..., interval.high], weight)
            scores[f"{name}_{interval.name}"] = float(share)
    return scores


def _mean_q_risk(actual: Floats, forecast: Floats, weight: Floats) -> float:
    over = scored_quantiles(QUANTILES)
    return float(np.mean([q_risk(actual, forecast[..., QUANTILES.index(q)], q, weight) for q in over]))


def _val_loss(fleet: Fleet, held_out: npt.NDArray[Any]) -> float:
    """Stock's: original units, not sorted, twice the pinball loss, mean over quantiles, sum over targets."""
    actual = fleet.actual("seen", "validation")
    losses = [2 * pinball(actual, held_out[..., place], q) for place, q in enumerate(QUANTILES)]
    return float(np.mean(losses, axis=(0, 1, 2, 3)).sum())


def _calibrate(fleet: Fleet, held_out: Floats) -> Calibration:
    origins = fleet.origins("validation")
    age = np.tile(origins[-1] - origins, len(held_out))
    flat = held_out.reshape(-1, *held_out.shape[2:])
    actual = fleet.actual("seen", "validation").reshape(flat.shape[:-1])
    trust = trust_by_age(age, fleet.horizon)
    return fit_calibration(actual, np.ones(actual.shape), flat, QUANTILES, trust, n_series=len(held_out))


def _sorted(forecasts: npt.NDArray[Any]) -> Floats:
    """What crosses is sorted, for every contestant alike."""
    return np.sort(np.asarray(forecasts, np.float64), axis=-1)
