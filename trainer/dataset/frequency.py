"""The step of a dataset: given, or the median one if nearly all rows keep to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trainer.dataset.errors import problem
from trainer.dataset.steps import SECOND

if TYPE_CHECKING:
    import numpy.typing as npt

    from trainer.dataset.layout import Layout

    IntArray = npt.NDArray[np.int64]

_SHARE_THAT_HOLDS = 0.95
_SHARE_OF_SINGLE_STEPS = 0.5
# A row within a quarter of a step of where it should be keeps to the step: collectors drift and jitter.
_JITTER = 0.25
_ROUNDING = 0.05
_NEAR = 0.5
_USUAL_STEPS = np.array(
    [1, 2, 5, 10, 15, 20, 30]
    + [60 * n for n in (1, 2, 3, 5, 10, 15, 20, 30)]
    + [3600 * n for n in (1, 2, 3, 4, 6, 8, 12, 24)]
) * SECOND  # fmt: skip
_CHANGED_CADENCE = 0.5
_FEWEST_TO_JUDGE = 8
_STRETCH = 20
_DRIFT = 0.015


def find_step(layout: Layout) -> int:
    """The median step in microseconds, if it holds for 95 % of the rows.

    Steps that are missing whole rows count as holding, unless the same multiple comes again and again: then
    the cadence itself changes; and so do steps that jitter, as long as their pace does not change. Raises
    DatasetError.
    """
    if layout.only_step is not None:
        return layout.only_step
    within = layout.within_series()
    steps = np.diff(layout.times)[within]
    if not len(steps):
        raise problem(
            "irregular_frequency",
            "No series has two rows, so there is no step between rows; set mapping.frequency or check "
            "mapping.group_columns.",
        )
    step = _typical(steps)
    others = steps[steps != step]
    if len(others) <= (1 - _SHARE_THAT_HOLDS) * len(steps) and not (others % step).any():
        return step  # whole steps are missing here and there: what follows would find no fault either
    multiples = np.maximum(1, np.rint(steps / step))
    on_grid = np.abs(steps / step - multiples) <= _JITTER
    single = on_grid & (multiples == 1)
    gappy = single.mean() >= _SHARE_OF_SINGLE_STEPS and on_grid.mean() >= _SHARE_THAT_HOLDS
    if single.mean() >= _SHARE_THAT_HOLDS or (gappy and not _cadence_changes(multiples, within)):
        single &= _keeps_pace(steps, multiples, within)
        on_grid &= single | (multiples > 1)
        if on_grid.mean() >= _SHARE_THAT_HOLDS:
            return step
    raise _irregular(layout, steps, step, single, within)


def _typical(steps: IntArray) -> int:
    """The median; where rows jitter, the usual step next to it or to the mean of the steps around it."""
    # What most of them are is the median: no need to sort.
    guess = int(steps[len(steps) // 2])
    if np.count_nonzero(steps == guess) >= _SHARE_THAT_HOLDS * len(steps):
        return guess
    middle = (len(steps) - 1) // 2
    median = int(np.partition(steps, middle)[middle])
    if np.mean(steps == median) >= _SHARE_THAT_HOLDS:
        return median
    near = steps[np.abs(steps - median) <= _NEAR * median]
    candidates = [_rounded(median), _rounded(round(float(near.mean())))]
    return max(candidates, key=lambda step: float(np.mean(np.abs(steps / step - 1) <= _JITTER)))


def _rounded(step: int) -> int:
    nearest = int(_USUAL_STEPS[np.argmin(np.abs(_USUAL_STEPS - step))])
    return nearest if abs(nearest - step) <= _ROUNDING * nearest else step


def _cadence_changes(multiples: npt.NDArray[np.float64], within: npt.NDArray[np.bool_]) -> bool:
    """Whether a longer step is mostly followed by the same longer step, which random gaps are not."""
    series_of_step = np.cumsum(~within)[within]
    longer = np.flatnonzero(multiples[:-1] > 1)
    if len(longer) < _FEWEST_TO_JUDGE:
        return False
    again = (multiples[longer] == multiples[longer + 1]) & (
        series_of_step[longer] == series_of_step[longer + 1]
    )
    return bool(again.mean() > _CHANGED_CADENCE)


def _keeps_pace(
    steps: IntArray, multiples: npt.NDArray[np.float64], within: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Which steps lie in a stretch as quick as most stretches are, (n_steps,).

    Jitter moves single stamps and so evens out over a stretch; 300 s that turn into 360 s do not.
    """
    series_of_step = np.cumsum(~within)[within]
    first = np.flatnonzero(np.r_[True, series_of_step[1:] != series_of_step[:-1]])
    place = np.arange(len(steps)) - np.repeat(first, np.diff(np.r_[first, len(steps)]))
    stretch = np.cumsum(place % _STRETCH == 0) - 1
    counts = np.bincount(stretch, multiples)
    paces = np.bincount(stretch, steps) / counts
    judged = counts >= _FEWEST_TO_JUDGE
    if not judged.any():
        return np.ones(len(steps), np.bool_)
    usual = np.sort(paces[judged])[(judged.sum() - 1) // 2]
    tolerance = 2 * _JITTER / counts + _DRIFT
    good = ~judged | (np.abs(paces / usual - 1) <= tolerance)
    kept: npt.NDArray[np.bool_] = good[stretch]
    return kept


def _irregular(
    layout: Layout,
    steps: IntArray,
    step: int,
    single: npt.NDArray[np.bool_],
    within: npt.NDArray[np.bool_],
) -> Exception:
    values, counts = np.unique(np.rint(steps / SECOND).astype(np.int64), return_counts=True)
    common = np.argsort(-counts, kind="stable")[:4]
    seen = ", ".join(f"{values[i]:,} s ({counts[i] / len(steps):.0%})" for i in common)
    place = int(np.flatnonzero(within)[_where_it_changes(single)]) + 1
    row = int(layout.rows_at(np.array([place]))[0])
    series = layout.names[layout.row_series[row]]
    return problem(
        "irregular_frequency",
        f"The median step of {step / SECOND:g} s holds for only {single.mean():.0%} of the rows, at least "
        f"95 % must keep to it; steps seen: {seen}. First in series {series!r}, row {row + 1}. "
        "Resample the data, or set mapping.frequency to put them on a grid.",
        column=layout.time_column,
        row=row + 1,
    )


def _where_it_changes(single: npt.NDArray[np.bool_]) -> int:
    """The first step of another kind than the one before it; the first of all that does not keep to it."""
    changes = np.flatnonzero(single[1:] != single[:-1])
    return int(changes[0]) + 1 if len(changes) and not single[0] else int(np.argmin(single))
