"""The naive forecasts a model has to beat, each with the quantiles of its own residuals."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from trainer.dataset.filling import open_gaps
from trainer.evaluation.residuals import TrainingParts, residual_quantiles
from trainer.evaluation.windows import forecast_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from trainer.dataset.filling import OpenGaps
    from trainer.dataset.series import SeriesData
    from trainer.evaluation.inputs import ForecastSet
    from trainer.evaluation.season import Season

    Floats = npt.NDArray[np.float64]
    IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class RivalForecast:
    """One target over the windows that the model forecast."""

    quantiles: Floats  # (n, horizon, n_quantiles)
    pooled_series: int  # series whose residual quantiles are those of all series together
    replaced_windows: int = 0  # windows without a season of history, which hold the last value instead


@dataclass(frozen=True)
class Rivals:
    """Naive forecasts of one target for the windows of `forecasts`; residuals end at `train_end`."""

    series: SeriesData
    target: str
    train_end: IntArray  # (n_series,)
    forecasts: ForecastSet
    horizon: int
    quantiles: Sequence[float]

    def last_value(self) -> RivalForecast:
        """The last value seen before the window, plus the quantiles of its change over 1 to horizon steps."""
        residuals, pooled = self._residuals(range(1, self.horizon + 1))
        base = self._gaps.carried[self.forecasts.origin_row - 1].astype(np.float64)
        return RivalForecast(base[:, None, None] + residuals, pooled)

    def seasonal_naive(self, season: Season) -> RivalForecast:
        """The value one season ago (as many seasons as the step needs), plus the quantiles of its change."""
        seasons = np.arange(self.horizon) // season.steps  # 0 stands for one season back
        lags = [season.steps * (back + 1) for back in range(int(seasons[-1]) + 1)]
        residuals, pooled = self._residuals(lags)
        rows = forecast_rows(self.forecasts, self.horizon) - np.asarray(lags)[seasons]
        known = rows >= self.series.offsets[self.forecasts.series_index][:, None]
        base = self._gaps.values_at(
            self._values(), np.where(known, rows, 0), self.forecasts.origin_row
        ).astype(np.float64)
        result = base[:, :, None] + residuals[:, seasons]
        replaced = ~known.all(axis=1)
        if replaced.any():
            result[replaced] = self.last_value().quantiles[replaced]
        return RivalForecast(result, pooled, int(replaced.sum()))

    @cached_property
    def _gaps(self) -> OpenGaps:
        """No rival may know where a gap leads that is open when its window begins."""
        return open_gaps(self._values(), self.series.observed[self.target], self.series.offsets)

    def _values(self) -> npt.NDArray[np.floating]:
        return self.series.values[self.target]

    def _residuals(self, lags: Sequence[int]) -> tuple[Floats, int]:
        """Residual quantiles of each window's series (n, n_lags, n_quantiles), and how many series pool."""
        scored, places = np.unique(self.forecasts.series_index, return_inverse=True)
        parts = TrainingParts(
            values=self._values(),
            observed=self.series.observed[self.target],
            starts=self.series.offsets[scored],
            ends=self.train_end[scored],
        )
        found = residual_quantiles(parts, lags, self.quantiles)
        return found.values[places], int(found.pooled.sum())
