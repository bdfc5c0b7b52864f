"""All scores of one forecast of one target, as plain JSON values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.evaluation.intervals import intervals, place_of, scored_quantiles
from trainer.evaluation.scores import coverage, mae, pinball, q_risk, rmse, smape, width
from trainer.evaluation.verdict import WindowLosses

if TYPE_CHECKING:
    import numpy.typing as npt

    from trainer.evaluation.intervals import Interval
    from trainer.evaluation.windows import Actuals

    Floats = npt.NDArray[np.float64]


def score(truth: Actuals, forecast: Floats, quantiles: tuple[float, ...], floor: float) -> dict[str, Any]:
    """All scores of forecasts (n, horizon, n_quantiles) of one target, in all and per horizon step."""
    return _scores(truth, forecast, quantiles, floor, None) | {
        "by_horizon": _scores(truth, forecast, quantiles, floor, 0)
    }


def _scores(
    truth: Actuals, forecast: Floats, quantiles: tuple[float, ...], floor: float, axis: int | None
) -> dict[str, Any]:
    actual, weight = truth.values, truth.weight
    median = forecast[..., place_of(quantiles, 0.5) or 0]
    risks = [q_risk(actual, forecast[..., place], each, weight, axis) for place, each in enumerate(quantiles)]
    return {
        "q_risk": _plain(np.mean([risks[place] for place, _ in _scored(quantiles)], axis=0)),
        "q_risk_per_quantile": {
            f"{each:g}": _plain(risk) for each, risk in zip(quantiles, risks, strict=True)
        },
        "mae": _plain(mae(actual, median, weight, axis)),
        "rmse": _plain(rmse(actual, median, weight, axis)),
        "smape": _plain(smape(actual, median, weight, floor, axis)),
        "intervals": {
            pair.name: _interval_scores(truth, forecast, pair, axis) for pair in intervals(quantiles)
        },
    }


def _interval_scores(truth: Actuals, forecast: Floats, pair: Interval, axis: int | None) -> dict[str, Any]:
    low, high = forecast[..., pair.low], forecast[..., pair.high]
    return {
        "nominal": pair.nominal,
        "coverage": _plain(coverage(truth.values, low, high, truth.weight, axis)),
        "width": _plain(width(low, high, truth.weight, axis)),
    }


def window_losses(truth: Actuals, model: Floats, rival: Floats, quantiles: tuple[float, ...]) -> WindowLosses:
    """What the verdict resamples; forecasts are (n, horizon, n_quantiles)."""
    median = place_of(quantiles, 0.5) or 0

    def losses(forecast: Floats) -> Floats:
        parts = [
            pinball(truth.values, forecast[..., place], quantile) for place, quantile in _scored(quantiles)
        ]
        return np.asarray(2.0 * (np.mean(parts, axis=0) * truth.weight).sum(axis=1))

    def errors(forecast: Floats) -> Floats:
        return np.asarray((np.abs(truth.values - forecast[..., median]) * truth.weight).sum(axis=1))

    return WindowLosses(
        model=losses(model),
        rival=losses(rival),
        size=(np.abs(truth.values) * truth.weight).sum(axis=1),
        model_error=errors(model),
        rival_error=errors(rival),
        count=truth.weight.sum(axis=1),
    )


def _scored(quantiles: tuple[float, ...]) -> list[tuple[int, float]]:
    """Places and values of the quantiles that q-risk is the mean over."""
    return [(place_of(quantiles, quantile) or 0, quantile) for quantile in scored_quantiles(quantiles)]


def _plain(values: Floats) -> float | list[float | None] | None:
    if np.ndim(values):
        return [float(value) if np.isfinite(value) else None for value in values]
    return float(values) if np.isfinite(values) else None
