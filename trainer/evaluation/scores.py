"""The formulas. Weights are 1 for an observed step and 0 for a masked one; an empty sum gives NaN."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.floating[Any]]
    Floats = npt.NDArray[np.float64]


def pinball(actual: Array, forecast: Array, quantile: float) -> Floats:
    """Quantile loss of each element: q·max(y - f, 0) + (1 - q)·max(f - y, 0)."""
    error = np.asarray(actual, np.float64) - forecast
    return np.maximum(quantile * error, (quantile - 1.0) * error)


def q_risk(actual: Array, forecast: Array, quantile: float, weight: Array, axis: int | None = None) -> Floats:
    """Normalised quantile loss of Lim et al., arXiv 1912.09363: 2·Σ loss / Σ |y|.

    All arrays are (n, horizon); `axis=0` gives one number per horizon step, None a single one.
    """
    losses = (pinball(actual, forecast, quantile) * weight).sum(axis)
    return _ratio(2.0 * losses, (np.abs(actual, dtype=np.float64) * weight).sum(axis))


def mae(actual: Array, forecast: Array, weight: Array, axis: int | None = None) -> Floats:
    """Mean absolute error, in the target's unit."""
    return _mean(np.abs(np.asarray(actual, np.float64) - forecast), weight, axis)


def rmse(actual: Array, forecast: Array, weight: Array, axis: int | None = None) -> Floats:
    """Root mean squared error, in the target's unit."""
    squares = (np.asarray(actual, np.float64) - forecast) ** 2
    return np.asarray(np.sqrt(_mean(squares, weight, axis)))


def smape(actual: Array, forecast: Array, weight: Array, floor: float, axis: int | None = None) -> Floats:
    """Symmetric mean absolute percentage error as a fraction, 0 to 2: 2·|y - f| / max(|y| + |f|, floor).

    The floor keeps values next to zero from counting as errors of 200 %.
    """
    error = np.abs(np.asarray(actual, np.float64) - forecast)
    size = np.maximum(np.abs(actual, dtype=np.float64) + np.abs(forecast), floor)
    return _mean(2.0 * error / size, weight, axis)


def coverage(actual: Array, low: Array, high: Array, weight: Array, axis: int | None = None) -> Floats:
    """Share of the values that lie within the interval, its ends included."""
    inside = (low <= actual) & (actual <= high)
    return _mean(inside.astype(np.float64), weight, axis)


def width(low: Array, high: Array, weight: Array, axis: int | None = None) -> Floats:
    """Mean width of the interval, in the target's unit."""
    return _mean(np.asarray(high, np.float64) - low, weight, axis)


def _mean(values: Floats, weight: Array, axis: int | None) -> Floats:
    return _ratio((values * weight).sum(axis), np.asarray(weight, np.float64).sum(axis))


def _ratio(sums: Floats, weights: Floats) -> Floats:
    sums, weights = np.asarray(sums, np.float64), np.asarray(weights, np.float64)
    return np.asarray(np.divide(sums, weights, out=np.full(sums.shape, np.nan), where=weights > 0))
