"""Missing steps get values for the encoder's sake, and a mask that says what was seen.

A filled value may lean on what came after the gap. Whoever looks from before the gap has closed must not
know that: `open_gaps` says what was known then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    IntArray = npt.NDArray[np.int64]
    BoolArray = npt.NDArray[np.bool_]
    FloatArray = npt.NDArray[np.floating[Any]]

LONGEST_INTERPOLATION = 3


@dataclass(frozen=True)
class Filled:
    """One column on the grid: values finite everywhere, and which of them carry loss and scores."""

    values: FloatArray  # (grid rows,)
    observed: BoolArray  # (grid rows,) False wherever the file held no number
    interpolated: BoolArray  # (grid rows,) True where the value lies on a line between two that were seen


@dataclass(frozen=True)
class OpenGaps:
    """What was known of a column at each row: the last value, and where the gap began that has not closed."""

    first: IntArray  # (rows,) first row of the gap that holds this row; the next row if this one was seen
    carried: FloatArray  # (rows,) the last value seen up to this row

    def values_at(self, values: FloatArray, rows: IntArray, origins: IntArray) -> FloatArray:
        """The column at `rows` (n, t), each before its origin (n,), as it looked just before the origin."""
        last = origins[:, None] - 1
        return np.where(rows >= self.first[last], self.carried[last], values[rows])


def fill(values: npt.NDArray[np.float64], offsets: IntArray, *, interpolate: bool) -> Filled:
    """Fill NaN in series laid end to end.

    With `interpolate`, gaps of up to 3 steps between two values are interpolated; other gaps carry the last
    value, a gap at the start the first one, and a series without any value is zero. `values` is changed in
    place.
    """
    seen = np.isfinite(values)
    interpolated = np.zeros(len(values), np.bool_)
    if seen.all():
        return Filled(values, seen, interpolated)
    gaps = np.flatnonzero(~seen)
    before, after = _around(gaps, offsets)
    has_before, has_after = before >= 0, after < len(values)
    filled = np.zeros(len(gaps))
    filled[has_after] = values[after[has_after]]
    filled[has_before] = values[before[has_before]]
    if interpolate:
        short = has_before & has_after & (after - before - 1 <= LONGEST_INTERPOLATION)
        share = (gaps[short] - before[short]) / (after[short] - before[short])
        filled[short] += share * (values[after[short]] - values[before[short]])
        interpolated[gaps[short]] = True
    values[gaps] = filled
    return Filled(values, seen, interpolated)


def open_gaps(
    values: FloatArray, observed: BoolArray, offsets: IntArray, neutral: FloatArray | float = 0.0
) -> OpenGaps:
    """For a filled column, what was known at each row.

    `neutral` (n_series,) or one number stands where a series has not been seen at all yet.
    """
    before = last_seen(observed, offsets)
    starts = np.repeat(offsets[:-1], np.diff(offsets))
    nothing_yet = np.repeat(np.broadcast_to(neutral, len(offsets) - 1), np.diff(offsets))
    return OpenGaps(
        first=np.where(before >= 0, before + 1, starts),
        carried=np.where(before >= 0, values[before], nothing_yet.astype(values.dtype)),
    )


def last_seen(seen: BoolArray, offsets: IntArray) -> IntArray:
    """The nearest seen row at or before each row within its series, -1 where there is none."""
    starts = np.repeat(offsets[:-1], np.diff(offsets))
    before = np.maximum.accumulate(np.where(seen, np.arange(len(seen)), -1))
    return np.where(before >= starts, before, -1)


def _around(gaps: IntArray, offsets: IntArray) -> tuple[IntArray, IntArray]:
    """The nearest rows before and after each of the rows `gaps` (n,), rising, that are not among them.

    -1 and the number of all rows where the series has none.
    """
    series = np.searchsorted(offsets, gaps, side="right") - 1
    starts = np.flatnonzero(np.append(True, (np.diff(gaps) != 1) | (np.diff(series) != 0)))
    lengths = np.diff(np.append(starts, len(gaps)))
    first, last, own = gaps[starts], gaps[starts + lengths - 1], series[starts]
    before = np.where(first > offsets[own], first - 1, -1)
    after = np.where(last + 1 < offsets[own + 1], last + 1, offsets[-1])
    return np.repeat(before, lengths), np.repeat(after, lengths)
