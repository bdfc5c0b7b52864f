"""Where the loss of a range test falls fastest per decade of the learning rate. numpy only.

A slope between neighbouring points is nearly all noise, so the whole curve is smoothed at once: a logistic
descent in the logarithm of the rate plus an exponential blow-up, by least squares over a grid of centres and
widths (the levels follow in closed form). The suggestion is the steepest point of that smooth curve. Nothing
in it is random.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

FEWEST_POINTS = 10
# The curve is cut where its running median has come back up by this share of its descent, and by this many
# deviations of the noise.
BLOW_UP_SHARE = 0.6
BLOW_UP_DEVIATIONS = 3.0
MEDIAN_SHARE = 0.05  # of the points are in the running median's window
# A loss further from the median of its neighbours than this many deviations is drawn in; so many neighbours.
SPIKE_DEVIATIONS, SPIKE_REACH = 2.0, 8
# The suggestion stays this share of the swept decades away from either end.
START_MARGIN, END_MARGIN = 0.05, 0.02
CENTRES = 80
# In decades, from 12 % to 88 % of the descent.
DESCENT_WIDTHS = (0.18, 0.31, 0.51, 0.82, 1.27, 2.0)
GROWTHS = (1.5, 3.0, 6.0, 12.0, 24.0, 48.0)  # of the blow-up: exp(growth x decades)
# A descent counts if it explains this much more than a flat curve with the same blow-up would, in variances
# of the noise, and is this many of its deviations deep. Of flat curves of pure noise one in a hundred passes.
LEAST_GAIN = 14.0
LEAST_DEPTH = 2.0
# A range test ends early once the mean of this many losses is so many times the lowest such mean.
LEVEL_POINTS, BLOW_UP_FACTOR = 5, 4.0
FITTED = 7  # levels, centre, widths and the cut, all chosen to fit


@dataclass(frozen=True)
class CurveReading:
    """What a range test's curve says.

    `smoothed` is aligned with the points read; None where the curve was cut. `rate` is None where the loss
    does not fall, and `reason` says why or what was taken.
    """

    rate: float | None
    smoothed: list[float | None]
    reason: str


@dataclass(frozen=True)
class _Fit:
    """The smooth curve at the points that were kept, and how much of it to believe."""

    values: FloatArray  # (n,)
    residuals: FloatArray  # (n,)
    gain: float  # squares explained beyond a flat curve with the same kind of blow-up


def suggest(rates: npt.ArrayLike, losses: npt.ArrayLike) -> float | None:
    """The rate of the steepest descent; None if the loss does not fall. `rates` rise, both are (n,)."""
    return read_curve(rates, losses).rate


def read_curve(rates: npt.ArrayLike, losses: npt.ArrayLike) -> CurveReading:
    """Smooth the curve and find its steepest descent. Losses that are no number are left out."""
    decades, values = np.log10(np.asarray(rates, np.float64)), np.asarray(losses, np.float64)
    nothing: list[float | None] = [None] * len(values)
    kept = np.flatnonzero(np.isfinite(values))
    kept = kept[: _blow_up(values[kept])] if len(kept) >= FEWEST_POINTS else kept
    if len(kept) < FEWEST_POINTS:
        return CurveReading(None, nothing, "the loss rises, or is no number, from the start")
    centre, spread = float(values[kept].mean()), float(values[kept].std())
    if spread <= 1e-9 * abs(centre):
        return CurveReading(None, nothing, "the loss does not change with the learning rate")
    x = decades[kept]
    tame = _without_spikes(values[kept])
    centre, spread = float(tame.mean()), max(float(tame.std()), 1e-9 * abs(centre))
    fit = _fit(x, (tame - centre) / spread)
    if fit is None or not _is_descent(fit):
        return CurveReading(None, nothing, "the loss does not fall by more than its noise")
    smoothed = list(nothing)
    for place, value in zip(kept, fit.values, strict=True):
        smoothed[place] = float(centre + spread * value)
    return CurveReading(_steepest(x, fit.values), smoothed, "the steepest descent of the smoothed loss")


def has_blown_up(losses: list[float]) -> bool:
    """Whether there is nothing left to learn from higher rates."""
    if len(losses) < LEVEL_POINTS:
        return False
    levels = np.lib.stride_tricks.sliding_window_view(losses, LEVEL_POINTS).mean(axis=1)
    return bool(levels[-1] > BLOW_UP_FACTOR * levels.min())


def _blow_up(values: FloatArray) -> int:
    """How many points stand before the loss, once down, has climbed back up."""
    half = max(round(MEDIAN_SHARE * len(values) / 2), 2)
    padded = np.pad(values, half, mode="edge")
    median = np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1), axis=1)
    lowest = int(np.argmin(median))
    depth = float(median[: lowest + 1].max() - median[lowest])
    # A deviation, were the noise normal; by the lower quartile, since a blow-up may fill most of the curve.
    noise = 2.2 * float(np.quantile(np.abs(np.diff(values)), 0.25))
    rise = max(BLOW_UP_SHARE * depth, BLOW_UP_DEVIATIONS * noise)
    risen = np.flatnonzero(median[lowest:] > median[lowest] + rise)
    return lowest + int(risen[0]) if len(risen) else len(values)


def _without_spikes(values: FloatArray) -> FloatArray:
    """Single batches of odd windows drawn in to what is usual around them: squares would heed little else."""
    padded = np.pad(values, SPIKE_REACH, mode="reflect")
    local = np.lib.stride_tricks.sliding_window_view(padded, 2 * SPIKE_REACH + 1)
    median = np.median(local, axis=1)
    deviation = 1.4826 * np.median(np.abs(local - median[:, None]), axis=1)  # of normal noise
    return np.clip(values, median - SPIKE_DEVIATIONS * deviation, median + SPIKE_DEVIATIONS * deviation)


def _fit(x: FloatArray, y: FloatArray) -> _Fit | None:
    """The best descent with or without a blow-up; None if nothing that falls fits. `y` has mean 0."""
    descents = _descents(x)
    total = float(y @ y)
    falls, squares = descents @ y, (descents * descents).sum(axis=1)
    gains = np.where(falls > 0, falls**2 / squares, -np.inf)
    best = int(np.argmax(gains))
    gain, values = float(gains[best]), falls[best] / squares[best] * descents[best]
    without = 0.0  # explained by a blow-up alone
    for rise in _rises(x):
        height, rises, shared = float(rise @ rise), float(rise @ y), descents @ rise
        if rises > 0:
            without = max(without, rises**2 / height)
        # Both at once: the normal equations of two unknowns, for every descent of the grid.
        determinant = squares * height - shared**2
        solvable = determinant > 1e-6 * squares * height
        determinant = np.where(solvable, determinant, 1.0)
        depths = (falls * height - rises * shared) / determinant
        heights = (squares * rises - shared * falls) / determinant
        gains = np.where(solvable & (depths > 0) & (heights > 0), depths * falls + heights * rises, -np.inf)
        best = int(np.argmax(gains))
        if gains[best] > gain:
            gain, values = float(gains[best]), depths[best] * descents[best] + heights[best] * rise
    if not np.isfinite(gain):
        return None
    return _Fit(values, y - values, min(gain, total) - without)


def _descents(x: FloatArray) -> FloatArray:
    """Falling logistic curves of every centre and width, less their means, (grid, n)."""
    first, last = _interior(x)
    centres = np.linspace(first, last, CENTRES)[:, None, None]
    steepness = 4.0 / np.array(DESCENT_WIDTHS)[None, :, None]
    curves = 1.0 / (1.0 + np.exp(np.clip(steepness * (x - centres), -50.0, 50.0)))
    curves = curves.reshape(-1, len(x))
    curves = curves - curves.mean(axis=1, keepdims=True)
    return np.asarray(curves[(curves * curves).sum(axis=1) > 1e-12])


def _rises(x: FloatArray) -> list[FloatArray]:
    """Exponential blow-ups, less their means, each (n,)."""
    curves = [np.exp(growth * (x - x[-1])) for growth in GROWTHS]
    return [curve - curve.mean() for curve in curves]


def _is_descent(fit: _Fit) -> bool:
    """Whether noise alone would not look like this. Noise that wanders is allowed to explain more."""
    residuals = fit.residuals
    count = len(residuals)
    variance = max(float(residuals @ residuals) / max(count - FITTED, 1), 1e-12)
    echo = float(residuals[1:] @ residuals[:-1]) / max(float(residuals @ residuals), 1e-12)
    echo = min(max(echo, 0.0), 0.95)
    gain = fit.gain / variance * (1.0 - echo) / (1.0 + echo)
    depth = float((np.maximum.accumulate(fit.values) - fit.values).max())
    return gain >= LEAST_GAIN and depth >= LEAST_DEPTH * variance**0.5


def _steepest(x: FloatArray, smooth: FloatArray) -> float:
    first, last = _interior(x)
    slope = np.gradient(smooth, x)
    inside = np.flatnonzero((x >= first) & (x <= last))
    return float(10.0 ** x[inside[np.argmin(slope[inside])]])


def _interior(x: FloatArray) -> tuple[float, float]:
    width = float(x[-1] - x[0])
    return float(x[0]) + START_MARGIN * width, float(x[-1]) - END_MARGIN * width
