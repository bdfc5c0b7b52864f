"""What an evaluation is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from trainer.dataset.series import SeriesData


@dataclass(frozen=True)
class ForecastSet:
    """Forecasts of n windows, in original units, quantiles sorted along the last axis."""

    series_index: npt.NDArray[np.int64]  # (n,)
    origin_row: npt.NDArray[np.int64]  # (n,) global row of the first forecast step
    quantiles: npt.NDArray[np.floating[Any]]  # (n, horizon, n_targets, n_quantiles)


@dataclass(frozen=True)
class EvaluationInputs:
    """Forecasts beside the data they are forecasts of.

    `train_end` and `validation_end` are exclusive global rows per series, (n_series,). Windows of
    `validation` lie in [train_end, validation_end), those of `test` from validation_end to the end of the
    series. Without `test` the scores come from `validation` and no verdict is given.
    """

    series: SeriesData
    targets: tuple[str, ...]
    quantiles: tuple[float, ...]
    encoder_length: int
    horizon: int
    train_end: npt.NDArray[np.int64]
    validation_end: npt.NDArray[np.int64]
    validation: ForecastSet
    test: ForecastSet | None
    calibration: Literal["conformal", "none"] = "conformal"
    seed: int = 42
