"""Quantiles of how much each series changes over a lag in its training part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    Array = npt.NDArray[np.floating[Any]]
    Floats = npt.NDArray[np.float64]
    IntArray = npt.NDArray[np.int64]

# Series with fewer residuals take the quantiles of all series together.
FEWEST_RESIDUALS = 20
# The newest of a long training part; more would sharpen the quantiles by nothing that shows.
MOST_TRAINING_STEPS = 20_000
_MOST_CELLS = 4_000_000
_MOST_POOLED = 200_000


@dataclass(frozen=True)
class TrainingParts:
    """Rows starts[i] to ends[i] of each of n series; `values` and `observed` hold all rows end to end."""

    values: Array
    observed: npt.NDArray[np.bool_]
    starts: IntArray  # (n_series,)
    ends: IntArray  # (n_series,), exclusive

    def newest(self, steps: int) -> TrainingParts:
        """The last `steps` rows of each."""
        starts = np.maximum(self.starts, self.ends - steps)
        return TrainingParts(self.values, self.observed, starts, self.ends)


@dataclass(frozen=True)
class ResidualQuantiles:
    """Quantiles of y[t] - y[t - lag], for some lags and series."""

    values: Floats  # (n_series, n_lags, n_quantiles)
    pooled: npt.NDArray[np.bool_]  # (n_series,) True where some lag had too few residuals of its own


def residual_quantiles(
    parts: TrainingParts, lags: Sequence[int], quantiles: Sequence[float]
) -> ResidualQuantiles:
    """Both ends of a residual must be observed and lie in the training part."""
    parts = parts.newest(MOST_TRAINING_STEPS)
    result = np.zeros((len(parts.starts), len(lags), len(quantiles)))
    counts = np.zeros((len(parts.starts), len(lags)), np.int64)
    samples: list[list[Floats]] = [[] for _ in lags]
    share = _MOST_POOLED / max(1, int((parts.ends - parts.starts).sum()))
    for members, training in _matrices(parts):
        for place, lag in enumerate(lags):
            ranked = np.sort(training[:, lag:] - training[:, :-lag], axis=1)
            counts[members, place] = np.isfinite(ranked).sum(axis=1)
            result[members, place] = _quantiles_of_rows(ranked, counts[members, place], quantiles)
            samples[place].append(_sample(ranked, share))
    few = counts < FEWEST_RESIDUALS
    for place in range(len(lags)):
        if few[:, place].any():
            result[few[:, place], place] = _pooled(np.concatenate(samples[place]), quantiles)
    return ResidualQuantiles(result, np.asarray(few.any(axis=1)))


def _matrices(parts: TrainingParts) -> Iterator[tuple[IntArray, Floats]]:
    """Series of similar length as rows of a matrix, aligned at their ends, NaN where nothing was observed."""
    lengths = parts.ends - parts.starts
    order = np.argsort(lengths, kind="stable")
    first = 0
    while first < len(order):
        longest = max(2 * int(lengths[order[first]]), 1)
        last = int(np.searchsorted(lengths[order], longest, side="right"))
        last = min(last, first + max(1, _MOST_CELLS // longest))
        members = order[first:last]
        rows = parts.ends[members][:, None] - np.arange(int(lengths[members[-1]]), 0, -1)
        valid = rows >= parts.starts[members][:, None]
        rows = np.where(valid, rows, 0)
        seen = valid & parts.observed[rows]
        yield members, np.where(seen, parts.values[rows].astype(np.float64), np.nan)
        first = last


def _quantiles_of_rows(ranked: Floats, counts: IntArray, quantiles: Sequence[float]) -> Floats:
    """Linear interpolation between order statistics, as numpy's default; zero for a row without any."""
    if not ranked.shape[1]:
        return np.zeros((len(ranked), len(quantiles)))
    positions = np.maximum(counts - 1, 0)[:, None] * np.asarray(quantiles)
    low = np.floor(positions).astype(np.int64)
    high = np.minimum(low + 1, np.maximum(counts - 1, 0)[:, None])
    lower, upper = np.take_along_axis(ranked, low, axis=1), np.take_along_axis(ranked, high, axis=1)
    return np.asarray(np.nan_to_num(lower + (positions - low) * (upper - lower)))


def _sample(ranked: Floats, share: float) -> Floats:
    finite = ranked[np.isfinite(ranked)]
    return finite[:: max(1, round(1 / share))] if share < 1 else finite


def _pooled(sample: Floats, quantiles: Sequence[float]) -> Floats:
    return np.quantile(sample, quantiles) if len(sample) else np.zeros(len(quantiles))
