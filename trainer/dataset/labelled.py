"""Samples as monitoring systems keep them: one series per metric and set of labels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trainer.dataset.clock import YEARS_TOLD, in_range
from trainer.dataset.errors import problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trainer.dataset.limits import ReadLimits

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
Labels = tuple[tuple[str, str], ...]  # sorted by name

NAMELESS = "value"


@dataclass(frozen=True)
class LabelledSeries:
    """One metric of one thing: stamps ascend, each once; values are never NaN."""

    metric: str
    labels: Labels
    times: IntArray  # (samples,) epoch microseconds
    values: FloatArray  # (samples,)

    def label(self, name: str) -> str | None:
        """The label's value, None where the series has no such label."""
        return next((value for known, value in self.labels if known == name), None)


@dataclass
class SeriesCollector:
    """Gathers samples as they are read, in any order and in any number of parts."""

    limits: ReadLimits
    _parts: dict[tuple[str, Labels], list[tuple[IntArray, FloatArray]]] = field(default_factory=dict)
    _samples: int = 0

    def add(
        self,
        metric: str,
        labels: Mapping[str, str],
        times: npt.NDArray[np.number[Any]],
        values: FloatArray,
        *,
        row: int,
    ) -> None:
        """Append samples of one series; `times` in epoch microseconds, `row` for the error.

        Raises DatasetError for times outside the calendar and above the limits.
        """
        if not in_range(times):
            raise problem("bad_time_value", YEARS_TOLD, column=metric, row=row)
        self._samples += len(values)
        if self._samples > self.limits.max_cells:
            raise problem(
                "too_many_rows",
                f"The file holds more than {self.limits.max_cells:,} samples; send fewer metrics, a shorter "
                "time or a coarser step.",
            )
        key = (metric or NAMELESS, tuple(sorted(labels.items())))
        self._parts.setdefault(key, []).append((times.astype(np.int64), values))

    def finish(self) -> list[LabelledSeries]:
        """Every series that has a sample; where two share a stamp, the later one in the file counts."""
        found = []
        for (metric, labels), parts in self._parts.items():
            times, values = _tidy(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
            if len(times):
                found.append(LabelledSeries(metric, labels, times, values))
        return found


def _tidy(times: IntArray, values: FloatArray) -> tuple[IntArray, FloatArray]:
    if np.isnan(values).any():
        there = ~np.isnan(values)
        times, values = times[there], values[there]
    if not (times[1:] > times[:-1]).all():
        order = np.argsort(times, kind="stable")
        times, values = times[order], values[order]
        last = np.append(times[1:] != times[:-1], [True])
        times, values = times[last], values[last]
    return times, values
