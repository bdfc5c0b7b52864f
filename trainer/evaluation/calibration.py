"""Conformal calibration of quantile forecasts on windows the network was not trained on.

Conformalised quantile regression (Romano, Patterson, Candès, arXiv 1905.03222), in its asymmetric form: for
each target, horizon step and quantile, so that a forecast that lies too high or too low is moved as well as
one that is too narrow. With few series the move of the whole fan is trusted less: a single server is too high
today and too low tomorrow. One number has to serve a busy and an idle server, so errors are measured in units
of the forecast's own widest interval.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from trainer.evaluation.intervals import intervals, place_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Array = npt.NDArray[np.floating[Any]]
    Floats = npt.NDArray[np.float64]

# A step with fewer observed values borrows those of all steps.
FEWEST_PER_STEP = 30
_FLOOR_SHARE = 0.01
_ENOUGH_WINDOWS = 500
# Of n series, n / (n + 2) of the fan's common move is made. Groups of 1 to 200 servers of the Google trace,
# forecasts of three libraries: all of it is best from 10 series on, a quarter to three quarters with 1 to 3.
_SERIES_TO_TRUST = 2
_FLAT = 16
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Calibration:
    """How far to move each quantile up, in units of the widest interval plus `floors`."""

    quantiles: tuple[float, ...]
    shifts: Floats  # (n_targets, n_quantiles, horizon)
    floors: Floats  # (n_targets,) in the target's unit, so that a flat forecast has a scale too

    def apply(self, forecasts: Array) -> Floats:
        """Calibrated and sorted copies of forecasts of shape (n, horizon, n_targets, n_quantiles)."""
        moved = np.sort(np.asarray(forecasts, np.float64), axis=-1)
        scales = _scales(moved, self.quantiles, self.floors)
        moved += scales[..., None] * self.shifts.transpose(2, 0, 1)
        moved.sort(axis=-1)
        return moved

    def to_json(self) -> dict[str, Any]:
        """Plain values; `from_json` reads them back."""
        return {
            "quantiles": list(self.quantiles),
            "shifts": self.shifts.tolist(),
            "floors": self.floors.tolist(),
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """The inverse of `to_json`."""
        return cls(
            quantiles=tuple(content["quantiles"]),
            shifts=np.asarray(content["shifts"], np.float64),
            floors=np.asarray(content["floors"], np.float64),
        )


def fit_calibration(
    actual: Array,
    weight: Array,
    forecasts: Array,
    quantiles: Sequence[float],
    trust: Array | None = None,
    *,
    n_series: int | None = None,
) -> Calibration:
    """Fit on held-out windows.

    `actual`, `weight` are (n, horizon, n_targets); `forecasts` (n, horizon, n_targets, n_quantiles), sorted.
    `trust` (n,) says how much each window counts, 1 where left out. `n_series` is how many series the windows
    are of; where it is left out, many. On exchangeable new windows of many series the share of
    values below each quantile is then what it says, or slightly further out. Without a symmetric pair of
    quantiles there is no interval to measure in, and nothing moves.
    """
    horizon, n_targets = actual.shape[1:]
    sharp = np.asarray(forecasts, np.float64)
    floors = _floors(sharp, weight, quantiles)
    scales = _scales(sharp, quantiles, floors)
    trusted = np.ones(len(actual)) if trust is None else np.asarray(trust, np.float64)
    shifts = np.zeros((n_targets, len(quantiles), horizon))
    for place, quantile in enumerate(quantiles if intervals(quantiles) else ()):
        errors = (actual - sharp[..., place]) / scales
        for target in range(n_targets):
            counted = np.where(weight[:, :, target] > 0, trusted[:, None], 0.0)
            shifts[target, place] = _shifts(errors[:, :, target], counted, quantile)
    if n_series is not None:
        _temper(shifts, quantiles, n_series / (n_series + _SERIES_TO_TRUST))
    return Calibration(tuple(quantiles), shifts, floors)


def trust_by_age(age: npt.NDArray[np.int64], horizon: int) -> Floats:
    """How much each validation window counts, (n,); `age` is how many steps its series's newest lies ahead.

    Servers drift, so what the newest windows show holds longer (Barber et al., arXiv 2202.13415). The
    half-life is half a horizon, or doubled until enough windows are left to tell a 96 % interval by.
    """
    half_life = horizon / 2
    while half_life < _FLAT * max(int(age.max(initial=0)), 1):
        trust = np.asarray(0.5 ** (age / half_life))
        if trust.sum() ** 2 / (trust**2).sum() >= _ENOUGH_WINDOWS:
            return trust
        half_life *= 2
    return np.ones(len(age))


def _floors(forecasts: Floats, weight: Array, quantiles: Sequence[float]) -> Floats:
    widths = _widest(forecasts, quantiles)
    counts = np.maximum(np.asarray(weight, np.float64).sum(axis=(0, 1)), 1.0)
    means = (widths * weight).sum(axis=(0, 1)) / counts
    floors: Floats = np.maximum(_FLOOR_SHARE * means, np.finfo(np.float32).tiny)
    return floors


def _scales(forecasts: Floats, quantiles: Sequence[float], floors: Floats) -> Floats:
    return _widest(forecasts, quantiles) + floors


def _widest(forecasts: Floats, quantiles: Sequence[float]) -> Floats:
    pairs = intervals(quantiles)
    if not pairs:
        return np.zeros(forecasts.shape[:-1])
    widest: Floats = forecasts[..., pairs[0].high] - forecasts[..., pairs[0].low]
    return widest


def _temper(shifts: Floats, quantiles: Sequence[float], share: float) -> None:
    """Make only this share of the move that the two ends of an interval have in common, in place."""
    for pair in intervals(quantiles):
        excess = (1.0 - share) * (shifts[:, pair.low] + shifts[:, pair.high]) / 2.0
        shifts[:, pair.low] -= excess
        shifts[:, pair.high] -= excess
    median = place_of(quantiles, 1 / 2)
    if median is not None:
        shifts[:, median] *= share


def _shifts(errors: Floats, counted: Floats, quantile: float) -> Floats:
    """(horizon,) conformal quantile of the errors (n, horizon), each counting as much as `counted` says."""
    seen = counted > 0
    few = seen.sum(axis=0) < FEWEST_PER_STEP
    pooled = _conformal_quantile(errors[seen], counted[seen], quantile) if few.any() else 0.0
    shifts = np.full(errors.shape[1], pooled)
    for step in np.flatnonzero(~few):
        here = seen[:, step]
        shifts[step] = _conformal_quantile(errors[here, step], counted[here, step], quantile)
    return shifts


def _conformal_quantile(errors: Floats, counted: Floats, quantile: float) -> float:
    """What a new error lies below with this probability, or rather further out; the median is in between."""
    if not len(errors):
        return 0.0
    above = _upper_end(errors, counted, quantile)
    below = -_upper_end(-errors, counted, 1.0 - quantile)
    if quantile == 1 / 2:
        return (above + below) / 2
    return above if quantile > 1 / 2 else below


def _upper_end(scores: Floats, counted: Floats, nominal: float) -> float:
    """The smallest score that holds the nominal share, a new window counting as much as the heaviest."""
    order = np.argsort(scores, kind="stable")
    reached = np.cumsum(counted[order])
    needed = nominal * (reached[-1] + counted.max()) - _ROUNDING
    return float(scores[order][min(int(np.searchsorted(reached, needed)), len(scores) - 1)])
