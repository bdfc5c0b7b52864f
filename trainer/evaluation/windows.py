"""What really happened in the windows that were forecast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from trainer.dataset.series import SeriesData
    from trainer.evaluation.inputs import ForecastSet


@dataclass(frozen=True)
class Actuals:
    """One target over n windows."""

    values: npt.NDArray[np.float64]  # (n, horizon)
    weight: npt.NDArray[np.float64]  # (n, horizon), 1 where the step was observed, else 0


def forecast_rows(forecasts: ForecastSet, horizon: int) -> npt.NDArray[np.int64]:
    """Global rows of every forecast step, (n, horizon)."""
    rows: npt.NDArray[np.int64] = forecasts.origin_row[:, None] + np.arange(horizon)
    return rows


def actuals(
    series: SeriesData, target: str, forecasts: ForecastSet, encoder_length: int, horizon: int
) -> Actuals:
    """The target's values in the forecast windows, and which of them count.

    Only steps that were seen do, and none of a window in whose encoder the target was not seen at all: there
    is nothing to go by, for the network or a rival. Raises ValueError for a window that leaves its series.
    """
    rows = forecast_rows(forecasts, horizon)
    ends = series.offsets[forecasts.series_index + 1]
    if len(rows) and (rows[:, -1] >= ends).any():
        raise ValueError("a forecast window reaches beyond the end of its series")
    observed = series.observed[target]
    counts = np.concatenate([[0], np.cumsum(observed)])
    begins = np.maximum(forecasts.origin_row - encoder_length, series.offsets[forecasts.series_index])
    seen_before = counts[forecasts.origin_row] > counts[begins]
    return Actuals(
        values=series.values[target][rows].astype(np.float64),
        weight=(observed[rows] & seen_before[:, None]).astype(np.float64),
    )
