"""The scores part of result.json."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.evaluation.calibration import Calibration, fit_calibration, trust_by_age
from trainer.evaluation.intervals import scored_quantiles
from trainer.evaluation.rivals import Rivals
from trainer.evaluation.season import Season, choose_season
from trainer.evaluation.target_scores import score, window_losses
from trainer.evaluation.verdict import judge
from trainer.evaluation.windows import actuals

if TYPE_CHECKING:
    import numpy.typing as npt

    from trainer.evaluation.inputs import EvaluationInputs, ForecastSet
    from trainer.evaluation.rivals import RivalForecast
    from trainer.evaluation.windows import Actuals

    Floats = npt.NDArray[np.float64]

_FLOOR_SHARE = 0.01


def evaluate(inputs: EvaluationInputs) -> dict[str, Any]:
    """Score the forecasts and the naive rivals on the same windows; plain JSON values, None for no number.

    {"scored_on": "test" | "validation", "windows": {"validation": n, "scored": n}, "quantiles": [...],
     "q_risk_over": [...], "season": {"name", "steps"} | None, "season_reason": str,
     "calibration": {"method", "reason", "parameters": Calibration.to_json() | None},
     "targets": {name: {"model": S, "model_raw": S, "rivals": {"last_value": S, "seasonal_naive": S | None},
                        "smape_floor": number, "verdict": V | None, "verdict_reason": str | None}}}
    S = {"q_risk", "q_risk_per_quantile": {"0.1": ...}, "mae", "rmse", "smape",
         "intervals": {"80": {"nominal", "coverage", "width"}},
         "by_horizon": the same with lists, one item a step};
         rivals add "pooled_series" and "replaced_windows".
    V = what `verdict.judge` says against the rival with the lowest q-risk, "against", and the same for each
        rival in "rivals".

    `model` is what is published: sorted and, with calibration, moved by what the validation windows showed.
    """
    scored = inputs.validation if inputs.test is None else inputs.test
    season, season_reason = _season(inputs, scored)
    calibration = _calibrate(inputs) if inputs.calibration == "conformal" else None
    raw = np.sort(np.asarray(scored.quantiles, np.float64), axis=-1)
    published = raw if calibration is None or inputs.test is None else calibration.apply(raw)
    return {
        "scored_on": "validation" if inputs.test is None else "test",
        "windows": {"validation": len(inputs.validation.origin_row), "scored": len(scored.origin_row)},
        "quantiles": list(inputs.quantiles),
        "q_risk_over": scored_quantiles(inputs.quantiles),
        "season": None if season is None else {"name": season.name, "steps": season.steps},
        "season_reason": season_reason,
        "calibration": {
            "method": "none" if calibration is None else "conformal",
            "reason": _calibration_reason(inputs, calibration),
            "parameters": None if calibration is None else calibration.to_json(),
        },
        "targets": {
            target: _TargetScores(inputs, scored, place).judged(
                raw[:, :, place], published[:, :, place], season
            )
            for place, target in enumerate(inputs.targets)
        },
    }


def _season(inputs: EvaluationInputs, scored: ForecastSet) -> tuple[Season | None, str]:
    members = np.unique(scored.series_index)
    training = (inputs.train_end - inputs.series.offsets[:-1])[members]
    return choose_season(int(np.median(training)) if len(training) else 0, inputs.series.frequency_seconds)


def _calibrate(inputs: EvaluationInputs) -> Calibration | None:
    forecasts = inputs.validation
    parts = [
        actuals(inputs.series, target, forecasts, inputs.encoder_length, inputs.horizon)
        for target in inputs.targets
    ]
    weight = np.stack([part.weight for part in parts], axis=-1)
    if not weight.any():
        return None
    actual = np.stack([part.values for part in parts], axis=-1)
    ordered = np.sort(np.asarray(forecasts.quantiles, np.float64), axis=-1)
    newest = np.zeros(inputs.series.n_series, np.int64)
    np.maximum.at(newest, forecasts.series_index, forecasts.origin_row)
    trust = trust_by_age(newest[forecasts.series_index] - forecasts.origin_row, inputs.horizon)
    n_series = len(np.unique(forecasts.series_index))
    return fit_calibration(actual, weight, ordered, inputs.quantiles, trust, n_series=n_series)


def _calibration_reason(inputs: EvaluationInputs, calibration: Calibration | None) -> str | None:
    if inputs.calibration == "none":
        return "calibration=none"
    if calibration is None:
        return "no observed step in the validation windows"
    if inputs.test is None:
        return "without a test tail the scores are those of the uncalibrated forecasts"
    return None


@dataclass(frozen=True)
class _TargetScores:
    inputs: EvaluationInputs
    scored: ForecastSet
    place: int

    @property
    def target(self) -> str:
        return self.inputs.targets[self.place]

    def judged(self, raw: Floats, published: Floats, season: Season | None) -> dict[str, Any]:
        inputs = self.inputs
        truth = actuals(inputs.series, self.target, self.scored, inputs.encoder_length, inputs.horizon)
        floor = self._smape_floor()
        rivals = self._rivals(season)
        scores = {
            name: None if rival is None else self._rival_scores(truth, rival, floor)
            for name, rival in rivals.items()
        }
        verdict, reason = self._verdict(truth, published, rivals)
        return {
            "model": score(truth, published, self.inputs.quantiles, floor),
            "model_raw": score(truth, raw, self.inputs.quantiles, floor),
            "rivals": scores,
            "smape_floor": floor,
            "verdict": verdict,
            "verdict_reason": reason,
        }

    def _smape_floor(self) -> float:
        """One hundredth of the mean size in the training part."""
        series = self.inputs.series
        training = np.arange(len(series.times)) < np.repeat(self.inputs.train_end, series.lengths)
        sizes = np.abs(series.values[self.target][series.observed[self.target] & training], dtype=np.float64)
        mean = float(sizes.mean()) if len(sizes) else 0.0
        return max(_FLOOR_SHARE * mean, float(np.finfo(np.float32).tiny))

    def _rivals(self, season: Season | None) -> dict[str, RivalForecast | None]:
        inputs = self.inputs
        rivals = Rivals(
            inputs.series, self.target, inputs.train_end, self.scored, inputs.horizon, inputs.quantiles
        )
        return {
            "last_value": rivals.last_value(),
            "seasonal_naive": None if season is None else rivals.seasonal_naive(season),
        }

    def _rival_scores(self, truth: Actuals, rival: RivalForecast, floor: float) -> dict[str, Any]:
        return score(truth, rival.quantiles, self.inputs.quantiles, floor) | {
            "pooled_series": rival.pooled_series,
            "replaced_windows": rival.replaced_windows,
        }

    def _verdict(
        self, truth: Actuals, published: Floats, rivals: dict[str, RivalForecast | None]
    ) -> tuple[dict[str, Any] | None, str | None]:
        if self.inputs.test is None:
            return None, "there is no test tail; validation drove early stopping and is no fair judge"
        inputs, scored = self.inputs, self.scored
        each = {
            name: judge(
                window_losses(truth, published, rival.quantiles, inputs.quantiles),
                scored.series_index,
                scored.origin_row,
                inputs.horizon,
                inputs.seed,
            )
            for name, rival in rivals.items()
            if rival is not None
        }
        # The strongest rival is the one the model looks worst against.
        against = max(each, key=lambda name: each[name]["q_risk_difference"] or 0.0)
        return each[against] | {"against": against, "rivals": each}, each[against]["reason"]
