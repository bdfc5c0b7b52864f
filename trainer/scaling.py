"""Centres and scales, fitted on the training part alone. numpy only.

Every scale has a floor per metric, a share of the metric's usual spread within a series: a disk that stands
still for a day must not turn the next byte into a thousand deviations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
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

    `series` names the rows of the per-series tables; a series that is not in it gets their medians, as in
    stock pytorch-forecasting.
    """

    normalizer: Normalizer
    series: tuple[str, ...]
    floors: FloatArray  # (n_targets,)
    deviations: FloatArray  # (n_targets,) of all training values of a target together
    target: FloatArray | None  # (n_series, n_targets, 2) centre and scale; None for window_* and none
    known: FloatArray  # (n_known, 2)
    observed: FloatArray  # (n_series, n_observed, 2)
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
    targets = [_training_values(series, name, parts) for name in layout.targets]
    return Scaling(
        normalizer=normalizer,
        series=tuple(series.series_names[i] for i in usable),
        floors=np.array([_floor(values) for values in targets]),
        deviations=np.array([np.concatenate(values).std() for values in targets]),
        target=_series_scales(series, layout.targets, parts, robust=normalizer.endswith("_robust"))
        if normalizer.startswith("series_")
        else None,
        known=_fleet_scales(series, layout.known, parts),
        observed=_series_scales(series, layout.observed, parts, robust=False),
        categories={
            name: sorted({series.categories[name][i] for i in usable} - {"nan"}) for name in layout.statics
        },
    )


def _training_values(series: SeriesData, name: str, parts: list[slice]) -> list[FloatArray]:
    """The observed training values of one column, per series; all of them where nothing was observed."""
    values, observed = series.values[name], series.observed[name]
    kept = []
    for part in parts:
        seen = values[part][observed[part]]
        kept.append(np.asarray(seen if len(seen) else values[part], dtype=np.float64))
    return kept


def _floor(values: list[FloatArray]) -> float:
    spreads = np.array([part.std() for part in values])
    levels = np.array([np.abs(part).mean() for part in values])
    moving = spreads[spreads > STILL_SHARE * levels]
    if len(moving):
        return FLOOR_SHARE * float(np.median(moving))
    return FLAT_FLOOR_SHARE * (float(np.median(levels)) or 1.0)


def _series_scales(
    series: SeriesData, columns: tuple[str, ...], parts: list[slice], *, robust: bool
) -> FloatArray:
    table = np.empty((len(parts), len(columns), 2))
    for index, name in enumerate(columns):
        values = _training_values(series, name, parts)
        floor = _floor(values)
        for row, part in enumerate(values):
            centre, scale = centre_and_scale(part, robust=robust)
            table[row, index] = centre, max(scale, floor)
    return table


def centre_and_scale(values: FloatArray, *, robust: bool) -> tuple[float, float]:
    """Median and half the interquartile range, or mean and deviation, as pytorch-forecasting takes them."""
    if robust:
        low, centre, high = np.quantile(values, [0.25, 0.5, 0.75])
        return float(centre), float(high - low) / 2.0
    return float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else 0.0


def _fleet_scales(series: SeriesData, columns: tuple[str, ...], parts: list[slice]) -> FloatArray:
    table = np.empty((len(columns), 2))
    for index, name in enumerate(columns):
        values = np.concatenate(_training_values(series, name, parts))
        deviation = float(values.std())
        table[index] = values.mean(), deviation if deviation > 0 else 1.0
    return table


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
        "categories": scaling.categories,
    }
