"""What a report is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True)
class MetricPoint:
    """One number at an optimizer step; a row of metrics.csv."""

    step: int
    epoch: int
    name: str
    value: float | None


@dataclass(frozen=True)
class ExampleForecast:
    """One window of one series and target, in original units."""

    series: str
    target: str
    history_times: npt.NDArray[np.int64]  # (e,) epoch microseconds UTC
    history: npt.NDArray[np.floating[Any]]  # (e,)
    times: npt.NDArray[np.int64]  # (horizon,)
    actual: npt.NDArray[np.floating[Any]] | None  # (horizon,), NaN where nothing was observed
    quantiles: npt.NDArray[np.floating[Any]]  # (horizon, n_quantiles), as published


@dataclass(frozen=True)
class ReportInputs:
    """One run. `result` is the content of result.json: `scores` in it is what `evaluate` returned,
    `interpretation` an `Interpretation` as a dict.
    """

    title: str
    result: dict[str, Any]
    metrics: list[MetricPoint]
    quantiles: tuple[float, ...]
    examples: list[ExampleForecast] = field(default_factory=list)
    adjustments: list[dict[str, Any]] = field(default_factory=list)  # of trainer.events.Adjustment
    warnings: list[str] = field(default_factory=list)
    findings: list[dict[str, Any]] = field(default_factory=list)  # of trainer.dataset.schema.Finding
    lr_find: dict[str, Any] | None = None  # rates, losses, smoothed: lists of equal length; suggestion
    data_report: dict[str, Any] | None = None  # of trainer.dataset.repairs.data_report
