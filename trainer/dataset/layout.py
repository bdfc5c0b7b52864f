"""Rows of a file put in the order of their series and time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from trainer.dataset.clock import to_micros
from trainer.dataset.keys import name_series
from trainer.dataset.roles import find_group_columns, find_time_column, refuse_duplicate_rows

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

    from trainer.dataset.schema import DatasetMapping

    IntArray = npt.NDArray[np.int64]
    SeriesPlaces = npt.NDArray[np.int32]

# So many series fit into two bytes, which numpy sorts in two passes instead of by comparisons.
_SHORT_NUMBER = 1 << 16
_BLOCK_ROWS = 1 << 18  # what stays in the processor's cache


@dataclass(frozen=True)
class Layout:
    """Rows sorted by series and time; of rows that share both, only the file's last is kept."""

    time_column: str
    group_columns: list[str]
    names: list[str]  # sorted
    order: IntArray | slice  # (kept,) row of the file; all of it, if it is in order and each row is kept
    offsets: IntArray  # (n_series + 1,) into order
    times: IntArray  # (kept,) epoch microseconds
    duplicates: IntArray  # rows of the file that were overruled
    backwards: IntArray  # rows of the file that are older than the row before them in their series
    row_series: SeriesPlaces  # (rows of the file,)
    row_times: IntArray  # (rows of the file,)

    def series_of_kept(self) -> SeriesPlaces:
        """(kept,) place of each kept row's series."""
        return np.repeat(np.arange(len(self.names), dtype=np.int32), np.diff(self.offsets))

    def within_series(self) -> npt.NDArray[np.bool_]:
        """(kept - 1,) True where a kept row and the next one are of one series."""
        within = np.ones(len(self.times) - 1, np.bool_)
        within[self.offsets[1:-1] - 1] = False
        return within

    @cached_property
    def only_step(self) -> int | None:
        """Microseconds from each row to the next one of its series, if they are the same everywhere."""
        within, step = self.within_series(), None
        for start in range(0, len(within), _BLOCK_ROWS):
            block = slice(start, start + _BLOCK_ROWS)
            steps = np.diff(self.times[start : start + _BLOCK_ROWS + 1])[within[block]]
            if not len(steps):
                continue
            step = int(steps[0]) if step is None else step
            if (steps != step).any():
                return None
        return step

    def rows_at(self, places: IntArray) -> IntArray:
        """Rows of the file that the kept rows at these places are."""
        return places if isinstance(self.order, slice) else self.order[places]


def lay_out(table: pa.Table, mapping: DatasetMapping) -> Layout:
    """Find clock and series and sort by them. Raises DatasetError."""
    time_column = find_time_column(table, mapping)
    times = to_micros(table[time_column], time_column)
    group_columns = find_group_columns(table, mapping, time_column, times)
    return lay_out_by(table, time_column, group_columns, times)


def lay_out_by(table: pa.Table, time_column: str, group_columns: list[str], times: IntArray) -> Layout:
    """Sort by known columns. Raises DatasetError when more than half of the rows repeat others."""
    names, series = name_series(table, group_columns)
    if _is_in_order(series, times):
        none = np.zeros(0, np.int64)
        return Layout(
            time_column=time_column,
            group_columns=group_columns,
            names=names,
            order=slice(None),
            offsets=_offsets(series, len(names)),
            times=times,
            duplicates=none,
            backwards=none,
            row_series=series,
            row_times=times,
        )
    by_file = _argsort(series, len(names))
    backwards = _backwards(series[by_file], times[by_file])
    order = by_file if not backwards.any() else np.lexsort((times, series))
    overruled = _same_as_next(series[order], times[order])
    refuse_duplicate_rows(int(overruled.sum()), len(times), group_columns)
    kept = order[~overruled]
    return Layout(
        time_column=time_column,
        group_columns=group_columns,
        names=names,
        order=kept,
        offsets=_offsets(series[kept], len(names)),
        times=times[kept],
        duplicates=order[overruled],
        backwards=by_file[backwards],
        row_series=series,
        row_times=times,
    )


def _is_in_order(series: SeriesPlaces, times: IntArray) -> bool:
    """Whether the rows are sorted by series and time, none of them twice."""
    if (series[1:] < series[:-1]).any():
        return False
    forwards = times[1:] > times[:-1]
    forwards |= series[1:] > series[:-1]
    return bool(forwards.all())


def _argsort(series: SeriesPlaces, count: int) -> IntArray:
    keys = series.astype(np.uint16) if count <= _SHORT_NUMBER else series
    return np.argsort(keys, kind="stable")


def _offsets(series: SeriesPlaces, count: int) -> IntArray:
    """Where each of the series begins, and the end of the last; `series` is sorted."""
    return np.searchsorted(series, np.arange(count + 1, dtype=np.int32)).astype(np.int64)


def _backwards(series: SeriesPlaces, times: IntArray) -> npt.NDArray[np.bool_]:
    back = np.zeros(len(series), np.bool_)
    back[1:] = (series[1:] == series[:-1]) & (times[1:] < times[:-1])
    return back


def _same_as_next(series: SeriesPlaces, times: IntArray) -> npt.NDArray[np.bool_]:
    same = np.zeros(len(series), np.bool_)
    same[:-1] = (series[1:] == series[:-1]) & (times[1:] == times[:-1])
    return same
