"""forecasts.json: the last window of many series with its forecast, for whoever draws them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.checkpoint import write_whole

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from trainer.report.inputs import ExampleForecast

FORECASTS = "forecasts.json"
SERIES_KEPT = 100
_DIGITS = 6
_MICROSECONDS = 1e6


def write_forecasts(path: Path, examples: Sequence[ExampleForecast], quantiles: Sequence[float]) -> None:
    """Times in seconds since 1970 UTC, values in original units, null where nothing was observed."""
    content = {"quantiles": list(quantiles), "windows": [_window(example) for example in examples]}
    write_whole(path, json.dumps(content, allow_nan=False, separators=(",", ":")).encode())


def _window(example: ExampleForecast) -> dict[str, Any]:
    actual = example.actual
    return {
        "series": example.series,
        "target": example.target,
        "history_times": _seconds(example.history_times),
        "history": _numbers(example.history),
        "times": _seconds(example.times),
        "actual": [None] * len(example.times) if actual is None else _numbers(actual),
        "quantiles": [_numbers(step) for step in example.quantiles],
    }


def _seconds(times: npt.NDArray[np.int64]) -> list[float]:
    return [int(time) / _MICROSECONDS for time in times]


def _numbers(values: npt.NDArray[np.floating[Any]]) -> list[float | None]:
    """As short as their worth: the files are read by browsers."""
    return [float(f"{value:.{_DIGITS}g}") if np.isfinite(value) else None for value in values]
