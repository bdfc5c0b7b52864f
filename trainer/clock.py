"""Where a time step stands in the hour, the day, the week, the month, the year. UTC; numpy only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Sequence

_DAY_US = 86_400_000_000
# 1 January 1970 was a Thursday; weeks are counted from Monday.
_EPOCH_WEEKDAY = 3


def calendar_names(features: Sequence[str]) -> list[str]:
    """The input names of calendar features, two each, in the order of `calendar_values`."""
    return [f"{feature}_{wave}" for feature in features for wave in ("sin", "cos")]


def calendar_values(features: Sequence[str], times_us: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Sine and cosine of each feature's phase at these times, (n, 2 * features), float32."""
    values = np.empty((len(times_us), 2 * len(features)), dtype=np.float32)
    for index, feature in enumerate(features):
        angle = 2.0 * np.pi * _phase(feature, times_us)
        values[:, 2 * index] = np.sin(angle)
        values[:, 2 * index + 1] = np.cos(angle)
    return values


def _phase(feature: str, times_us: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Share of the period that has passed, 0 to 1, fractions of a day included."""
    if feature == "minute_of_hour":
        return (times_us % 3_600_000_000) / 3_600_000_000
    if feature == "hour_of_day":
        return (times_us % _DAY_US) / _DAY_US
    if feature == "day_of_week":
        return ((times_us + _EPOCH_WEEKDAY * _DAY_US) % (7 * _DAY_US)) / (7 * _DAY_US)
    stamps = times_us.astype("datetime64[us]")
    unit = {"day_of_month": "M", "month_of_year": "Y"}[feature]
    start = stamps.astype(f"datetime64[{unit}]")
    end = (start + 1).astype("datetime64[us]")
    start = start.astype("datetime64[us]")
    return np.asarray((stamps - start) / (end - start), dtype=np.float64)
