"""The naive forecasts of the trainer's own evaluation, for a fleet: last value and seasonal-naive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from benchmarks.fleet import QUANTILES
from trainer.dataset.series import SeriesData
from trainer.evaluation.inputs import ForecastSet
from trainer.evaluation.rivals import Rivals
from trainer.evaluation.season import choose_season

if TYPE_CHECKING:
    from benchmarks.contestant import Forecasts
    from benchmarks.fleet import Fleet

LAST_VALUE = "last value"
SEASONAL_NAIVE = "seasonal-naive"
NAIVE = (LAST_VALUE, SEASONAL_NAIVE)
_WEIGHTS = "last"  # they have none; every forecast stands under some


def naive_forecasts(fleet: Fleet) -> dict[str, Forecasts]:
    """By name, each with the quantiles of its own changes in each server's training part.

    Seasonal-naive is left out where no season fits twice into the training part.
    """
    step_seconds = float((fleet.times[0, 1] - fleet.times[0, 0]) / np.timedelta64(1, "s"))
    season, _ = choose_season(fleet.train_end, step_seconds)
    found: dict[str, Forecasts] = {name: {} for name in (NAIVE if season is not None else (LAST_VALUE,))}
    for group, part in (("seen", "validation"), ("seen", "test"), ("new", "test")):
        rivals = _rivals(fleet, group, part, step_seconds)
        if not rivals:
            continue
        key = (_WEIGHTS, group, part)
        found[LAST_VALUE][key] = _ordered(fleet, [one.last_value().quantiles for one in rivals], part)
        if season is not None:
            quantiles = [one.seasonal_naive(season).quantiles for one in rivals]
            found[SEASONAL_NAIVE][key] = _ordered(fleet, quantiles, part)
    return found


def _rivals(fleet: Fleet, group: Any, part: Any, step_seconds: float) -> list[Rivals]:
    """One per target; none for a group without servers."""
    names, table = fleet.servers[fleet.of(group)], fleet.table[fleet.of(group)]
    if not names:
        return []
    rows = table.reshape(-1, len(fleet.targets))
    offsets = np.arange(len(names) + 1) * fleet.steps
    series = SeriesData(
        series_names=list(names),
        offsets=offsets,
        times=fleet.times[fleet.of(group)].reshape(-1).astype(np.int64),
        frequency_seconds=step_seconds,
        values={target: rows[:, place] for place, target in enumerate(fleet.targets)},
        observed={target: np.ones(len(rows), bool) for target in fleet.targets},
        categories={},
        findings=[],
    )
    origins = fleet.origins(part)
    windows = ForecastSet(
        series_index=np.repeat(np.arange(len(names)), len(origins)),
        origin_row=(offsets[:-1, None] + origins).reshape(-1),
        quantiles=np.empty((len(names) * len(origins), 0)),
    )
    return [
        Rivals(
            series=series,
            target=target,
            train_end=offsets[:-1] + fleet.train_end,
            forecasts=windows,
            horizon=fleet.horizon,
            quantiles=QUANTILES,
        )
        for target in fleet.targets
    ]


def _ordered(fleet: Fleet, quantiles: list[Any], part: Any) -> npt.NDArray[np.float32]:
    """(servers, origins, horizon, targets, quantiles)."""
    stacked = np.stack(quantiles, axis=2).astype(np.float32)
    return stacked.reshape(-1, len(fleet.origins(part)), *stacked.shape[1:])
