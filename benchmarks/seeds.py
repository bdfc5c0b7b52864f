"""Figures over seeds: mean and 95 % interval, and paired differences."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from collections.abc import Sequence

_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """The mean of `count` seeds; `half_width` is that of its 95 % t-interval, NaN for a single seed."""

    mean: float
    half_width: float
    count: int

    @property
    def low(self) -> float:
        return self.mean - self.half_width

    @property
    def high(self) -> float:
        return self.mean + self.half_width


def estimate(values: Sequence[float]) -> Estimate:
    """Raises ValueError for no value at all."""
    if not values:
        raise ValueError("there is no value to take a mean of")
    count = len(values)
    half_width = math.nan
    if count > 1:
        quantile = float(stats.t.ppf((1 + _CONFIDENCE) / 2, count - 1))
        half_width = quantile * float(np.std(values, ddof=1)) / math.sqrt(count)
    return Estimate(float(np.mean(values)), half_width, count)


def paired_change(ours: dict[int, float], theirs: dict[int, float]) -> Estimate | None:
    """How much lower or higher ours is, as a share of theirs, over the seeds that both have; None without."""
    both = sorted(ours.keys() & theirs.keys())
    return estimate([ours[seed] / theirs[seed] - 1.0 for seed in both]) if both else None
