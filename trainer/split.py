"""Temporal tails: each series ends in a validation part and a test part; and the windows that lie in each.

A window belongs to the part that holds its whole horizon; its encoder may look back into the part before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from trainer.errors import InvalidDataset

if TYPE_CHECKING:
    from trainer.dataset.series import SeriesData
    from trainer.spec import TrainingSpec

IntArray = npt.NDArray[np.int64]
EXAMPLES = 10


@dataclass(frozen=True)
class Windows:
    """Cuts of equal size, held as a range per series: origins are first, first + stride, …

    An origin is the global row of the first step of the horizon.
    """

    series: IntArray  # (n,)
    first_origin: IntArray  # (n,)
    counts: IntArray  # (n,)
    stride: int

    @property
    def total(self) -> int:
        return int(self.counts.sum())

    def locate(self, ordinals: IntArray) -> tuple[IntArray, IntArray]:
        """Series and origin of the windows with these numbers, 0 to total - 1; shaped like `ordinals`."""
        ends = np.cumsum(self.counts)
        place = np.searchsorted(ends, ordinals, side="right")
        within = ordinals - (ends[place] - self.counts[place])
        return self.series[place], self.first_origin[place] + within * self.stride

    def thinned(self, at_most: int, longest_stride: int) -> Windows:
        """Every k-th window, with the smallest k that leaves `at_most` of them, but k <= `longest_stride`."""
        stride = min(longest_stride, max(1, -(-self.total // at_most)))
        if stride == 1:
            return self
        counts = -(-self.counts // stride)
        return Windows(self.series, self.first_origin, counts, self.stride * stride)


@dataclass(frozen=True)
class Split:
    """Where training, validation and test end in each series, as exclusive global rows, (n_series,)."""

    train_end: IntArray
    validation_end: IntArray
    end: IntArray
    usable: npt.NDArray[np.bool_]
    train: Windows
    validation: Windows
    test: Windows | None
    lengthened: int  # series whose tails had to grow to one horizon


def split_as_asked(series: SeriesData, spec: TrainingSpec) -> Split:
    """`split_series` with the lengths and shares of a spec."""
    return split_series(
        series,
        encoder_length=spec.encoder_length,
        horizon=spec.horizon,
        validation_split=spec.validation_split,
        test_split=spec.test_split,
        window_stride=spec.window_stride,
    )


def split_series(
    series: SeriesData,
    *,
    encoder_length: int,
    horizon: int,
    validation_split: float,
    test_split: float,
    window_stride: int,
) -> Split:
    """Cut every series into its parts; tails hold at least one horizon.

    A series too short for a training window beside its tails is left out (`usable` is False).
    Raises InvalidDataset if none is left.
    """
    lengths, start, end = series.lengths, series.offsets[:-1], series.offsets[1:]
    validation = _tail(lengths, validation_split, horizon)
    test = _tail(lengths, test_split, horizon) if test_split > 0 else np.zeros_like(lengths)
    usable = lengths - validation - test >= encoder_length + horizon
    if not usable.any():
        raise InvalidDataset(_nothing_left(series, encoder_length, horizon, tails=2 if test_split > 0 else 1))
    validation_end = end - test
    train_end = validation_end - validation
    tails = np.rint(lengths * validation_split), np.rint(lengths * test_split)
    lengthened = usable & ((validation > tails[0]) | (test > tails[1]))
    return Split(
        train_end=np.where(usable, train_end, end),
        validation_end=np.where(usable, validation_end, end),
        end=end,
        usable=usable,
        train=_windows(usable, start + encoder_length, train_end, horizon, window_stride),
        validation=_windows(usable, train_end, validation_end, horizon, 1),
        test=_windows(usable, validation_end, end, horizon, 1) if test_split > 0 else None,
        lengthened=int(lengthened.sum()),
    )


def _tail(lengths: IntArray, share: float, horizon: int) -> IntArray:
    tail: IntArray = np.maximum(np.rint(lengths * share).astype(np.int64), horizon)
    return tail


def _windows(
    usable: npt.NDArray[np.bool_], first_origin: IntArray, end: IntArray, horizon: int, stride: int
) -> Windows:
    series = np.flatnonzero(usable)
    spare = (end - horizon - first_origin)[series]
    # Counted back from the end, so that a stride never leaves out the newest window.
    return Windows(series, first_origin[series] + spare % stride, spare // stride + 1, stride)


def too_short(series: SeriesData, split: Split) -> str | None:
    """A sentence that lists the series left out, or None."""
    left_out = np.flatnonzero(~split.usable)
    if not len(left_out):
        return None
    return (
        f"{len(left_out)} of {series.n_series} series are too short and left out: {_named(series, left_out)}"
    )


def _nothing_left(series: SeriesData, encoder_length: int, horizon: int, *, tails: int) -> str:
    needed = encoder_length + (1 + tails) * horizon
    return (
        f"every series is too short: encoder_length {encoder_length} and horizon {horizon} with validation "
        f"and test tails need at least {needed} steps, the longest series has {int(series.lengths.max())} "
        f"({_named(series, np.argsort(-series.lengths))}); shorten encoder_length or "
        "horizon, or bring more data"
    )


def _named(series: SeriesData, indices: npt.NDArray[np.intp]) -> str:
    shown = [f"{series.series_names[i]} ({series.lengths[i]} steps)" for i in indices[:EXAMPLES]]
    rest = len(indices) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest > 0 else "")
