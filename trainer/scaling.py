"""Centres and scales, fitted on the training part alone. numpy only.

Every scale has a floor per metric, a share of the metric's usual spread within a series: a disk that stands
still for a day must not turn the next byte into a thousand deviations.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trainer.dataset.series import SeriesData
    from trainer.layout import Layout
    from trainer.spec import Normalizer
    from trainer.split import Split

FloatArray = npt.NDArray[np.float64]
FLOOR_SHARE = 0.1
# A series that moves by less than this share of its level stands still: float32 resolves little more.
STILL_SHARE = 1e-6
# Where a metric stands still in every series, any positive floor will do; this one fits its level.
FLAT_FLOOR_SHARE = 1e-3


@dataclass(frozen=True)
class Scaling:
    """What turns values into the network's inputs and its outputs into values.

    `series` names the rows of the per-series tables; for a series that is not in it, `scales_of` takes its
    own history.
    """

    normalizer: Normalizer
    series: tuple[str, ...]
    floors: FloatArray  # (n_targets,)
    deviations: FloatArray  # (n_targets,) of all training values of a target together
    target: FloatArray | None  # (n_series, n_targets, 2) centre and scale; None for window_* and none
    known: FloatArray  # (n_known, 2)
    observed: FloatArray  # (n_series, n_observed, 2)
    observed_floors: FloatArray  # (n_observed,)
    categories: dict[str, list[str]]  # code 0 is "unknown"; the k-th name has code k + 1

    @property
    def per_window(self) -> bool:
        return self.normalizer.startswith("window_")

    @property
    def robust(self) -> bool:
        return self.normalizer.endswith("_robust")


def fit_scaling(series: SeriesData, split: Split, layout: Layout, normalizer: Normalizer) -> Scaling:
    """Fit everything that is fitted, on the training rows of the usable series."""
    usable = np.flatnonzero(split.usable)
    parts = [slice(int(series.offsets[i]), int(split.train_end[i])) for i in usable]
    targets = [_Seen(series, name, parts) for name in layout.targets]
    observed = [_Seen(series, name, parts) for name in layout.observed]
    floors = np.array([_floor(values) for values in targets])
    observed_floors = np.array([_floor(values) for values in observed])
    robust = normalizer.endswith("_robust")
    return Scaling(
        normalizer=normalizer,
        series=tuple(series.series_names[i] for i in usable),
        floors=floors,
        deviations=np.array([_mean_and_deviation(values)[1] for values in targets]),
        target=_series_scales(targets, floors, robust=robust) if normalizer.startswith("series_") else None,
        known=_fleet_scales(series, layout.known, parts),
        observed=_series_scales(observed, observed_floors, robust=False)
        if observed
        else np.empty((len(parts), 0, 2)),
        observed_floors=observed_floors,
        categories={
            name: sorted({series.categories[name][i] for i in usable} - {"nan"}) for name in layout.statics
        },
    )


def scales_of(
    series: SeriesData,
    columns: tuple[str, ...],
    scaling: Scaling,
    table: FloatArray,
    floors: FloatArray,
    history_end: npt.NDArray[np.int64] | None,
    *,
    robust: bool,
) -> FloatArray:
    """Centre and scale of each series and column, (n_series, n, 2), from a per-series table of the scaling.

    A series that is not in it is scaled by what was seen of it before `history_end` (n_series,), an exclusive
    global row, with the same floor; where nothing was, by the fleet's medians. Raises ValueError if there is
    such a series and no `history_end`.
    """
    place = encode_categories(list(scaling.series), series.series_names) - 1
    scales = table[place]
    new = np.flatnonzero(place < 0)
    if not len(new) or not columns:
        return scales
    if history_end is None:
        raise ValueError("a series that was not trained on is scaled by its history; say where that ends")
    parts = [slice(int(series.offsets[i]), int(history_end[i])) for i in new]
    for index, name in enumerate(columns):
        for row, values in zip(new, _Seen(series, name, parts), strict=True):
            scales[row, index] = (
                _floored(values, floors[index], robust=robust)
                if len(values)
                else np.median(table[:, index], axis=0)
            )
    return scales


@dataclass(frozen=True)
class _Seen:
    """The values of one column that were seen in each part, one part at a time; a part may have none."""

    series: SeriesData
    name: str
    parts: list[slice]

    def __iter__(self) -> Iterator[FloatArray]:
        values, observed = self.series.values[self.name], self.series.observed[self.name]
        for part in self.parts:
            yield values[part][observed[part]].astype(np.float64)


def _floor(values: _Seen) -> float:
    found = np.array([(part.std(), np.abs(part).mean()) for part in values if len(part)]).reshape(-1, 2)
    spreads, levels = found[:, 0], found[:, 1]
    moving = spreads[spreads > STILL_SHARE * levels]
    if len(moving):
        return FLOOR_SHARE * float(np.median(moving))
    level = float(np.median(levels)) if len(levels) else 0.0
    return FLAT_FLOOR_SHARE * (level or 1.0)


def _series_scales(columns: list[_Seen], floors: FloatArray, *, robust: bool) -> FloatArray:
    """(n_series, n_columns, 2); a series of which nothing was seen has the medians of the others."""
    tables = []
    for values, floor in zip(columns, floors, strict=True):
        table = np.array(
            [_floored(part, floor, robust=robust) if len(part) else (np.nan, np.nan) for part in values]
        )
        unseen = np.isnan(table[:, 0])
        table[unseen] = (0.0, floor) if unseen.all() else np.median(table[~unseen], axis=0)
        tables.append(table)
    return np.stack(tables, axis=1)


def _floored(values: FloatArray, floor: float, *, robust: bool) -> tuple[float, float]:
    centre, scale = centre_and_scale(values, robust=robust)
    return centre, max(scale, floor)


def centre_and_scale(values: FloatArray, *, robust: bool) -> tuple[float, float]:
    """Median and half the interquartile range, or mean and deviation, as pytorch-forecasting takes them."""
    if robust:
        low, centre, high = np.quantile(values, [0.25, 0.5, 0.75])
        return float(centre), float(high - low) / 2.0
    return float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else 0.0


def _fleet_scales(series: SeriesData, columns: tuple[str, ...], parts: list[slice]) -> FloatArray:
    table = np.empty((len(columns), 2))
    for index, name in enumerate(columns):
        mean, deviation = _mean_and_deviation(_Seen(series, name, parts))
        table[index] = mean, deviation if deviation > 0 else 1.0
    return table


def _mean_and_deviation(values: _Seen) -> tuple[float, float]:
    """Of all parts together, without ever holding them all; 0 and 0 where nothing was seen."""
    count = sum(len(part) for part in values)
    if not count:
        return 0.0, 0.0
    mean = math.fsum(float(part.sum()) for part in values) / count
    return mean, math.sqrt(math.fsum(float(np.square(part - mean).sum()) for part in values) / count)


def encode_categories(known: list[str], values: list[str]) -> npt.NDArray[np.int64]:
    """Codes of categories: 0 for one that training has not seen."""
    codes = {name: index + 1 for index, name in enumerate(known)}
    return np.array([codes.get(value, 0) for value in values], dtype=np.int64)


def scaling_to_json(scaling: Scaling) -> dict[str, Any]:
    """Plain JSON values of everything in it."""
    return {
        "normalizer": scaling.normalizer,
        "series": list(scaling.series),
        "floors": scaling.floors.tolist(),
        "deviations": scaling.deviations.tolist(),
        "target": None if scaling.target is None else scaling.target.tolist(),
        "known": scaling.known.tolist(),
        "observed": scaling.observed.tolist(),
        "observed_floors": scaling.observed_floors.tolist(),
        "categories": scaling.categories,
    }


def scaling_from_json(content: dict[str, Any]) -> Scaling:
    """The inverse of `scaling_to_json`."""
    target, count = content["target"], len(content["series"])
    return Scaling(
        normalizer=content["normalizer"],
        series=tuple(content["series"]),
        floors=np.asarray(content["floors"], np.float64),
        deviations=np.asarray(content["deviations"], np.float64),
        target=None if target is None else np.asarray(target, np.float64),
        known=np.asarray(content["known"], np.float64).reshape(-1, 2),
        observed=np.asarray(content["observed"], np.float64).reshape(count, -1, 2),
        observed_floors=np.asarray(content["observed_floors"], np.float64),
        categories=dict(content["categories"]),
    )
