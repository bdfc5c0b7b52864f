"""Symmetric pairs of quantiles, the intervals that are published."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_TOLERANCE = 1e-9
_Q_RISK_OVER = (0.1, 0.5, 0.9)


@dataclass(frozen=True)
class Interval:
    """A pair of quantiles that should hold `nominal` of all values between them."""

    low: int  # places among the quantiles
    high: int
    nominal: float

    @property
    def name(self) -> str:
        """Its coverage in percent: "80"."""
        return f"{self.nominal * 100:g}"


def intervals(quantiles: Sequence[float]) -> list[Interval]:
    """All symmetric pairs, the widest first."""
    pairs = []
    for low, quantile in enumerate(quantiles):
        high = place_of(quantiles, 1.0 - quantile)
        if quantile < 1 / 2 and high is not None:
            pairs.append(Interval(low, high, round(1.0 - 2.0 * quantile, 9)))
    return pairs


def scored_quantiles(quantiles: Sequence[float]) -> list[float]:
    """What q-risk is the mean over: .1, .5 and .9 where all three are forecast, else every quantile."""
    usual = [place_of(quantiles, quantile) for quantile in _Q_RISK_OVER]
    return list(_Q_RISK_OVER) if None not in usual else list(quantiles)


def place_of(quantiles: Sequence[float], quantile: float) -> int | None:
    """Where a quantile stands among those forecast."""
    for place, other in enumerate(quantiles):
        if abs(other - quantile) < _TOLERANCE:
            return place
    return None
