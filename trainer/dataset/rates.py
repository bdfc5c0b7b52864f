"""Counters become rates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from trainer.dataset.layout import Layout

    FloatArray = npt.NDArray[np.float64]
    IntArray = npt.NDArray[np.int64]


def rates_in(layout: Layout, values: FloatArray) -> FloatArray:
    """`growth_per_second` of a column, (rows of the file,), along each of its series."""
    starts = np.zeros(len(layout.times), np.bool_)
    starts[layout.offsets[:-1]] = True
    rates = np.full(len(values), np.nan)
    rates[layout.order] = growth_per_second(values[layout.order], layout.times, starts)
    return rates


def growth_per_second(
    values: FloatArray, times: IntArray, starts: npt.NDArray[np.bool_] | None = None
) -> FloatArray:
    """Growth of a counter per second since the value before it, (n,); NaN where there is none before it.

    `times` in epoch microseconds ascend within a series; `starts` marks the first row of each. Values that
    are NaN are passed over: the next one's growth covers the gap. A smaller value than the one before means
    that the counter began anew at zero and grew to it, as Prometheus's rate() has it:
    https://prometheus.io/docs/prometheus/latest/querying/functions/#rate.
    """
    there = np.flatnonzero(np.isfinite(values))
    grown, seconds = np.diff(values[there]), np.diff(times[there]) / 1e6
    began_anew = grown < 0
    grown[began_anew] = values[there[1:]][began_anew]
    rates = np.full(len(values), np.nan)
    rates[there[1:]] = grown / seconds
    if starts is not None:
        series = np.cumsum(starts)[there]
        rates[there[1:][series[1:] != series[:-1]]] = np.nan
    return rates
