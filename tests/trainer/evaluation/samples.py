"""Series and forecasts that the evaluation tests start from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.dataset.series import SeriesData
from trainer.evaluation.inputs import EvaluationInputs, ForecastSet

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

QUANTILES = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)
NORMAL = np.array([-2.0537, -1.2816, -0.6745, 0.0, 0.6745, 1.2816, 2.0537])


def series_of(values: list[Floats], *, hidden: list[Any] | None = None, seconds: float = 300.0) -> SeriesData:
    """One target `cpu`; `hidden` marks the masked steps of each series."""
    lengths = [len(part) for part in values]
    masks = hidden or [np.zeros(length, np.bool_) for length in lengths]
    return SeriesData(
        series_names=[f"s{place}" for place in range(len(values))],
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        times=np.concatenate([np.arange(length) for length in lengths]).astype(np.int64),
        frequency_seconds=seconds,
        values={"cpu": np.concatenate(values).astype(np.float32)},
        observed={"cpu": ~np.concatenate(masks).astype(np.bool_)},
        categories={},
        findings=[],
    )


def windows_of(series: SeriesData, start: int, end: int, horizon: int) -> tuple[Any, Any]:
    """Series and origin of every window in [start, end) of every series."""
    origins = np.arange(start, end - horizon + 1)
    series_index = np.repeat(np.arange(series.n_series), len(origins))
    return series_index, (series.offsets[:-1, None] + origins).ravel()


def bell(
    series: SeriesData, start: int, end: int, horizon: int, *, sigma: Floats, bias: float = 0.0
) -> ForecastSet:
    """Forecasts around the truth plus `bias`, with the quantiles of a normal of `sigma` per series."""
    series_index, origins = windows_of(series, start, end, horizon)
    truth = series.values["cpu"][origins[:, None] + np.arange(horizon)].astype(np.float64)
    spread = sigma[series_index][:, None, None] * NORMAL
    return ForecastSet(series_index, origins, (truth + bias)[:, :, None, None] + spread[:, :, None, :])


def inputs_of(
    series: SeriesData,
    validation: ForecastSet,
    test: ForecastSet | None,
    *,
    train: int,
    held_out: int,
    **more: Any,
) -> EvaluationInputs:
    """Every series trains on `train` steps and ends its validation part at `held_out`."""
    start = series.offsets[:-1]
    return EvaluationInputs(
        series=series,
        targets=("cpu",),
        quantiles=QUANTILES,
        encoder_length=8,
        horizon=validation.quantiles.shape[1],
        train_end=start + train,
        validation_end=start + held_out,
        validation=validation,
        test=test,
        **more,
    )
