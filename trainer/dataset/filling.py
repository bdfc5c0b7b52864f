"""Missing steps get values for the encoder's sake, and a mask that says what was seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    IntArray = npt.NDArray[np.int64]
    BoolArray = npt.NDArray[np.bool_]

LONGEST_INTERPOLATION = 3


@dataclass(frozen=True)
class Filled:
    """One column on the grid: values finite everywhere, and which of them carry loss and scores."""

    values: npt.NDArray[np.float64]  # (grid rows,)
    observed: BoolArray  # (grid rows,)
    interpolated: BoolArray  # (grid rows,) True in gaps short enough to be interpolated


def fill(values: npt.NDArray[np.float64], offsets: IntArray, *, observe_interpolated: bool) -> Filled:
    """Fill NaN in series laid end to end.

    Gaps of up to 3 steps between two values are interpolated; longer ones carry the last value, a gap at the
    start the first one, and a series without any value is zero. `values` is changed in place.
    """
    seen = np.isfinite(values)
    if seen.all():
        return Filled(values, seen, np.zeros(len(values), np.bool_))
    gaps = np.flatnonzero(~seen)
    before, after = _neighbours(seen, offsets)
    before, after = before[gaps], after[gaps]
    has_before, has_after = before >= 0, after < len(values)
    short = has_before & has_after & (after - before - 1 <= LONGEST_INTERPOLATION)
    filled = np.zeros(len(gaps))
    filled[has_after] = values[after[has_after]]
    filled[has_before] = values[before[has_before]]
    share = (gaps[short] - before[short]) / (after[short] - before[short])
    filled[short] += share * (values[after[short]] - values[before[short]])
    values[gaps] = filled
    interpolated = np.zeros(len(values), np.bool_)
    interpolated[gaps[short]] = True
    return Filled(values, seen | interpolated if observe_interpolated else seen, interpolated)


def _neighbours(seen: BoolArray, offsets: IntArray) -> tuple[IntArray, IntArray]:
    """Nearest seen row before and after each row within its series; -1 and len(seen) where there is none."""
    rows = np.arange(len(seen))
    starts = np.repeat(offsets[:-1], np.diff(offsets))
    ends = np.repeat(offsets[1:], np.diff(offsets))
    before = np.maximum.accumulate(np.where(seen, rows, -1))
    after = np.minimum.accumulate(np.where(seen, rows, len(seen))[::-1])[::-1]
    return np.where(before >= starts, before, -1), np.where(after < ends, after, len(seen))
