"""Thins a series of numbers for a chart without losing a spike."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Places = npt.NDArray[np.int64]


def keep_extremes(values: Floats, max_points: int) -> Places:
    """Places of at most `max_points` of the values (N), ascending, the same ones at every call.

    NaN stands for what was not finite or not measured. The first and the last stay; what lies between is cut
    into runs of equal length, and of each run the lowest and the highest stay (of equal ones the first), and
    the first NaN, since that is a spike too. `max_points` is at least 8.
    """
    if len(values) <= max_points:
        return np.arange(len(values))
    gaps = np.isnan(values)
    inner = len(values) - 2
    runs = (max_points - 2) // (3 if gaps.any() else 2)
    starts = 1 + np.arange(runs) * inner // runs
    run_of = np.repeat(np.arange(runs), np.diff(starts, append=inner + 1))
    kept = [np.array([0, len(values) - 1]), _first_of_each(gaps[1:-1], run_of)]
    for extreme, worst in ((np.minimum, np.inf), (np.maximum, -np.inf)):
        filled = np.where(gaps, worst, values)[1:-1]
        found = filled == extreme.reduceat(filled, starts - 1)[run_of]
        kept.append(_first_of_each(found & ~gaps[1:-1], run_of))
    return np.unique(np.concatenate(kept))


def _first_of_each(marked: npt.NDArray[np.bool_], run_of: Places) -> Places:
    """The first marked place of each run that has one; places between the ends start with 1."""
    places = np.flatnonzero(marked)
    return places[np.unique(run_of[places], return_index=True)[1]] + 1
